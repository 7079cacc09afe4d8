#!/usr/bin/env bash
# The example `mqtt` beside mosquitto, each on one thread: server CPU a delivery, from one publisher to many.
#
# Wants: mosquitto (apt-get install mosquitto) and python3. Takes about two minutes: one round to warm up and
# ROUNDS (5) that count. In each round the two brokers, and mosquitto again, are asked in turn; the figures are
# medians of ratios within a round, so what the machine does meanwhile falls out. The last column is mosquitto
# against itself: the noise. The crowd is one process that reads and acknowledges.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${ROUNDS:-5} subscribers=${SUBSCRIBERS:-500} messages=${MESSAGES:-200}
for tool in mosquitto python3; do
  command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install $tool"; exit 1; }
done
cargo build --release --quiet --example mqtt
scratch=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$scratch"' EXIT

target/release/examples/mqtt 127.0.0.1:0 >"$scratch/ours" &
pids+=($!)
for port in 18831 18832; do
  printf 'listener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\nlog_type none\n' \
    $port >"$scratch/$port"
  mosquitto -c "$scratch/$port" 2>/dev/null &
  pids+=($!)
  until (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null; do sleep 0.05; done
done
until grep -q listening "$scratch/ours"; do sleep 0.05; done
ports=("$(sed 's/.*://' "$scratch/ours")" 18831 18832)

# Subscribes so many times, publishes one message after the other, each when all have the one before (or, with a
# burst, so many at once), and ends when each was delivered. Prints nanoseconds of the server's CPU a delivery.
cat >"$scratch/crowd.py" <<'PY'
import glob, selectors, socket, struct, sys
pid, port, subscribers, messages, qos, burst = map(int, sys.argv[1:])
def used():
    return sum(int(open(task).read().split()[0]) for task in glob.glob(f'/proc/{pid}/task/*/schedstat'))
def text(text):
    return struct.pack('>H', len(text)) + text
def packet(first, body):
    length, head = len(body), bytes([first])
    while length > 127:
        head, length = head + bytes([length & 127 | 128]), length >> 7
    return head + bytes([length]) + body
def read(conn, count):
    got = b''
    while len(got) < count:
        part = conn.recv(count - len(got))
        assert part, 'closed'
        got += part
    return got
def connect(name):
    conn = socket.create_connection(('127.0.0.1', port), 10)
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    conn.sendall(packet(0x10, text(b'MQTT') + b'\4\2\0\0' + text(name)))
    assert read(conn, 4) == b' \2\0\0'
    return conn
topic, payload = b'bench/topic', b'x' * 64
length = 2 + len(topic) + (2 if qos else 0) + len(payload) + 2
selector, crowd = selectors.DefaultSelector(), []
for number in range(subscribers):
    conn = connect(b'sub%d' % number)
    conn.sendall(packet(0x82, b'\0\1' + text(topic) + bytes([qos])))
    assert read(conn, 5)[:2] == b'\x90\3'
    conn.setblocking(False)
    selector.register(conn, selectors.EVENT_READ, bytearray())
publisher = connect(b'pub')
publish = lambda n: packet(0x30 | qos << 1, text(topic) + (struct.pack('>H', 1 + n % 60000) if qos else b'') + payload)
before, sent, got = used(), 0, 0
while got < messages * subscribers:
    if got == sent * subscribers:
        publisher.sendall(b''.join(publish(sent + n) for n in range(burst)))
        sent += burst
        if qos:
            read(publisher, 4 * burst)
    ready = selector.select(10)
    assert ready, f'{got} of {messages * subscribers} have come'
    for key, _ in ready:
        key.data.extend(key.fileobj.recv(65536))
        acks = b''
        while len(key.data) >= length:
            if qos:
                acks += b'\x40\2' + bytes(key.data[4 + len(topic):6 + len(topic)])
            del key.data[:length]
            got += 1
        if acks:
            key.fileobj.sendall(acks)
print(round((used() - before) / got))
PY

measure() { python3 "$scratch/crowd.py" "${pids[$1]}" "${ports[$1]}" "$subscribers" "$messages" "$2" "$3"; }
median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

ulimit -n "$(ulimit -H -n)"
printf '%-26s %8s %10s %18s %22s\n' "1 -> $subscribers, ns a delivery" ours mosquitto 'ours / mosquitto' \
  'mosquitto / mosquitto'
for how in '0 1' '0 10' '1 1' '1 10'; do
  : >"$scratch/rounds"
  for round in $(seq 0 "$rounds"); do
    # shellcheck disable=SC2086
    row="$(measure 0 $how) $(measure 1 $how) $(measure 2 $how)"
    ((round == 0)) || echo "$row" >>"$scratch/rounds"
  done
  printf '%-26s %8s %10s %18s %22s\n' "QoS ${how% *}, ${how#* } at a time" \
    "$(awk '{ print $1 }' "$scratch/rounds" | median)" "$(awk '{ print $2 }' "$scratch/rounds" | median)" \
    "$(awk '{ printf "%.2f\n", $1 / $2 }' "$scratch/rounds" | median)" \
    "$(awk '{ printf "%.2f\n", $3 / $2 }' "$scratch/rounds" | median)"
done
