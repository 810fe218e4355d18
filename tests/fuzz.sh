#!/usr/bin/env bash
# Fuzz targets (tests/fuzz/): files and texts of strangers, 30 s for each target, 10 min with BRIM_TEST_LONG.
# usage: tests/fuzz.sh BIN_DIR [TARGET...]    They are built beside BIN_DIR, into fuzz/. Ends with "N passed, N failed, N skipped".
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1/.." && pwd)/fuzz
shift
. "$root/tests/checks.sh"
targets=${*:-checkpoint dataset json kernel_cache options safetensors}
seconds=${BRIM_TEST_LONG:+600}
seconds=${seconds:-30}

# What is missing is missed for one of these two reasons.
missing() {
    command -v clang >/dev/null || { echo "clang is not installed"; return; }
    echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n > 9 ? 0 : 0; }' >probe.c
    clang -fsanitize=fuzzer,address,undefined probe.c -o probe >probe.log 2>&1 ||
        echo "clang has no libraries for fuzzing (Debian's package is libclang-rt-dev)"
}
reason=$(missing)
if [ -n "$reason" ]; then
    skip "fuzz targets" "$reason"
    finish
    exit
fi

build_targets() { (cd "$root" && cmake --preset fuzz -B "$build" && cmake --build "$build" --target fuzz); }
check "build" build_targets

# An input that takes more memory than 32 MiB in one piece, or more than 5 s, is a finding, too. Memory that was freed is kept apart for
# a while, to see who uses it still: a little of it, lest it counts for much.
export ASAN_OPTIONS=quarantine_size_mb=16:detect_leaks=1
fuzz() { # fuzz TARGET: inputs that are new and worth keeping go to found.TARGET/, one that fails to failed.TARGET-...
    local corpus=$root/tests/fuzz/corpus/$1 words=$root/tests/fuzz/words/$1 dictionary=()
    [ -d "$corpus" ] || { echo "there is no $corpus"; return 1; }
    [ ! -f "$words" ] || dictionary=("-dict=$words")
    mkdir "found.$1"
    "$build/bin/fuzz_$1" -max_total_time=$seconds -timeout=5 -rss_limit_mb=256 -malloc_limit_mb=32 -artifact_prefix="failed.$1-" \
        ${dictionary[@]+"${dictionary[@]}"} "found.$1" "$corpus"
}
for target in $targets; do
    if fuzz "$target" >"$target.log" 2>&1; then
        pass
        grep -a DONE "$target.log" | sed "s/^#\([0-9]*\).*cov: \([0-9]*\) ft: \([0-9]*\).*/$target: \1 inputs, \2 edges, \3 features/"
    else
        fail "$target: this input, in base64, goes to tests/fuzz/corpus/$target/ once it is understood"
        grep -av '^\(INFO\|#[0-9]\)' "$target.log" | tail -n 40
        for input in failed."$target"-*; do base64 -w 0 "$input"; echo; done
    fi
done
finish
