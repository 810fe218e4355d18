#!/usr/bin/env bash
# Builds and runs the whole test suite; the last line is "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")"
. scripts/packages.sh

if [ "${1:-}" = "--help" ]; then
    echo "usage: ./test.sh [SUITE...]"
    echo "Installs what is missing (with apt), builds into build/, and runs every test, or the suites named."
    exit 0
fi

ensure_packages $PACKAGES_BUILD $PACKAGES_RUN $PACKAGES_DEMO $PACKAGES_TEST || exit 1
echo "Building"
build_brim ON || exit 1

log=$(mktemp)
trap 'rm -f "$log"' EXIT
build/bin/run_tests "$@" | tee "$log"
counts=$(tail -n 1 "$log")
if [ $# -eq 0 ]; then
    tests/programs.sh build/bin | tee "$log"
    counts="$counts
$(tail -n 1 "$log")"
fi
# Adds up the closing lines of both.
echo "$counts" | awk '/passed/ { p += $1; f += $3; s += $5; seen++ } END {
    printf "%d passed, %d failed, %d skipped\n", p, f, s; exit !(p > 0 && f == 0 && seen == NR) }'
