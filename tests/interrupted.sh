#!/usr/bin/env bash
# Training that is killed, or that cannot write: nothing is lost, and it goes on to the bits of a run that nothing
# disturbed. usage: tests/interrupted.sh BIN_DIR      Ends with "N passed, N failed, N skipped".
# BRIM_TEST_LONG=1 in the environment: 300 kills at random moments instead of 30.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "$1" && pwd)
. "$root/tests/checks.sh"

for i in $(seq 1 400); do echo "line $i of the text: the quick brown fox jumps over the lazy dog $((i * 7919 % 1000))"; done >text.txt
tiny="--layers 1 --heads 2 --dim 16 --seq 15 --batch 2 --accumulate 2 --device cpu --dropout 0.1 --schedule constant --save-every 1"
train() { "$bin/train_gpt" --data text.txt $tiny "$@"; }
check "build file_faults.so" "${CC:-cc}" -std=c11 -Wall -shared -fPIC -o file_faults.so "$root/tests/file_faults.c" -ldl
# disturbed N WHAT OPTION...: trains in the folder "run" with that call failing.
disturbed() { local fault="$PWD/run $1 $2"; shift 2; FILE_FAULTS=$fault LD_PRELOAD=$PWD/file_faults.so train --out run "$@"; }
# go_on STEPS OPTION...: from whatever is in "run".
go_on() { local steps=$1 resume=; shift; [ -z "$(saved_in run)" ] || resume=--resume; train --steps "$steps" $resume --out run "$@"; }
saved_in() { ls "$1" 2>/dev/null | grep -x 'step-[0-9]*'; }
# goes_on NAME: training ends in step 3 with the bits of the run that nothing disturbed.
goes_on() {
    check "$1: goes on" go_on 3
    for file in model training_state; do
        check "$1: the same $file" same_file "whole/step-3/$file.safetensors" "run/step-3/$file.safetensors"
    done
    check "$1: the log has each step once" same "$(seq 3)" "$(steps_logged run)"
    check "$1: nothing half-written is left" same "" "$(find run -name '*brim-*')"
}
steps_logged() { grep '"loss"' "$1/log.jsonl" | sed 's/.*"step": *\([0-9]*\).*/\1/'; }
again() { rm -rf run; [ "$1" = nothing ] || cp -r "$1" run; }
calls() { cat run.calls; }

check "undisturbed" train --steps 3 --out whole
check "one step" train --steps 1 --out base

# ---- calls on files, one after another: the power goes, or the disk is full ---------------------

kills=30 stride=6 first=$((10#$(date +%j) % 6 + 1)) # another sixth of the calls each day
if [ "${BRIM_TEST_LONG:-}" = 1 ]; then kills=300 stride=1 first=1; fi
echo "calls $first, $((first + stride)), ...; $kills kills at random moments"
for from in nothing base; do
    resume=; [ $from = nothing ] || resume=--resume
    again $from; check "counting calls from $from" disturbed 0 kill --steps 2 $resume
    count=$(calls)
    check "calls from $from are counted" test "$count" -gt 15
    for n in $(seq "$first" "$stride" "$count"); do
        again $from
        disturbed "$n" kill --steps 2 $resume >/dev/null 2>&1
        check "killed at call $n of $count from $from: is dead" test $? -eq 137
        goes_on "killed at call $n of $count from $from"
    done
    for n in $(seq "$first" "$stride" "$count"); do
        again $from
        before=$(cat run/latest 2>/dev/null)
        if disturbed "$n" 28 --steps 2 $resume >out.log 2>err.log; then pass # what is not needed may fail
        else
            check "disk full at call $n from $from: one line" same 1 "$(grep -c '^error: .*No space left on device' err.log)"
        fi
        check "disk full at call $n from $from: the checkpoint before is there" test -z "$before" -o -e "run/$before/model.safetensors"
        goes_on "disk full at call $n of $count from $from"
    done
done

# ---- kill -9 at random moments, on to the next budget -------------------------------------------

budgets=("" "--vram 50%" "--vram 30% --ram 300K --disk $PWD:1G")
for i in "${!budgets[@]}"; do check "budget ${budgets[i]}" train --steps 1 --out "budget-$i" ${budgets[i]}; done
RANDOM=$((10#$(date +%j)))
end_it() { kill -9 $victim && { wait $victim; [ $? -eq 137 ]; }; }
rm -rf run
for n in $(seq "$kills"); do
    at=$(cat run/latest 2>/dev/null)
    resume=; [ -z "$(saved_in run)" ] || resume=--resume
    "$bin/train_gpt" --data text.txt $tiny --steps 1000000 $resume --out run ${budgets[RANDOM % ${#budgets[@]}]} >kill.log 2>&1 & victim=$!
    # Mostly when it is under way, and sometimes before.
    if [ $((RANDOM % 5)) -gt 0 ]; then
        for wait in $(seq 1000); do
            [ "$(cat run/latest 2>/dev/null)" = "$at" ] || break
            kill -0 $victim 2>/dev/null || break
            sleep 0.01
        done
    fi
    sleep "0.$((RANDOM % 3))$((RANDOM % 10))"
    check "kill $n: it was under way" end_it
done
echo "killed $kills times, the last time after $(cat run/latest)"
end=$(cat run/latest); end=$((${end#step-} + 3))
check "killed $kills times: goes on" go_on "$end"
check "never killed" train --steps "$end" --save-every 1000000 --out straight
for file in model training_state; do
    check "killed $kills times: the same $file" same_file "straight/step-$end/$file.safetensors" "run/step-$end/$file.safetensors"
done
check "killed $kills times: the log has each step once" same "$(seq "$end")" "$(steps_logged run)"
check "killed $kills times: nothing half-written is left" same "" "$(find run -name '*brim-*')"

# ---- folders that cannot be written to ----------------------------------------------------------

# Root may write anywhere: the calls are made to fail, as those on a file system that is read-only do.
again base
fails_with "a read-only folder" "Read-only file system" disturbed 1 30+ --steps 2 --resume
goes_on "a read-only folder"
finish
