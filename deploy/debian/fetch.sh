#!/bin/bash
# fetch.sh PROGRAM...: print the path of each program, one a line, fetching without root those that are missing.
#
# A program on PATH is taken as it is. Otherwise Debian's package of it, and what that package needs and this machine
# lacks, is downloaded from this machine's own Debian archive by ordinary, signature-checked apt calls on private state
# folders, and unpacked, not installed, into $XDG_CACHE_HOME/wattline/debian/PACKAGE (default ~/.cache/wattline/...).
# The path printed then is a small script that runs the program with its own libraries. A second run finds it there.
# Exit status 3: this is not a Debian machine, so nothing can be fetched. What is done is said on stderr.
set -euo pipefail

say() { printf '%s: %s\n' "$program" "$*" >&2; }
die() { say "$1; install $program yourself and put it on PATH"; exit "${2:-1}"; }
cache=${XDG_CACHE_HOME:-${HOME:?is not set, nor is XDG_CACHE_HOME}/.cache}/wattline/debian

# package prints which Debian package a program comes from.
package() {
  case $1 in
    nginx) echo nginx-light ;;
    promtool) echo prometheus ;;
    systemd-analyze) echo systemd ;;
    *) echo "$1" ;;
  esac
}

# apt runs an apt tool with package lists and caches of its own. It reads this machine's sources and its list of
# installed packages, and writes neither.
apt() {
  "$1" -q -o Dir::State::Lists="$lists" -o Dir::Cache="$work/cache" -o Debug::NoLocking=true -o APT::Sandbox::User=root \
    -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Get::AllowUnauthenticated=false "${@:2}" </dev/null
}

# wrap writes the script that runs a program of an unpacked package with the libraries unpacked beside it.
wrap() {
  local name=$1 target=usr/bin/$1
  [ -x "$work/root/$target" ] || target=usr/sbin/$name
  [ "$name" = chromium ] && target=usr/lib/chromium/chromium # usr/bin/chromium is a script with absolute paths
  [ -x "$work/root/$target" ] || die "the package $package has no $name"
  cat >"$work/$name" <<END
#!/bin/bash
# $name of Debian's package $package, with the libraries that were unpacked beside it. It replaces this shell, so the
# process id stays.
root=\$(dirname "\$(readlink -f "\$0")")/root
for dir in "\$root"/usr/lib/*-linux-gnu{,/*} "\$root"/lib/*-linux-gnu "\$root"/usr/lib/chromium; do
  [ -d "\$dir" ] && LD_LIBRARY_PATH=\$dir\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH
[ -d "\$root/etc/fonts" ] && [ ! -d /etc/fonts ] && export FONTCONFIG_PATH=\$root/etc/fonts
exec "\$root/$target" "\$@"
END
  chmod 755 "$work/$name"
}

fetch() {
  command -v apt-get >/dev/null && command -v dpkg >/dev/null || die "it is not on PATH, and this is not a Debian machine to fetch it on" 3
  mkdir -p "$cache"
  exec 9>"$cache/.lock"
  flock 9
  [ -x "$final/$program" ] && return
  rm -rf "$cache"/.tmp.* # the lock is ours: an earlier run was killed
  work=$(mktemp -d "$cache/.tmp.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 143' INT TERM HUP
  lists=$cache/.lists
  mkdir -p "$lists/partial" "$work/cache/archives/partial" "$work/root"
  say "fetching Debian's package $package and what it needs, once"
  if [ -z "$(find "$lists" -maxdepth 1 -name '*Packages*' -mmin -720)" ]; then
    # A third party's archive that does not answer is no reason to fail: what is missing shows below.
    apt apt-get update >"$work/log" 2>&1 || say "some package lists could not be read: $(tail -n 1 "$work/log")"
  fi
  # Packages that this machine has are not fetched again, except the one that is asked for: it may be installed
  # and yet not be on this PATH.
  apt apt-get install -y --download-only --reinstall --no-install-recommends "$package" >"$work/log" 2>&1 ||
    { tail -n 5 "$work/log" >&2; die "the package $package could not be downloaded; check the network"; }
  local deb
  for deb in "$work"/cache/archives/*.deb; do dpkg -x "$deb" "$work/root"; done
  rm -rf "$work/root/usr/share/"{doc,man,locale}
  wrap "$program"
  "$work/$program" --version >"$work/log" 2>&1 || "$work/$program" -v >"$work/log" 2>&1 ||
    { tail -n 5 "$work/log" >&2; die "the fetched $program does not run on this machine"; }
  mkdir -p "$final"
  [ -d "$final/root" ] || mv -T "$work/root" "$final/root"
  find "$work" -maxdepth 1 -type f -perm -100 -exec mv -t "$final" {} +
  say "unpacked into $final ($(du -sh "$final" | cut -f 1))"
  rm -rf "$work"
  exec 9>&-
}

[ $# -gt 0 ] || { echo "usage: fetch.sh PROGRAM..." >&2; exit 2; }
for program; do
  if found=$(command -v "$program"); then printf '%s\n' "$found"; continue; fi
  package=$(package "$program")
  final=$cache/$package
  [ -x "$final/$program" ] || fetch
  printf '%s\n' "$final/$program"
done
