#!/bin/bash
# refresh.sh [PACKAGE@VERSION...]: fetch the console's libraries from npm into this folder and write vendor.json.
# Without arguments the newest versions are taken. Two files are changed on the way: preact's hooks import preact
# by a relative path, and uPlot's script ends in an export, so that both load as modules without a bundler.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- preact htm uplot
: >"$work/licences"
entries=()
# take PACKAGE FILE NAME: one file of an unpacked package, without its source map's address.
take() {
  grep -v '^//# sourceMappingURL=' "$work/$1/package/$2" >"$work/out" || [ -s "$work/out" ]
  case $3 in
    hooks.js) sed -i 's|from"preact"|from"./preact.js"|g; s|from *"preact"|from"./preact.js"|g' "$work/out" ;;
    uplot.js) printf 'export default uPlot;\n' >>"$work/out" ;;
  esac
  mv "$work/out" "$here/$3"
  entries+=("$(printf '  {"file": "%s", "package": "%s", "version": "%s", "licence": "%s", "npm": "%s", "sha256": "%s"}' \
    "$3" "$1" "$version" "$licence" "$integrity" "$(sha256sum "$here/$3" | cut -d' ' -f1)")")
}
for spec; do
  name=${spec%@*}
  mkdir -p "$work/$name"
  tarball=$(cd "$work" && npm pack --silent "$spec")
  tar -xzf "$work/$tarball" -C "$work/$name"
  integrity=sha512-$(openssl dgst -sha512 -binary "$work/$tarball" | base64 -w0)
  version=$(sed -n 's/^  "version": "\(.*\)",*$/\1/p' "$work/$name/package/package.json")
  licence=$(sed -n 's/^  "license": "\(.*\)",*$/\1/p' "$work/$name/package/package.json")
  { printf '%s %s (%s)\n\n' "$name" "$version" "$licence"; cat "$work/$name/package/LICENSE"; printf '\n\n'; } >>"$work/licences"
  case $name in
    preact) take preact dist/preact.mjs preact.js; take preact hooks/dist/hooks.mjs hooks.js ;;
    htm) take htm dist/htm.mjs htm.js ;;
    uplot) take uplot dist/uPlot.iife.min.js uplot.js; take uplot dist/uPlot.min.css uplot.css ;;
    *) echo "refresh.sh: $name is not used here" >&2; exit 2 ;;
  esac
done
mv "$work/licences" "$here/LICENCES.txt"
{ echo '['; (IFS=$'\n'; echo "${entries[*]}") | sed '$!s/$/,/'; echo ']'; } >"$here/vendor.json"
cat "$here/vendor.json"
