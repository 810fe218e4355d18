// Plans as they were: models of several kinds on cards that are not there, under budgets that press
// in different ways. What is chosen, what it is expected to take, and a checksum of the whole plan
// stand in tests/fixtures/plans.txt.
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <brim/brim.h>
#include "core/checksum.h"
#include "examples/model.h"
#include "optim/trainer.h"
#include "tests/lines_as_they_were.h"
#include "tests/test_core.h"

enum { OVERHEAD = 1 << 20 };
static const brim_rates cards[] = {
    {.name = "balanced",
     .memory_bytes = 8ll << 30,
     .overhead_bytes = OVERHEAD,
     .memory = 300e9,
     .matmul_16 = 30e12,
     .matmul_32 = 10e12,
     .link_in = 12e9,
     .link_out = 11e9,
     .link_both = 20e9,
     .host = 30e9,
     .disk_read = 3e9,
     .disk_write = 2e9,
     .launch = 4e-6},
    {.name = "slow link",
     .memory_bytes = 8ll << 30,
     .overhead_bytes = OVERHEAD,
     .memory = 500e9,
     .matmul_16 = 2e12,
     .matmul_32 = 1e12,
     .link_in = 2e9,
     .link_out = 1.5e9,
     .link_both = 2.5e9,
     .host = 40e9,
     .disk_read = 1e9,
     .disk_write = 5e8,
     .launch = 1e-6},
    {.name = "slow host",
     .memory_bytes = 8ll << 30,
     .overhead_bytes = OVERHEAD,
     .memory = 200e9,
     .matmul_16 = 1e12,
     .matmul_32 = 5e11,
     .link_in = 20e9,
     .link_out = 20e9,
     .link_both = 24e9,
     .host = 3e9,
     .disk_read = 2e9,
     .disk_write = 2e9,
     .launch = 5e-7},
    {.name = "little memory",
     .memory_bytes = OVERHEAD + 700000,
     .overhead_bytes = OVERHEAD,
     .memory = 300e9,
     .matmul_16 = 3e12,
     .matmul_32 = 1e12,
     .link_in = 6e9,
     .link_out = 6e9,
     .link_both = 8e9,
     .host = 20e9,
     .launch = 2e-6},
    {.name = "one way",
     .memory_bytes = 8ll << 30,
     .overhead_bytes = OVERHEAD,
     .memory = 60e9,
     .matmul_16 = 8e11,
     .matmul_32 = 8e11,
     .link_in = 8e9,
     .link_out = 5e8,
     .link_both = 8.4e9,
     .host = 12e9,
     .disk_read = 4e8,
     .disk_write = 6e9,
     .launch = 0},
    {.name = "slow disk",
     .memory_bytes = 8ll << 30,
     .overhead_bytes = OVERHEAD,
     .memory = 100e9,
     .matmul_16 = 1e12,
     .matmul_32 = 1e12,
     .link_in = 8e9,
     .link_out = 8e9,
     .link_both = 12e9,
     .host = 12e9,
     .disk_read = 6e6,
     .disk_write = 2e6,
     .launch = 1e-6},
};
enum { BALANCED, SLOW_LINK, SLOW_HOST, LITTLE_MEMORY, ONE_WAY, SLOW_DISK };

// Budgets are in thousandths of what everything on the device takes; where that is too little, the
// nearest one that works. vram and ram 0: what is there; disk 0: none.
typedef struct plan_case {
    int card;
    const char *device;
    model_architecture architecture;
    brim_precision precision;
    brim_states states;
    int64_t batch, accumulate, step_batch, vram, ram, disk;
    bool wide;                     // one layer of width 256, where states take most of the memory
    int64_t layers, length, width; // 0: 3, 24, 32
    const char *frozen;            // a pattern of parameters' names
    bool sgd;
} plan_case;

static const plan_case cases[] = {
    {BALANCED, "cuda", MODEL_GPT2, BRIM_PRECISION_F32, BRIM_STATES_F32, 4, 1, 0, 1000, 0, 0},
    {BALANCED, "cuda", MODEL_LLAMA, BRIM_PRECISION_BF16, BRIM_STATES_F32, 4, 2, 0, 990, 0, 0},
    {BALANCED, "opencl", MODEL_GPT2, BRIM_PRECISION_F32, BRIM_STATES_F32, 4, 1, 0, 1100, 0, 0},
    {BALANCED, "opencl", MODEL_GPT2, BRIM_PRECISION_F32, BRIM_STATES_F32, 4, 1, 0, 800, 0, 0},
    {BALANCED, "opencl", MODEL_GPT2, BRIM_PRECISION_BF16, BRIM_STATES_F32, 4, 3, 0, 500, 0, 0},
    {BALANCED, "opencl", MODEL_LLAMA, BRIM_PRECISION_BF16, BRIM_STATES_Q8, 4, 1, 0, 400, 0, 0},
    {BALANCED, "opencl", MODEL_LLAMA, BRIM_PRECISION_BF16, BRIM_STATES_F32, 4, 2, 0, 400, 350,
     2000},
    {BALANCED, "opencl", MODEL_LLAMA, BRIM_PRECISION_F16, BRIM_STATES_F32, 2, 4, 0, 450, 0, 0},
    {SLOW_LINK, "opencl", MODEL_GPT2, BRIM_PRECISION_F32, BRIM_STATES_F32, 4, 1, 0, 600, 0, 0},
    {SLOW_LINK, "opencl", MODEL_GPT2, BRIM_PRECISION_BF16, BRIM_STATES_F32, 4, 4, 0, 350, 0, 0},
    {SLOW_LINK, "opencl", MODEL_LLAMA, BRIM_PRECISION_BF16, BRIM_STATES_F32, 8, 1, 0, 350, 300,
     2000},
    {SLOW_LINK, "opencl", MODEL_GPT2, BRIM_PRECISION_F32, BRIM_STATES_F32, 8, 2, 0, 300, 0, 0},
    {SLOW_HOST, "opencl", MODEL_GPT2, BRIM_PRECISION_F32, BRIM_STATES_F32, 4, 2, 0, 700, 0, 0},
    {SLOW_HOST, "opencl", MODEL_LLAMA, BRIM_PRECISION_BF16, BRIM_STATES_Q8, 4, 3, 0, 350, 0, 0},
    {SLOW_HOST, "opencl", MODEL_LLAMA, BRIM_PRECISION_F32, BRIM_STATES_F32, 8, 1, 0, 500, 400,
     2000},
    {BALANCED, "opencl", MODEL_GPT2, BRIM_PRECISION_BF16, BRIM_STATES_F32, 0, 0, 8, 400, 0, 0},
    {SLOW_LINK, "opencl", MODEL_LLAMA, BRIM_PRECISION_F32, BRIM_STATES_F32, 0, 0, 8, 350, 0, 0},
    {LITTLE_MEMORY, "opencl", MODEL_GPT2, BRIM_PRECISION_F32, BRIM_STATES_F32, 8, 1, 0, 0, 0, 0},
    {LITTLE_MEMORY, "opencl", MODEL_LLAMA, BRIM_PRECISION_BF16, BRIM_STATES_F32, 0, 0, 16, 0, 0, 0},
    {ONE_WAY, "opencl", MODEL_GPT2, BRIM_PRECISION_BF16, BRIM_STATES_F32, 4, 2, 0, 450, 250, 3000},
    {ONE_WAY, "opencl", MODEL_LLAMA, BRIM_PRECISION_F16, BRIM_STATES_F32, 2, 3, 0, 500, 250, 3000,
     .wide = true},
    {SLOW_HOST, "opencl", MODEL_GPT2, BRIM_PRECISION_F32, BRIM_STATES_F32, 2, 2, 0, 400, 200, 3000,
     .wide = true, .length = 8},
    {BALANCED, "opencl", MODEL_LLAMA, BRIM_PRECISION_BF16, BRIM_STATES_Q8, 4, 2, 0, 300, 200, 3000,
     .wide = true},
    {ONE_WAY, "opencl", MODEL_LLAMA, BRIM_PRECISION_F32, BRIM_STATES_F32, 4, 1, 0, 500, 0, 0,
     .frozen = "model.layers.0.*"},
    {SLOW_LINK, "opencl", MODEL_LLAMA, BRIM_PRECISION_BF16, BRIM_STATES_F32, 2, 2, 0, 300, 0, 0,
     .wide = true, .frozen = "*mlp*", .sgd = true},
    {SLOW_LINK, "opencl", MODEL_GPT2, BRIM_PRECISION_F32, BRIM_STATES_F32, 6, 1, 0, 200, 0, 0,
     .layers = 8, .length = 20},
    {BALANCED, "opencl", MODEL_LLAMA, BRIM_PRECISION_BF16, BRIM_STATES_F32, 16, 1, 0, 250, 0, 0,
     .layers = 6},
    {ONE_WAY, "opencl", MODEL_GPT2, BRIM_PRECISION_BF16, BRIM_STATES_F32, 1, 2, 0, 0, 0, 0,
     .sgd = true},
    {SLOW_HOST, "cuda", MODEL_LLAMA, BRIM_PRECISION_F16, BRIM_STATES_F32, 3, 2, 0, 996, 0, 0,
     .layers = 1, .length = 5},
    {ONE_WAY, "opencl", MODEL_LLAMA, BRIM_PRECISION_F32, BRIM_STATES_F32, 0, 0, 6, 300, 300, 2500},
    // The least that works: of the device's memory, of main memory, of both and the disk.
    {BALANCED, "opencl", MODEL_GPT2, BRIM_PRECISION_F32, BRIM_STATES_F32, 4, 1, 0, 1, 0, 0},
    {SLOW_LINK, "opencl", MODEL_LLAMA, BRIM_PRECISION_BF16, BRIM_STATES_F32, 4, 2, 0, 1, 0, 3000},
    {ONE_WAY, "opencl", MODEL_LLAMA, BRIM_PRECISION_F32, BRIM_STATES_F32, 2, 3, 0, 500, 1, 3000},
    {SLOW_DISK, "opencl", MODEL_LLAMA, BRIM_PRECISION_F32, BRIM_STATES_F32, 4, 2, 0, 450, 300,
     3000},
    {SLOW_DISK, "opencl", MODEL_GPT2, BRIM_PRECISION_BF16, BRIM_STATES_F32, 8, 1, 0, 400, 250,
     3000},
    {SLOW_HOST, "opencl", MODEL_GPT2, BRIM_PRECISION_BF16, BRIM_STATES_F32, 2, 1, 0, 1, 1, 1},
    {BALANCED, "opencl", MODEL_LLAMA, BRIM_PRECISION_BF16, BRIM_STATES_F32, 4, 1, 0, 400, 300, 400,
     .layers = 5, .length = 16},
    {BALANCED, "opencl", MODEL_LLAMA, BRIM_PRECISION_BF16, BRIM_STATES_F32, 4, 2, 0, 500, 0, 0,
     .layers = 10, .length = 8},
    // Matrices and activations of exactly 64 KiB, which is not small.
    {BALANCED, "opencl", MODEL_GPT2, BRIM_PRECISION_F32, BRIM_STATES_F32, 4, 1, 0, 700, 0, 0,
     .layers = 2, .length = 32, .width = 128},
    {LITTLE_MEMORY, "opencl", MODEL_LLAMA, BRIM_PRECISION_F32, BRIM_STATES_F32, 4, 1, 0, 300, 0, 0,
     .layers = 2, .length = 32, .width = 128},
    {BALANCED, "opencl", MODEL_LLAMA, BRIM_PRECISION_F32, BRIM_STATES_F32, 4, 2, 0, 250, 0, 0,
     .layers = 2, .length = 32, .width = 128, .sgd = true},
};
enum { CASES = sizeof cases / sizeof *cases };

static brim_error err;
static brim_shortfall lacks;

static brim_trainer *make(const plan_case *c, int64_t vram, int64_t ram, int64_t disk) {
    static model_config model;
    model = (model_config){.architecture = c->architecture,
                           .vocabulary = 90,
                           .positions = c->length ? c->length : 24,
                           .width = c->width  ? c->width
                                    : c->wide ? 256
                                              : 32,
                           .layers = c->layers ? c->layers
                                     : c->wide ? 1
                                               : 3,
                           .heads = 4,
                           .kv_heads = c->architecture == MODEL_LLAMA ? 2 : 0,
                           .ffn = 80,
                           .rotary_base = 10000,
                           .norm_eps = 1e-5};
    brim_parameter_group group = {.pattern = c->frozen, .frozen = true};
    brim_trainer_options o = {.batch = c->batch,
                              .accumulate = c->accumulate,
                              .step_batch = c->step_batch,
                              .length = model.positions,
                              .device = c->device,
                              .precision = c->precision,
                              .optimizer = {.kind = c->sgd ? BRIM_SGD : BRIM_ADAMW,
                                            .momentum = c->sgd ? 0.9f : 0,
                                            .states = c->states,
                                            .clip = c->sgd ? 0 : 1},
                              .groups = &group,
                              .group_count = c->frozen != NULL,
                              .paper = &cards[c->card],
                              .shortfall = &lacks,
                              .vram_bytes = vram,
                              .ram_bytes = ram,
                              .disk = disk ? "/tmp" : NULL,
                              .disk_bytes = disk};
    err = (brim_error){0};
    lacks = (brim_shortfall){0};
    return brim_trainer_create(model_build, &model, &o, &err);
}

static uint64_t sum_of_text(const brim_trainer *t) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    brim_trainer_print(t, out);
    fclose(out);
    checksum sum = checksum_start();
    checksum_add(&sum, text, bytes);
    free(text);
    return checksum_value(&sum);
}

static void describe(int index, const brim_trainer *t, char line[LINE_BYTES]) {
    const compiled *c = &t->training;
    const homes_choice *h = &c->choice.homes;
    const simulation *s = &c->choice.expected;
    int used = snprintf(
        line, LINE_BYTES,
        "%d: %lld x %lld, level %d, hosted %d streamed %d gradients %d filed %d offloaded %d%s, ",
        index, (long long)t->options.accumulate, (long long)t->options.batch, c->choice.level,
        h->hosted, h->streamed, h->gradients, h->filed, h->offloaded,
        h->device_updates ? " device updates" : "");
    used += snprintf(line + used, LINE_BYTES - (size_t)used, "%.5g s, busy", s->seconds);
    for (int q = 0; q < QUEUE_COUNT; q++)
        used += snprintf(line + used, LINE_BYTES - (size_t)used, " %.5g", s->busy[q]);
    brim_trainer_info info = brim_trainer_describe(t);
    snprintf(line + used, LINE_BYTES - (size_t)used,
             ", trained %lld of %lld, recomputed %d, bytes %lld %lld %lld, %d stays, %d transfers, "
             "%016" PRIx64,
             (long long)info.trained, (long long)info.parameters, info.recomputed,
             (long long)c->plan.peak_bytes[0], (long long)c->plan.peak_bytes[1],
             (long long)c->plan.peak_bytes[2], c->plan.stays, c->plan.transfers, sum_of_text(t));
}

// By which factors more memory, and larger steps, are faster.
static void add_comparison(const brim_trainer *t, char line[LINE_BYTES]) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    brim_trainer_compare(t, out);
    fclose(out);
    for (char *at = text; (at = strstr(at, ": ")); at++) {
        size_t used = strlen(line);
        snprintf(line + used, LINE_BYTES - used, ", %.4s times", at + 2);
    }
    free(text);
}

static void plan_one(int index, char line[LINE_BYTES]) {
    const plan_case *c = &cases[index];
    plan_case whole = *c;
    if (!whole.batch) whole.batch = whole.step_batch, whole.accumulate = 1, whole.step_batch = 0;
    brim_trainer *t = make(&whole, 0, 0, 0);
    ASSERT_FINE(err);
    brim_trainer_info info = brim_trainer_describe(t);
    brim_trainer_free(t);
    int64_t all = info.device_bytes;
    int64_t vram = c->vram ? OVERHEAD + all * c->vram / 1000 : 0, ram = all * c->ram / 1000,
            disk = all * c->disk / 1000;
    t = make(c, vram, ram, disk);
    if (!t && err.status == BRIM_MEMORY && lacks.vram_bytes)
        t = make(c, lacks.vram_missing ? lacks.vram_bytes : vram,
                 lacks.ram_missing ? lacks.ram_bytes : ram,
                 lacks.disk_missing ? lacks.disk_bytes : disk);
    ck_assert_msg(t, "case %d: %s", index, err.text);
    describe(index, t, line);
    if (index % 6 == 3) add_comparison(t, line);
    brim_trainer_free(t);
}

START_TEST(plans_are_what_they_were) {
    lines_as_they_were lines = lines_open("plans.txt");
    for (int i = 0; i < CASES; i++) {
        char line[LINE_BYTES];
        plan_one(i, line);
        lines_next(&lines, line);
    }
    lines_close(&lines);
}
END_TEST

static bool fits(const plan_case *c, int64_t vram, int64_t ram) {
    brim_trainer *t = make(c, vram, ram, 0);
    brim_trainer_free(t);
    return t != NULL;
}

// Where 8-bit states would fit and f32 does not, the error says so; it does not where they are what
// was asked for, nor where they would not fit either.
START_TEST(smaller_states_are_named) {
    plan_case f32 = cases[6], q8;
    f32.wide = true;
    q8 = f32;
    q8.states = BRIM_STATES_Q8;
    brim_trainer *whole = make(&f32, 0, 0, 0);
    ASSERT_FINE(err);
    int64_t all = brim_trainer_describe(whole).device_bytes, vram = OVERHEAD + all * 2 / 5;
    brim_trainer_free(whole);
    ck_assert(!fits(&q8, vram, all / 8));
    ck_assert_ptr_null(strstr(err.text, "--states q8"));
    ck_assert(!fits(&f32, vram, all / 8));
    ck_assert_ptr_null(strstr(err.text, "--states q8"));
    ck_assert(fits(&q8, vram, all * 3 / 8));
    ck_assert(!fits(&f32, vram, all * 3 / 8));
    ck_assert_int_gt(lacks.ram_missing, 0); // of what was asked for
    ASSERT_FAILS(err, BRIM_MEMORY, "; it would fit with optimizer states in 8 bits (--states q8)");
    // To the byte.
    int64_t least = lacks.ram_bytes;
    ck_assert(!fits(&f32, vram, least - 1));
    ck_assert_int_eq(lacks.ram_missing, 1);
    ck_assert_int_eq(lacks.ram_bytes, least);
    ASSERT_FAILS(err, BRIM_MEMORY, "(--states q8)");
}
END_TEST

Suite *plan_fixture_suite(void) {
    Suite *suite = suite_create("plan_fixture");
    TCase *tests = tcase_create("plan_fixture");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, plans_are_what_they_were);
    tcase_add_test(tests, smaller_states_are_named);
    suite_add_tcase(suite, tests);
    return suite;
}
