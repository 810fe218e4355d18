#!/usr/bin/env bash
# The CUDA backend on the CPU (tests/cuda_on_cpu/): suites that take a device, and the programs. usage: tests/cuda.sh BIN_DIR
# Ends with "N passed, N failed, N skipped".
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "$1" && pwd) build=$(cd "$1/.." && pwd)
. "$root/tests/checks.sh"

if [ ! -e "$build/cuda_on_cpu/libcuda.so.1" ]; then
    skip "CUDA on the CPU" "this build has no CUDA backend, since CUDA's headers were not found"
    finish
    exit
fi
with() { "$root/scripts/with-cuda-on-cpu.sh" --build "$build" "$@"; }

# run_suites SETTINGS... -- SUITES...: what is said on stderr is for the reader of a failure.
run_suites() {
    local settings=() counts p f s
    while [ "$1" != -- ]; do settings+=("$1"); shift; done
    shift
    with ${settings[@]+"${settings[@]}"} "$bin/run_tests" --device cuda "$@" 2>said.log | tee suites.log
    [ "${PIPESTATUS[0]}" -eq 0 ] || grep -v 'for tests; seed=' said.log | tail -n 40
    counts=$(tail -n 1 suites.log | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p')
    [ -n "$counts" ] || { counts="0 1 0"; tail -n 20 said.log; }
    read -r p f s <<<"$counts"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}
# Whether NVRTC takes the kernels is seen by the suite nvrtc, and in the long form here, too.
# The model's fixture compiles kernels that other suites do not, for two minutes.
asked=nvrtc=0 fixture=
[ -z "${BRIM_TEST_LONG:-}" ] || asked=nvrtc=1 fixture=model_fixture
run_suites -- cuda_on_cpu cuda_cublaslt cuda_cublaslt_refusals cuda cuda_streaming cuda_queues chain
run_suites $asked -- host_queues stalls backend $fixture micro_batches trainer not_finite budgets budget_exact self_check ops
# A thousand graphs: what their kernels touch, the suites before have seen.
run_suites check=0 nvrtc=0 -- graph_fuzz

# The programs, as users run them. Kernels are not looked at closely here, which is faster.
for i in $(seq 1 400); do echo "line $i of the text: the quick brown fox jumps over the lazy dog $((i * 7919 % 1000))"; done >text.txt
tiny="--layers 2 --heads 3 --dim 24 --seq 31 --batch 3 --accumulate 2 --device cuda:0"
train() { with check=0 "$bin/train_gpt" --data text.txt $tiny "$@"; }
check "devices" with devices=2 "$bin/devices"
check "devices: both" grep -q "^cuda:1 " check.log
check "mlp" with check=0 "$bin/mlp"
check "mlp learns" awk '/classified right/ && $1 >= 0.95 * $3 { good = 1 } END { exit !good }' check.log
check "tensors" with check=0 "$bin/tensors"
check "tensors: frozen values stay" grep -q " 0 frozen values changed" check.log
check "a record of the calls" with check=0 record="$PWD/calls.txt" "$bin/train_gpt" --data text.txt $tiny --steps 2 --out recorded
check "a record of the calls: launches" grep -qE '^cuLaunchKernel\(0x[0-9a-f]+, [0-9]+ [0-9]+ [0-9]+, [0-9]+ 1 1, 0, 0x[0-9a-f]+\) = 0$' calls.txt
check "a record of the calls: no failure" same 0 "$(grep -v '^cuFuncGetParamInfo' calls.txt | grep -c '= [^0]')" # it ends where parameters do
check "selftest" with check=0 "$bin/selftest" --device cuda:0 --quick
for precision in f32 bf16 f16; do
    check "train, $precision" train --precision $precision --steps 6 --out "a-$precision" --sample 5
    check "twice, $precision" train --precision $precision --steps 6 --out "b-$precision"
    check "the same bits twice, $precision" same_file "a-$precision/step-6/model.safetensors" "b-$precision/step-6/model.safetensors"
    check "3 steps, $precision" train --precision $precision --steps 6 --schedule constant --save-every 3 --out "c-$precision"
    check "6 steps, $precision" train --precision $precision --steps 6 --schedule constant --out "d-$precision"
    rm -r "c-$precision/step-6"; echo step-3 >"c-$precision/latest"
    check "resumed, $precision" train --precision $precision --steps 6 --schedule constant --resume --out "c-$precision"
    for file in model training_state; do
        check "resumed: the same $file, $precision" same_file "c-$precision/step-6/$file.safetensors" "d-$precision/step-6/$file.safetensors"
    done
done
check "a step that streams" train --steps 3 --vram 25% --out streams
check "a step that streams says so" grep -qE 'step 3/3 .* streaming [0-9]+% hidden' check.log
check "a step in little memory" with check=0 memory=605M overhead=250M "$bin/train_gpt" --data text.txt --device cuda:0 --layers 6 --heads 2 \
    --dim 16 --seq 64 --batch 16 --steps 2 --out little
check "a step in little memory: planned" grep -qE "^(recomputed|streamed|offloaded): " check.log
# A line of the stand-in comes before the error.
fails_with "a device that is not there" "error: device \"cuda:1\": there is no such device" with "$bin/train_gpt" --data text.txt --device cuda:1 --out e
fails_with "a call that fails" "cuMemAlloc failed with CUDA_ERROR_OUT_OF_MEMORY" \
    with fail=cuMemAlloc:1:2 "$bin/train_gpt" --data text.txt $tiny --steps 2 --out e
check "a device that is lost" train --steps 6 --save-every 2 --out lost
check "a device that is lost: a copy" cp -r lost before
fails_with "a device that is lost in a step" "the device is lost" \
    with check=0 fail=cuLaunchKernel:900:719 "$bin/train_gpt" --data text.txt $tiny --steps 60 --resume --out lost
check "a device that is lost: the last checkpoint is whole" train --steps 8 --resume --out lost
finish
