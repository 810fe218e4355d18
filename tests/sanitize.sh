#!/usr/bin/env bash
# The tests under sanitizers: memory and undefined behaviour (the preset asan), and races between threads (tsan).
# usage: tests/sanitize.sh BIN_DIR             the suites that touch most code for their time, in some minutes of two cores
#        tests/sanitize.sh BIN_DIR --long      all suites, the programs, and the CUDA backend on the CPU; BRIM_TEST_LONG does the same
# Builds lie beside BIN_DIR. Ends with "N passed, N failed, N skipped".
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
plain=$(cd "$1" && pwd) build=$(cd "$1/.." && pwd)
. "$root/tests/checks.sh"
long=${BRIM_TEST_LONG:-}
[ "${2:-}" != --long ] || long=1
unset BRIM_TEST_LONG # all suites, but not what each of them does in hours

# Without optimisation it builds in half the time, and short suites lose little by it.
flags=() kind=
[ -n "$long" ] || { flags=(-DCMAKE_C_FLAGS_RELEASE=-O0); kind=-quick; }

lists=$root/tests/sanitizers
# use_tls: LeakSanitizer breaks off where it looks into the thread-local storage of OpenMP's threads.
# Tests preload libraries, and ask for more memory than there is.
export ASAN_OPTIONS=detect_leaks=1:verify_asan_link_order=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
export LSAN_OPTIONS=use_tls=0:print_suppressions=0:suppressions=$lists/leaks.txt
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=$lists/races.txt
# Tests that make races on purpose, and those that measure the process.
export CK_EXCLUDE_TAGS="races process_size" CK_TIMEOUT_MULTIPLIER=10

make() { # make PRESET TARGET...
    local preset=$1 targets=(); shift
    [ $# -eq 0 ] || targets=(--target "$@")
    (cd "$root" && cmake --preset "$preset" -B "$build/$preset$kind" ${flags[@]+"${flags[@]}"} &&
        cmake --build "$build/$preset$kind" ${targets[@]+"${targets[@]}"})
}

part() { # part NAME COMMAND...: its last line is added up
    local name=$1 start=$SECONDS p f s; shift
    "$@" >part.log 2>&1
    if read -r p f s < <(tail -n 1 part.log | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p'); then
        passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
        echo "$name: $p passed, $f failed ($((SECONDS - start)) s)"
        [ "$f" -eq 0 ] || grep -av '^\(==\( [a-z_]*\)\?$\|100%\|Running\|   [0-9]\)' part.log | head -n 200
    else
        fail "$name broke off"
        tail -n 40 part.log
    fi
}

if [ -n "$long" ]; then
    # oclgrind runs kernels inside another tool, for minutes, and none of our code that other suites do not run.
    address=($(sed -n 's/^SUITE(\([a-z0-9_]*\))$/\1/p' "$root/tests/suites.def" | grep -vx oclgrind))
    thread=(core_loader core_files core_report kernel_cache backend host_queues stalls native_matmul micro_batches trainer
        states_q8 model_fixture opencl_queues budgets budget_exact)
else
    address=(core_error core_dtype core_memory core_units core_files core_dataset core_loader core_safetensors core_statefile
        core_report core_sync graph graph_build nn program program_order lower lower_launches lower_stages program_fixture chain autograd_model
        passes pass_densify pass_fuse pass_cast pass_recompute recompute_levels pack layout schedule homes plan plan_verify stays budget backend
        host_records opencl_calls model kernel_cache micro_batches compute_copies training_numbers trainer checkpoint plan_fixture)
    thread=(core_loader host_queues stalls micro_batches trainer)
fi

if [ -n "$long" ]; then check "build, address" make asan; else check "build, address" make asan run_tests; fi
bin=$build/asan$kind/bin
if [ -n "$long" ]; then
    for suite in "${address[@]}"; do part "address: $suite" "$bin/run_tests" "$suite"; done
    part "address: programs" "$root/tests/programs.sh" "$bin"
    part "address: CUDA on the CPU" "$root/tests/cuda.sh" "$bin"
else
    part "address: ${#address[@]} suites" "$bin/run_tests" "${address[@]}"
fi

# PoCL's device without threads of its own: what they do to each other is not all seen, and would be told as races of ours.
# Compilers in the process are slow there, so that kernels are compiled before.
export POCL_DEVICES=basic
check "build, thread" make tsan run_tests
"$plain/run_tests" "${thread[@]}" >/dev/null 2>&1
bin=$build/tsan$kind/bin
for suite in "${thread[@]}"; do part "thread: $suite" "$bin/run_tests" "$suite"; done
finish
