#!/usr/bin/env bash
# Builds, tests and measures Brim on a machine with a GPU of any make, in under 10 minutes, and writes a report. See --help.
#
# Each part runs under a limit of its own; one that fails or runs out of time is reported, and the rest goes on.
set -u

usage() {
    echo "usage: scripts/gpu-check.sh OUT_DIR [--deps DIR] [--minutes N]"
    echo "Leaves in OUT_DIR: report.txt (a summary last), report.json, logs.tar.gz."
    echo "  --deps DIR   use packages that scripts/offline-deps.sh unpacked into DIR"
    echo "  --minutes N  be done after that time (default 9)"
}
out="" deps="" minutes=9
while [ $# -gt 0 ]; do
    case "$1" in
    --help) usage; exit 0 ;;
    --deps) deps=${2:?"--deps wants a folder"}; shift 2 ;;
    --minutes) minutes=${2:?"--minutes wants a number"}; shift 2 ;;
    -*) usage >&2; exit 2 ;;
    *) [ -z "$out" ] || { usage >&2; exit 2; }; out=$1; shift ;;
    esac
done
[ -n "$out" ] || { usage >&2; exit 2; }
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
if [ -n "$deps" ]; then deps=$(cd "$deps" && pwd) || exit 1; fi
cd "$(dirname "$0")/.." || exit 1
started=$(date +%s)
deadline=$(awk -v s="$started" -v m="$minutes" 'BEGIN { printf "%d", s + 60 * m }')
work=$(mktemp -d)
logs=$work/logs
mkdir "$logs"
build=build/gpu-check

# ---- parts -----------------------------------------------------------------------------------------------------------

names=() states=() seconds=() figures=()
left() { echo $((deadline - $(date +%s))); }

# note NAME STATE SECONDS FIGURE: a row of the summary.
note() {
    names+=("$1") states+=("$2") seconds+=("$3") figures+=("$4")
    printf '%-44s %-10s %5s s  %s\n' "$1" "$2" "$3" "$4"
}

# run_part NAME LIMIT COMMAND...: the output goes to the part's log. Sets `state` and `took`.
run_part() {
    local name=$1 limit=$2 begin status; shift 2
    log=$logs/$(tr -c 'a-zA-Z0-9\n' '-' <<<"$name").txt
    begin=$(date +%s)
    [ "$(left)" -ge "$limit" ] || limit=$(left)
    took=0 state="no time"
    [ "$limit" -ge 3 ] || return 1
    timeout -k 5 "$limit" "$@" >"$log" 2>&1 </dev/null
    status=$?
    took=$(($(date +%s) - begin))
    case $status in 0) state=ok ;; 124 | 137) state="timed out" ;; *) state="failed" ;; esac
    return $status
}

# The last line of the part's log, for parts that say in it what came out or what is wrong.
last_line() { if [ -f "$log" ]; then grep -v '^ *$' "$log" | tail -n 1 | cut -c 1-150; fi; }

# ---- the machine -----------------------------------------------------------------------------------------------------

add_path() { # VARIABLE FOLDER
    if [ -d "$2" ]; then export "$1=$2${!1:+:${!1}}"; fi
}

use_deps() {
    local arch folder
    arch=$(uname -m)-linux-gnu
    for folder in "$deps/lib/$arch" "$deps/usr/lib/$arch"; do
        add_path LD_LIBRARY_PATH "$folder"
        add_path CMAKE_LIBRARY_PATH "$folder"
    done
    add_path PKG_CONFIG_PATH "$deps/usr/share/pkgconfig"
    add_path PKG_CONFIG_PATH "$deps/usr/lib/$arch/pkgconfig"
    add_path CMAKE_PREFIX_PATH "$deps/usr"
    add_path PATH "$deps/usr/bin"
}

# The folder of a library or header that no standard place has: toolkits and Python packages bring their own.
find_folder() { find -L /usr/local /opt /usr/lib "$HOME/.local" -maxdepth 9 -name "$1" -printf '%h\n' 2>/dev/null | head -n 1; }
knows_library() { ldconfig -p 2>/dev/null | grep -q "$1"; }

use_cuda() {
    add_path LD_LIBRARY_PATH /usr/local/nvidia/lib64
    add_path LD_LIBRARY_PATH /usr/local/cuda/lib64
    local library
    for library in libnvrtc.so libcublasLt.so; do
        knows_library "$library" || ls /usr/local/cuda/lib64/$library* >/dev/null 2>&1 || add_path LD_LIBRARY_PATH "$(find_folder "$library.1[23]")"
    done
    cuda_headers=""
    [ -e /usr/local/cuda/include/cublasLt.h ] || cuda_headers=$(find_folder cublasLt.h)
}

# OpenCL loaders read which drivers there are from a folder; images for containers may lack NVIDIA's line in it.
use_opencl() {
    local folder
    mkdir "$work/vendors"
    cp /etc/OpenCL/vendors/*.icd "$work/vendors" 2>/dev/null
    if ! grep -qs nvidia "$work"/vendors/*.icd; then
        local file=libnvidia-opencl.so.1
        for folder in /usr/local/nvidia/lib64 /usr/lib64; do [ ! -e "$folder/$file" ] || file=$folder/$file; done
        if [ -e "$file" ] || knows_library "$file"; then echo "$file" >"$work/vendors/nvidia.icd"; fi
    fi
    export OCL_ICD_VENDORS=$work/vendors OPENCL_VENDOR_PATH=$work/vendors
}

describe_machine() {
    uname -srm
    [ ! -r /etc/os-release ] || sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release
    lscpu | sed -n 's/^\(Model name\|CPU(s)\): */\1: /p'
    sed -n 's/^MemTotal: */memory: /p' /proc/meminfo
    if command -v nvidia-smi >/dev/null; then nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader; fi
    git log -1 --format='commit %h, %ad' --date=short 2>/dev/null
    for tool in cc cmake; do command -v $tool >/dev/null && $tool --version | head -n 1; done
    return 0
}

# ---- building and testing --------------------------------------------------------------------------------------------

build_all() {
    local generator=()
    if command -v ninja >/dev/null; then generator=(-G Ninja); fi
    local configure=(cmake -S . -B "$build" "${generator[@]}" -DBRIM_TESTS=AUTO ${cuda_headers:+-DBRIM_CUDA_HEADERS="$cuda_headers"})
    # What an earlier run left there may be of another place or generator.
    "${configure[@]}" || { rm -rf "$build" && "${configure[@]}"; } || return 1
    cmake --build "$build" -j "$(nproc)"
}

# Suites of one kind: those that use a device, and the others.
suites() {
    local name kind
    for name in $(sed -n 's/^SUITE(\([a-z0-9_]*\)).*/\1/p' tests/suites.def); do
        kind=host
        ! grep -qE '"opencl|device_under_test|backend_rig' "tests/test_$name.c" || kind=device
        [ $kind != "$1" ] || echo "$name"
    done
}

# tests_part NAME LIMIT ARGUMENT...; what it finds goes into a file, since it runs beside others.
tests_part() {
    local name=$1 limit=$2 counts; shift 2
    run_part "$name" "$limit" "$build/bin/run_tests" "$@"
    counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$log" 2>/dev/null | tail -n 1)
    [ -n "$counts" ] || counts="$(grep -c '^100%' "$log" 2>/dev/null) suites passed before it ended; $(last_line)"
    printf '%s\t%s\t%s\t%s\n' "$name" "$state" "$took" "$counts" >"$work/$name.row"
}

other_part() { # likewise
    local name=$1
    run_part "$@"
    printf '%s\t%s\t%s\t%s\n' "$name" "$state" "$took" "$(last_line)" >"$work/$name.row"
}

tiny="--layers 2 --heads 3 --dim 24 --seq 31 --batch 3 --accumulate 2"

# A step of everything, its memory watched: what lies outside, what is not freed, and races within a block.
watched_part() { # DEVICE TOOL OPTION...
    local device=$1 tool=$2; shift 2
    # shellcheck disable=SC2086  # words
    other_part "$tool $device" 150 compute-sanitizer --tool "$tool" --report-api-errors no --error-exitcode 1 "$@" \
        "$build/bin/train_gpt" --data "$work/text" --device "$device" $tiny --steps 2 --out "$work/watched-$tool"
}

# All that asks whether things are right, side by side. GPUs are slow at little, and have room for many.
run_tests() {
    local device name row backend
    if [ ! -x "$build/bin/run_tests" ]; then note "tests" "left out" 0 "Check was not found"; return; fi
    export BRIM_TEST_GRAPHS=300 # of random graphs
    # shellcheck disable=SC2046  # names of suites are words
    tests_part "tests of the host" 240 $(suites host) &
    for device in "${devices[@]}"; do
        backend=${device%:*}
        [ "$device" != "$backend:0" ] || tests_part "tests on $backend" 240 --device "$backend" $(suites device | grep -vx 'budgets\|budget_exact') &
        other_part "selftest $device" 240 "$build/bin/selftest" --device "$device" &
        if [ "$backend" = cuda ] && command -v compute-sanitizer >/dev/null; then
            watched_part "$device" memcheck --leak-check full &
            watched_part "$device" racecheck &
        fi
    done
    wait
    # What a device loses to a process is measured with no other there.
    for device in "${devices[@]}"; do
        backend=${device%:*}
        [ "$device" != "$backend:0" ] || tests_part "tests of budgets, $backend" 90 --device "$backend" budgets budget_exact
    done
    for row in "$work"/*.row; do
        IFS=$'\t' read -r -a row <"$row"
        note "${row[@]}"
    done
}

# ---- measuring -------------------------------------------------------------------------------------------------------

# From log.jsonl: the last loss, and the middle of the steps' rates.
training_figure() {
    local steps loss rate
    steps=$(grep -c '"tokens_per_second"' "$1")
    loss=$(sed -n 's/.*"loss": \([^,]*\),.*/\1/p' "$1" | tail -n 1)
    rate=$(sed -n 's/.*"tokens_per_second": \([^,]*\),.*/\1/p' "$1" | sort -g | sed -n "$(((steps + 1) / 2))p")
    printf 'loss %.5f after %d steps, %.0f tokens/s' "$loss" "$steps" "$rate"
}

gpt2="--layers 12 --heads 12 --dim 768 --seq 1024 --batch 4"

measure_device() {
    local device=$1 kind=$2 precision steps=60 rounds=20
    [ "$kind" = GPU ] || { steps=8 rounds=3; }
    run_part "ops $device" 60 "$build/bin/bench_ops" --device "$device" --dtype all --seconds 0.03 --json "$work/ops-$device.json"
    note "ops $device" "$state" "$took" "$([ "$state" = ok ] || last_line)"
    for precision in f32 bf16 f16; do
        step_part "$device" "$precision" "" --rounds "$rounds"
        run_part "train $device $precision" 40 "$build/bin/train_gpt" --device "$device" --precision "$precision" \
            --data "$work/text" --out "$work/train-$device-$precision" --steps $steps --sequential
        if [ "$state" = ok ]; then note "train $device $precision" ok "$took" "$(training_figure "$work/train-$device-$precision/log.jsonl")"
        else note "train $device $precision" "$state" "$took" "$(last_line)"; fi
    done
    [ "$kind" = GPU ] || return
    # As large as GPT-2's smallest, in half a gigabyte of tokens' memory for each sequence.
    for precision in f32 bf16; do
        step_part "$device" $precision ", GPT-2 124M" --rounds 10 $gpt2 --vocab 50257 --no-cold
    done
    run_part "plans $device" 60 "$build/bin/bench_plans" --device "$device" --batch 8 --seq 1024 --rounds 5 --json "$work/plans-$device.json"
    note "plans $device" "$state" "$took" "$([ "$state" = ok ] || last_line)"
}

step_part() {
    local device=$1 precision=$2 what=$3 name figure; shift 3
    name="step $device $precision$what"
    run_part "$name" 50 "$build/bin/bench_step" --device "$device" --precision "$precision" --json "$work/$name.json" "$@"
    figure=$(last_line)
    if [ "$state" = ok ]; then
        figure="$(sed -n 's/^step \([0-9.]* ms: .*\)/\1/p' "$log"), warm start $(awk '/^all before step 1/ { printf "%.0f ms", $5 }' "$log")"
    fi
    note "$name" "$state" "$took" "$figure"
}

compare_with_pytorch() {
    local python device=$1
    for python in python3 "${VIRTUAL_ENV:-/none}/bin/python3" /opt/*/bin/python3 /opt/*/.venv/bin/python3; do
        if command -v "$python" >/dev/null && "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then break; fi
        python=""
    done
    [ -n "$python" ] || { note "PyTorch" "left out" 0 "no python3 with torch and a GPU"; return; }
    local precision size
    for precision in bf16 f32; do
        for size in "" "$gpt2"; do
            # shellcheck disable=SC2086  # words
            run_part "PyTorch $precision${size:+, 85M}" 75 "$python" benchmarks/compare_pytorch.py --bin "$build/bin" --device "$device" \
                --torch-device cuda --precision $precision --rounds 1 --steps 30 $size --json "$work/pytorch-$precision${size:+-85M}.json"
            note "PyTorch $precision${size:+, 85M}" "$state" "$took" "$(last_line)"
        done
    done
}

# ---- the report ------------------------------------------------------------------------------------------------------

section() { printf '\n======== %s\n\n' "$1"; }

report_text() {
    local file i
    section "machine"; cat "$logs/machine.txt"
    section "devices"; cat "$logs/devices.txt" 2>/dev/null
    for file in "$logs"/{build,tests,selftest,memcheck,racecheck,step,ops,plans,PyTorch}*.txt; do
        [ -f "$file" ] || continue
        section "$(basename "$file" .txt)"
        case $(basename "$file") in build* | PyTorch* | memcheck* | racecheck*) tail -n 12 "$file" ;;
        tests*) grep -vE '^(Running suite|==| +[0-9.]+ s$|100%)' "$file" | tail -n 60 ;;
        *) cat "$file" ;; esac
    done
    section "summary"
    for i in "${!names[@]}"; do printf '%-34s %-10s %4s s  %s\n' "${names[i]}" "${states[i]}" "${seconds[i]}" "${figures[i]}"; done
    echo "all: $(($(date +%s) - started)) s"
}

quoted() { printf '"%s"' "$(printf '%s' "$1" | tr '\n\t' '  ' | sed 's/[\\"]/\\&/g')"; }

report_json() {
    local i file comma=""
    printf '{"machine": %s,\n"parts": [' "$(quoted "$(cat "$logs/machine.txt")")"
    for i in "${!names[@]}"; do
        printf '%s\n{"part": %s, "state": %s, "seconds": %s, "figure": %s}' "$comma" "$(quoted "${names[i]}")" \
            "$(quoted "${states[i]}")" "${seconds[i]}" "$(quoted "${figures[i]}")"
        comma=,
    done
    printf '],\n"figures": {'
    comma=""
    for file in "$work"/*.json; do
        [ -s "$file" ] || continue
        printf '%s\n%s: ' "$comma" "$(quoted "$(basename "$file" .json)")"
        cat "$file"
        comma=,
    done
    printf '}}\n'
}

write_report() {
    report_text >"$out/report.txt"
    report_json >"$out/report.json"
    tar -C "$work" -czf "$out/logs.tar.gz" logs
    rm -rf "$work"
    echo "The report is in $out"
}
trap write_report EXIT
trap 'exit 130' INT TERM

# ---- all of it -------------------------------------------------------------------------------------------------------

[ -z "$deps" ] || use_deps
use_cuda
use_opencl
export XDG_CACHE_HOME=$work/cache # a start with empty caches is one of the figures
describe_machine >"$logs/machine.txt" 2>&1
cat "$logs/machine.txt"

export -f build_all
export build cuda_headers
run_part "build" 150 bash -c build_all
note "build" "$state" "$took" "$([ "$state" = ok ] || last_line)"
if [ ! -x "$build/bin/train_gpt" ]; then exit 1; fi

run_part "devices" 60 "$build/bin/devices"
note "devices" "$state" "$took" ""
cat "$log"
# The GPUs; where there are none, the CPU.
devices=() kind=GPU
for kind in GPU CPU; do
    [ ${#devices[@]} -gt 0 ] || devices=($(awk -v kind=$kind '/^(cuda|opencl):[0-9]+ / && (/\(CPU\)/ ? "CPU" : "GPU") == kind { print $1 }' "$log" | head -n 4))
    [ ${#devices[@]} -eq 0 ] || break
done
[ ${#devices[@]} -gt 0 ] || note "devices" "failed" 0 "no backend has a device"
cat -- */*.c */*/*.c >"$work/text" # something to learn
run_tests
for device in ${devices[@]+"${devices[@]}"}; do
    measure_device "$device" $kind
done
[ $kind != GPU ] || compare_with_pytorch "${devices[0]}"
for state in "${states[@]}"; do [ "$state" = ok ] || [ "$state" = "left out" ] || exit 1; done
