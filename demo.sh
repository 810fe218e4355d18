#!/usr/bin/env bash
# Trains a small GPT on the GCIDE dictionary on the best device found, and lets it write. See README.md.
set -eu
cd "$(dirname "$0")"
. scripts/packages.sh

for option in "$@"; do
    [ "$option" = "--help" ] || continue
    cat <<END
usage: ./demo.sh [OPTION...]

Trains a GPT on the plain text of the GCIDE dictionary on the best device found (CUDA, an OpenCL GPU, or the CPU), for some
three minutes on two cores, and lets it write. The step gets less than a quarter of the device memory that it would take:
the plan that is printed streams the rest from main memory. Installs what is missing with apt (packages are named first), builds
into build/, and leaves out/demo with checkpoints, log.jsonl and loss.svg. Started again, it goes on from there, and
has only the sample left to write where training was done.

Options are passed on to build/bin/train_gpt (see its --help), for example --steps 100 --out out/short, --device cuda,
or --prompt "Brim".
END
    exit 0
done

dictionary=/usr/share/dictd/gcide.dict.dz
text=build/dictionary.txt
ensure_packages $PACKAGES_BUILD $PACKAGES_RUN $PACKAGES_DEMO
echo "Building"
build_brim AUTO train_gpt devices
if [ ! -e "$dictionary" ]; then
    echo "$dictionary is missing: it comes with Debian's package dict-gcide"
    exit 1
fi
# The lines of plain English: a model this small would spend half of its time on etymologies and pronunciations.
if [ ! "$text" -nt "$dictionary" ]; then
    zcat "$dictionary" | LC_ALL=C grep -a '^   ' | LC_ALL=C grep -av '[][\{}|=^"<>*~_/0-9`()]' | grep -av -- '--' |
        LC_ALL=C sed 's/^ *//' >"$text.new"
    mv "$text.new" "$text"
fi

again=()
if [ $# -eq 0 ] && [ -e out/demo/latest ]; then
    again=(--resume)
    echo "Going on from out/demo (delete it to start anew)"
fi
exec build/bin/train_gpt --data "$text" --out out/demo "${again[@]}" \
    --vram 24% --layers 3 --heads 4 --dim 128 --seq 128 --batch 4 --steps 11500 --lr 3e-3 --min-lr 0 --warmup 100 --beta2 0.99 \
    --eval-every 1150 --sample 800 --temperature 0.3 --top-p 0.9 --prompt "The rim of a " "$@"
