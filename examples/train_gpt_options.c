#include "train_gpt_options.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

// One row for each option with a value: the key, how it is read, where it goes, and what it may be.
typedef enum value_kind { KIND_INTEGER, KIND_REAL, KIND_TEXT } value_kind;
typedef struct option_row {
    const char *name, *argument;
    value_kind kind;
    size_t offset;
    double low, high;
    const char *help;
} option_row;

#define AT(field) offsetof(train_options, field)

static const option_row rows[] = {
    {"layers", "N", KIND_INTEGER, AT(layers), 1, 1e4, "blocks (default 6)"},
    {"heads", "N", KIND_INTEGER, AT(heads), 1, 1e4, "attention heads (default 6)"},
    {"kv-heads", "N", KIND_INTEGER, AT(kv_heads), 1, 1e4,
     "llama: heads of keys and values, which divide the heads (default: as many)"},
    {"dim", "N", KIND_INTEGER, AT(width), 1, 1e6, "width of the residual stream (default 384)"},
    {"ffn", "N", KIND_INTEGER, AT(ffn), 1, 1e7,
     "llama: width inside a feed-forward block (default 8/3 of --dim, rounded up to 64)"},
    {"seq", "N", KIND_INTEGER, AT(sequence), 1, 1e7,
     "tokens in a sequence (default 256, or all positions of --init)"},
    {"vocab", "N", KIND_INTEGER, AT(vocabulary), 1, 1e9,
     "tokens in the vocabulary (default 256 for text, 50257 for token files)"},
    {"batch", "N", KIND_INTEGER, AT(batch), 1, 1e9, "sequences in a micro-batch (default 8)"},
    {"accumulate", "N", KIND_INTEGER, AT(accumulate), 1, 1e6,
     "micro-batches in a step (default 1)"},
    {"steps", "N", KIND_INTEGER, AT(steps), 1, 1e12, "steps to train, in all (default 1000)"},
    {"epochs", "N", KIND_INTEGER, AT(epochs), 1, 1e6,
     "passes through the data, instead of --steps"},
    {"lr", "X", KIND_REAL, AT(lr), 1e-30, 1e3, "learning rate (default 6e-4)"},
    {"min-lr", "X", KIND_REAL, AT(min_lr), 0, 1e3,
     "learning rate at the schedule's end (default 0)"},
    {"warmup", "N", KIND_INTEGER, AT(warmup), 0, 1e12,
     "steps over which the learning rate rises (default 0)"},
    {"weight-decay", "X", KIND_REAL, AT(weight_decay), 0, 1e3,
     "on tensors of two or more axes (default 0.1)"},
    {"beta1", "X", KIND_REAL, AT(beta1), 0, 0.9999999, "AdamW's first decay rate (default 0.9)"},
    {"beta2", "X", KIND_REAL, AT(beta2), 0, 0.9999999, "AdamW's second decay rate (default 0.95)"},
    {"eps", "X", KIND_REAL, AT(eps), 0, 1, "AdamW's epsilon (default 1e-8)"},
    {"clip", "X", KIND_REAL, AT(clip), 0, 1e30,
     "limit of the global gradient norm; 0 for none (default 1)"},
    {"dropout", "X", KIND_REAL, AT(dropout), 0, 0.999,
     "after the embedding and each residual branch (default 0)"},
    {"seed", "N", KIND_INTEGER, AT(seed), 0, 9e15,
     "of parameters, data order, dropout and sampling (default 1)"},
    {"device", "D", KIND_TEXT, AT(device), 0, 0,
     "cuda, cuda:1, opencl:0, cpu, ... (default: the best found; see devices)"},
    {"out", "DIR", KIND_TEXT, AT(out), 0, 0, "where checkpoints go (default out)"},
    {"save-every", "N", KIND_INTEGER, AT(save_every), 1, 1e12,
     "save each N steps (default: at the end only)"},
    {"eval-every", "N", KIND_INTEGER, AT(eval_every), 1, 1e12,
     "evaluate on the held-out part each N steps (default: at the end)"},
    {"init", "DIR", KIND_TEXT, AT(init), 0, 0,
     "start from DIR/config.json and DIR/model.safetensors"},
    {"log", "FILE", KIND_TEXT, AT(log), 0, 0,
     "write a JSON line for each step (default OUT/log.jsonl)"},
    {"sample", "N", KIND_INTEGER, AT(sample), 1, 1e7,
     "write N tokens of the model's own at the end"},
    {"prompt", "TEXT", KIND_TEXT, AT(prompt), 0, 0,
     "what the sample starts with (text data only; default a line break)"},
    {"temperature", "X", KIND_REAL, AT(temperature), 0, 100,
     "of sampling; 0 takes the likeliest token (default 0.8)"},
    {"top-p", "X", KIND_REAL, AT(top_p), 0, 1,
     "sample from the fewest tokens that have this probability in all, at that temperature "
     "(default 1: from all)"},
};
enum { ROWS = sizeof rows / sizeof *rows, FIRST_KEY = 1000 };
enum { LONGEST_PATH = 3900 }; // with the names of files behind it, it is still a path
enum { KEY_DATA = 500, KEY_ARCHITECTURE, KEY_SCHEDULE, KEY_PRECISION, KEY_RESUME, KEY_SEQUENTIAL };

static const char *const schedules[] = {"constant", "linear", "cosine"};
static const char *const precisions[] = {"f32", "bf16", "f16"};

typedef struct parse_state {
    train_options *options;
    brim_error *err;
} parse_state;

static void parse_value(const option_row *row, const char *text, parse_state *s) {
    char *field = (char *)s->options + row->offset, *end;
    if (row->kind == KIND_TEXT) {
        *(const char **)field = text;
        return;
    }
    errno = 0;
    double value = row->kind == KIND_INTEGER ? (double)strtoll(text, &end, 10) : strtod(text, &end);
    if (end == text || *end || errno || !(value >= row->low && value <= row->high)) {
        brim_fail(s->err, BRIM_ARGUMENT, "option --%s is \"%s\"; expected %s from %g to %g",
                  row->name, text, row->kind == KIND_INTEGER ? "a whole number" : "a number",
                  row->low, row->high);
        return;
    }
    if (row->kind == KIND_INTEGER)
        *(int64_t *)field = strtoll(text, NULL, 10);
    else
        *(double *)field = value;
}

static int parse_choice(const char *option, const char *text, const char *const choices[3],
                        parse_state *s) {
    for (int i = 0; i < 3; i++)
        if (strcmp(text, choices[i]) == 0) return i;
    brim_fail(s->err, BRIM_ARGUMENT, "option --%s is \"%s\"; expected %s, %s or %s", option, text,
              choices[0], choices[1], choices[2]);
    return 0;
}

static void parse_architecture(const char *text, parse_state *s) {
    const char *name;
    for (int i = 0; (name = model_architecture_name((model_architecture)i)); i++) {
        if (strcmp(text, name) != 0) continue;
        s->options->architecture = (model_architecture)i;
        s->options->architecture_given = true;
        return;
    }
    brim_fail(s->err, BRIM_ARGUMENT, "option --arch is \"%s\"; expected gpt2 or llama", text);
}

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
    train_options *o = s->options;
    switch (key) {
    // A mistake gets one line: argp would add another to what getopt prints.
    case ARGP_KEY_INIT:
        state->err_stream = NULL;
        break;
    case KEY_DATA:
    case ARGP_KEY_ARG:
        add_file(text, s);
        break;
    case KEY_ARCHITECTURE:
        parse_architecture(text, s);
        break;
    case KEY_SCHEDULE:
        o->schedule = (brim_schedule_kind)parse_choice("schedule", text, schedules, s);
        break;
    case KEY_PRECISION:
        o->precision = (brim_precision)parse_choice("precision", text, precisions, s);
        break;
    case KEY_RESUME:
        o->resume = true;
        break;
    case KEY_SEQUENTIAL:
        o->sequential = true;
        break;
    default:
        if (key < FIRST_KEY || key >= FIRST_KEY + ROWS) return ARGP_ERR_UNKNOWN;
        parse_value(&rows[key - FIRST_KEY], text, s);
    }
    return 0;
}

// Options that argp lists in --help: data first, then the table, then choices and switches.
static void list_options(struct argp_option *list) {
    *list++ = (struct argp_option){
        "data", KEY_DATA, "FILE...", 0, "text or token files; may be repeated", 0};
    *list++ = (struct argp_option){
        "arch",
        KEY_ARCHITECTURE,
        "KIND",
        0,
        "gpt2 (learned positions, GELU), or llama (rotary positions, RMS norm, grouped heads, "
        "SwiGLU) (default gpt2)",
        0};
    for (int i = 0; i < ROWS; i++)
        *list++ =
            (struct argp_option){rows[i].name, FIRST_KEY + i, rows[i].argument, 0, rows[i].help, 0};
    *list++ = (struct argp_option){
        "schedule", KEY_SCHEDULE, "KIND", 0, "constant, linear or cosine (default cosine)", 0};
    *list++ = (struct argp_option){
        "precision", KEY_PRECISION, "TYPE", 0, "f32, bf16 or f16 (default f32)", 0};
    *list++ = (struct argp_option){"resume", KEY_RESUME, 0, 0, "go on from OUT/latest", 0};
    *list++ = (struct argp_option){
        "sequential", KEY_SEQUENTIAL, 0, 0, "batches in file order, no held-out part", 0};
    *list = (struct argp_option){0};
}

static void check_together(const train_options *o, brim_error *err) {
    bool llama_sizes = o->kv_heads || o->ffn;
    bool sizes =
        o->layers || o->heads || o->width || o->vocabulary || o->architecture_given || llama_sizes;
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
    *out = (train_options){.batch = 8,
                           .accumulate = 1,
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
    struct argp_option list[ROWS + 7];
    list_options(list);
    struct argp parser = {list, parse_one, "--data FILE...", description, 0, 0, 0};
    parse_state state = {out, err};
    error_t bad = argp_parse(&parser, argc, argv, 0, 0, &state);
    if (bad == EINVAL) exit(1); // getopt has printed why
    if (bad)
        return brim_fail(err, BRIM_ARGUMENT, "the command line cannot be read: %s", strerror(bad));
    check_together(out, err);
    return err->status;
}
