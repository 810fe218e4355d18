#!/usr/bin/env bash
# Builds and runs the whole test suite; the last line is "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")"
. scripts/packages.sh

scripts=(cuda mutate sanitize fuzz faults interrupted programs install) # the longest first
case " $* " in *" --help "*)
    cat <<END
usage: ./test.sh [--long] [PART...]
       ./test.sh --sanitize | --mutate | --fuzz

Installs what is missing with apt (packages are named first), builds into build/, and runs every test: the suites of
build/bin/run_tests, and beside them the scripts tests/PART.sh:

  cuda         the CUDA backend on the CPU             faults        calls of the system and of drivers that fail
  programs     the programs as users run them          interrupted   kill -9, power cuts and full disks while training
  install      an installed copy                       sanitize      ASan, UBSan and TSan
  mutate       mistakes that the suites must notice    fuzz          files of strangers, by libFuzzer

With PARTs only those run: names of suites (tests/suites.def) and of scripts. A skipped test is named with its reason.
--long leaves nothing out and takes hours; --sanitize, --mutate and --fuzz are --long with that part alone. The last line is
"N passed, N failed, N skipped", and the exit status is 0 where none failed.
END
    exit 0
esac

case "${1:-}" in
    --long) export BRIM_TEST_LONG=1; shift ;;
    --sanitize | --mutate | --fuzz) export BRIM_TEST_LONG=1; set -- "${1#--}" ;;
esac

ensure_packages $PACKAGES_BUILD $PACKAGES_RUN $PACKAGES_TEST || exit 1
# After the lists of packages are there. One that cannot be installed is missed, no more.
optional=$(available_packages $PACKAGES_TEST_OPTIONAL)
[ -z "$optional" ] || ensure_packages $optional || echo "Going on without $optional"
echo "Building"
build_brim ON || exit 1

logs=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$logs"' EXIT

# run_suites SUITE...: all of them where none is named. What they say is seen as it comes.
run_suites() {
    build/bin/run_tests "$@" 2>&1 | tee "$logs/suites"
    [ "${PIPESTATUS[0]}" -le 1 ] || echo "0 passed, 1 failed (run_tests broke off)" | tee -a "$logs/suites"
}

# run_script NAME: what it says is shown at its end, with the time that it took.
run_script() {
    local name=$1 start=$SECONDS
    "tests/$name.sh" build/bin >"$logs/$name" 2>&1 || [ $? -eq 1 ] || echo "0 passed, 1 failed ($name broke off)" >>"$logs/$name"
    echo "== $name ($((SECONDS - start)) s)
$(cat "$logs/$name")"
}

suites=() chosen=()
for part in "$@"; do
    case " ${scripts[*]} " in *" $part "*) chosen+=("$part") ;; *) suites+=("$part") ;; esac
done
[ $# -gt 0 ] || chosen=("${scripts[@]}")

# The suites on one core, scripts on the other; and on both when the suites are done.
if [ $# -eq 0 ] || [ ${#suites[@]} -gt 0 ]; then run_suites ${suites[@]+"${suites[@]}"} & fi
for name in ${chosen[@]+"${chosen[@]}"}; do
    while [ "$(jobs -pr | wc -l)" -ge 2 ]; do wait -n; done
    run_script "$name" &
done
wait

# Adds up the closing lines of all parts. None, or one that is missing, is a failure.
for part in "$logs"/*; do tail -n 1 "$part"; done | awk '
    /^[0-9]+ passed, [0-9]+ failed/ { p += $1; f += $3; s += $5; next }
    { f++ }
    END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit !(p > 0 && f == 0) }'
