# What users get wrong: one clear line, a status that is not 0, and nothing lost. Sourced by programs.sh.

usage() { # usage NAME TEXT COMMAND...: refused by the option parser: one line, in its own form
    local name=$1 text=$2 status; shift 2
    "$@" >out.log 2>err.log; status=$?
    if [ $status -ne 0 ] && [ $status -lt 126 ] && [ "$(wc -l <err.log)" -eq 1 ] && grep -qF -- "$text" err.log
    then pass; else fail "$name: status $status, expected one line with: $text"; head -n 5 err.log; fi
}
usage "unknown option" "--fast" train --fast
usage "option without its value" "--layers" "$bin/train_gpt" --data text.txt --layers
usage "devices: unknown option" "--fast" "$bin/devices" --fast
usage "devices: argument" "x" "$bin/devices" x
usage "selftest: unknown option" "--fast" "$bin/selftest" --fast
refused "selftest: argument" "unexpected argument \"x\"" "$bin/selftest" x
refused "selftest: bad value" "--group" "$bin/selftest" --group two
refused "selftest: no such device" "gpu9" "$bin/selftest" --device gpu9

# Options
refused "no data" "--data" "$bin/train_gpt"
for wrong in "--layers 0" "--layers -2" "--layers two" "--layers 2.5" "--layers 99999999999999999999" "--steps 1e3" "--lr nan" "--lr -1" \
    "--lr 0" "--lr 1e400" "--dropout 1" "--beta1 1" "--beta2 1.5" "--eps -1" "--clip inf" "--seed -1" "--batch 12x" "--warmup x" \
    "--temperature -1" "--top-p -0.1" "--top-p 1.1" "--top-p nan" "--top-p all" "--save-every 0" "--schedule step" "--precision f64"; do
    refused "bad value: $wrong" "${wrong% *}" train $wrong --out e
done
refused "empty value" "--layers" train --layers "" --out e
for wrong in "gpu9" "cuda:x" "opencl:77" "opencl:-1" ":"; do refused "no device $wrong" "$wrong" train --device "$wrong" --out e; done
refused "steps and epochs" "--epochs" train --steps 3 --epochs 2 --out e
refused "init and resume" "--resume" from a --resume --out e
refused "init and sizes" "--init" from a --layers 2 --out e
refused "sequential and eval-every" "--eval-every" train --sequential --eval-every 2 --out e
refused "min-lr above lr" "--min-lr" train --lr 1e-4 --min-lr 1e-3 --out e
refused "warmup beyond steps" "--warmup" train --steps 3 --warmup 4 --out e
refused "prompt without sample" "--sample" train --prompt x --out e
refused "empty prompt" "--prompt" train --sample 3 --prompt "" --out e
refused "prompt with tokens" "--prompt" "$bin/train_gpt" --data "$fixtures/gpt2/tokens.bin" $tiny --sample 3 --prompt x --out e
refused "heads do not divide" "heads" train --heads 5 --out e
refused "heads too wide" "256" train --heads 1 --dim 300 --out e

# Memory that does not suffice is told before step 1.
huge="$bin/train_gpt --data text.txt --device cpu --sequential --out e"
refused "a model beyond the memory" "bytes" $huge --layers 200 --dim 8192 --heads 64 --seq 31 --batch 3
refused "a step beyond the memory" "bytes" $huge --layers 40 --dim 4096 --heads 64 --seq 1000 --batch 20
refused "more micro-batches than memory" "memory" $huge --layers 1 --heads 1 --dim 8 --seq 1000 --batch 20 --accumulate 1000000

# Budgets that make no sense, or that nothing fits into: what is missing, and what would do.
for wrong in "--vram 0" "--vram -1" "--vram some" "--vram 0%" "--vram 120%" "--ram 0" "--ram 1X" "--disk x" "--disk :1G" "--disk /tmp:" \
    "--disk /tmp:0" "--step-batch 0"; do
    refused "bad budget: $wrong" "${wrong% *}" train $wrong --out e
done
refused "a budget beyond the device" "a budget of 549755813888000 bytes of device memory, where" train --vram 500T --out e
refused "a budget beyond the host" "bytes of main memory, of which" train --ram 500T --out e
refused "too little device memory" "bytes of device memory are missing" train --vram 20K --out e
refused "and what would do" "the nearest budget that works is" train --vram 20K --out e
refused "too little main memory" "bytes of main memory are missing" train --vram 30% --ram 10K --out e
refused "too little disk" "bytes of disk are missing" train --vram 30% --ram 300K --disk /tmp:1K --out e
refused "no such folder" "/nowhere" train --vram 30% --ram 300K --disk /nowhere:1G --out e
refused "step-batch and batch" "--step-batch" train --step-batch 8 --batch 2 --out e

# Data
refused "missing file" "nowhere.txt" "$bin/train_gpt" --data nowhere.txt --out e
refused "a folder" "directory" "$bin/train_gpt" --data a --out e
: >empty.txt; refused "empty file" "empty.txt" "$bin/train_gpt" --data empty.txt --out e
head -c 50 text.txt >50.txt; refused "too short" "50" "$bin/train_gpt" --data 50.txt $tiny --out e
refused "batch beyond the data" "tokens" train --batch 1000000000 --out e
refused "sequence beyond the data" "tokens" train --seq 10000000 --out e
head -c 1000 text.txt.gz >short.gz; refused "truncated gzip" "short.gz" "$bin/train_gpt" --data short.gz --out e
{ head -c 1000 text.txt.gz; head -c 300 text.txt; } >bad.gz; refused "damaged gzip" "bad.gz" "$bin/train_gpt" --data bad.gz --out e
refused "text and tokens" "text.bin" "$bin/train_gpt" --data text.txt text.bin --out e
head -c 5000 text.bin >short.bin; refused "truncated tokens" "short.bin" "$bin/train_gpt" --data short.bin --out e
head -c 100 text.bin >stub.bin; refused "truncated token header" "stub.bin" "$bin/train_gpt" --data stub.bin --out e
cp text.txt text2.bin; refused "wrong magic" "20240520" "$bin/train_gpt" --data text2.bin --out e
{ number32 20240520; number32 7; tail -c +9 text.bin; } >version.bin; refused "wrong version" "version" "$bin/train_gpt" --data version.bin --out e
refused "token beyond the vocabulary" "text.bin: token" "$bin/train_gpt" --data text.bin --vocab 100 $tiny --out e
refused "byte beyond the vocabulary" "vocabulary of 97" train --vocab 97 --out e

# Checkpoints, and where they go
refused "existing checkpoints" "a holds checkpoints" train --steps 2 --out a
mkdir orphan; cp -r a/step-4 orphan/; refused "checkpoints without latest" "orphan" train --steps 2 --out orphan
check "existing checkpoints stay" same_file a/step-12/model.safetensors b/step-12/model.safetensors
refused "resume without checkpoint" "e" train --resume --out e
refused "resume with another size" "--layers" "$bin/train_gpt" --data text.txt --resume --layers 7 --out a
refused "resume with another architecture" "--arch llama contradicts" train --resume --arch llama --out a
refused "--kv-heads with GPT-2" "--arch llama" train --kv-heads 1 --out e
refused "--ffn with GPT-2" "--arch llama" train --ffn 32 --out e
refused "--arch with --init" "--arch" from a/step-12 --arch llama --out e
refused "an architecture that is not known" "gpt2 or llama" train --arch bert --out e
refused "kv heads that do not divide" "key-value heads" train --arch llama --kv-heads 2 --out e
refused "resume with another seed" "seed" train --resume --seed 9 --out a
cp -r a damaged; echo "../a" >damaged/latest; refused "latest names no checkpoint" "latest" train --resume --out damaged
echo step-99 >damaged/latest; refused "latest names a missing one" "step-99" train --resume --out damaged
echo step-12 >damaged/latest; printf X | dd of=damaged/step-12/model.safetensors bs=1 seek=9000 conv=notrunc status=none
refused "damaged weights" "model.safetensors" train --resume --out damaged
cp a/step-12/model.safetensors damaged/step-12/; printf X | dd of=damaged/step-12/training_state.safetensors bs=1 seek=9000 conv=notrunc status=none
refused "damaged state" "training_state" train --resume --out damaged
head -c 3000 a/step-12/training_state.safetensors >damaged/step-12/training_state.safetensors
refused "truncated state" "training_state" train --resume --out damaged
rm damaged/step-12/training_state.safetensors; refused "missing state" "training_state" train --resume --out damaged
refused "out is a file" "text.txt" train --out text.txt
refused "out below a file" "text.txt" train --out text.txt/x
refused "out that cannot be made" "/proc/" train --out /proc/brim
refused "log that cannot be made" "text.txt/l" train --log text.txt/l --out e
refused "log that is something else" "text.txt" train --log text.txt --out e
check "what is no log is left alone" same 400 "$(lines text.txt line)"
if [ -w /dev/full ]; then refused "full disk: log" "/dev/full" train --steps 2 --log /dev/full --out e; fi
rm -rf full; cp -r a full; rm -r full/step-12; echo step-8 >full/latest
refused "full disk: checkpoint" "full/" bash -c 'trap "" XFSZ; ulimit -f 40; exec "$@"' - "$bin/train_gpt" --data text.txt $tiny --steps 12 --resume --out full --log full.jsonl
check "full disk: the checkpoint before stays" same step-8 "$(cat full/latest)"
check "full disk: nothing half-written" same "" "$(find full -name '*tmp*' -o -name step-12)"
check "full disk: room again" train --steps 12 --resume --out full
check "full disk: the same bits" same_file a/step-12/model.safetensors full/step-12/model.safetensors

# Weights from elsewhere: sound is the copy of a sound file, each other is wrong in one way.
model=a/step-12/model.safetensors
mkdir bad; cp a/step-12/config.json bad/
check "init" from a/step-12 --out sound
wrong_model() { local name=$1 text=$2; rewrite "$model" bad/model.safetensors "$3"; refused "model: $name" "$text" from bad --out e; }
rewrite "$model" bad/model.safetensors s/a/a/; check "a rewritten copy is the same" same_file "$model" bad/model.safetensors
wrong_model "wrong size" "transformer.h.0.ln_1.bias" 's/\("transformer.h.0.ln_1.bias":{"dtype":"F32","shape":\[\)24/\123/'
wrong_model "another shape" "[24]" 's/\("transformer.h.0.ln_1.bias":{"dtype":"F32","shape":\[\)24/\12,12/'
wrong_model "overlap" "transformer." 's/"data_offsets":\[[0-9]*,\([0-9]*\)\]/"data_offsets":[0,\1]/2'
wrong_model "beyond the file" "transformer." 's/"data_offsets":\[0,/"data_offsets":[99999999,/'
wrong_model "duplicate name" "twice" 's/h.1.ln_1.bias/h.0.ln_1.bias/'
wrong_model "missing tensor" "transformer.h.1.ln_1.bias" 's/h.1.ln_1.bias/h.1.ln_1.other/'
wrong_model "type that is not read" "F64" 's/"transformer.h.0.ln_1.bias":{"dtype":"F32","shape":\[24\]/"transformer.h.0.ln_1.bias":{"dtype":"F64","shape":[12]/'
wrong_model "header that is no JSON" "header" 's/^{/[/'
wrong_model "header cut short" "header" 's/} *$//'
bytes=$(wc -c <"$model")
for keep in 0 5 8 100 $((bytes - 4)); do
    head -c $keep "$model" >bad/model.safetensors
    refused "model: truncated to $keep bytes" "model.safetensors" from bad --out e
done
{ number64 $((1 << 62)); tail -c +9 "$model"; } >bad/model.safetensors
refused "model: header of 2^62 bytes" "header" from bad --out e
{ cat "$model"; echo more; } >bad/model.safetensors; refused "model: bytes left over" "model.safetensors" from bad --out e
rm bad/model.safetensors; refused "model: missing" "bad/model.safetensors" from bad --out e
mkdir bad/model.safetensors; refused "model: a folder" "bad/model.safetensors" from bad --out e
rmdir bad/model.safetensors; cp "$model" bad/

wrong_config() { local name=$1 text=$2; sed "$3" a/step-12/config.json >bad/config.json; refused "config: $name" "$text" from bad --out e; }
for size in vocab_size n_positions n_embd n_layer n_head; do
    wrong_config "no $size" "$size" "s/\"$size\"/\"other\"/"
    wrong_config "$size is 0" "$size" "s/\(\"$size\":[^0-9]*\)[0-9]*/\10/"
    wrong_config "$size is text" "$size" "s/\(\"$size\":[^0-9]*\)[0-9]*/\1\"x\"/"
done
wrong_config "width that heads do not divide" "heads" 's/\("n_embd":[^0-9]*\)24/\125/'
wrong_config "another width" "[31, 24], expected [31, 48]" 's/\("n_embd":[^0-9]*\)24/\148/'
wrong_config "another layer" "h.2." 's/\("n_layer":[^0-9]*\)2/\13/'
wrong_config "another model" "model_type" 's/"gpt2"/"bert"/'
wrong_config "Llama without its sizes" "max_position_embeddings" 's/"gpt2"/"llama"/'
wrong_config "another activation" "activation_function" 's/gelu_new/relu/'
wrong_config "no JSON" "config.json" 's/{/</'
cp "$fixtures/llama/model.safetensors" bad/
wrong_llama() { local name=$1 text=$2; sed "$3" "$fixtures/llama/config.json" >bad/config.json; refused "Llama's config: $name" "$text" from bad --out e; }
for size in vocab_size max_position_embeddings hidden_size num_hidden_layers num_attention_heads intermediate_size; do
    wrong_llama "no $size" "$size" "s/\"$size\"/\"other\"/"
done
wrong_llama "kv heads that do not divide" "key-value heads" 's/\("num_key_value_heads":\).*,/\1 4,/'
wrong_llama "an odd head" "even" 's/\("head_dim":\).*,/\1 7,/'
wrong_llama "a wide head" "at most 256" 's/\("head_dim":\).*,/\1 512,/'
wrong_llama "another activation" "hidden_act" 's/silu/gelu/'
wrong_llama "biases" "attention_bias" 's/\("attention_bias":\).*,/\1 true,/'
wrong_llama "angles that are not built" '"yarn"' 's/"default"/"yarn"/'
wrong_llama "scaled angles without numbers" "low_freq_factor" 's/"default"/"llama3", "factor": 8/'
wrong_llama "another ffn" "expected [81, 36]" 's/\("intermediate_size":\).*,/\1 81,/'
cp "$model" bad/
printf '[1]' >bad/config.json; refused "config: a list" "JSON object" from bad --out e
rm bad/config.json; refused "config: missing" "bad/config.json" from bad --out e
refused "init: no such folder" "nowhere" from nowhere --out e
refused "sequence beyond the positions" "31 positions" "$bin/train_gpt" --data text.txt --init a/step-12 --seq 64 --out e --device cpu
check "nothing was trained by mistake" test ! -e e/latest
