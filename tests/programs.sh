#!/usr/bin/env bash
# Runs our programs as users do, and checks what they print and leave. usage: tests/programs.sh BIN_DIR
# Ends with "N passed, N failed, N skipped".
set -u
bin=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
passed=0 failed=0

# check NAME COMMAND...: the command must succeed.
check() {
    local name=$1; shift
    if "$@" >check.log 2>&1; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAILED $name: $*"; tail -n 5 check.log; fi
}

# refused NAME TEXT COMMAND...: exit status not 0, one line on stderr, and TEXT in it.
refused() {
    local name=$1 text=$2 status; shift 2
    "$@" >out.log 2>err.log; status=$?
    if [ $status -ne 0 ] && [ $status -lt 126 ] && [ "$(wc -l <err.log)" -eq 1 ] && grep -qF -- "$text" err.log
    then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAILED $name: status $status, expected one line with: $text"; head -n 5 err.log; fi
}

same_file() { cmp "$1" "$2"; }

# A little text with structure.
for i in $(seq 1 400); do echo "line $i of the text: the quick brown fox jumps over the lazy dog $((i * 7919 % 1000))"; done >text.txt
gzip -k text.txt
tiny="--layers 2 --heads 3 --dim 24 --seq 31 --batch 3 --device cpu"
train() { "$bin/train_gpt" --data text.txt $tiny "$@"; }

check "help" "$bin/train_gpt" --help
check "mlp" "$bin/mlp"
check "tensors" "$bin/tensors"
check "devices" "$bin/devices"

check "train" train --steps 12 --save-every 4 --out a --sample 20
check "checkpoints" test -f a/step-4/model.safetensors -a -f a/step-12/model.safetensors -a -f a/step-12/config.json
check "log has a line per step" test "$(grep -c '"loss"' a/log.jsonl)" -ge 12
check "same bits twice" train --steps 12 --out b
check "same bits twice: compare" same_file a/step-12/model.safetensors b/step-12/model.safetensors
check "gzip is the same text" "$bin/train_gpt" --data text.txt.gz $tiny --steps 12 --out z
check "gzip: compare" same_file a/step-12/model.safetensors z/step-12/model.safetensors
check "stop in the middle" train --steps 12 --save-every 5 --out c
rm -rf c/step-12; echo step-5 >c/latest
check "resume" train --steps 12 --out c --resume
check "resume: same bits" same_file a/step-12/model.safetensors c/step-12/model.safetensors
for p in bf16 f16; do
    check "train in $p" train --steps 4 --precision $p --out "p-$p" --accumulate 2 --dropout 0.1
done
check "init" "$bin/train_gpt" --data text.txt --init a/step-12 --seq 20 --batch 2 --steps 2 --out d --device cpu

refused "no data" "--data" "$bin/train_gpt"
refused "missing file" "nowhere.txt" "$bin/train_gpt" --data nowhere.txt --out e
refused "bad number" "--layers" train --layers 0 --out e
refused "unknown device" "--device" train --device gpu9 --out e
refused "contradiction" "--epochs" train --steps 3 --epochs 2 --out e
refused "heads do not divide" "heads" train --heads 5 --out e
refused "existing checkpoints" "a" train --steps 2 --out a
refused "resume without checkpoint" "e" train --resume --out e
refused "sequence beyond positions" "position" "$bin/train_gpt" --data text.txt --init a/step-12 --seq 64 --out e --device cpu
head -c 200 a/step-12/model.safetensors >short.safetensors
mkdir -p bad; cp a/step-12/config.json bad/; cp short.safetensors bad/model.safetensors
refused "truncated model" "model.safetensors" "$bin/train_gpt" --data text.txt --init bad --seq 20 --out e --device cpu
head -c 1000 text.txt.gz >short.gz
refused "truncated gzip" "short.gz" "$bin/train_gpt" --data short.gz --out e

echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
