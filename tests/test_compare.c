// Micro-batches that the planner chooses, and what more memory or larger steps would give: each
// against trainers that are made so.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <brim/brim.h>
#include "examples/model.h"
#include "optim/trainer.h"
#include "tests/test_core.h"

enum { OVERHEAD = 1 << 20 };
static brim_rates card = {.name = "some card",
                          .memory_bytes = 8ll << 30,
                          .overhead_bytes = OVERHEAD,
                          .memory = 500e9,
                          .matmul_16 = 2e12,
                          .matmul_32 = 1e12,
                          .link_in = 2e9,
                          .link_out = 1.5e9,
                          .link_both = 2.5e9,
                          .host = 40e9,
                          .launch = 1e-6};

static model_config model = {MODEL_GPT2,  .vocabulary = 50, .positions = 16, .width = 16,
                             .layers = 1, .heads = 2,       .norm_eps = 1e-5};

static brim_error err;
static brim_shortfall lacks;

typedef struct cut {
    int64_t batch, accumulate, step_batch;
} cut;

static brim_trainer *make(brim_builder build, cut c, int64_t vram, int64_t ram,
                          brim_shortfall *shortfall) {
    err = (brim_error){0};
    lacks = (brim_shortfall){0};
    brim_trainer_options o = {.batch = c.batch,
                              .accumulate = c.accumulate,
                              .step_batch = c.step_batch,
                              .length = 16,
                              .device = "opencl",
                              .paper = &card,
                              .shortfall = shortfall,
                              .vram_bytes = vram,
                              .ram_bytes = ram,
                              .optimizer = {.clip = 1}};
    return brim_trainer_create(build, &model, &o, &err);
}

static int64_t arena_of_all(cut c) {
    brim_trainer *t = make(model_build, c, 0, 0, NULL);
    ASSERT_FINE(err);
    int64_t bytes = brim_trainer_describe(t).device_bytes;
    brim_trainer_free(t);
    return bytes;
}

static double seconds_of(const brim_trainer *t) {
    return brim_trainer_describe(t).expected_seconds;
}

static double speed_of(const brim_trainer *t) {
    return (double)(t->options.batch * t->options.accumulate) / seconds_of(t);
}

// ---- the size of a micro-batch ------------------------------------------------------------------

// Of 12: 12, 6, 3 and 1; of 7: 7 and 1.
START_TEST(the_fastest_size_is_taken) {
    static const struct {
        int64_t step, sizes[5], share; // of the arena that all of it takes, in thousandths
    } rows[] = {
        {12, {12, 6, 3, 1}, 400}, {12, {12, 6, 3, 1}, 250}, {7, {7, 1}, 350}, {1, {1}, 1000}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t step = rows[i].step;
        int64_t vram = OVERHEAD + arena_of_all((cut){step, 1, 0}) * rows[i].share / 1000;
        brim_trainer *t = make(model_build, (cut){.step_batch = step}, vram, 0, &lacks);
        ck_assert_msg(t != NULL, "row %d: %s", (int)i, err.text);
        double chosen = seconds_of(t), best = 1e9;
        int64_t batch = t->options.batch, best_batch = 0;
        ck_assert_int_eq(batch * t->options.accumulate, step);
        ck_assert(t->batch_chosen);
        brim_trainer_free(t);
        for (int k = 0; rows[i].sizes[k]; k++) {
            int64_t size = rows[i].sizes[k];
            if (step % size) continue;
            t = make(model_build, (cut){size, step / size, 0}, vram, 0, &lacks);
            if (t && seconds_of(t) < best) best = seconds_of(t), best_batch = size;
            brim_trainer_free(t);
        }
        ck_assert_msg(batch == best_batch && chosen == best, "row %d: %d in %g s, not %d in %g s",
                      (int)i, (int)batch, chosen, (int)best_batch, best);
    }
}
END_TEST

// Also where nobody asks what is missing, and where 8-bit states would not fit either.
START_TEST(a_step_that_never_fits_is_refused) {
    for (int chosen = 0; chosen < 2; chosen++)
        for (int asked = 0; asked < 2; asked++) {
            cut c = chosen ? (cut){.step_batch = 8} : (cut){8, 1, 0};
            ck_assert_ptr_null(make(model_build, c, OVERHEAD + 2000, 0, asked ? &lacks : NULL));
            ck_assert((lacks.vram_missing > 0) == (asked == 1));
            ck_assert_ptr_null(strstr(err.text, "--states q8"));
            ASSERT_FAILS(err, BRIM_MEMORY, "the step does not fit: ");
        }
    // What is named works, to the byte: it is what the smallest size needs.
    int64_t least[2];
    static const cut cuts[] = {{.step_batch = 8}, {1, 8, 0}};
    for (int i = 0; i < 2; i++) {
        ck_assert_ptr_null(make(model_build, cuts[i], OVERHEAD + 2000, 0, &lacks));
        least[i] = lacks.vram_bytes;
        brim_trainer *t = make(model_build, cuts[i], least[i], 0, &lacks);
        ASSERT_FINE(err);
        brim_trainer_free(t);
    }
    ck_assert_int_eq(least[0], least[1]);
    ck_assert_ptr_null(make(model_build, cuts[0], least[0] - 1, 0, &lacks));
    ck_assert_int_eq(lacks.vram_missing, 1);
    ck_assert_int_eq(lacks.vram_bytes, least[0]);
}
END_TEST

// A script that cannot build one of the sizes.
static brim_loss build_few(brim_graph *g, int64_t batch, int64_t length, void *user) {
    if (batch > 8) brim_reshape(brim_input(g, "none", BRIM_F32, 3), 4);
    return model_build(g, batch, length, user);
}

static brim_loss build_many(brim_graph *g, int64_t batch, int64_t length, void *user) {
    if (batch < 8) brim_reshape(brim_input(g, "none", BRIM_F32, 3), 4);
    return model_build(g, batch, length, user);
}

START_TEST(sizes_that_cannot_be_built_are_errors) {
    int64_t vram = OVERHEAD + arena_of_all((cut){8, 1, 0}) / 3;
    ck_assert_ptr_null(make(build_few, (cut){.step_batch = 16}, vram, 0, &lacks));
    ASSERT_FAILS(err, BRIM_SHAPE, "reshape");
    ck_assert_ptr_null(make(build_many, (cut){.step_batch = 8}, vram, 0, &lacks));
    ASSERT_FAILS(err, BRIM_SHAPE, "reshape");
    ck_assert(!lacks.vram_missing && !lacks.vram_bytes);
}
END_TEST

// Memory runs out for a moment: that is no matter of the budget, and nothing is said of states.
static int failures;
static brim_loss build_in_vain(brim_graph *g, int64_t batch, int64_t length, void *user) {
    if (batch < 8 && failures++ == 0) brim_fail(g->err, BRIM_MEMORY, "there is none");
    return model_build(g, batch, length, user);
}

START_TEST(memory_that_runs_out_is_no_budget) {
    int64_t vram = OVERHEAD + arena_of_all((cut){8, 1, 0}) * 2 / 5;
    failures = 0;
    ck_assert_ptr_null(make(build_in_vain, (cut){.step_batch = 8}, vram, 0, &lacks));
    ck_assert_int_eq(failures, 1);
    ck_assert_str_eq(err.text, "there is none");
    ck_assert(!lacks.vram_missing && !lacks.vram_bytes);
    brim_trainer *t = make(build_in_vain, (cut){.step_batch = 8}, vram, 0, &lacks);
    ASSERT_FINE(err);
    brim_trainer_free(t);
}
END_TEST

// ---- what more would give -----------------------------------------------------------------------

static char *compared(const brim_trainer *t) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    brim_trainer_compare(t, out);
    fclose(out);
    return text;
}

// The line of one change, as a trainer under it says; nothing where there is none.
static void add_line(char *text, size_t size, const char *what, const brim_trainer *now, cut c,
                     int64_t room, int64_t ram) {
    brim_trainer *then = make(model_build, c, room + now->target.overhead_bytes, ram, &lacks);
    size_t used = strlen(text);
    if (then)
        snprintf(text + used, size - used, "with %s: %.2f times as many tokens a second\n", what,
                 speed_of(then) / speed_of(now));
    brim_trainer_free(then);
}

static void expect_comparison(const brim_trainer *t, cut c, cut twice) {
    int64_t room = t->target.budget[SPACE_DEVICE], ram = t->target.budget[SPACE_HOST];
    char expected[600] = "";
    add_line(expected, sizeof expected, "half as much device memory again", t, c, room + room / 2,
             ram);
    add_line(expected, sizeof expected, "twice the main memory", t, c, room, 2 * ram);
    add_line(expected, sizeof expected, "steps of twice the tokens", t, twice, room, ram);
    char *text = compared(t);
    ck_assert_str_eq(text, expected);
    free(text);
}

START_TEST(comparisons_are_of_such_trainers) {
    static const struct {
        cut now, twice;
        int64_t share;
    } rows[] = {{{4, 1, 0}, {4, 2, 0}, 600},
                {{2, 3, 0}, {2, 6, 0}, 350},
                {{0, 0, 8}, {0, 0, 16}, 300},
                {{4, 1, 0}, {4, 2, 0}, 2000}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t all = arena_of_all((cut){4, 1, 0});
        brim_trainer *t =
            make(model_build, rows[i].now, OVERHEAD + all * rows[i].share / 1000, 4 * all, &lacks);
        ck_assert_msg(t != NULL, "row %d: %s", (int)i, err.text);
        lacks = (brim_shortfall){.ram_bytes = 77};
        expect_comparison(t, rows[i].now, rows[i].twice);
        brim_trainer_free(t);
    }
}
END_TEST

// A device that needs a minute for each sequence.
START_TEST(slow_devices_are_compared) {
    const brim_rates kept = card;
    double *const rates[] = {&card.memory,   &card.matmul_16, &card.matmul_32, &card.link_in,
                             &card.link_out, &card.link_both, &card.host};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) *rates[i] /= 1e9;
    int64_t all = arena_of_all((cut){4, 1, 0});
    brim_trainer *t = make(model_build, (cut){4, 1, 0}, OVERHEAD + all / 2, 4 * all, &lacks);
    ASSERT_FINE(err);
    ck_assert_double_gt(seconds_of(t), 60 * 4);
    expect_comparison(t, (cut){4, 1, 0}, (cut){4, 2, 0});
    brim_trainer_free(t);
    card = kept;
}
END_TEST

// What options point to may change or die when the trainer is made.
START_TEST(options_are_copied) {
    char pattern[2][8] = {"h.0*", "*.bias"}, name[8] = "opencl";
    brim_rates paper = card;
    brim_parameter_group groups[] = {{.pattern = pattern[0], .frozen = true},
                                     {.pattern = pattern[1], .frozen = true}};
    brim_trainer_options o = {.batch = 4,
                              .length = 16,
                              .device = name,
                              .paper = &paper,
                              .groups = groups,
                              .group_count = 2,
                              .vram_bytes = OVERHEAD + arena_of_all((cut){4, 1, 0}) / 2};
    err = (brim_error){0};
    brim_trainer *t = brim_trainer_create(model_build, &model, &o, &err);
    ASSERT_FINE(err);
    char *before = compared(t);
    ck_assert_ptr_nonnull(strstr(before, "with steps of twice the tokens: "));
    memset(pattern, '*', sizeof pattern);
    memset(name, 'x', sizeof name);
    memset(groups, 0, sizeof groups);
    paper = (brim_rates){0};
    pattern[0][7] = pattern[1][7] = name[7] = '\0';
    char *after = compared(t);
    ck_assert_str_eq(before, after);
    free(before);
    free(after);
    brim_trainer_free(t);
}
END_TEST

// Where twice the step does not fit, nothing is said of it, and nobody's notes change.
START_TEST(what_would_not_fit_is_left_out) {
    ck_assert_ptr_null(make(model_build, (cut){8, 1, 0}, OVERHEAD + 2000, 0, &lacks));
    int64_t vram = lacks.vram_bytes, ram = lacks.ram_bytes;
    brim_trainer *t = make(model_build, (cut){8, 1, 0}, vram, ram, &lacks);
    ck_assert_msg(t != NULL, "%s", err.text);
    const brim_shortfall untouched = {.vram_missing = 1, .ram_bytes = 77};
    lacks = untouched;
    char *text = compared(t);
    ck_assert_mem_eq(&lacks, &untouched, sizeof lacks);
    ck_assert_msg(strstr(text, "device memory again: ") && strstr(text, "main memory: "), "%s",
                  text);
    ck_assert_msg(!strstr(text, "twice the tokens") && !strstr(text, "not known"), "%s", text);
    free(text);
    brim_trainer_free(t);
}
END_TEST

START_TEST(what_cannot_be_built_is_not_known) {
    brim_trainer *t = make(build_few, (cut){.step_batch = 8}, 0, 0, &lacks);
    ASSERT_FINE(err);
    char *text = compared(t);
    ck_assert_msg(strstr(text, "with steps of twice the tokens: not known: reshape"), "%s", text);
    free(text);
    brim_trainer_free(t);
    text = compared(NULL);
    ck_assert_str_eq(text, "");
    free(text);
}
END_TEST

Suite *compare_suite(void) {
    Suite *s = suite_create("compare");
    TCase *tests = tcase_create("compare");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, the_fastest_size_is_taken);
    tcase_add_test(tests, a_step_that_never_fits_is_refused);
    tcase_add_test(tests, sizes_that_cannot_be_built_are_errors);
    tcase_add_test(tests, memory_that_runs_out_is_no_budget);
    tcase_add_test(tests, comparisons_are_of_such_trainers);
    tcase_add_test(tests, slow_devices_are_compared);
    tcase_add_test(tests, options_are_copied);
    tcase_add_test(tests, what_would_not_fit_is_left_out);
    tcase_add_test(tests, what_cannot_be_built_is_not_known);
    suite_add_tcase(s, tests);
    return s;
}
