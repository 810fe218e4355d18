# What the programs do when all is well. Sourced by programs.sh.

check "train_gpt --help" "$bin/train_gpt" --help
cp check.log help.txt
for option in data layers heads dim seq batch accumulate steps epochs lr min-lr schedule warmup weight-decay beta1 beta2 eps \
    clip dropout seed precision device out save-every eval-every resume init log sample prompt \
    temperature top-p sequential vram ram disk step-batch plan explain states; do
    check "--help tells of --$option" grep -q -e "--$option\b" help.txt
done
check "--version" "$bin/train_gpt" --version
for program in devices selftest bench_ops bench_step; do
    check "$program --help" "$bin/$program" --help
    check "$program --help: says how" grep -q "^Usage: $program" check.log
done
check "mlp" "$bin/mlp"
check "mlp learns" awk '/classified right/ && $1 >= 0.95 * $3 { good = 1 } END { exit !good }' check.log
check "tensors" "$bin/tensors"
check "tensors: frozen values stay" grep -q " 0 frozen values changed" check.log
check "devices" "$bin/devices"
check "devices --json" "$bin/devices" --json
check "devices --json: fields" grep -q '"memory_bytes"' check.log

# Checkpoints, the log, and the same bits from the same seed.
check "train" train --steps 12 --save-every 4 --out a --sample 20
for file in step-4/model.safetensors step-8/training_state.safetensors step-12/model.safetensors step-12/config.json loss.svg; do
    check "a/$file" test -s "a/$file"
done
check "latest names the newest" same step-12 "$(cat a/latest)"
check "a line for each step" same "$(seq 12)" "$(grep '"loss"' a/log.jsonl | sed 's/.*"step": *\([0-9]*\).*/\1/')"
for name in loss grad_norm lr tokens_per_second; do check "field $name" same 12 "$(field a/log.jsonl $name | grep -c '[0-9]')"; done
check "a step that streams" train --steps 3 --vram 25% --out streams
check "a step that streams says so" grep -qE 'step 3/3 .* streaming [0-9]+% hidden' check.log
for name in streaming_seconds hidden_seconds waited_seconds; do
    check "field $name" same 3 "$(field streams/log.jsonl $name | grep -c '[0-9]')"
    check "field $name: 0 where nothing streams" same 0 "$(field a/log.jsonl $name | sort -u)"
done
check "each line is an object" same 0 "$(grep -vcE '^\{"[a-z_]+":.*\}$' a/log.jsonl)"
check "held-out loss is logged" grep -q '"held_out_loss"' a/log.jsonl
check "same bits twice" train --steps 12 --out b
check "same bits twice: compare" same_file a/step-12/model.safetensors b/step-12/model.safetensors
check "another seed" train --steps 12 --seed 2 --out b2
check "another seed, other bits" differ a/step-12/model.safetensors b2/step-12/model.safetensors

# The text may be packed, come in parts, or be tokens.
gzip -k text.txt
head -c 7000 text.txt >part1.txt; tail -c +7001 text.txt >part2.txt
tokens_of text.txt >text.bin
for way in "text.txt.gz" "part1.txt part2.txt" "text.bin --vocab 256"; do
    check "--data $way" "$bin/train_gpt" --data $way $tiny --steps 12 --out "w${#way}"
    check "--data $way: the same bits" same_file a/step-12/model.safetensors "w${#way}/step-12/model.safetensors"
done

# start OPTION...: trains in the background; its process id is $victim.
start() { "$bin/train_gpt" --data text.txt $tiny "$@" >start.log 2>&1 & victim=$!; }

# A run that stops in some way and goes on is the run that never stopped.
more="--steps 30 --save-every 1 --dropout 0.1"
check "30 steps" train --steps 30 --dropout 0.1 --out whole
start $more --out killed
for kill in 1 2 3; do
    now=$(cat killed/latest 2>/dev/null)
    for wait in $(seq 600); do [ "$(cat killed/latest 2>/dev/null)" != "$now" ] && break; sleep 0.05; done
    kill -9 $victim 2>/dev/null; wait $victim 2>/dev/null
    start $more --out killed --resume
done
check "a killed run goes on" wait $victim
check "killed: the same bits" same_file whole/step-30/model.safetensors killed/step-30/model.safetensors
check "killed: the same state" same_file whole/step-30/training_state.safetensors killed/step-30/training_state.safetensors
check "killed: nothing half-written is left" same "" "$(find killed -name '*brim-*')"
check "killed: the log has each step once" same "$(seq 30)" "$(grep '"loss"' killed/log.jsonl | sed 's/.*"step": *\([0-9]*\).*/\1/')"
mkdir first; cp -r a/step-4 a/step-8 first/
check "killed before the first latest: goes on" train --steps 12 --resume --out first
check "killed before the first latest: the same bits" same_file a/step-12/model.safetensors first/step-12/model.safetensors
long="--steps 1000000 --schedule constant"

# One run at a time writes to a folder. The lock dies with its process, and has no effect where a file system offers none.
start $long --out busy
for wait in $(seq 600); do [ "$(wc -l 2>/dev/null <busy/log.jsonl)" -gt 2 ] 2>/dev/null && break; sleep 0.05; done
kill -STOP $victim; ls -l --time-style=full-iso busy >before.txt
refused "two runs in one folder" "folder busy is in use by another run, process $victim;" train --steps 3 --out busy
refused "two runs in one folder: resume" "process $victim" train --steps 3 --resume --out busy
ls -l --time-style=full-iso busy >after.txt
check "two runs: the second touches nothing" same_file before.txt after.txt
kill -9 $victim; wait $victim 2>/dev/null
check "a killed run's lock file stays" test -e busy/lock
mkdir busy/step-2.brim-tmp-0123abcd # it was saving
check "a killed run's lock hinders nobody" train --steps 3 --out busy
check "a run that ends removes its lock file" test ! -e busy/lock
check "what a killed run had begun to save is removed" test ! -e busy/step-2.brim-tmp-0123abcd
refused "a folder that nothing was written to" "heads" train --heads 5 --out fresh
check "... is not left behind" test ! -e fresh
echo '#include <errno.h>
int flock(int descriptor, int how) { (void)descriptor, (void)how; errno = ENOLCK; return -1; }' >no_locks.c
check "a file system without locks: build" "${CC:-cc}" -shared -fPIC -o no_locks.so no_locks.c
check "a file system without locks" env LD_PRELOAD="$PWD/no_locks.so" "$bin/train_gpt" --data text.txt $tiny --steps 12 --out lockless
check "a file system without locks: the same bits" same_file a/step-12/model.safetensors lockless/step-12/model.safetensors

for signal in INT TERM; do
    start $long --out "stop-$signal"
    for wait in $(seq 600); do [ "$(wc -l 2>/dev/null <"stop-$signal/log.jsonl")" -gt 2 ] 2>/dev/null && break; sleep 0.05; done
    kill -$signal $victim
    check "SIG$signal ends cleanly" wait $victim
    at=$(cat "stop-$signal/latest"); at=${at#step-}
    check "SIG$signal: the last step is saved" same "$at" "$(field "stop-$signal/log.jsonl" step | tail -n 1)"
done
check "interrupted at $at, on to $((at + 5))" train --steps $((at + 5)) --schedule constant --resume --out stop-TERM
check "never interrupted" train --steps $((at + 5)) --schedule constant --out straight
check "interrupted: the same bits" same_file "straight/step-$((at + 5))/model.safetensors" "stop-TERM/step-$((at + 5))/model.safetensors"
check "nothing left to do" train --steps 12 --resume --out a
check "nothing left to do: the checkpoint stays" same_file a/step-12/model.safetensors b/step-12/model.safetensors

# A run that diverges stops with what it had, and says where it went wrong; or it goes on without such steps.
diverges="--lr 1000 --beta2 0.1 --weight-decay 0 --clip 0 --schedule constant --steps 60"
refused "a run that diverges" "and nothing was changed; the first tensor that went bad is " train $diverges --out diverged
at=$(sed -n 's/^error: step \([0-9]*\): .*/\1/p' err.log)
check "a run that diverges: the steps before are saved" same "step-$((at - 1))" "$(cat diverged/latest)"
check "a run that diverges: the log has them" same "$((at - 1))" "$(field diverged/log.jsonl step | tail -n 1)"
check "a run that diverges: on without such steps" train $diverges --resume --on-nan skip --out diverged
check "a run that diverges: skipped step" grep -q "^step $at  skipped: the first tensor that went bad is " check.log
check "a run that diverges: all steps done" test -e diverged/step-60
cp -r b nan; header nan/step-12/model.safetensors >header.txt
at=$(sed -n 's/.*"transformer.h.1.ln_2.bias":{[^}]*"data_offsets":\[\([0-9]*\),.*/\1/p' header.txt)
printf '\x00\x00\xc0\x7f' | dd of=nan/step-12/model.safetensors bs=1 seek=$((8 + $(header_length nan/step-12/model.safetensors) + at + 8)) conv=notrunc status=none
refused "a weight that is NaN" 'step 1: the loss is nan, and nothing was changed; the first tensor that went bad is tensor "transformer.h.1.ln_2.bias", f32 [24]: 1 of 24 elements, the first nan at [2]' \
    from nan --out from-nan
check "a first step that is NaN: no training before it is spoken of" same 0 "$(grep -c 'the training before' out.log)"

# A sample: the nucleus at its ends, and the signal that stops it.
sampled() { sed -n '/^-----$/,/^-----$/p' check.log; }
for way in "--temperature 0" "--temperature 2 --top-p 0" "--temperature 2 --top-p 1" "--temperature 2"; do
    check "sample, $way" train --steps 12 --resume --out a --sample 200 --prompt "line" $way
    sampled >"sample$way"
done
check "--top-p 0 is --temperature 0" same_file "sample--temperature 0" "sample--temperature 2 --top-p 0"
check "--top-p 1 is none" same_file "sample--temperature 2" "sample--temperature 2 --top-p 1"
check "--top-p 0 is not 1" differ "sample--temperature 2" "sample--temperature 2 --top-p 0"
start --steps 12 --resume --out a --sample 10000000
for wait in $(seq 600); do grep -q "entropy of single bytes" start.log && break; sleep 0.05; done
sleep 0.5; kill -INT $victim
check "SIGINT while sampling ends cleanly" wait $victim
check "SIGINT while sampling: says so" grep -q "^stopped at token [0-9]* of the sample's 10000000" start.log
check "SIGINT while sampling: the checkpoint stays" same_file a/step-12/model.safetensors b/step-12/model.safetensors

# Sizes of steps. 12 windows' worth of rows: accumulation changes rounding alone.
check "batch 4" train --sequential --batch 4 --steps 5 --out acc1
check "batch 2, twice" train --sequential --batch 2 --accumulate 2 --steps 5 --out acc2
for name in loss grad_norm; do
    field acc1/log.jsonl $name >acc1.$name; field acc2/log.jsonl $name >acc2.$name
    check "accumulation: the same $name" near 1e-4 acc2.$name acc1.$name
done
check "--sequential holds nothing out" same 0 "$(lines acc1/log.jsonl held_out)"
head -c 1000 text.txt >short.txt
check "--epochs" "$bin/train_gpt" --data short.txt --layers 1 --heads 1 --dim 8 --seq 10 --batch 4 --epochs 3 --accumulate 2 --device cpu \
    --sequential --out epochs
check "--epochs: steps" same 36 "$(lines epochs/log.jsonl '"loss"')"
for schedule in constant linear cosine; do
    check "--schedule $schedule" train --schedule $schedule --steps 8 --warmup 4 --lr 1e-3 --min-lr 1e-4 --out "s-$schedule"
    field "s-$schedule/log.jsonl" lr >"$schedule.lr"
done
printf '%s\n' 2.5e-4 5e-4 7.5e-4 1e-3 1e-3 1e-3 1e-3 1e-3 >constant.expected
printf '%s\n' 2.5e-4 5e-4 7.5e-4 1e-3 7.75e-4 5.5e-4 3.25e-4 1e-4 >linear.expected
printf '%s\n' 2.5e-4 5e-4 7.5e-4 1e-3 8.6819805e-4 5.5e-4 2.3180195e-4 1e-4 >cosine.expected
for schedule in constant linear cosine; do check "$schedule: values" near 1e-5 $schedule.lr $schedule.expected; done
check "--log elsewhere" train --steps 2 --log elsewhere.jsonl --out l
check "--log elsewhere: lines" same 2 "$(lines elsewhere.jsonl '"loss"')"

# Precisions: each trains, resumes to the same bits, and saves F32.
for p in bf16 f16; do
    check "train in $p" train --steps 6 --precision $p --out "p-$p" --accumulate 2 --dropout 0.1 --save-every 3
    rm -r "p-$p/step-6"; echo step-3 >"p-$p/latest"
    check "resume in $p" train --steps 6 --precision $p --out "p-$p" --accumulate 2 --dropout 0.1 --resume
    check "again in $p" train --steps 6 --precision $p --out "q-$p" --accumulate 2 --dropout 0.1
    check "same bits in $p" same_file "p-$p/step-6/model.safetensors" "q-$p/step-6/model.safetensors"
    check "$p learns" awk 'NR == 1 { first = $1 } { last = $1 } END { exit !(last < first) }' <(field "q-$p/log.jsonl" loss)
done

# A budget: the plan is printed, kept to, and changes no bit; nor does another one for the rest of the run.
check "--plan" train --vram 25% --plan --out planned
check "--plan prints the plan" grep -q "^plan: " check.log
check "--plan trains nothing" test ! -e planned/latest
check "a quarter of the memory" train --steps 12 --vram 25% --out quarter
check "a quarter of the memory: what is expected" grep -q "^expected: " check.log
check "a quarter of the memory: the same bits" same_file a/step-12/model.safetensors quarter/step-12/model.safetensors
constant="--schedule constant --precision bf16"
check "a budget of three kinds" train $constant --steps 6 --vram 30% --ram 300K --disk .:1G --out filed
check "a budget of three kinds: what the disk takes" grep -q "^the disk is written" check.log
check "on with everything on the device" train $constant --steps 9 --resume --out filed
check "straight" train $constant --steps 9 --out unfiled
check "on with everything on the device: the same bits" same_file unfiled/step-9/training_state.safetensors filed/step-9/training_state.safetensors
cut() { "$bin/train_gpt" --data text.txt ${tiny/--batch 3/--step-batch 6} "$@"; }
check "the planner cuts the step" cut --schedule constant --steps 4 --out cut
check "the planner's cut stays" cut --schedule constant --steps 8 --vram 40% --resume --out cut
check "the planner's cut: straight" cut --schedule constant --steps 8 --out straight-cut
check "the planner's cut: the same bits" same_file cut/step-8/model.safetensors straight-cut/step-8/model.safetensors

# A Llama of our own: trains, goes on to the same bits, and writes.
llama="--arch llama --kv-heads 1 --ffn 40 --dropout 0.1"
check "Llama" train $llama --steps 6 --save-every 3 --out ll --sample 20
cp -r ll ll-cut; rm -r ll-cut/step-6; echo step-3 >ll-cut/latest
check "Llama: resume" train --dropout 0.1 --steps 6 --resume --kv-heads 1 --out ll-cut
check "Llama: the same bits" same_file ll/step-6/model.safetensors ll-cut/step-6/model.safetensors
check "Llama: config.json" grep -q '"LlamaForCausalLM"' ll/step-6/config.json
refused "Llama: resume with other heads" "--kv-heads 3" train --resume --kv-heads 3 --out ll

# A model from elsewhere: PyTorch's 20 steps, then the same weights in other types and under other names.
hf="$bin/train_gpt --data $fixtures/gpt2/tokens.bin --device cpu --sequential --seq 37 --batch 3 --accumulate 2 --schedule constant
    --lr 3e-3 --beta1 0.9 --beta2 0.95 --eps 1e-8 --weight-decay 0.1 --clip 1 --seed 5"
check "PyTorch's GPT-2" $hf --init "$fixtures/gpt2" --steps 20 --out hf
for name in loss grad_norm; do
    field hf/log.jsonl $name >hf.$name; sed -n "s/.*\"$name\": \([0-9.e-]*\).*/\1/p" "$fixtures/gpt2/expected.json" >expected.$name
    check "PyTorch's $name at each step" near 1e-4 hf.$name expected.$name
done
for kind in llama llama3 qwen2 qwen3; do
    check "PyTorch's $kind" $hf --init "$fixtures/$kind" --steps 20 --out "hf-$kind"
    field "hf-$kind/log.jsonl" loss >hf.loss; sed -n 's/.*"loss": \([0-9.e-]*\).*/\1/p' "$fixtures/$kind/expected.json" >expected.loss
    check "PyTorch's $kind: loss at each step" near 1e-4 hf.loss expected.loss
    check "$kind as it was saved" $hf --init "hf-$kind" --steps 1 --out "hf-$kind-again"
done
for type in f16 bf16; do
    mkdir "hf-$type" "hf-$type-f32"; cp "$fixtures/gpt2/config.json" "hf-$type/"; cp "$fixtures/gpt2/config.json" "hf-$type-f32/"
    check "recode as $type" "$bin/recode_model" "$fixtures/gpt2/model.safetensors" "hf-$type/model.safetensors" $type
    check "recode $type as f32" "$bin/recode_model" "hf-$type/model.safetensors" "hf-$type-f32/model.safetensors" f32
    check "--init from $type" $hf --init "hf-$type" --steps 2 --out "o-$type"
    check "--init from the same in f32" $hf --init "hf-$type-f32" --steps 2 --out "o-$type-f32"
    check "the same bits from $type" same_file "o-$type/step-2/model.safetensors" "o-$type-f32/step-2/model.safetensors"
done
mkdir bare; cp "$fixtures/gpt2/config.json" bare/
rewrite "$fixtures/gpt2/model.safetensors" bare/model.safetensors 's/"transformer\./"/g'
check "--init without the names' prefix" $hf --init bare --steps 20 --out o-bare
check "the same bits without the prefix" same_file hf/step-20/model.safetensors o-bare/step-20/model.safetensors
check "--init takes a run's folder" $hf --init hf --steps 1 --out o-run
check "--init: all positions by default" "$bin/train_gpt" --data "$fixtures/gpt2/tokens.bin" --device cpu --init hf --batch 1 --steps 1 \
    --out o-long --sample 5

# On a terminal one line changes in place; elsewhere there are plain lines.
if command -v script >/dev/null; then
    script -qec "$bin/train_gpt --data text.txt $tiny --steps 12 --out terminal" /dev/null >terminal.log 2>&1 </dev/null
    check "a line that changes" grep -q $'\r.*12/12' terminal.log
else
    skip "progress on a terminal" "script (bsdutils) is not installed"
fi
train --steps 12 --out plain >plain.log
check "plain lines" test "$(grep -c $'\r' plain.log)" -eq 0 -a "$(grep -c '^step 12/12 ' plain.log)" -eq 1
train --steps 40 --out headless 2>/dev/null | head -n 1 >/dev/null
check "a reader that goes away ends no training" test -e headless/step-40

# A cache that others may write to is not used, and that is said.
mkdir -p cache/brim/kernels; chmod 777 cache/brim/kernels
check "a cache of others: trains" env XDG_CACHE_HOME="$PWD/cache" "$bin/train_gpt" --data text.txt $tiny --steps 1 --out cached
check "a cache of others: says so" grep -q "^warning: kernel cache $PWD/cache/brim/kernels is not used: other users may write to it" check.log
check "a cache of others: is left alone" same "" "$(ls cache/brim/kernels)"
