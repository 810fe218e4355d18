#!/usr/bin/env bash
# Short trainings by train_gpt, for mutants of what only whole runs show: a run that stops and goes on is the run that
# never stopped, in the log as well. usage: tests/mutate/train.sh BIN_DIR        Exit status 0: all is well.
set -u
bin=$(cd "$1" && pwd)
. "$(dirname "$0")/../checks.sh"

for i in $(seq 60); do echo "line $i of the text: the quick brown fox jumps over the lazy dog $((i * 7919 % 1000))"; done >text.txt
data=text.txt
train() { "$bin/train_gpt" --data $data --layers 1 --heads 2 --dim 16 --seq 31 --batch 3 --accumulate 2 --device cpu --dropout 0.1 "$@"; }
field() { grep '"loss"' "$1" | sed -n "s/.*\"$2\": *\([^,}]*\).*/\1/p"; }

check "train" train --steps 9 --out straight
check "train as far as the middle" train --steps 9 --save-every 5 --out resumed
rm -r resumed/step-9; echo step-5 >resumed/latest
check "go on" train --steps 9 --resume --out resumed
for file in model training_state; do
    check "$file" cmp "straight/step-9/$file.safetensors" "resumed/step-9/$file.safetensors"
done
for name in step loss grad_norm lr; do
    field straight/log.jsonl "$name" >straight.txt; field resumed/log.jsonl "$name" >resumed.txt
    check "the log's $name" cmp straight.txt resumed.txt
    check "the log's $name: each step" test "$(wc -l <straight.txt)" -eq 9
done
check "another seed" train --steps 9 --seed 2 --out other
check "another seed, another model" test -n "$(cmp straight/step-9/model.safetensors other/step-9/model.safetensors)"
gzip -k text.txt
data=text.txt.gz
check "packed" train --steps 9 --out packed
check "packed: the same" cmp straight/step-9/model.safetensors packed/step-9/model.safetensors
data=text.txt
cp -r straight damaged
printf 'x' | dd of=damaged/step-9/model.safetensors bs=1 seek=4000 conv=notrunc status=none
fails_with "a damaged checkpoint" "is damaged" train --steps 12 --resume --out damaged
finish
