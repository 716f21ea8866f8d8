#!/usr/bin/env bash
# Builds output/: bin/framegate, bootstrap.sh that starts it, and conf/. The layout is that of Kitex's own template.
set -euo pipefail
cd "$(dirname "$0")"
RUN_NAME="framegate"
VERSION="${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo dev)}"

mkdir -p output/bin output/conf
cp script/bootstrap.sh output/
cp conf/*.yaml output/conf/
chmod +x output/bootstrap.sh
go build -trimpath -ldflags "-X github.com/framegate/framegate/cmd/framegate/app.version=$VERSION" \
  -o "output/bin/$RUN_NAME" ./cmd/framegate
echo "built output/bin/$RUN_NAME ($VERSION); output/bootstrap.sh starts it"
