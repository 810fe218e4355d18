#include "train_gpt_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "command_line.h"

const char *argp_program_version = "train_gpt (Brim) 0.1.0";

static const char description[] =
    "Trains a language model, GPT-2 or Llama in kind, on text or token files.\v"
    "FILEs are UTF-8 text (plain or gzip), taken as bytes, or token files (.bin) in llm.c's "
    "format. The last 2% of the "
    "data are held out for evaluation unless --sequential is given.\n\n"
    "OUT/step-N holds model.safetensors and config.json, which Hugging Face's "
    "AutoModelForCausalLM.from_pretrained opens, and the "
    "training state that --resume continues from. Ctrl-C saves and ends.\n\n"
    "Example:\n  train_gpt --data book.txt --layers 4 --heads 4 --dim 256 --seq 256 --batch 8 "
    "--steps 1000 --sample 400";

#define AT(field) offsetof(train_options, field)

static const char *const architectures[] = {"gpt2", "llama", NULL};
static const char *const schedules[] = {"constant", "linear", "cosine", NULL};
static const char *const precisions[] = {"f32", "bf16", "f16", NULL};
static const char *const on_nan[] = {"stop", "skip", NULL};
static const char *const states[] = {"f32", "q8", NULL};

static const option_row rows[] = {
    {"arch", "KIND", OPTION_CHOICE, AT(architecture), 0, 0,
     "gpt2 (learned positions, GELU), or llama (rotary positions, RMS norm, grouped heads, SwiGLU) "
     "(default gpt2)",
     architectures},
    {"layers", "N", OPTION_INTEGER, AT(sizes.layers), 1, 1e4, "blocks (default 6)"},
    {"heads", "N", OPTION_INTEGER, AT(sizes.heads), 1, 1e4, "attention heads (default 6)"},
    {"kv-heads", "N", OPTION_INTEGER, AT(sizes.kv_heads), 1, 1e4,
     "llama: heads of keys and values, which divide the heads (default: as many)"},
    {"dim", "N", OPTION_INTEGER, AT(sizes.width), 1, 1e6,
     "width of the residual stream (default 384)"},
    {"ffn", "N", OPTION_INTEGER, AT(sizes.ffn), 1, 1e7,
     "llama: width inside a feed-forward block (default 8/3 of --dim, rounded up to 64)"},
    {"seq", "N", OPTION_INTEGER, AT(sequence), 1, 1e7,
     "tokens in a sequence (default 256, or all positions of --init)"},
    {"vocab", "N", OPTION_INTEGER, AT(sizes.vocabulary), 1, 1e9,
     "tokens in the vocabulary (default 256 for text, 50257 for token files)"},
    {"batch", "N", OPTION_INTEGER, AT(batch), 1, 1e9, "sequences in a micro-batch (default 8)"},
    {"accumulate", "N", OPTION_INTEGER, AT(accumulate), 1, 1e6,
     "micro-batches in a step (default 1)"},
    {"step-batch", "N", OPTION_INTEGER, AT(step_batch), 1, 1e9,
     "sequences in a step, which the planner cuts into micro-batches; instead of --batch and "
     "--accumulate"},
    {"vram", "SIZE", OPTION_BUDGET, AT(vram), 1, 1e15,
     "device memory that may be used, all that the device loses; or a share, such as 25%, of what "
     "a step would take there with nothing streamed (default: what is free, less a reserve for the "
     "desktop)"},
    {"ram", "SIZE", OPTION_BYTES, AT(ram), 1, 1e15,
     "main memory that may be used beside (default: nine tenths of what is free)"},
    {"disk", "DIR:SIZE", OPTION_DISK, AT(disk), 1, 1e15,
     "a folder on an SSD, and how much of it may be used (default: no disk)"},
    {"steps", "N", OPTION_INTEGER, AT(steps), 1, 1e12, "steps to train, in all (default 1000)"},
    {"epochs", "N", OPTION_INTEGER, AT(epochs), 1, 1e6,
     "passes through the data, instead of --steps"},
    {"lr", "X", OPTION_REAL, AT(lr), 1e-30, 1e3, "learning rate (default 6e-4)"},
    {"min-lr", "X", OPTION_REAL, AT(min_lr), 0, 1e3,
     "learning rate at the schedule's end (default 0)"},
    {"warmup", "N", OPTION_INTEGER, AT(warmup), 0, 1e12,
     "steps over which the learning rate rises (default 0)"},
    {"weight-decay", "X", OPTION_REAL, AT(weight_decay), 0, 1e3,
     "on tensors of two or more axes (default 0.1)"},
    {"beta1", "X", OPTION_REAL, AT(beta1), 0, 0.9999999, "AdamW's first decay rate (default 0.9)"},
    {"beta2", "X", OPTION_REAL, AT(beta2), 0, 0.9999999,
     "AdamW's second decay rate (default 0.95)"},
    {"eps", "X", OPTION_REAL, AT(eps), 0, 1, "AdamW's epsilon (default 1e-8)"},
    {"clip", "X", OPTION_REAL, AT(clip), 0, 1e30,
     "limit of the global gradient norm; 0 for none (default 1)"},
    {"dropout", "X", OPTION_REAL, AT(dropout), 0, 0.999,
     "after the embedding and each residual branch (default 0)"},
    {"seed", "N", OPTION_INTEGER, AT(seed), 0, 9e15,
     "of parameters, data order, dropout and sampling (default 1)"},
    {"device", "D", OPTION_TEXT, AT(device), 0, 0,
     "cuda, cuda:1, opencl:0, cpu, ... (default: the best found; see devices)"},
    {"out", "DIR", OPTION_TEXT, AT(out), 0, 0, "where checkpoints go (default out)"},
    {"save-every", "N", OPTION_INTEGER, AT(save_every), 1, 1e12,
     "save each N steps (default: at the end only)"},
    {"eval-every", "N", OPTION_INTEGER, AT(eval_every), 1, 1e12,
     "evaluate on the held-out part each N steps (default: at the end)"},
    {"init", "DIR", OPTION_TEXT, AT(init), 0, 0,
     "start from DIR/config.json and DIR/model.safetensors"},
    {"log", "FILE", OPTION_TEXT, AT(log), 0, 0,
     "write a JSON line for each step (default OUT/log.jsonl)"},
    {"sample", "N", OPTION_INTEGER, AT(sample), 1, 1e7,
     "write N tokens of the model's own at the end"},
    {"prompt", "TEXT", OPTION_TEXT, AT(prompt), 0, 0,
     "what the sample starts with (text data only; default a line break)"},
    {"temperature", "X", OPTION_REAL, AT(temperature), 0, 100,
     "of sampling; 0 takes the likeliest token (default 0.8)"},
    {"top-p", "X", OPTION_REAL, AT(top_p), 0, 1,
     "sample from the fewest tokens that have this probability in all, at that temperature "
     "(default 1: from all)"},
    {"schedule", "KIND", OPTION_CHOICE, AT(schedule), 0, 0,
     "constant, linear or cosine (default cosine)", schedules},
    {"precision", "TYPE", OPTION_CHOICE, AT(precision), 0, 0, "f32, bf16 or f16 (default f32)",
     precisions},
    {"states", "TYPE", OPTION_CHOICE, AT(states), 0, 0,
     "AdamW's m and v: f32, or q8, blocks of 8 bits, which take a quarter of the memory and change "
     "results; with --precision bf16 and a single micro-batch, gradients are bf16, too (default f32)",
     states},
    {"on-nan", "WHAT", OPTION_CHOICE, AT(on_nan), 0, 0,
     "where a loss or gradient is NaN or infinite: stop, or skip the step; either way nothing is "
     "changed, and the first tensor that went bad is named (default stop)",
     on_nan},
    {"plan", NULL, OPTION_SWITCH, AT(plan), 0, 0, "print the plan for the budget, and stop", NULL},
    {"explain", NULL, OPTION_SWITCH, AT(explain), 0, 0, "print the plan, and train", NULL},
    {"resume", NULL, OPTION_SWITCH, AT(resume), 0, 0, "go on from OUT/latest", NULL},
    {"sequential", NULL, OPTION_SWITCH, AT(sequential), 0, 0,
     "batches in file order, no held-out part", NULL},
};
enum { ROWS = sizeof rows / sizeof *rows, KEY_DATA = 500, USUAL_BATCH = 8 };
enum { LONGEST_PATH = 3900 }; // with the names of files behind it, it is still a path

typedef struct parse_state {
    train_options *options;
    brim_error *err;
} parse_state;

static void add_file(const char *file, parse_state *s) {
    train_options *o = s->options;
    const char **files = realloc(o->files, (size_t)(o->file_count + 1) * sizeof *files);
    if (!files) {
        brim_fail(s->err, BRIM_MEMORY, "no memory for the list of files");
        return;
    }
    o->files = files;
    o->files[o->file_count++] = file;
}

static error_t parse_one(int key, char *text, struct argp_state *state) {
    parse_state *s = state->input;
    switch (key) {
    // A mistake gets one line: argp would add another to what getopt prints.
    case ARGP_KEY_INIT:
        state->err_stream = NULL;
        break;
    case KEY_DATA:
    case ARGP_KEY_ARG:
        add_file(text, s);
        break;
    default:
        if (!command_line_take(rows, ROWS, key, text, s->options, s->err)) return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void check_together(const train_options *o, brim_error *err) {
    const model_config *c = &o->sizes;
    bool llama_sizes = c->kv_heads || c->ffn, architecture_given = o->architecture >= 0;
    bool sizes =
        c->layers || c->heads || c->width || c->vocabulary || architecture_given || llama_sizes;
    if (o->file_count == 0)
        brim_fail(err, BRIM_ARGUMENT, "no data; expected --data FILE (see --help)");
    if (o->steps && o->epochs)
        brim_fail(err, BRIM_ARGUMENT, "--steps and --epochs contradict each other; give one");
    if (o->init && o->resume)
        brim_fail(err, BRIM_ARGUMENT,
                  "--init and --resume contradict each other: one starts a run, the other goes on "
                  "with it");
    if (o->init && sizes)
        brim_fail(
            err, BRIM_ARGUMENT,
            "--init takes --arch, --layers, --heads, --kv-heads, --dim, --ffn and --vocab from "
            "its config.json; leave them out");
    if (llama_sizes && !o->resume && o->architecture != MODEL_LLAMA)
        brim_fail(err, BRIM_ARGUMENT, "--kv-heads and --ffn are sizes of --arch llama");
    if (o->sequential && o->eval_every)
        brim_fail(
            err, BRIM_ARGUMENT,
            "--sequential keeps no held-out part, so --eval-every has nothing to evaluate on");
    if (o->step_batch && (o->batch || o->accumulate))
        brim_fail(err, BRIM_ARGUMENT,
                  "--step-batch leaves --batch and --accumulate to the planner; leave them out");
    if (o->min_lr > o->lr)
        brim_fail(err, BRIM_ARGUMENT, "--min-lr %g is above --lr %g", o->min_lr, o->lr);
    if (o->prompt && !o->sample)
        brim_fail(err, BRIM_ARGUMENT, "--prompt is what a sample starts with; it needs --sample N");
    if (o->prompt && !*o->prompt)
        brim_fail(err, BRIM_ARGUMENT, "--prompt is empty; expected at least one byte");
    if (strlen(o->out) > LONGEST_PATH || (o->init && strlen(o->init) > LONGEST_PATH))
        brim_fail(err, BRIM_ARGUMENT, "--out and --init name folders of at most %d bytes",
                  LONGEST_PATH);
    if (o->steps && o->warmup > o->steps)
        brim_fail(err, BRIM_ARGUMENT, "--warmup %lld is longer than --steps %lld",
                  (long long)o->warmup, (long long)o->steps);
}

brim_status train_options_parse(int argc, char **argv, train_options *out, brim_error *err) {
    *out = (train_options){.architecture = -1,
                           .lr = 6e-4,
                           .weight_decay = 0.1,
                           .beta1 = 0.9,
                           .beta2 = 0.95,
                           .eps = 1e-8,
                           .clip = 1,
                           .seed = 1,
                           .temperature = 0.8,
                           .top_p = 1,
                           .schedule = BRIM_COSINE,
                           .out = "out"};
    struct argp_option list[ROWS + 2] = {
        {"data", KEY_DATA, "FILE...", 0, "text or token files; may be repeated", 0}};
    command_line_list(rows, ROWS, list + 1);
    struct argp parser = {list, parse_one, "--data FILE...", description, 0, 0, 0};
    parse_state state = {out, err};
    error_t bad = argp_parse(&parser, argc, argv, 0, 0, &state);
    if (bad == EINVAL) exit(1); // getopt has printed why
    if (bad)
        return brim_fail(err, BRIM_ARGUMENT, "the command line cannot be read: %s", strerror(bad));
    check_together(out, err);
    if (!out->step_batch && !out->batch) out->batch = USUAL_BATCH;
    if (!out->step_batch && !out->accumulate) out->accumulate = 1;
    return err->status;
}
