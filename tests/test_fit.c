// A step that does not fit into the arena recomputes as little as makes it fit, to the same bits.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <brim/brim.h>
#include "examples/gpt.h"
#include "graph/recompute_levels.h"
#include "optim/trainer.h"
#include "tests/devices.h"
#include "tests/test_core.h"

enum { LAYERS = 4, WIDTH = 24, HEADS = 2, LENGTH = 40, BATCH = 3, VOCABULARY = 61, STEPS = 3 };

static brim_error err;

static model_config config(void) {
    return (model_config){.vocabulary = VOCABULARY,
                          .positions = LENGTH,
                          .width = WIDTH,
                          .layers = LAYERS,
                          .heads = HEADS,
                          .dropout = 0.1,
                          .norm_eps = 1e-5};
}

static brim_trainer *make_trainer(model_config *c, brim_precision precision, int64_t accumulate,
                                  int64_t vram_bytes) {
    brim_trainer_options options = {.batch = BATCH,
                                    .length = LENGTH,
                                    .accumulate = accumulate,
                                    .device = any_device_under_test(),
                                    .precision = precision,
                                    .seed = 4,
                                    .vram_bytes = vram_bytes,
                                    .optimizer = {.lr = 1e-2f, .clip = 1}};
    err = (brim_error){0};
    brim_trainer *t = brim_trainer_create(gpt_build, c, &options, &err);
    ASSERT_FINE(err);
    return t;
}

typedef struct outcome {
    double loss[STEPS], norm[STEPS];
    float weight[VOCABULARY * WIDTH];
    brim_trainer_info info;
} outcome;

static outcome train(brim_precision precision, int64_t accumulate, int64_t vram_bytes) {
    model_config c = config();
    brim_trainer *t = make_trainer(&c, precision, accumulate, vram_bytes);
    outcome out = {.info = brim_trainer_describe(t)};
    for (int step = 0; step < STEPS; step++) {
        size_t count = (size_t)accumulate * BATCH * LENGTH;
        int32_t *tokens = malloc(count * sizeof *tokens);
        for (size_t i = 0; i < count; i++)
            tokens[i] = (int32_t)((i * 7 + i * i % 11 + (size_t)step * 3) % VOCABULARY);
        brim_step_result r = {0};
        brim_trainer_feed(t, "tokens", tokens, count * sizeof *tokens, &err);
        brim_trainer_feed(t, "targets", tokens, count * sizeof *tokens, &err);
        brim_trainer_step(t, &r, &err);
        ASSERT_FINE(err);
        out.loss[step] = r.loss, out.norm[step] = r.grad_norm;
        free(tokens);
    }
    brim_trainer_read(t, "transformer.wte.weight", out.weight, VOCABULARY * WIDTH, &err);
    ASSERT_FINE(err);
    brim_trainer_free(t);
    return out;
}

static void expect_same(const outcome *a, const outcome *b) {
    ck_assert_mem_eq(a->loss, b->loss, sizeof a->loss);
    ck_assert_mem_eq(a->norm, b->norm, sizeof a->norm);
    ck_assert_mem_eq(a->weight, b->weight, sizeof a->weight);
}

// The arena of the least plan that there is.
static int64_t least_arena(brim_precision precision, int64_t accumulate) {
    model_config c = config();
    brim_trainer *t = make_trainer(&c, precision, accumulate, 1);
    int64_t bytes = brim_trainer_describe(t).device_bytes;
    brim_trainer_free(t);
    return bytes;
}

// ---- levels -------------------------------------------------------------------------------------

// A stretch for each attention and each MLP; each level needs no more memory than the one before.
START_TEST(levels_of_a_transformer) {
    model_config c = config();
    brim_trainer *t = make_trainer(&c, BRIM_PRECISION_F32, 1, 0);
    int64_t all = brim_trainer_describe(t).device_bytes, before = all;
    brim_trainer_free(t);
    int plans = 0, nodes = 0;
    for (int64_t limit = all; limit > 0; plans++) {
        t = make_trainer(&c, BRIM_PRECISION_F32, 1, limit);
        brim_trainer_info info = brim_trainer_describe(t);
        brim_trainer_free(t);
        if (info.device_bytes > limit) break; // the least
        ck_assert_int_le(info.device_bytes, before);
        ck_assert_int_ge(info.recomputed, nodes);
        before = info.device_bytes, nodes = info.recomputed;
        limit = info.device_bytes - 1;
    }
    ck_assert_msg(plans >= LAYERS && plans <= 2 + 2 * LAYERS, "%d plans", plans);
    ck_assert_msg((double)before < 0.75 * (double)all, "%lld of %lld bytes", (long long)before,
                  (long long)all);
}
END_TEST

// ---- fitting ------------------------------------------------------------------------------------

typedef struct form {
    brim_precision precision;
    int64_t accumulate;
} form;
static const form forms[] = {{BRIM_PRECISION_F32, 1},  {BRIM_PRECISION_F32, 3},
                             {BRIM_PRECISION_BF16, 1}, {BRIM_PRECISION_BF16, 3},
                             {BRIM_PRECISION_F16, 1},  {BRIM_PRECISION_F16, 2}};
enum { FORMS = sizeof forms / sizeof *forms };

START_TEST(any_arena_gives_the_same_bits) {
    const form *f = &forms[_i];
    if (!any_device_under_test()) return;
    outcome whole = train(f->precision, f->accumulate, 0);
    ck_assert(isfinite(whole.loss[0]) && whole.norm[0] > 0);
    ck_assert_int_eq(whole.info.recomputed, 0);
    int64_t least = least_arena(f->precision, f->accumulate), most = whole.info.device_bytes;
    ck_assert_int_lt(least, most);
    int arenas = getenv("BRIM_TEST_LONG") ? 40 : 4;
    for (int i = 0; i <= arenas; i++) {
        int64_t limit = least + (most - 1 - least) * i / arenas;
        outcome fitted = train(f->precision, f->accumulate, limit);
        ck_assert_msg(fitted.info.device_bytes <= limit, "%lld bytes of %lld",
                      (long long)fitted.info.device_bytes, (long long)limit);
        ck_assert_int_gt(fitted.info.recomputed, 0);
        expect_same(&whole, &fitted);
    }
}
END_TEST

START_TEST(what_cannot_fit_is_said) {
    if (!any_device_under_test()) return;
    model_config c = config();
    int64_t least = least_arena(BRIM_PRECISION_F32, 1);
    brim_trainer *t = make_trainer(&c, BRIM_PRECISION_F32, 1, least - 1000);
    brim_trainer_prepare(t, &err);
    ck_assert_ptr_nonnull(strstr(err.text, "everything that can be is recomputed"));
    ASSERT_FAILS(err, BRIM_MEMORY, "1000 bytes are missing");
    brim_trainer_free(t);
}
END_TEST

Suite *fit_suite(void) {
    Suite *suite = suite_create("fit");
    TCase *tests = tcase_create("fit");
    tcase_set_timeout(tests, 300);
    tcase_add_test(tests, levels_of_a_transformer);
    tcase_add_loop_test(tests, any_arena_gives_the_same_bits, 0, FORMS);
    tcase_add_test(tests, what_cannot_fit_is_said);
    suite_add_tcase(suite, tests);
    return suite;
}
