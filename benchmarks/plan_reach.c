#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <brim/report.h>
#include "benchmarks/plan_costs.h"
#include "core/alloc.h"
#include "core/clock.h"

// Widths, vocabulary and sequence at a tenth: weights and activations at a hundredth, and budgets
// with them, in proportion to the parameters.
enum { PART = 10, STEPS = 3, MICRO_BATCHES = 4, SEQUENCE = 2048 / PART };
static const double gib = 1 << 30, driver_bytes = 0.5 * (1 << 30);

// Of the published model, and what the machine gives it.
typedef struct reach_case {
    const char *name;
    double vram, ram; // GiB
    model_config config;
} reach_case;

static const reach_case cases[] = {
    {"Llama 3.2 3B",
     8,
     64,
     {.vocabulary = 128256,
      .width = 3072,
      .layers = 28,
      .heads = 24,
      .kv_heads = 8,
      .ffn = 8192,
      .tied = true}},
    {"Llama 2 7B",
     16,
     128,
     {.vocabulary = 32000, .width = 4096, .layers = 32, .heads = 32, .kv_heads = 32, .ffn = 11008}},
    {"Qwen2.5 14B",
     24,
     256,
     {.vocabulary = 152064,
      .width = 5120,
      .layers = 48,
      .heads = 40,
      .kv_heads = 8,
      .ffn = 13824,
      .qkv_bias = true}},
};
enum { CASES = sizeof cases / sizeof *cases };

static model_config small_of(const model_config *c) {
    model_config s = *c;
    int64_t head = c->width / c->heads / PART / 2 * 2; // rotary positions turn pairs
    s.architecture = MODEL_LLAMA;
    s.width = c->heads * head;
    s.ffn = c->ffn / PART / 2 * 2;
    s.vocabulary = c->vocabulary / PART;
    s.positions = SEQUENCE;
    s.rotary_base = 10000;
    s.norm_eps = 1e-5;
    return s;
}

// ---- one training -------------------------------------------------------------------------------

typedef struct training {
    double loss[STEPS], norm[STEPS], seconds;
    uint64_t variables;     // a hash of all parameters and states
    int64_t resident_bytes; // by which the process grew
    brim_trainer_info info;
} training;

// FNV-1a by words (Fowler, Noll, Vo).
static void hash_tensor(brim_trainer *t, const char *name, int64_t elements, uint64_t *hash,
                        brim_error *err) {
    size_t count = (size_t)elements;
    uint32_t *words = brim_calloc_array(count, sizeof *words, err);
    if (!words) return;
    brim_trainer_read(t, name, (float *)words, count, err);
    for (size_t i = 0; i < count; i++) *hash = (*hash ^ words[i]) * 0x100000001b3;
    free(words);
}

static uint64_t hash_variables(brim_trainer *t, brim_error *err) {
    static const char *const suffixes[] = {"", "/m", "/v"};
    uint64_t hash = 0xcbf29ce484222325;
    for (int i = 0; i < brim_trainer_tensor_count(t); i++) {
        brim_tensor_info info;
        char name[300];
        brim_trainer_tensor_info(t, i, &info);
        for (int k = 0; k < 3 && !failed(err); k++) {
            snprintf(name, sizeof name, "%s%s", info.name, suffixes[k]);
            hash_tensor(t, name, info.elements, &hash, err);
        }
    }
    return hash;
}

static int64_t process_bytes(void) {
    long long pages = 0;
    FILE *in = fopen("/proc/self/statm", "r");
    if (!in) return 0;
    if (fscanf(in, "%*d %lld", &pages) != 1) pages = 0;
    fclose(in);
    return pages * sysconf(_SC_PAGESIZE);
}

static void feed(brim_trainer *t, const model_config *c, uint32_t state, brim_error *err) {
    size_t count = MICRO_BATCHES * SEQUENCE;
    int32_t *tokens = brim_calloc_array(count, sizeof *tokens, err);
    for (size_t i = 0; tokens && i < count; i++) {
        state = state * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((state >> 8) % (uint32_t)c->vocabulary);
    }
    brim_trainer_feed(t, "tokens", tokens, count * sizeof *tokens, err);
    brim_trainer_feed(t, "targets", tokens, count * sizeof *tokens, err);
    free(tokens);
}

static training train(const brim_trainer_options *o, model_config *c, bool explain,
                      brim_error *err) {
    training out = {0};
    brim_trainer *t = brim_trainer_create(model_build, c, o, err);
    int64_t before = process_bytes();
    brim_trainer_prepare(t, err);
    if (!failed(err) && explain) brim_trainer_explain(t, stdout);
    for (int i = 0; i < STEPS && !failed(err); i++) {
        brim_step_result result = {0};
        feed(t, c, (uint32_t)i, err);
        brim_trainer_step(t, &result, err);
        out.loss[i] = result.loss;
        out.norm[i] = result.grad_norm;
        out.seconds = result.seconds;
    }
    out.resident_bytes = process_bytes() - before;
    if (!failed(err)) {
        out.info = brim_trainer_describe(t);
        out.variables = hash_variables(t, err);
    }
    brim_trainer_free(t);
    return out;
}

static bool same(const training *a, const training *b) {
    return !memcmp(a->loss, b->loss, sizeof a->loss) && !memcmp(a->norm, b->norm, sizeof a->norm) &&
           a->variables == b->variables;
}

// ---- one case -----------------------------------------------------------------------------------

static void show(const training *fitted, const training *whole, const brim_trainer_options *o,
                 report *r) {
    const brim_trainer_info *info = &fitted->info;
    int64_t all = info->device_bytes + info->host_bytes;
    printf("device memory: %" PRId64 " of %" PRId64 " bytes; main memory: %" PRId64 " of %" PRId64
           "; the process grew by %.1f%% of both\n",
           info->device_bytes, o->vram_bytes, info->host_bytes, o->ram_bytes,
           100 * (double)fitted->resident_bytes / (double)all);
    printf("with everything on the device: %" PRId64 " bytes, %.2f times the budget\n",
           whole->info.device_bytes, (double)whole->info.device_bytes / (double)o->vram_bytes);
    printf("losses %.9g %.9g %.9g, a step %.2f s (resident %.2f s): the same bits after %d steps\n",
           fitted->loss[0], fitted->loss[1], fitted->loss[2], fitted->seconds, whole->seconds,
           STEPS);
    report_number(r, "device_bytes", (double)info->device_bytes);
    report_number(r, "host_bytes", (double)info->host_bytes);
    report_number(r, "process_bytes", (double)fitted->resident_bytes);
    report_number(r, "whole_device_bytes", (double)whole->info.device_bytes);
    report_number(r, "step_seconds", fitted->seconds);
    report_number(r, "whole_step_seconds", whole->seconds);
    report_number(r, "last_loss", fitted->loss[STEPS - 1]);
}

static void one_case(const plans_options *o, const reach_case *x, report *r, brim_error *err) {
    model_config real = x->config, config = small_of(&x->config);
    real.architecture = MODEL_LLAMA;
    double part = (double)model_parameters(&config) / (double)model_parameters(&real);
    brim_trainer_options given = {.batch = 1,
                                  .length = SEQUENCE,
                                  .accumulate = MICRO_BATCHES,
                                  .device = o->device,
                                  .precision = BRIM_PRECISION_BF16,
                                  .optimizer = {.lr = 1e-3f, .weight_decay = 0.1f, .clip = 1},
                                  .rates = &o->rates,
                                  .seed = 1};
    brim_trainer_options budgeted = given;
    budgeted.vram_bytes = (int64_t)(part * (x->vram * gib - driver_bytes));
    budgeted.ram_bytes = (int64_t)(part * x->ram * gib);
    printf(
        "\n%s in %.0f GiB and %.0f GiB of RAM, at 1/%.0f: %lld parameters, %lld and %lld bytes\n",
        x->name, x->vram, x->ram, 1 / part, (long long)model_parameters(&config),
        (long long)budgeted.vram_bytes, (long long)budgeted.ram_bytes);
    training fitted = train(&budgeted, &config, true, err), whole = {0};
    if (!failed(err)) whole = train(&given, &config, false, err);
    if (failed(err)) return;
    if (!same(&fitted, &whole))
        brim_fail(err, BRIM_GRAPH, "%s: other bits than with everything resident", x->name);
    if (fitted.info.device_bytes > budgeted.vram_bytes ||
        fitted.info.host_bytes > budgeted.ram_bytes)
        brim_fail(err, BRIM_MEMORY, "%s: the plan is larger than its budget", x->name);
    if (failed(err)) return;
    report_open(r, NULL, '{');
    report_text(r, "model", x->name);
    report_number(r, "parameters", (double)model_parameters(&config));
    report_number(r, "vram_bytes", (double)budgeted.vram_bytes);
    report_number(r, "ram_bytes", (double)budgeted.ram_bytes);
    show(&fitted, &whole, &budgeted, r);
    report_close(r, '}');
    fflush(stdout);
}

void plan_reach(const plans_options *o, report *r, brim_error *err) {
    report_open(r, "reach", '[');
    for (int i = 0; i < CASES && !failed(err); i++) one_case(o, &cases[i], r, err);
    report_close(r, ']');
}
