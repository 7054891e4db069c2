#!/bin/bash
# build.sh [DIR]: print the path of a Jaeger v2 binary, building it where there is none.
#
# Jaeger's module is fetched by the go command, checked against the checksum database and compiled from a
# copy into DIR/jaeger-VERSION (DIR: default $XDG_CACHE_HOME/wattline, else ~/.cache/wattline): about five
# CPU minutes. The module has no web pages inside, so this one serves the API only. The path is printed on
# stdout, everything else on stderr.
set -euo pipefail
version=v1.76.0 # of the module; cmd/jaeger in it is Jaeger v2
dir=${1:-${XDG_CACHE_HOME:-${HOME:?is not set; name a folder: build.sh DIR}/.cache}/wattline}
final=$dir/jaeger-$version
[ -x "$final" ] && { printf '%s\n' "$final"; exit 0; }
mkdir -p "$dir"
exec 9>"$final.lock"
flock 9
[ -x "$final" ] && { printf '%s\n' "$final"; exit 0; }
work=$(mktemp -d "$dir/.jaeger.tmp.XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
source=$(cd "$work" && GOFLAGS='' GOWORK=off go mod download -json "github.com/jaegertracing/jaeger@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
[ -d "$source" ] || { echo "jaeger: the module $version could not be had; see what go mod download says" >&2; exit 1; }
cp -r "$source" "$work/source"
chmod -R u+w "$work/source"
echo "jaeger: compiling $version, once" >&2
(cd "$work/source" && GOFLAGS='' GOWORK=off CGO_ENABLED=0 go build -trimpath -o "$work/jaeger" ./cmd/jaeger) >&2
mv "$work/jaeger" "$final"
printf '%s\n' "$final"
