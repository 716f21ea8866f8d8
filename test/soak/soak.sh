#!/usr/bin/env bash
# Puts a framegate under a mixed load, restarts its backend every 30 seconds, and checks that the framegate does not grow:
# soak.sh [MINUTES], 30 by default. The test suite runs 16 seconds of the same.
set -euo pipefail
cd "$(dirname "$0")/../.."
minutes=${1:-30}
[[ "$minutes" =~ ^[1-9][0-9]*$ ]] || { echo "soak.sh: minutes: $minutes, want a whole number above 0" >&2; exit 2; }
TEST_SOAK_DURATION="${minutes}m" TEST_SOAK_RESTARTS=30s \
  exec go test -count=1 -v -timeout "$((minutes + 5))m" -run '^TestSoak_' ./test/soak
