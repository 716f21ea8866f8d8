#!/usr/bin/env bash
# Starts framegate from the folder this script is in, as Kitex services are started. Arguments go to "framegate serve";
# without --config it reads conf/framegate.yaml beside this script. It runs in KITEX_RUNTIME_ROOT, by default this folder:
# data and logs stay there, and relative paths start there.
set -euo pipefail
CURDIR="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

export KITEX_RUNTIME_ROOT="${KITEX_RUNTIME_ROOT:-$CURDIR}"
export KITEX_LOG_DIR="${KITEX_LOG_DIR:-$KITEX_RUNTIME_ROOT/log}"
mkdir -p "$KITEX_LOG_DIR/app" "$KITEX_LOG_DIR/rpc"
cd "$KITEX_RUNTIME_ROOT"

config=(--config "$CURDIR/conf/framegate.yaml")
for arg in "$@"; do
  case "$arg" in --config | --config=*) config=() ;; esac
done
exec "$CURDIR/bin/framegate" serve "${config[@]}" "$@"
