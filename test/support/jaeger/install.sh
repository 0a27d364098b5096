#!/usr/bin/env bash
# Puts a real Jaeger on this machine, from the Go module proxy alone: about 6 minutes of CPU the first time.
# Prints the path of the program. Its page is a placeholder there (the real one comes with Jaeger's releases); the API
# is whole. A `jaeger` on the PATH, or JAEGER_URL, is used by the tests instead.
set -euo pipefail

# The newest that the proxy serves under a version: Jaeger 2.13 in the numbering of its releases.
version=v1.76.0
folder="${XDG_CACHE_HOME:-$HOME/.cache}/throughline/jaeger-$version"
program="$folder/jaeger"

if [ ! -x "$program" ]; then
  command -v go >/dev/null || { echo 'Jaeger is built with Go 1.25 or later: https://go.dev/doc/install' >&2; exit 1; }
  module=$(mktemp -d)
  trap 'rm -rf "$module"' EXIT
  cd "$module"
  # Jaeger's own go.mod replaces a module, which `go install` refuses; as a dependency it is built without.
  go mod init throughline.test/jaeger 2>/dev/null
  go get -tool "github.com/jaegertracing/jaeger/cmd/jaeger@$version" 2>/dev/null
  mkdir -p "$folder"
  go build -trimpath -ldflags='-s -w' -o "$program.new" github.com/jaegertracing/jaeger/cmd/jaeger
  mv "$program.new" "$program"
fi
echo "$program"
