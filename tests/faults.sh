#!/usr/bin/env bash
# Calls of the system that fail (tests/faults/): memory, threads, files, libraries; one call in each run of train_gpt. usage: tests/faults.sh BIN_DIR
# With BRIM_TEST_LONG=1 every call, not one from each place in the program. Ends with "N passed, N failed, N skipped".
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "$1" && pwd) build=$(cd "$1/.." && pwd)
. "$root/tests/checks.sh"
program=$bin/train_gpt_faults

for i in $(seq 1 400); do echo "line $i of the text: the quick brown fox jumps over the lazy dog $((i * 7919 % 1000))"; done >text.txt
text="--data $PWD/text.txt --layers 2 --heads 3 --dim 24 --seq 31 --batch 3 --schedule constant --out o"
streams="--vram 25% --ram 400K --disk .:1G" # weights, states and activations on disk and in main memory
results="--same o/step-3/model.safetensors --same o/step-3/training_state.safetensors"
today=$(date +%j | sed 's/^0*//')
load=""; for file in /etc/OpenCL/vendors/*.icd; do [ -e "$file" ] && load="$load --load $(cat "$file")"; done

# each NAME "OPTIONS IN CI" "OPTIONS OF THE LONG FORM" OPTION... -- ARGUMENT...
each() {
    local name=$1 how=$2; [ -n "${BRIM_TEST_LONG:-}" ] && how=$3
    shift 3
    "$program" $load $how "$@" >next.log 2>&1 && pass || { fail "$name"; grep -A 4 WRONG next.log | head -n 40; }
    echo "$name: $(tail -n 1 next.log)"
}

if ! "$bin/devices" 2>/dev/null | grep -q "^opencl:.*(CPU)"; then
    skip "calls that fail" "OpenCL offers no CPU here (Debian's package: pocl-opencl-icd)"
    finish
    exit
fi

# Kernels that no cache has take half a minute in all: not again for each failure to open it. What was met once is not tried again in CI.
cached="--except kernel_cache_open"
places="--depth 2 --known $PWD/places $cached"
each "resident" "$places" "--depth 10" $results -- $text --device cpu --steps 3 --save-every 2 --sample 5 --prompt a
each "streaming" "$places" "--depth 10" $results -- $text --device cpu --steps 3 --save-every 2 $streams

# A run that goes on from a checkpoint; and one that must not begin, since that folder holds another run's.
mkdir base
for steps in 2 4; do (cd base && "$bin/train_gpt" $text --device cpu --steps $steps $([ $steps = 4 ] && echo --resume) >/dev/null); done
each "resuming" "$places" "--depth 10" --folder "$PWD/base" --same o/step-5/model.safetensors --same o/step-5/training_state.safetensors \
    --same o/step-4/model.safetensors -- $text --device cpu --steps 5 --resume
each "another run's folder" "" "" --folder "$PWD/base" --same o/latest --same o/log.jsonl --same o/step-4/model.safetensors -- $text --device cpu --steps 5

# All calls from one on: memory that has run out, a disk that is full.
each "from then on" "--depth 2 --most 15 --seed $today $cached" "--depth 4" --lasting --kinds memory,map,thread -- $text --device cpu --steps 3 $streams
each "files, from then on" "--depth 2 --most 15 --seed $today $cached" "--depth 4" --lasting --kinds file -- $text --device cpu --steps 3 --save-every 1

# After a failure of a file the run goes on from its last checkpoint, and comes to the bits of a run that was never disturbed.
each "files, and on" "--depth 3 --most 15 --seed $today $cached" "--depth 10 $cached" --kinds file --again --resume $results \
    -- $text --device cpu --steps 3 --save-every 1 $streams
finish
