#!/bin/bash
# fetch.sh [DIR]: print the folder that has prometheus and promtool, fetching them without root where there are none.
#
# Those on PATH are taken. Else Debian's package prometheus of this machine's own suite is downloaded by
# ordinary, signature-checked apt calls on a private state folder and unpacked, not installed, into
# DIR/prometheus (DIR: default $XDG_CACHE_HOME/wattline, else ~/.cache/wattline). The folder is printed on
# stdout, everything else on stderr.
set -euo pipefail
die() { printf 'prometheus: %s\n' "$*" >&2; exit 1; }

if found=$(command -v prometheus) && command -v promtool >/dev/null; then dirname "$found"; exit 0; fi
dir=${1:-${XDG_CACHE_HOME:-${HOME:?is not set; name a folder: fetch.sh DIR}/.cache}/wattline}
final=$dir/prometheus
[ -x "$final/prometheus" ] && { printf '%s\n' "$final"; exit 0; }
by_hand="install Prometheus (prometheus.io/download) and put prometheus and promtool on PATH"
for tool in apt-get dpkg flock; do
  command -v "$tool" >/dev/null || die "$tool is missing, so this is not a Debian machine; $by_hand"
done

mkdir -p "$dir"
exec 9>"$dir/.prometheus.lock"
flock 9
[ -x "$final/prometheus" ] && { printf '%s\n' "$final"; exit 0; }
rm -rf "$dir"/.prometheus.tmp.*
work=$(mktemp -d "$dir/.prometheus.tmp.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial}
apt() {
  apt-get -q -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o Dir::State::status=/dev/null \
    -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3 "$@" </dev/null >"$work/log" 2>&1
}
printf 'prometheus: fetching it from this machine'"'"'s Debian archive (20 MB), once\n' >&2
apt update || { tail -n 5 "$work/log" >&2; die "the package list could not be read; check the network, or $by_hand"; }
(cd "$work" && apt download prometheus) || { tail -n 5 "$work/log" >&2; die "the package could not be downloaded; check the network, or $by_hand"; }
dpkg -x "$work"/prometheus_*.deb "$work/root"
for tool in prometheus promtool; do
  "$work/root/usr/bin/$tool" --version >"$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; die "the fetched $tool does not run on this machine; $by_hand"; }
done
mkdir "$work/new"
mv "$work"/root/usr/bin/{prometheus,promtool} "$work/new"
rm -rf "$final"
mv -T "$work/new" "$final"
printf '%s\n' "$final"
