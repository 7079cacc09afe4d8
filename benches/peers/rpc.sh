#!/usr/bin/env bash
# The example `rpc` beside Node with vscode-jsonrpc: server CPU per call, with Content-Length framing.
#
# Wants: node, and vscode-jsonrpc in NODE_PATH (npm install vscode-jsonrpc@8), and python3. Takes about a
# minute: one round to warm up and ROUNDS (5) that count. In each round ours, theirs, and theirs again get
# the same calls; the figures are medians of ratios within a round, so what the machine does meanwhile falls
# out. The last column is vscode-jsonrpc against itself: the noise.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${ROUNDS:-5} calls=${CALLS:-20000}
node -e 'require("vscode-jsonrpc/node")' 2>/dev/null ||
  { echo "vscode-jsonrpc is missing: npm install vscode-jsonrpc@8, and its folder in NODE_PATH"; exit 1; }
cargo build --release --quiet --features http --example rpc
scratch=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$scratch"' EXIT

cat >"$scratch/server.js" <<'SERVER'
const rpc = require("vscode-jsonrpc/node");
const server = require("net").createServer(socket => {
  socket.setNoDelay(true);
  const c = rpc.createMessageConnection(new rpc.StreamMessageReader(socket), new rpc.StreamMessageWriter(socket));
  c.onRequest("add", (a, b) => a + b);
  c.onClose(() => c.dispose());
  c.listen();
});
server.listen(0, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${server.address().port}`));
SERVER
target/release/examples/rpc 127.0.0.1:0 >"$scratch/0" &
pids+=($!)
for at in 1 2; do
  node "$scratch/server.js" >"$scratch/$at" &
  pids+=($!)
done
ports=()
for at in 0 1 2; do
  until grep -q listening "$scratch/$at"; do sleep 0.05; done
  ports+=("$(sed -n 's/^listening on .*://p' "$scratch/$at")")
done

# So many calls by eight clients in turn, each with some on the way: 1, or 16.
cat >"$scratch/call.py" <<'CALL'
import socket, sys
port, count, deep = map(int, sys.argv[1:])
clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
for client in clients: client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
files = [client.makefile("rb") for client in clients]
def call(n):
    body = b'{"jsonrpc":"2.0","id":%d,"method":"add","params":[%d,1]}' % (n, n)
    return b"Content-Length: %d\r\n\r\n" % len(body) + body
n = 0
while n < count:
    for client in clients:
        client.sendall(b"".join(call(n + at) for at in range(deep)))
        n += deep
    for file in files:
        for _ in range(deep):
            length = int(file.readline().split(b":")[1])
            while file.readline() != b"\r\n": pass
            assert b'"result"' in file.read(length)
CALL

used() { cat /proc/"$1"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f", sum }'; }

# ns a call: of which server, how many on the way.
measure() {
  local before after
  before=$(used "${pids[$1]}")
  python3 "$scratch/call.py" "${ports[$1]}" "$calls" "$2"
  after=$(used "${pids[$1]}")
  echo $(((after - before) / calls))
}

median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

printf '%-12s %8s %8s %14s %14s\n' 'calls' ours node 'ours / node' 'node / node'
for deep in 1 16; do
  : >"$scratch/rounds"
  for round in $(seq 0 "$rounds"); do
    row="$(measure 0 $deep) $(measure 1 $deep) $(measure 2 $deep)"
    ((round == 0)) || echo "$row" >>"$scratch/rounds"
  done
  column() { awk "{ printf \"%.3f\\n\", $1 }" "$scratch/rounds" | median; }
  printf '%-12s %8.0f %8.0f %14s %14s\n' "$deep a client" "$(column '$1')" "$(column '$2')" \
    "$(column '$1 / $2')" "$(column '$3 / $2')"
done
