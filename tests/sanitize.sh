#!/usr/bin/env bash
# The tests under sanitizers: memory and undefined behaviour (build/asan), and races between threads (build/tsan).
# usage: tests/sanitize.sh BIN_DIR             the suites that touch most code for their time
#        tests/sanitize.sh BIN_DIR --long      all suites and programs, and the CUDA backend on the CPU; BRIM_TEST_LONG does the same
# Builds lie beside BIN_DIR. Ends with "N passed, N failed, N skipped".
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1/.." && pwd)
. "$root/tests/checks.sh"
long=${BRIM_TEST_LONG:-}
[ "${2:-}" != --long ] || long=1

# No optimisation builds in half the time, and short suites lose little by it.
flags=() kind=
[ -n "$long" ] || { flags=(-DCMAKE_C_FLAGS_RELEASE=-O0); kind=-quick; }

lists=$root/tests/sanitizers
# LeakSanitizer breaks off where it looks into the thread-local storage of OpenMP's threads.
export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
export LSAN_OPTIONS=use_tls=0:print_suppressions=0:suppressions=$lists/leaks.txt
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=$lists/races.txt

make() { # make PRESET TARGET...
    local preset=$1 targets=(); shift
    [ $# -eq 0 ] || targets=(--target "$@")
    (cd "$root" && cmake --preset "$preset" -B "$build/$preset$kind" ${flags[@]+"${flags[@]}"} &&
        cmake --build "$build/$preset$kind" ${targets[@]+"${targets[@]}"})
}

# The suites of a list of names and reasons are left out.
left_out() { sed 's/#.*//' "$lists/$1" | awk 'NF { print $1 }'; }
without() { # without LIST SUITE...
    local list=" $(left_out "$1" | tr '\n' ' ') " name; shift
    for name in "$@"; do case "$list" in *" $name "*) ;; *) echo "$name" ;; esac done
}

count() { # count NAME LOG: adds the last line of a part
    local p f s
    if ! read -r p f s < <(tail -n 1 "$2" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p'); then
        fail "$1 broke off"; tail -n 40 "$2"; return
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    [ "$f" -eq 0 ] || { echo "FAILED: $1"; grep -av '^\(==\|100%\|Running\|   [0-9]\)' "$2" | head -n 200; }
}

part() { # part NAME COMMAND...
    local name=$1 start=$SECONDS; shift
    "$@" >part.log 2>&1
    echo "-- $name: $(tail -n 1 part.log) ($((SECONDS - start)) s)"
    count "$name" part.log
}

all=($(sed -n 's/^SUITE(\([a-z0-9_]*\))$/\1/p' "$root/tests/suites.def"))
quick=(core_error core_dtype core_memory core_units core_files core_dataset core_loader core_safetensors core_statefile core_report
    graph graph_build nn program program_order lower chain autograd_model passes pass_fuse pass_cast pack layout plan stays backend
    model kernel_cache micro_batches compute_copies)
threads=(core_report core_loader host_queues stalls native_matmul trainer backend micro_batches)

make_address() { if [ -n "$long" ]; then make asan; else make asan run_tests; fi; }
check "build, address" make_address
asan=$build/asan$kind/bin
if [ -n "$long" ]; then
    for suite in $(without address_left_out.txt "${all[@]}"); do part "address: $suite" "$asan/run_tests" "$suite"; done
    part "address: programs" "$root/tests/programs.sh" "$asan"
    part "address: CUDA on the CPU" "$root/tests/cuda.sh" "$asan"
else
    part "address" "$asan/run_tests" "${quick[@]}"
fi

check "build, thread" make tsan run_tests
tsan=$build/tsan$kind/bin
[ -z "$long" ] || threads=($(without thread_left_out.txt "${all[@]}"))
for suite in "${threads[@]}"; do part "thread: $suite" "$tsan/run_tests" "$suite"; done
finish
