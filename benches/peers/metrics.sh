#!/usr/bin/env bash
# The example `metrics` beside statsd, the one of npm: server CPU per datagram, and how many each lost.
#
# Wants: node, and statsd in NODE_PATH (npm install statsd), and python3. Takes about two minutes: one
# round to warm up and ROUNDS (5) that count. In each round ours, theirs, and theirs again get the same
# datagrams, slowly enough that neither loses many; the figures are medians of ratios within a round, so
# what the machine does meanwhile falls out. The last column is statsd against itself: the noise.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${ROUNDS:-5} datagrams=${DATAGRAMS:-60000}
statsd=$(node -p 'require.resolve("statsd/stats.js")' 2>/dev/null) ||
  { echo "statsd is missing: npm install statsd, and its folder in NODE_PATH"; exit 1; }
cargo build --release --quiet --features http --example metrics
scratch=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$scratch"' EXIT

target/release/examples/metrics 127.0.0.1:0 127.0.0.1:0 >"$scratch/ours" &
pids+=($!)
ports=()
for port in 17391 17392; do
  echo "{ port: $port, address: '127.0.0.1', mgmt_port: $((port + 100)), mgmt_address: '127.0.0.1'," \
    "backends: ['./backends/repeater'], repeater: [], flushInterval: 10000, debug: false, dumpMessages: false }" \
    >"$scratch/$port.js"
  (cd "$(dirname "$statsd")" && exec node stats.js "$scratch/$port.js") >"$scratch/$port.log" 2>&1 &
  pids+=($!)
  ports+=("$port")
done
until grep -q listening "$scratch/ours"; do sleep 0.05; done
ports=("$(sed -n 's/^listening on .*://p' "$scratch/ours")" "${ports[@]}")
for port in 17491 17492; do
  until (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null; do sleep 0.05; done
done

# Datagrams of real life: a thousand names, of four kinds, some with a rate; 20,000 a second. The last
# line that it prints is what the kernel dropped of them at the receiving socket.
cat >"$scratch/send.py" <<'SEND'
import socket, sys, time
port, count = int(sys.argv[1]), int(sys.argv[2])
kinds = ["api.requests.n%d:1|c", "api.latency.n%d:%d|ms", "jobs.queue.n%d:%d|g", "api.hits.n%d:1|c|@0.1"]
def text(n):
    kind = kinds[n % 4]
    return (kind % (n // 4 % 250, n % 1000) if kind.count("%d") == 2 else kind % (n // 4 % 250)).encode()
lines = [text(n) for n in range(1000)]
def drops():
    for line in open("/proc/net/udp"):
        fields = line.split()
        if fields[1].endswith(":%04X" % port): return int(fields[-1])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(("127.0.0.1", port))
before, begun = drops(), time.monotonic()
for n in range(count):
    if n % 40 == 0:
        wait = begun + n / 20000 - time.monotonic()
        if wait > 0: time.sleep(wait)
    sock.send(lines[n % 1000])
time.sleep(0.3)
print(drops() - before)
SEND

used() { cat /proc/"$1"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f", sum }'; }

# ns a datagram that was received, and datagrams lost: of which server.
measure() {
  local before after lost
  before=$(used "${pids[$1]}")
  lost=$(python3 "$scratch/send.py" "${ports[$1]}" "$datagrams")
  after=$(used "${pids[$1]}")
  echo $(((after - before) / (datagrams - lost))) "$lost"
}

median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

: >"$scratch/rounds"
for round in $(seq 0 "$rounds"); do
  row="$(measure 0) $(measure 1) $(measure 2)"
  ((round == 0)) || echo "$row" >>"$scratch/rounds"
done
column() { awk "{ printf \"%.3f\\n\", $1 }" "$scratch/rounds" | median; }
printf '%-28s %10s %10s\n' '' ours statsd
printf '%-28s %10.0f %10.0f\n' 'CPU a datagram, ns' "$(column '$1')" "$(column '$3')"
printf '%-28s %10.0f %10.0f\n' "lost of $datagrams" "$(column '$2')" "$(column '$4')"
printf 'ours / statsd %s   statsd / statsd %s\n' "$(column '$1 / $3')" "$(column '$5 / $3')"
