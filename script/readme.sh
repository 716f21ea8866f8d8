#!/usr/bin/env bash
# Runs the commands of the READMEs (quick start, tour, struct mode, failure, running, load) in a fresh clone, as a reader who pastes them
# would, and checks that calls get the answers that the READMEs promise. It uses the default ports.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone -q . "$work/clone"

# commands SECTION [FILE] prints the shell blocks of a section of a README. A trap before them ends the background jobs that
# they leave running, also when one of them fails.
commands() {
  printf '%s\n' "trap 'kill \$(jobs -p) || true; wait || true' EXIT"
  awk -v section="## $1" '$0 ~ "^" section {on=1; next} /^## / {on=0} on && /^```sh/ {code=1; next} /^```/ {code=0} on && code' "${2:-README.md}"
}

# example SECTION FILE prints the Go program of a section of a README.
example() {
  awk -v section="## $1" '$0 ~ "^" section {on=1; next} /^## / {on=0} on && /^```go/ {code=1; next} /^```/ {code=0} on && code' "$2"
}

# after TEXT finds the next line of the tour's output with TEXT, sets first to its first word, and line to the line after it,
# where the next search starts.
after() {
  local found
  found=$(sed -n "${line:-1},\$p" "$work/tour.out" | awk -v text="$1" 'index($0, text) {print NR, $1; exit}')
  [ -n "$found" ] || { echo "the tour did not print: $1"; exit 1; }
  line=$((${line:-1} + ${found% *}))
  first=${found#* }
}

# want COUNT_MIN COUNT_MAX TEXT finds the next line "COUNT  TEXT", as after does, and checks that COUNT is in the range.
want() {
  after "$3"
  [ "$first" -ge "$1" ] && [ "$first" -le "$2" ] || { echo "the tour printed $first for: $3, want $1 to $2"; exit 1; }
}

commands "Quick start" >"$work/quickstart.sh"
commands "A tour" >"$work/tour.sh"
commands "Struct mode" handler/README.md >"$work/struct.sh"
commands "Balancing and failure" resolver/README.md >"$work/failure.sh"
commands "Mirroring calls" handler/mirror/README.md >"$work/mirror.sh"
commands "Calling many" handler/fanout/README.md >"$work/fanout.sh"
{
  commands "Running it" conf/README.md | sed '/^framegate serve/s/$/ \&/' # it runs until the load has ended
  echo 'grpc-echo --address 127.0.0.1:9001 &'
  echo 'sleep 1'
  commands "Load" test/README.md | grep -v '^trap'
} >"$work/load.sh"
mkdir "$work/clone/example"
example "Struct mode" handler/README.md >"$work/clone/example/main.go"
grep -q 'route put' "$work/quickstart.sh"
grep -q 'route rollback' "$work/tour.sh"
grep -q 'schema put' "$work/struct.sh"
grep -q 'kill -9' "$work/failure.sh"
grep -q 'mirror diff' "$work/mirror.sh"
grep -q 'route explain' "$work/fanout.sh"
grep -q 'serve --etcd none' "$work/load.sh"
grep -q 'framegate bench' "$work/load.sh"
cd "$work/clone"
bash -euo pipefail "$work/quickstart.sh"
echo "the quick start works"

bash -euo pipefail "$work/tour.sh" >"$work/tour.out" 2>"$work/tour.err" || { cat "$work/tour.out" "$work/tour.err"; exit 1; }
cat "$work/tour.out"
for gateway in 1 2; do # 90/10: five standard deviations are 47 of 1000
  want 850 950 "kitex-echo heard hello"
done
want 95 100 "grpc-echo heard hello" # the first calls may come before the route has reached the second gateway
after ", as at revision" # the rollback
want 850 950 "kitex-echo heard hello"
echo "the tour works"

bash -euo pipefail "$work/struct.sh" >"$work/struct.out" 2>"$work/struct.err" || { cat "$work/struct.out" "$work/struct.err"; exit 1; }
cat "$work/struct.out"
saw() { # saw TEXT FILE
  grep -qF -- "$1" "$2" || { echo "struct mode did not print: $1"; cat "$work/struct.err"; exit 1; }
}
for answer in "kitex-echo heard a polite hello" "grpc-echo heard a polite vip hello" "PermissionDenied: framegate: not that word" \
  "[REDACTED]" "kitex-echo heard a polite one" "kitex-echo heard a polite two"; do
  saw "$answer" "$work/struct.out"
done
if grep spam "$work/struct.out"; then echo "struct mode forwarded what it must drop"; exit 1; fi
saw '-> /echo.Echo/Say #0 127.0.0.1:' "$work/struct.out"
saw '{"message":"a polite hello tap"}' "$work/struct.out"
saw '{"message":"[REDACTED]"}' "$work/struct.out"
saw "route echo: struct.rules[4].when: 1:8: undefined field 'text'" "$work/struct.err"
saw "put schema echo: route echo: struct.rules[0].when: 1:8: undefined field 'message'" "$work/struct.err"
go build -o /dev/null ./example
echo "struct mode works"

bash -euo pipefail "$work/failure.sh" >"$work/failure.out" 2>"$work/failure.err" || { cat "$work/failure.out" "$work/failure.err"; exit 1; }
cat "$work/failure.out"
tally() { # tally N WORD adds the counts before WORD in the N-th run of say
  awk -v run="$1" -v word="$2 heard" '/heard|:/ {if ($2 == "one") r++; if (r == run && index($0, word)) print $1}' "$work/failure.out"
}
[ "$(tally 1 one) $(tally 1 three) $(tally 1 two)" = "100 100 200" ] || { echo "the calls were not spread 1:2:1"; exit 1; }
[ $(($(tally 2 one) + $(tally 2 two))) = 400 ] || { echo "calls were lost when a service was killed"; exit 1; }
grep -qE '127.0.0.1:9003 .*(cannot connect|ejected)' "$work/failure.out" || { echo "endpoint list does not show what was killed"; exit 1; }
echo "failure works"

run() { # run NAME runs the commands of a section; its output is in NAME.out
  bash -euo pipefail "$work/$1.sh" >"$work/$1.out" 2>"$work/$1.err" || { cat "$work/$1.out" "$work/$1.err"; exit 1; }
  cat "$work/$1.out"
}
printed() { # printed NAME REGEXP checks that a line of the section's output matches
  grep -qE -- "$2" "$work/$1.out" || { echo "$1 did not print: $2"; exit 1; }
}

run mirror
for line in '10  kitex-echo heard hello' '1  kitex-echo heard secret' '^shadow .* backend .* up .* 10 .*different=10' \
  'message #0 .*"kitex-echo heard hello".*"grpc-echo heard hello"' '1  grpc-echo heard beta' \
  '/echo.Echo/Say +OK +1 +1 ' '^same +5$' '^different +5$'; do
  printed mirror "$line"
done
echo "mirrors work"

run fanout
[ "$(grep -c '^grpc-echo heard hello$' "$work/fanout.out") $(grep -c '^kitex-echo heard hello$' "$work/fanout.out")" = "2 1" ] || { echo "the call did not go to all that it should"; exit 1; }
for line in '^FANOUT +aggregate of those that the header nodes names' '^TARGETS +kitex \(127.0.0.1:9001\)' '1  (kitex|grpc)-echo heard hello'; do
  printed fanout "$line"
done
echo "fan-out works"

echo 'routes: [{name: echo, match: [{method: /echo.Echo/*}], backends: [{endpoints: [{address: "127.0.0.1:9001"}]}]}]' >routes.yaml
PATH="$PWD/output/bin:$PATH" bash -euo pipefail "$work/load.sh" >"$work/load.out" 2>"$work/load.err" || { cat "$work/load.out" "$work/load.err"; exit 1; }
cat "$work/load.out"
grep -q '^calls/s ' "$work/load.out" || { echo "the load did not print calls/s"; exit 1; }
echo "running and load work"
