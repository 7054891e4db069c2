#!/bin/bash
# promtool.sh [DIR]: print the path of a promtool, fetching one without root where there is none.
#
# One on PATH is taken. Else Debian's package prometheus of this machine's own suite is downloaded by
# ordinary, signature-checked apt calls on a private state folder and unpacked, not installed, into
# DIR/promtool (DIR: default $XDG_CACHE_HOME/wattline, else ~/.cache/wattline). The path is printed on
# stdout, everything else on stderr.
set -euo pipefail
die() { printf 'promtool: %s\n' "$*" >&2; exit 1; }

command -v promtool && exit 0
dir=${1:-${XDG_CACHE_HOME:-${HOME:?is not set; name a folder: promtool.sh DIR}/.cache}/wattline}
final=$dir/promtool
[ -x "$final/promtool" ] && { printf '%s\n' "$final/promtool"; exit 0; }
by_hand="install Prometheus (prometheus.io/download) and put its promtool on PATH"
for tool in apt-get dpkg flock; do
  command -v "$tool" >/dev/null || die "$tool is missing, so this is not a Debian machine; $by_hand"
done

mkdir -p "$dir"
exec 9>"$dir/.promtool.lock"
flock 9
[ -x "$final/promtool" ] && { printf '%s\n' "$final/promtool"; exit 0; }
rm -rf "$dir"/.promtool.tmp.*
work=$(mktemp -d "$dir/.promtool.tmp.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial}
apt() {
  apt-get -q -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o Dir::State::status=/dev/null \
    -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3 "$@" </dev/null >"$work/log" 2>&1
}
printf 'promtool: fetching the package prometheus from this machine'"'"'s Debian archive (20 MB), once\n' >&2
apt update || { tail -n 5 "$work/log" >&2; die "the package list could not be read; check the network, or $by_hand"; }
(cd "$work" && apt download prometheus) || { tail -n 5 "$work/log" >&2; die "the package prometheus could not be downloaded; check the network, or $by_hand"; }
dpkg -x "$work"/prometheus_*.deb "$work/root"
"$work/root/usr/bin/promtool" --version >"$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; die "the fetched promtool does not run on this machine; $by_hand"; }
mkdir "$work/new"
mv "$work/root/usr/bin/promtool" "$work/new/promtool"
rm -rf "$final"
mv -T "$work/new" "$final"
printf '%s\n' "$final/promtool"
