#!/bin/sh
# Checks this bundle and unpacks the program; needs no network.
#   sh install.sh [FOLDER]     default: ./labloop
set -eu
bundle=$(cd "$(dirname "$0")" && pwd)
target=${1:-labloop}

fail() {
    echo "error: $1" >&2
    echo "hint:  $2" >&2
    exit 3
}
of_manifest() { sed -n "s/^  \"$1\": \"\(.*\)\",\{0,1\}$/\1/p" "$bundle/manifest.json"; }

[ -f "$bundle/SHA256SUMS" ] || fail "the bundle has no SHA256SUMS" "Copy it again, or make it anew."
echo "checking the bundle …"
(cd "$bundle" && sha256sum --check --quiet --strict SHA256SUMS) ||
    fail "the bundle is not what it was when it was made" "Copy it again, or make it anew."

wanted=$(of_manifest python)
found=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || found=none
[ "$found" = "$wanted" ] ||
    fail "python3 here is $found, expected $wanted" "The bundle's packages are for Python $wanted."
machine=$(of_manifest machine)
[ "$(uname -m)" = "$machine" ] ||
    fail "this machine is $(uname -m), expected $machine" "Make the bundle on one of this kind."
python3 -c 'import ensurepip, venv' 2>/dev/null ||
    fail "python3 cannot make environments" "Install the package python3-venv from your medium."
for program in make docker; do
    command -v "$program" >/dev/null || fail "$program is not there" "Install it from your medium."
done

mkdir -p "$target"
tar -xzf "$bundle/labloop.tar.gz" -C "$target"
ln -sfn "$bundle" "$target/.bundle"
echo "Labloop $(of_manifest version) is in $target. Keep $bundle where it is. Next:"
echo "    cd $target && make up OFFLINE=1"
