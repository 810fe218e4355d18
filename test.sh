#!/usr/bin/env bash
# Builds and runs the whole test suite; the last line is "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")"
. scripts/packages.sh

case " $* " in *" --help "*)
    cat <<END
usage: ./test.sh [--long] [SUITE...]

Installs what is missing with apt (packages are named first), builds into build/, and runs every test: the suites of
build/bin/run_tests, the programs as users run them (tests/programs.sh), an installed copy (tests/install.sh), and the CUDA
backend on the CPU (tests/cuda.sh).
With SUITEs only those run: names from tests/suites.def, and "programs", "install" and "cuda". A skipped test is named with its
reason. --long leaves nothing out (some 20 minutes more on two cores). The last line is "N passed, N failed, N skipped", and the exit status is 0 where none failed.
END
    exit 0
esac

if [ "${1:-}" = --long ]; then
    export BRIM_TEST_LONG=1
    shift
fi

ensure_packages $PACKAGES_BUILD $PACKAGES_RUN $PACKAGES_TEST || exit 1
# After the lists of packages are there. One that cannot be installed is missed, no more.
optional=$(available_packages $PACKAGES_TEST_OPTIONAL)
[ -z "$optional" ] || ensure_packages $optional || echo "Going on without $optional"
echo "Building"
build_brim ON || exit 1

logs=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$logs"' EXIT

# run NAME COMMAND...: its output goes to a file, with a heading and the time that it took.
run() {
    local name=$1 start=$SECONDS; shift
    { echo "== $name"; "$@" || [ $? -eq 1 ] || echo "0 passed, 1 failed ($name broke off)"; } >"$logs/$name" 2>&1
    sed -i "1s/\$/ ($((SECONDS - start)) s)/" "$logs/$name"
}

suites=() scripts=()
for name in "$@"; do
    case "$name" in programs | install | cuda) scripts+=("$name") ;; *) suites+=("$name") ;; esac
done
[ $# -gt 0 ] || scripts=(programs install cuda)

# The scripts use the other core.
(for name in ${scripts[@]+"${scripts[@]}"}; do run "$name" "tests/$name.sh" build/bin; done) &
if [ $# -eq 0 ] || [ ${#suites[@]} -gt 0 ]; then
    build/bin/run_tests ${suites[@]+"${suites[@]}"} 2>&1 | tee "$logs/run_tests"
    [ "${PIPESTATUS[0]}" -le 1 ] || echo "0 passed, 1 failed (run_tests broke off)" | tee -a "$logs/run_tests"
fi
wait
for name in ${scripts[@]+"${scripts[@]}"}; do cat "$logs/$name"; done

# Adds up the closing lines of all parts. None, or one that is missing, is a failure.
for part in "$logs"/*; do tail -n 1 "$part"; done | awk '
    /^[0-9]+ passed, [0-9]+ failed/ { p += $1; f += $3; s += $5; next }
    { f++ }
    END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit !(p > 0 && f == 0) }'
