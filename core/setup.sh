#!/bin/sh
# setup.sh: install the Debian packages that are missing, then build into build/.
# Usage: sh core/setup.sh [build folder [cmake option ...]]
set -eu
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
build=${1:-$root/build}
[ $# -eq 0 ] || shift

packages="gcc g++ libc6-dev cmake ninja-build pkg-config lua5.4 liblua5.4-dev lua-unit
libopenblas-openmp-dev libstb-dev libcjson-dev libzip-dev zlib1g-dev libedit-dev"
missing=
for package in $packages; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
    missing="$missing $package"
done
if [ -n "$missing" ]; then
  echo "installing:$missing"
  run=
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
      echo "setup.sh: not root and no sudo; as root: apt-get install$missing" >&2
      exit 1
    }
    run=sudo
  fi
  $run env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  # shellcheck disable=SC2086 # a list of words
  $run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
fi

cmake -S "$root" -B "$build" -G Ninja "$@" >"$root/.setup.log" 2>&1 || {
  cat "$root/.setup.log" >&2
  exit 1
}
rm -f "$root/.setup.log"
cmake --build "$build"
