#!/bin/sh
# run.sh: install what is missing, build, run all tests.
# Usage: sh tests/run.sh [--sanitize] [name pattern]
set -eu
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
build=$root/build
options="-DLUMEN_SANITIZE=OFF"
if [ "${1:-}" = --sanitize ]; then
  shift
  build=$root/build-sanitize
  options="-DLUMEN_SANITIZE=ON"
  # Leaks are looked for by the tests' own byte counters: OpenMP and BLAS never free their pools.
  export ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
  export UBSAN_OPTIONS="print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
  export LUMEN_SANITIZE=1
fi
sh "$root/core/setup.sh" "$build" $options -DLUMEN_WERROR=ON
cd "$root"
# One test per processor, two threads in each: enough to find what depends on threads.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" OMP_WAIT_POLICY=passive
exec ctest --test-dir "$build" --parallel "$(nproc)" --output-on-failure --no-tests=error ${1:+-R "$1"}
