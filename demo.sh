#!/usr/bin/env bash
# Trains a small GPT on the GCIDE dictionary on the best device found, and lets it write. See README.md.
set -eu
cd "$(dirname "$0")"
. scripts/packages.sh

if [ "${1:-}" = "--help" ]; then
    echo "usage: ./demo.sh [train_gpt options]"
    echo "Installs what is missing (with apt), builds into build/, and trains a GPT on the GCIDE dictionary for some"
    echo "three minutes. Leaves out/demo with a checkpoint, log.jsonl and loss.svg. Options are passed on to"
    echo "build/bin/train_gpt, for example --steps 100 or --device cpu."
    exit 0
fi

ensure_packages $PACKAGES_BUILD $PACKAGES_RUN $PACKAGES_DEMO
echo "Building"
build_brim "${BRIM_DEMO_TESTS:-OFF}"
again=$([ -e out/demo/latest ] && echo --resume || true)
[ -z "$again" ] || echo "Going on from out/demo (delete it to start anew)"
exec build/bin/train_gpt $again --data /usr/share/dictd/gcide.dict.dz --out out/demo \
    --layers 4 --heads 4 --dim 192 --seq 128 --batch 16 --steps 900 --lr 3e-3 --min-lr 1e-4 --warmup 50 \
    --eval-every 300 --sample 600 --temperature 0.6 "$@"
