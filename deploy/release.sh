#!/bin/bash
# release.sh VERSION [DIST]: archives, .deb packages and checksums of one version (make release VERSION=v1.2.3).
#
# linux/amd64 and linux/arm64, each with cgo (NVML; glibc) and, as -static, without. The cgo build of the other
# architecture needs its cross compiler (Debian: gcc-aarch64-linux-gnu); without it that build is left out, and
# said so. Packages are made by nfpm. darwin/arm64, darwin/amd64 and windows/amd64 are built without cgo; on Windows
# nvidia-smi is the power source.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1:?a version is missing: make release VERSION=v1.2.3}
dist=${2:-dist}
nfpm=${NFPM:-go run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.1}
[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || { echo "release: $version is not like v1.2.3" >&2; exit 2; }
# The time in archives is the commit's, so that the same commit gives the same bytes.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

compiler() { # of an architecture
  if [ "$1" = "$(go env GOHOSTARCH)" ]; then echo "${CC:-gcc}"; return; fi
  case $1 in
    arm64) echo aarch64-linux-gnu-gcc ;;
    amd64) echo x86_64-linux-gnu-gcc ;;
  esac
}

build() { # os arch cgo file
  GOOS=$1 GOARCH=$2 CGO_ENABLED=$3 CC=$(compiler "$2") \
    go build -trimpath -ldflags "-s -w -X main.release=$version" -o "$4" ./cmd/wattline
}

pack() { # name: a folder of $work
  tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -cf - "$1" | gzip -n9 >"$dist/$1.tar.gz"
}

# What comes over a network may take a second try.
for pause in 2 10 ''; do
  $nfpm --version >/dev/null && break
  [ -n "$pause" ] || { echo "release: there is no nfpm: $nfpm" >&2; exit 1; }
  sleep "$pause"
done

rm -rf "$dist"
mkdir -p "$dist"
dist=$(cd "$dist" && pwd)
work=$(mktemp -d "$dist/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
for arch in amd64 arm64; do
  for cgo in 1 0; do
    name=wattline-$version-linux-$arch
    [ $cgo = 1 ] || name+=-static
    if [ $cgo = 1 ] && ! command -v "$(compiler $arch)" >/dev/null; then
      echo "release: no $(compiler $arch): $name is left out" >&2
      continue
    fi
    echo "release: $name" >&2
    mkdir "$work/$name"
    build linux $arch $cgo "$work/$name/wattline"
    cp LICENSE README.md "$work/$name"
    cp -r deploy/systemd deploy/config.yaml "$work/$name"
    pack "$name"
  done
  # The package has the build with cgo where there is one.
  root=$work/wattline-$version-linux-$arch
  [ -d "$root" ] || root+=-static
  mkdir -p "$root/.unit" # the unit names /usr/local, where make install puts the binary
  sed -e 's,/usr/local/bin/,/usr/bin/,; s,/usr/local/share/,/usr/share/,' deploy/systemd/wattline.service >"$root/.unit/wattline.service"
  ARCH=$arch VERSION=$version ROOT=$root $nfpm package --config deploy/nfpm.yaml --packager deb --target "$dist" >&2
done
for target in darwin-arm64 darwin-amd64 windows-amd64; do
  name=wattline-$version-$target
  echo "release: $name" >&2
  mkdir "$work/$name"
  file=wattline
  [ "${target%-*}" = windows ] && file=wattline.exe
  build "${target%-*}" "${target#*-}" 0 "$work/$name/$file"
  cp LICENSE README.md deploy/config.yaml "$work/$name"
  pack "$name"
done
(cd "$dist" && sha256sum -- *.tar.gz *.deb >SHA256SUMS && cat SHA256SUMS)
