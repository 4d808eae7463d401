#!/bin/sh
# quickstart.sh: install what is missing, build, then run recipes/quickstart.lua.
# Options of that recipe can be given: sh recipes/quickstart.sh data=phantom_hard out=runs/hard
set -eu
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
sh "$root/core/setup.sh"
cd "$root"
exec build/lumen recipes/quickstart.lua out=runs/quickstart resume=true "$@"
