#!/usr/bin/env bash
# Calls that fail (tests/faults/): memory, threads, files, libraries, the driver; one call in each run of train_gpt. usage: tests/faults.sh BIN_DIR
# With BRIM_TEST_LONG=1 from each path that leads to a call, not each place, and on more devices. Ends with "N passed, N failed, N skipped".
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "$1" && pwd) build=$(cd "$1/.." && pwd)
. "$root/tests/checks.sh"
long=${BRIM_TEST_LONG:-} today=$(date +%j | sed 's/^0*//')
with=() # what the program is run by

for i in $(seq 1 400); do echo "line $i of the text: the quick brown fox jumps over the lazy dog $((i * 7919 % 1000))"; done >text.txt
text="--data $PWD/text.txt --layers 2 --heads 3 --dim 24 --seq 31 --batch 3 --schedule constant --out o"
streams="--vram 174K --ram 400K --disk .:1G" # hardly more than the least: weights, states and activations in main memory and on disk
hosted="--vram 196K --ram 1M --precision bf16" # updates by the CPU
saves="--steps 3 --save-every 1"
results="--same o/step-3/model.safetensors --same o/step-3/training_state.safetensors"
load=""; for file in /etc/OpenCL/vendors/*.icd; do [ -e "$file" ] && load="$load --load $(cat "$file")"; done

program=train_gpt_faults
# each NAME "OPTIONS IN CI" "OPTIONS OF THE LONG FORM" OPTION... -- ARGUMENT...
each() {
    local name=$1 how=$2; [ -n "$long" ] && how=$3
    shift 3
    "${with[@]}" "$bin/$program" $load $how "$@" >next.log 2>said.log && pass || { fail "$name"; grep -A 4 WRONG next.log | head -n 40; tail -n 3 said.log; }
    echo "$name: $(tail -n 1 next.log)"
}

# Plans for a card on paper, one after the other and by threads.
program=plan_faults sizes="--layers 2 --heads 2 --dim 32 --seq 64 --tokens-per-step 512"
each "planning" "--depth 2" "--depth 10" -- $sizes --gpu rtx3060 --compare
each "planning with a disk" "--depth 2" "--depth 10" -- $sizes --gpu rtx3060 --vram 560M --ram 25M --disk .:1G
each "a table of plans" "--depth 2 --most 20 --seed $today" "--depth 4" -- --table --model gpt2 --gpu rtx3060
program=train_gpt_faults

if ! "$bin/devices" 2>/dev/null | grep -q "^opencl:.*(CPU)"; then
    skip "calls that fail" "OpenCL offers no CPU here (Debian's package: pocl-opencl-icd)"
    finish
    exit
fi

# Kernels that no cache has take half a minute in all: not again for each failure to open it. What was met once is not tried again in CI, and
# of the places of steps that stream, which take longer, each day has others.
cached="--except kernel_cache_open"
places="--depth 2 --known $PWD/places $cached" some="--depth 3 --most 8 --seed $today $cached" paths="--depth 6"
each "resident" "$places" "$paths" $results -- $text --device cpu --steps 3 --save-every 2 --sample 5 --prompt a
each "streaming" "$places --most 40 --seed $today" "$paths" $results -- $text --device cpu --steps 3 --save-every 2 $streams

check "a plan that streams" "$bin/train_gpt" $text --device cpu $streams --plan; cp check.log plan.log
for what in "^streamed: " "^offloaded: .* to the host" "^the disk is written"; do check "a plan that streams: $what" grep -qE "$what" plan.log; done
check "a plan that updates on the host" "$bin/train_gpt" $text --device cpu $hosted --plan; cp check.log plan.log
check "a plan that updates on the host: says so" grep -qE "^updates: .* by the CPU" plan.log

# A run that goes on from a checkpoint; and one that must not begin, since that folder holds another run's.
mkdir base
for steps in 2 4; do (cd base && "$bin/train_gpt" $text --device cpu --precision bf16 --steps $steps $([ $steps = 4 ] && echo --resume) >/dev/null); done
each "resuming" "$places --most 40 --seed $today" "$paths" --folder "$PWD/base" --same o/step-5/model.safetensors --same o/step-5/training_state.safetensors \
    --same o/step-4/model.safetensors -- $text --device cpu --steps 5 --resume $hosted
each "another run's folder" "" "" --folder "$PWD/base" --same o/latest --same o/log.jsonl --same o/step-4/model.safetensors -- $text --device cpu --steps 5

# All calls from one on: memory that has run out, a disk that is full. Then calls that do half of what they are asked to, or are interrupted.
each "from then on" "$some" "--depth 4 $cached" --lasting --kinds memory,map,thread -- $text --device cpu --steps 3 $streams
each "files, from then on" "$some" "--depth 4 $cached" --lasting --calls write,pwrite,posix_fallocate,fsync,rename,mkdir,mkstemp -- $text --device cpu $saves
each "files, by halves" "--each --most 4 --seed $today" "--each --most 200" --how part --lasting --calls read,pread,write,pwrite $results -- $text --device cpu $saves $streams
each "files, interrupted" "$some" "$paths $cached" --how interrupt --calls read,pread,write,pwrite,open,fsync,flock,posix_fallocate $results \
    -- $text --device cpu $saves $streams

# After a failure the run goes on from its last checkpoint, and comes to the bits of a run that was never disturbed: any failure of a file; a disk tier
# that is gone in the middle of a step; a device that is lost, perhaps while copies are under way.
on="--again --resume $results"
each "files, and on" "$some" "$paths $cached" --kinds file $on -- $text --device cpu $saves $streams
each "the disk is gone, and on" "--each --most 6 --seed $today" "--each --most 300" --calls pread,pwrite --lasting $on -- $text --device cpu $saves $streams
each "the device is lost, and on" "--each --most 6 --seed $today" "--each --most 300" --kinds driver --lasting $on -- $text --device cpu $saves $streams

if [ -n "$long" ]; then
    each "steps that the planner cuts" "" "--depth 6 $cached" $results -- ${text/--batch 3/--step-batch 6} --device cpu --steps 3 $streams
    if (export OPENCL_LAYERS="$build/tests/libopencl_layer.so" BRIM_TEST_LAYER=gpu; "$bin/devices" | grep -q "a device behind a layer"); then
        with=(env OPENCL_LAYERS="$build/tests/libopencl_layer.so" BRIM_TEST_LAYER="gpu slow")
        each "as a GPU does" "" "--depth 6" --kinds driver $results -- $text --device opencl:0 $saves $streams
        each "as a GPU does, and on" "" "--each --most 300" --kinds driver --lasting $on -- $text --device opencl:0 $saves $streams
    fi
    if [ -e "$build/cuda_on_cpu/libcuda.so.1" ]; then
        # There the driver and our modules take their share of the budget (optim/budget.c): 352 MiB.
        streams="--vram $(((352 << 20) + 178176)) --ram 400K --disk .:1G"
        with=("$root/scripts/with-cuda-on-cpu.sh" --build "$build" check=0 order=submitted seed=1)
        each "CUDA" "" "--depth 3 $cached" --kinds memory,map,thread,file $results -- $text --device cuda:0 $saves $streams
        each "CUDA, and on" "" "--depth 3 $cached" --kinds file $on -- $text --device cuda:0 $saves $streams
    fi
fi
finish
