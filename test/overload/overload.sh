#!/usr/bin/env bash
# Measures a framegate with one processor under twice the calls that it can carry: overload.sh [MAX_CALLS [ROUNDS [NICE]]], 100 and
# 5 by default. With NICE above 0, framegate shares its processor with a busy loop, and is that much nicer: of 7 it gets a sixth. Then
# the processor is the bound, and not the backend's. It needs Linux and two otherwise idle processors. GOGC of the environment applies
# to framegate.
set -euo pipefail
cd "$(dirname "$0")/../.."
max_calls=${1:-100} rounds=${2:-5} nice=${3:-0}
[[ "$max_calls" =~ ^[1-9][0-9]*$ && "$rounds" =~ ^[1-9][0-9]*$ && "$nice" =~ ^1?[0-9]$ ]] ||
	{ echo "overload.sh: $*: want [MAX_CALLS [ROUNDS [NICE]]], whole numbers, the first two above 0, the last below 20" >&2; exit 2; }
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$dir"' EXIT
go build -o "$dir/" ./cmd/framegate ./test/overload
cat > "$dir/framegate.yaml" <<C
listeners: [{name: main, address: "127.0.0.1:18888", max_calls: $max_calls}]
admin: {address: none}
etcd: {endpoints: [none]}
routes: {file: $dir/routes.yaml}
C
cat > "$dir/routes.yaml" <<C
routes:
- name: all
  match: [{method: "*"}]
  backends: [{endpoints: [{address: "127.0.0.1:18889"}]}]
C
GOMAXPROCS=1 taskset -c 1 "$dir/overload" -backend 127.0.0.1:18889 &
if [ "$nice" -gt 0 ]; then taskset -c 0 sh -c 'while :; do :; done' & fi
GOMAXPROCS=1 taskset -c 0 nice -n "$nice" "$dir/framegate" serve --config "$dir/framegate.yaml" 2>/dev/null &
sleep 1
GOMAXPROCS=1 GOGC=100 taskset -c 1 "$dir/overload" -to 127.0.0.1:18888 -rounds "$rounds"
