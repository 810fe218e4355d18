#include "plan_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "command_line.h"

const char *argp_program_version = "plan (Brim) 0.1.0";

static const char description[] =
    "Plans the training of a model on a graphics card, which need not be there: what lies where, "
    "what "
    "is recomputed and streamed, the time of a step and what limits it.\v"
    "--list shows the models and cards that have names. A model may also be given by its sizes, as "
    "train_gpt takes them. What a card can do is taken from its vendor's figures, with a margin; "
    "`--gpu measured` plans for the device of this machine as train_gpt would.\n\n"
    "SIZEs are such as 8G, 512M or 1.5GiB. Exit status: 0, 2 if nothing fits (the error says what "
    "is "
    "missing), 1 after any other error.\n\n"
    "Examples:\n"
    "  plan --model llama-8b --gpu rtx4090 --ram 128G --tokens-per-step 32768\n"
    "  plan --arch llama --layers 24 --dim 1536 --heads 12 --gpu rtx3060 --vram 8G\n"
    "  plan --table";

#define AT(field) offsetof(plan_options, field)

static const char *const architectures[] = {"gpt2", "llama", NULL};
static const char *const precisions[] = {"f32", "bf16", "f16", NULL};
static const char *const states[] = {"f32", "q8", NULL};

static const option_row rows[] = {
    {"model", "NAME", OPTION_TEXT, AT(model), 0, 0, "a published model (see --list)"},
    {"arch", "KIND", OPTION_CHOICE, AT(architecture), 0, 0,
     "of a model by sizes: gpt2 or llama (default llama)", architectures},
    {"layers", "N", OPTION_INTEGER, AT(sizes.layers), 1, 1e4, "blocks (default 6)"},
    {"heads", "N", OPTION_INTEGER, AT(sizes.heads), 1, 1e4, "attention heads (default 6)"},
    {"kv-heads", "N", OPTION_INTEGER, AT(sizes.kv_heads), 1, 1e4,
     "llama: heads of keys and values, which divide the heads (default: as many)"},
    {"dim", "N", OPTION_INTEGER, AT(sizes.width), 1, 1e6,
     "width of the residual stream (default 384)"},
    {"ffn", "N", OPTION_INTEGER, AT(sizes.ffn), 1, 1e7,
     "llama: width inside a feed-forward block (default 8/3 of --dim, rounded up to 64)"},
    {"vocab", "N", OPTION_INTEGER, AT(sizes.vocabulary), 1, 1e9,
     "tokens in the vocabulary (default 50257)"},
    {"gpu", "NAME", OPTION_TEXT, AT(gpu), 0, 0,
     "a card (see --list), or `measured`: the device of this machine"},
    {"device", "D", OPTION_TEXT, AT(device), 0, 0,
     "with --gpu measured: cuda, opencl:0, cpu, ... (default: the best found; see devices)"},
    {"vram", "SIZE", OPTION_BYTES, AT(vram), 1, 1e15,
     "device memory that may be used, all that the device loses (default: the card's)"},
    {"ram", "SIZE", OPTION_BYTES, AT(ram), 1, 1e15,
     "host memory that may be used (default 64G; with --gpu measured this machine's)"},
    {"disk", "DIR:SIZE", OPTION_DISK, AT(disk), 1, 1e15,
     "a folder on an SSD, and how much of it may be used (default: no disk)"},
    {"seq", "N", OPTION_INTEGER, AT(sequence), 1, 1e7,
     "tokens in a sequence (default 2048, or all of the model's positions)"},
    {"tokens-per-step", "N", OPTION_INTEGER, AT(step_tokens), 1, 1e12,
     "tokens in a step, of all its micro-batches (default 32768)"},
    {"batch", "N", OPTION_INTEGER, AT(batch), 1, 1e9,
     "sequences in a micro-batch (default: as the plan finds best)"},
    {"precision", "TYPE", OPTION_CHOICE, AT(precision), 0, 0, "f32, bf16 or f16 (default bf16)",
     precisions},
    {"states", "TYPE", OPTION_CHOICE, AT(states), 0, 0,
     "AdamW's m and v: f32, or q8, blocks of 8 bits, which take a quarter of the memory and change "
     "results (default f32)",
     states},
    {"compare", NULL, OPTION_SWITCH, AT(compare), 0, 0,
     "also what more device memory, main memory, or tokens in a step would give"},
    {"table", NULL, OPTION_SWITCH, AT(table), 0, 0,
     "which model fits which card with 32, 64 and 128 GiB of host memory; of one model or card "
     "where --model or --gpu is given"},
    {"list", NULL, OPTION_SWITCH, AT(list), 0, 0, "the models and cards that have names"},
};
enum { ROWS = sizeof rows / sizeof *rows };

typedef struct parse_state {
    plan_options *options;
    brim_error *err;
} parse_state;

static error_t parse_one(int key, char *text, struct argp_state *state) {
    parse_state *s = state->input;
    if (key == ARGP_KEY_INIT) state->err_stream = NULL; // a mistake gets one line, getopt's
    if (key == ARGP_KEY_ARG)
        brim_fail(s->err, BRIM_ARGUMENT, "\"%.60s\" is no option (see --help)", text);
    else if (!command_line_take(rows, ROWS, key, text, s->options, s->err))
        return ARGP_ERR_UNKNOWN;
    return 0;
}

static bool sizes_given(const plan_options *o) {
    const model_config *c = &o->sizes;
    return o->architecture >= 0 || c->layers || c->heads || c->kv_heads || c->width || c->ffn ||
           c->vocabulary;
}

static void check_together(const plan_options *o, brim_error *err) {
    bool measured = o->gpu && strcmp(o->gpu, "measured") == 0;
    if (o->model && sizes_given(o))
        brim_fail(
            err, BRIM_ARGUMENT,
            "--model has its sizes; leave --arch, --layers, --heads, --kv-heads, --dim, --ffn "
            "and --vocab out");
    if (o->architecture == MODEL_GPT2 && (o->sizes.kv_heads || o->sizes.ffn))
        brim_fail(err, BRIM_ARGUMENT, "--kv-heads and --ffn are sizes of --arch llama");
    if (o->device && !measured)
        brim_fail(err, BRIM_ARGUMENT, "--device is this machine's; it needs --gpu measured");
    if (o->list) return;
    if (o->table && (measured || o->vram || o->ram || sizes_given(o)))
        brim_fail(err, BRIM_ARGUMENT,
                  "--table is of cards and models that have names, with all of their memory; leave "
                  "--gpu measured, --vram, --ram and sizes out");
    if (o->table) return;
    if (!o->model && !sizes_given(o))
        brim_fail(err, BRIM_ARGUMENT, "no model; expected --model NAME or sizes (see --help)");
    if (!o->gpu)
        brim_fail(err, BRIM_ARGUMENT,
                  "no card; expected --gpu NAME or --gpu measured (see --list)");
}

brim_status plan_options_parse(int argc, char **argv, plan_options *out, brim_error *err) {
    *out =
        (plan_options){.architecture = -1, .step_tokens = 32768, .precision = BRIM_PRECISION_BF16};
    struct argp_option list[ROWS + 1] = {0};
    command_line_list(rows, ROWS, list);
    struct argp parser = {list, parse_one, NULL, description, 0, 0, 0};
    parse_state state = {out, err};
    error_t bad = argp_parse(&parser, argc, argv, 0, 0, &state);
    if (bad == EINVAL) exit(1); // getopt has printed why
    if (bad)
        return brim_fail(err, BRIM_ARGUMENT, "the command line cannot be read: %s", strerror(bad));
    check_together(out, err);
    return err->status;
}
