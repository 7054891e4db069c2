#!/bin/bash
# fetch.sh [DIR]: bring a real llama-server onto a Debian machine of any age, without root.
#
# Debian's forky suite packages llama-server. This script downloads it, with the C library and the
# loader it was built for, through ordinary apt calls on a private state folder: signatures are
# checked against this machine's debian-archive-keyring and nothing of the system is touched. The
# packages are unpacked, not installed, into
#
#     DIR/llama-server-VERSION_ARCH/        DIR: default $XDG_CACHE_HOME/wattline, else ~/.cache/wattline
#
# and the program's path, DIR/llama-server-VERSION_ARCH/llama-server, is printed on stdout. Everything
# else is said on stderr. A second run finds the folder and does nothing; two runs at once share one
# download; an interrupted run leaves nothing behind that a later one would take for whole. For a
# newer version, delete the folder.
set -euo pipefail

suite=forky
package=llama.cpp-tools
dir=${1:-${XDG_CACHE_HOME:-${HOME:?is not set; name a folder: fetch.sh DIR}/.cache}/wattline}

say() { printf 'llama-server: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
by_hand="install llama-server yourself (github.com/ggml-org/llama.cpp) and put it on PATH or its path in WATTLINE_LLAMA_SERVER"

for tool in apt-get apt-cache dpkg flock; do
  command -v "$tool" >/dev/null || die "$tool is missing, so this is not a Debian machine; $by_hand"
done
arch=$(dpkg --print-architecture)

# present prints the newest whole installation, if there is one.
present() {
  local have
  have=$(printf '%s\n' "$dir"/llama-server-*_"$arch"/llama-server | sort -V | tail -n 1)
  [ -x "$have" ] && printf '%s\n' "$have"
}
present && exit 0

case $arch in amd64 | arm64) ;; *) die "Debian has no llama-server that was tried on $arch; $by_hand" ;; esac
for keyring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg} ''; do [ -f "$keyring" ] && break; done
[ -n "$keyring" ] || die "this machine has no Debian archive keyring to check signatures with; install the package debian-archive-keyring, or $by_hand"

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
exec 9>"$dir/.llama-server.lock"
if ! flock -n 9; then
  say "another fetch is under way, waiting for it"
  flock 9
  present && exit 0
fi
# The lock is ours: what an earlier, killed run left is nobody's.
rm -rf "$dir"/.llama-server.tmp.*
work=$(mktemp -d "$dir/.llama-server.tmp.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 143' INT TERM HUP

# mirrors prints, best guess first, the archives that this machine's own apt fetches Debian from. apt
# reads its sources itself, so both styles of file, disabled entries and mirror lists are understood;
# of what it would fetch, 'MIRROR/dists/SUITE/InRelease', the lines of a Debian suite name a mirror.
mirrors() {
  local own
  own=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  apt-get update --print-uris </dev/null | tr -d "'" | awk -v own="$own" -v suite="$suite" '
    !match($1, /\/dists\/[^\/]+\/InRelease$/) { next }
    {
      mirror = substr($1, 1, RSTART)
      split(substr($1, RSTART), part, "/")
      name = part[3]
    }
    name != own && name != suite && name !~ /^(oldstable|stable|testing|unstable|sid)$/ { next }
    seen[mirror]++ { next }
    mirror ~ /\/debian\/$/ { print mirror; next }
    { later = later mirror "\n" }
    END { printf "%s", later }'
}

# The private apt: its own lists, cache and (empty) idea of what is installed. The machine's proxy and
# credentials settings still count; its pins, default release and hooks do not.
mkdir -p "$work"/{lists/partial,cache/archives/partial,debs}
cat >"$work/apt.conf" <<END
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "$work/lists";
Dir::State::status "/dev/null";
Dir::Cache "$work/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
APT::Architecture "$arch";
#clear APT::Architectures;
APT::Default-Release "";
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
APT::Update::Error-Mode "any";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
END
log=$work/log
apt() { "$1" -c "$work/apt.conf" -q "${@:2}" </dev/null; }

# index brings the suite's package list from the first mirror that has it, validly signed.
index() {
  local tried=''
  while read -r mirror; do
    tried+=" $mirror"
    say "reading Debian $suite's package list from $mirror"
    printf 'deb [arch=%s target=Packages signed-by=%s] %s %s main\n' "$arch" "$keyring" "$mirror" "$suite" >"$work/sources.list"
    apt apt-get update >"$log" 2>&1 && return
  done < <(mirrors)
  [ -n "$tried" ] || die "this machine's apt sources name no Debian mirror to fetch from; add one, or $by_hand"
  tail -n 5 "$log" >&2
  if grep -q 'NO_PUBKEY\|EXPKEYSIG\|Missing key' "$log"; then
    die "this machine's debian-archive-keyring is too old to know the key that signs $suite; upgrade that package, or $by_hand"
  fi
  die "could not read $suite's package list (tried:$tried); check the network, or $by_hand"
}

# needed prints the package and the libraries it needs, of whatever names the suite gives them today.
# What its scripts and its downloader would need (debconf, curl) is left out: nothing runs them here.
needed() {
  apt apt-cache depends --recurse -i "$package" | awk -v package="$package" '
    /^[^ ]/ { from = $1 }
    $1 == "Depends:" { edges[from] = edges[from] " " $2 }
    END {
      todo[1] = package; n = 1; seen[package]
      for (i = 1; i <= n; i++) {
        print todo[i]
        count = split(edges[todo[i]], to)
        for (j = 1; j <= count; j++)
          if (to[j] ~ /^(lib|zlib1g$)/ && !(to[j] in seen)) { seen[to[j]]; todo[++n] = to[j] }
      }
    }'
}

index
packages=$(needed)
(
  cd "$work/debs"
  # shellcheck disable=SC2086  # a list of package names
  apt apt-get download $packages >"$log" 2>&1
) || { tail -n 5 "$log" >&2; die "could not download $package and its libraries; check the network, or $by_hand"; }
version=$(dpkg-deb -f "$work/debs/$package"_*.deb Version)
version=${version#*:}
final=$dir/llama-server-${version}_$arch
say "fetched $package $version and its libraries ($(du -sh "$work/debs" | cut -f 1)), unpacking into $final"

new=$work/new
mkdir "$new"
for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$new/root"; done
rm -rf "$new"/root/{etc,var,usr/share}
loader=$(cd "$new" && printf '%s\n' root/usr/lib/*-linux-gnu/ld-linux-*.so.*)
[ -x "$new/$loader" ] || die "the packages of $suite have changed their layout and no loader was found in them; $by_hand"
lib=$(dirname "$loader")
# ggml looks for its CPU backends beside the running program, which is the loader, and takes the one
# that suits the processor best: so a folder shared between machines serves each of them well.
(cd "$new/$lib" && ln -s ggml/backends*/libggml-cpu-*.so .)
# A router (--models-dir) starts itself again through /proc/self/exe, which is the loader too; the word
# that LLAMA_APP_CMD has it put first then tells the loader which program to run.
cat >"$new/llama-server" <<END
#!/bin/sh
# Debian's llama-server $version, run by the loader and the libraries it was built for. It replaces
# this shell, so the process id stays.
here=\$(dirname "\$(readlink -f "\$0")")
export LD_LIBRARY_PATH="\$here/$lib:\$here/$lib/llama" LLAMA_APP_CMD="\$here/root/usr/bin/llama-server"
exec "\$here/$loader" "\$LLAMA_APP_CMD" "\$@"
END
chmod 755 "$new/llama-server" "$new"
"$new/llama-server" --version >"$log" 2>&1 || { tail -n 5 "$log" >&2; die "the fetched llama-server does not run on this machine; $by_hand"; }
mv -T "$new" "$final"
say "ready: $final/llama-server"
printf '%s\n' "$final/llama-server"
