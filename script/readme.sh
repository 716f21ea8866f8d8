#!/usr/bin/env bash
# Runs the commands of the README's quick start in a fresh clone, as a reader would who pastes them, and checks that a call
# gets what the README says. It takes the default ports.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
cleanup() {
  [ -f "$work/pid" ] && kill "$(cat "$work/pid")" 2>/dev/null && wait 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT
git clone -q . "$work/clone"
awk '/^## Quick start/ {on=1; next} /^## / {on=0} on && /^```sh/ {code=1; next} /^```/ {code=0} on && code' README.md >"$work/quickstart.sh"
grep -q 'route put' "$work/quickstart.sh"
cd "$work/clone"
echo "echo \$! >'$work/pid'" >"$work/pid.sh"
# The server goes to the background in the first block; its pid is kept so that it can be ended.
sed "/serve &\$/r $work/pid.sh" "$work/quickstart.sh" >"$work/run.sh"
bash -euo pipefail "$work/run.sh"
./output/bin/framegate route get echo
echo "the quick start works"
