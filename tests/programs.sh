#!/usr/bin/env bash
# Runs our programs as users do, and checks what they print and leave. usage: tests/programs.sh BIN_DIR
# Ends with "N passed, N failed, N skipped".
set -u
fixtures=$(cd "$(dirname "$0")/fixtures" && pwd)
bin=$(cd "$1" && pwd)
. "$(dirname "$0")/checks.sh"

# A little text with structure, and a model so small that a step takes no time.
for i in $(seq 1 400); do echo "line $i of the text: the quick brown fox jumps over the lazy dog $((i * 7919 % 1000))"; done >text.txt
tiny="--layers 2 --heads 3 --dim 24 --seq 31 --batch 3 --device cpu"
train() { "$bin/train_gpt" --data text.txt $tiny "$@"; }
from() { "$bin/train_gpt" --data text.txt --device cpu --seq 20 --batch 2 --steps 2 --init "$@"; }

# field LOG NAME: the values of a field, one a line.
field() { sed -n "s/.*\"$2\": *\([^,}]*\).*/\1/p" "$1"; }
lines() { grep -c "$2" "$1"; }
# near TOLERANCE A B: two files with as many numbers, which agree relatively.
near() {
    paste "$2" "$3" | awk -v t="$1" 'NF != 2 { exit 1 } { d = $1 - $2; if (!(d * d <= t * t * $2 * $2)) { print; exit 1 } n++ }
        END { exit !(n > 0) }'
}

# Little-endian numbers, and a file of bytes as one of tokens in llm.c's format.
number32() { local i; for i in 0 8 16 24; do printf "\\x$(printf %02x $(($1 >> i & 255)))"; done; }
tokens_of() {
    number32 20240520; number32 1; number32 "$(wc -c <"$1")"; head -c 1012 /dev/zero
    printf %b "$(od -An -v -tx1 "$1" | sed 's/ \(..\)/\\x\1\\x00/g' | tr -d '\n')"
}

# A safetensors file is 8 bytes with the length of its header, the header, and the tensors' bytes.
number64() { local i; for i in 0 8 16 24 32 40 48 56; do printf "\\x$(printf %02x $(($1 >> i & 255)))"; done; }
header_length() { od -An -t u8 -N 8 "$1" | tr -d ' '; }
header() { tail -c +9 "$1" | head -c "$(header_length "$1")"; }
# rewrite FROM TO SED: a copy with another header.
rewrite() {
    local text; text=$(header "$1" | sed "$3")
    { number64 ${#text}; printf %s "$text"; tail -c +$((9 + $(header_length "$1"))) "$1"; } >"$2"
}

. "$fixtures/../programs_train.sh"
. "$fixtures/../programs_bad_input.sh"
. "$fixtures/../programs_plan.sh"
. "$fixtures/../programs_kernel_report.sh"
finish
