#!/usr/bin/env bash
# Generates kitex_gen from idl with the pinned generator (a module tool; it needs no protoc).
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf kitex_gen
for f in idl/*.proto; do
  go tool kitex -module github.com/framegate/framegate -type protobuf "$f"
done
gofmt -w kitex_gen
