#!/usr/bin/env bash
# The example `redis` beside redis-server, each on one thread: server CPU per request of redis-benchmark.
#
# Wants: redis-server and redis-benchmark (apt-get install redis-server redis-tools). Takes about two
# minutes: one round to warm up and ROUNDS (5) that count. In each round the two servers, and
# redis-server again, are asked in turn; the figures are medians of ratios within a round, so what the
# machine does meanwhile falls out. The last column is redis-server against itself: the noise.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${ROUNDS:-5} requests=${REQUESTS:-60000}
for tool in redis-server redis-benchmark redis-cli; do
  command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install redis-server redis-tools"; exit 1; }
done
cargo build --release --quiet --example redis
scratch=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$scratch"' EXIT

target/release/examples/redis 127.0.0.1:0 >"$scratch/ours" &
pids+=($!)
for port in 17381 17382; do
  redis-server --port $port --bind 127.0.0.1 --save '' --appendonly no >/dev/null &
  pids+=($!)
  until redis-cli -p $port ping >/dev/null 2>&1; do sleep 0.05; done
done
until grep -q listening "$scratch/ours"; do sleep 0.05; done
ports=("$(sed 's/.*://' "$scratch/ours")" 17381 17382)

# Nanoseconds of CPU that a server has used: its threads, all of them.
used() { cat /proc/"$1"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f", sum }'; }

# ns a request: which server, command, pipeline.
measure() {
  local before after count=$((requests * ($3 > 1 ? 4 : 1)))
  before=$(used "${pids[$1]}")
  redis-benchmark -p "${ports[$1]}" -q -c 50 -n $count -r 10000 -P "$3" -t "$2" >/dev/null
  after=$(used "${pids[$1]}")
  echo $(((after - before) / count))
}

median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

printf '%-10s %8s %8s %14s %14s\n' command ours redis 'ours / redis' 'redis / redis'
for deep in 1 16; do
  for command in ping_mbulk set get incr lpush rpop sadd hset zadd; do
    : >"$scratch/rounds"
    for round in $(seq 0 "$rounds"); do
      row="$(measure 0 $command $deep) $(measure 1 $command $deep) $(measure 2 $command $deep)"
      ((round == 0)) || echo "$row" >>"$scratch/rounds"
    done
    printf '%-10s %8s %8s %14s %14s\n' "$command -P$deep" \
      "$(awk '{ print $1 }' "$scratch/rounds" | median)" "$(awk '{ print $2 }' "$scratch/rounds" | median)" \
      "$(awk '{ printf "%.2f\n", $1 / $2 }' "$scratch/rounds" | median)" \
      "$(awk '{ printf "%.2f\n", $3 / $2 }' "$scratch/rounds" | median)"
  done
done
