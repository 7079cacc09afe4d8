#!/usr/bin/env bash
# The example `balance` beside nginx and haproxy as proxies, each on one thread, all in front of the same
# upstream with keep-alive on both sides: CPU of the proxy per request of wrk.
#
# Wants: nginx, haproxy and wrk (apt-get install nginx-light haproxy wrk). Takes about a minute and a half:
# one round to warm up and ROUNDS (5) that count. In each round the proxies, and nginx again, are asked in
# turn for SECONDS (3); the figures are medians of ratios within a round, so what the machine does meanwhile
# falls out. The last column is nginx against itself: the noise.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-3}
for tool in nginx haproxy wrk curl; do
  command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install nginx-light haproxy wrk curl"; exit 1; }
done
cargo build --release --quiet --features http --example balance
cargo build --release --quiet -p waterwheel-examples --all-features --example http
scratch=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$scratch"' EXIT

target/release/examples/http 127.0.0.1:0 >"$scratch/upstream" &
pids+=($!)
until grep -q listening "$scratch/upstream"; do sleep 0.05; done
upstream=$(sed 's/.*listening on //' "$scratch/upstream")

target/release/examples/balance 127.0.0.1:0 --to "$upstream" >"$scratch/ours" &
proxies=($!)
until grep -q listening "$scratch/ours"; do sleep 0.05; done
ports=("$(sed 's/.*://' "$scratch/ours")" 17481 17482 17483)

for port in 17481 17482; do
  cat >"$scratch/nginx-$port.conf" <<NGINX
daemon off; master_process off; worker_processes 1; pid $scratch/nginx-$port.pid; error_log /dev/null;
events { worker_connections 1024; }
http {
  access_log off; keepalive_requests 100000000;
  client_body_temp_path $scratch/body; proxy_temp_path $scratch/proxy; fastcgi_temp_path $scratch/fastcgi;
  uwsgi_temp_path $scratch/uwsgi; scgi_temp_path $scratch/scgi;
  upstream up { server $upstream; keepalive 128; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:$port;
    location / {
      proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host \$host; proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto \$scheme; proxy_set_header X-Forwarded-Host \$host;
    }
  }
}
NGINX
  nginx -c "$scratch/nginx-$port.conf" &
  proxies+=($!)
done
cat >"$scratch/haproxy.cfg" <<HAPROXY
global
  nbthread 1
  maxconn 2000
defaults
  mode http
  timeout connect 3s
  timeout client 30s
  timeout server 30s
  option forwardfor
  http-reuse always
listen balance
  bind 127.0.0.1:17483
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  server up $upstream
HAPROXY
haproxy -q -f "$scratch/haproxy.cfg" &
proxies+=($!)
pids+=("${proxies[@]}")
for port in "${ports[@]}"; do until curl -fs "127.0.0.1:$port/" >/dev/null; do sleep 0.05; done; done

# Nanoseconds of CPU that a proxy has used: its threads, all of them.
used() { cat /proc/"$1"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f", sum }'; }

# ns a request: which proxy.
measure() {
  local before after count
  before=$(used "${proxies[$1]}")
  wrk -t1 -c64 -d"$seconds" "http://127.0.0.1:${ports[$1]}/" >"$scratch/wrk"
  after=$(used "${proxies[$1]}")
  ! grep -E 'Non-2xx|Socket errors' "$scratch/wrk" >&2 || exit 1
  count=$(awk '/requests in/ { print $1 }' "$scratch/wrk")
  echo $(((after - before) / count))
}

median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
column() { awk "{ printf \"%.2f\n\", $1 }" "$scratch/rounds" | median; }

: >"$scratch/rounds"
for round in $(seq 0 "$rounds"); do
  row="$(measure 0) $(measure 1) $(measure 3) $(measure 2)"
  ((round == 0)) || echo "$row" >>"$scratch/rounds"
done
echo "ns of CPU a request: ours $(column '$1'), nginx $(column '$2'), haproxy $(column '$3')"
echo "ours / nginx $(column '$1 / $2'), ours / haproxy $(column '$1 / $3'), nginx / nginx $(column '$4 / $2')"
