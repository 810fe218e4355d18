# plan: cards and models by name, sizes, the table. Sourced by programs.sh.
plan() { "$bin/plan" "$@"; }

check "plan --help" plan --help
plan --help >help.log
for option in model gpu ram vram disk seq tokens-per-step table list; do
    check "plan --help names --$option" grep -q -- "--$option" help.log
done
check "plan --version" plan --version
plan --list >list.log
check "plan --list: cards" same 19 "$(grep -cE 'x(8|16) +[0-9]+  ' list.log)"
for model in gpt2 gpt2-medium gpt2-large gpt2-xl qwen-0.5b llama-1b llama-3b llama-8b qwen-14b qwen-32b; do
    check "plan --list: $model" grep -q "^$model " list.log
done

check "a plan" plan --model gpt2 --gpu rtx3060
check "a plan names the card" grep -q "GeForce RTX 3060 12 GB" check.log
check "a plan by sizes" plan --layers 4 --dim 256 --heads 4 --kv-heads 2 --ffn 700 --vocab 1000 --gpu rx580 --seq 512 \
    --tokens-per-step 8192 --precision f32 --vram 4G --ram 8G
check "a plan of a GPT by sizes" plan --arch gpt2 --layers 4 --gpu arcb580
check "a plan for the device that is here" plan --model gpt2 --gpu measured --device cpu --tokens-per-step 1024
check "a table of one card and model" plan --table --gpu rtx4090 --model gpt2
check "its row" grep -qE '^rtx4090 24G +32$' check.log
check "a table of a model that is too large" plan --table --gpu rtx2060 --model qwen-32b
check "a table names what lacks" grep -qE '^rtx2060 6G +ram$' check.log
check "a table with 8-bit states" plan --table --gpu rtx4090 --model qwen-14b --states q8 --tokens-per-step 8192
check "14B in 24 and 128 GiB" grep -qE '^rtx4090 24G +128$' check.log

# Where nothing fits: exit status 2, and what is missing on one line.
plan --model qwen-32b --gpu rtx2060 --ram 8G >out.log 2>err.log
check "nothing fits: status 2" same 2 $?
check "nothing fits: one line" same 1 "$(wc -l <err.log)"
check "nothing fits: what is missing" grep -qE '^error: .*missing' err.log

refused "a card that is not known" "rtx4060ti" plan --model gpt2 --gpu rtx9090
refused "a model that is not known" "llama-8b" plan --model llama-9b --gpu rtx3060
refused "no card" "--gpu" plan --model gpt2
refused "no model" "--model" plan --gpu rtx3060
refused "a model and sizes" "--model has its sizes" plan --model gpt2 --layers 3 --gpu rtx3060
refused "a word that is no option" '"rtx3060"' plan --model gpt2 rtx3060
refused "a size without a number" "--vram" plan --model gpt2 --gpu rtx3060 --vram much
refused "more memory than the card has" "--vram" plan --model gpt2 --gpu rtx3060 --vram 16G
refused "a disk without a size" "DIR:SIZE" plan --model gpt2 --gpu rtx3060 --disk /tmp
refused "a disk of no size" "--disk" plan --model gpt2 --gpu rtx3060 --disk /tmp:big
refused "steps that are no sequences" "no multiple of 1024" plan --model gpt2 --gpu rtx3060 --tokens-per-step 1500
refused "batches that do not divide a step" "--batch 5" plan --model gpt2 --gpu rtx3060 --batch 5
refused "more positions than there are" "1024 positions" plan --model gpt2 --gpu rtx3060 --seq 2048
refused "a device with a card" "--gpu measured" plan --model gpt2 --gpu rtx3060 --device cpu
refused "a table of sizes" "--table" plan --table --layers 3
