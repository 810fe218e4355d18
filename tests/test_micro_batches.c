// A step of several micro-batches on a device: sections, accumulators, and random numbers by
// position in the step.
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "test_core.h"
#include "tests/harness.h"
#include "tests/devices.h"

enum { MICRO = 3, ROWS = 5, COLUMNS = 33 };

static brim_error err;
static harness h;
static bool opened;

static void setup(void) {
    err = (brim_error){0};
    const char *device = any_device_under_test();
    opened = device != NULL;
    if (!opened) return;
    harness_open(&h, device, &(device_settings){.poison = true}, &err);
    ASSERT_FINE(err);
}
static void teardown(void) {
    if (opened) harness_close(&h);
}

static brim_value variable(brim_graph *g, const char *name, const shape *s) {
    return graph_value_of(g, graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, s, name));
}

static brim_value accumulate(brim_value into, brim_value x) {
    brim_value sum = graph_op(x.graph, OP_ACCUMULATE, (brim_value[]){into, x}, 2, NULL);
    if (sum.id >= 0) x.graph->value[into.id].update = sum.id;
    return sum;
}

// A graph and what is fed to it in each micro-batch.
typedef struct step {
    brim_graph *g;
    leaf_values leaves[MICRO];
    bool *wanted;
    harness_results results;
} step;

static void feed(step *s, int32_t first_micro) {
    for (int m = 0; m < MICRO; m++) {
        s->leaves[m] = leaf_values_make(s->g, NULL, 10 + (uint32_t)m, &err);
        for (value_id v = 0; v < s->g->values; v++)
            if (s->g->value[v].role == ROLE_CONTROL && s->g->value[v].control == CONTROL_MICRO)
                s->leaves[m].of[v][0] = first_micro + m;
    }
    s->wanted = calloc((size_t)s->g->values, sizeof *s->wanted);
}

static void run(step *s, int micro_batches) {
    harness_options options = {.fuse = true, .micro_batches = micro_batches};
    harness_run(&h, s->g, s->leaves, s->wanted, &options, &s->results, &err);
    ASSERT_FINE(err);
}

static void release(step *s) {
    harness_results_free(&s->results);
    for (int m = 0; m < MICRO; m++) leaf_values_free(&s->leaves[m]);
    free(s->wanted);
    brim_graph_free(s->g);
}

// The oracle's accumulator after the same micro-batches; every intermediate rounded as a device
// rounds it.
static void expect(const step *s, value_id accumulator, double *out) {
    value_id update = s->g->value[accumulator].update;
    oracle *o = oracle_create(s->g, &err);
    o->round = true;
    for (int m = 0; m < MICRO; m++) {
        leaf_values_set(&s->leaves[m], o, &err);
        if (m > 0) oracle_set(o, accumulator, out, &err);
        o->first_micro = m == 0;
        oracle_run(o, &err);
        memcpy(out, o->value[update].data, (size_t)o->value[update].count * sizeof *out);
    }
    ASSERT_FINE(err);
    oracle_free(o);
}

// The variable starts as NaN patterns on the device: the first micro-batch must not read it.
START_TEST(accumulators_sum_a_step) {
    if (!opened) return;
    step s = {.g = brim_graph_create(&err)};
    brim_value x = brim_input(s.g, "x", BRIM_F32, ROWS, COLUMNS);
    shape all = {2, {ROWS, COLUMNS}};
    brim_value sum = variable(s.g, "sum", &all), masked = variable(s.g, "masked", &all);
    accumulate(sum, brim_square(x));
    accumulate(masked, brim_dropout(brim_mul(x, x), 0.5));
    ASSERT_FINE(err);
    feed(&s, 0);
    for (int i = 0; i < ROWS * COLUMNS; i++)
        s.leaves[0].of[sum.id][i] = s.leaves[0].of[masked.id][i] = NAN;
    s.wanted[sum.id] = s.wanted[masked.id] = true;
    run(&s, MICRO);
    const value_id variables[] = {sum.id, masked.id};
    for (int k = 0; k < 2; k++) {
        double expected[ROWS * COLUMNS];
        expect(&s, variables[k], expected);
        const float *device = s.results.of[variables[k]];
        for (int i = 0; i < ROWS * COLUMNS; i++)
            ck_assert_msg(device[i] == expected[i], "variable %d, element %d: %.9g, expected %.9g",
                          k, i, (double)device[i], expected[i]);
    }
    release(&s);
}
END_TEST

// What depends on parameters only runs once a step, and serves all micro-batches.
START_TEST(invariants_serve_all_micro_batches) {
    if (!opened) return;
    step s = {.g = brim_graph_create(&err)};
    brim_value x = brim_input(s.g, "x", BRIM_F32, ROWS, COLUMNS);
    brim_value w = brim_parameter(s.g, "w", (brim_init){0}, COLUMNS, COLUMNS);
    shape all = {2, {ROWS, COLUMNS}};
    brim_value sum = variable(s.g, "sum", &all);
    brim_value low = brim_cast(brim_tanh(w), BRIM_BF16);
    brim_value y = brim_matmul(brim_cast(x, BRIM_BF16), low);
    accumulate(sum, brim_cast(y, BRIM_F32));
    ASSERT_FINE(err);
    feed(&s, 0);
    for (int m = 1; m < MICRO; m++)
        memcpy(s.leaves[m].of[w.id], s.leaves[0].of[w.id], COLUMNS * COLUMNS * sizeof(double));
    s.wanted[sum.id] = true;
    run(&s, MICRO);
    double expected[ROWS * COLUMNS];
    expect(&s, sum.id, expected);
    const float *device = s.results.of[sum.id];
    // Each product may round to the other of two neighbours in bf16.
    for (int i = 0; i < ROWS * COLUMNS; i++)
        ck_assert_msg(fabs(device[i] - expected[i]) <= MICRO * 0x1p-8 * (1 + fabs(expected[i])),
                      "element %d: %.9g, expected %.9g", i, (double)device[i], expected[i]);
    release(&s);
}
END_TEST

// Which elements of a step are dropped does not depend on how it is cut into micro-batches.
START_TEST(dropout_goes_by_position_in_the_step) {
    if (!opened) return;
    uint8_t mask[2][MICRO * ROWS * COLUMNS];
    for (int cut = 0; cut < 2; cut++) {
        int parts = cut ? MICRO : 1, rows = cut ? ROWS : MICRO * ROWS;
        for (int m = 0; m < parts; m++) {
            step s = {.g = brim_graph_create(&err)};
            brim_value x = brim_input(s.g, "x", BRIM_F32, rows, COLUMNS);
            brim_value y = brim_dropout(x, 0.5);
            feed(&s, m);
            for (int i = 0; i < rows * COLUMNS; i++) s.leaves[0].of[x.id][i] = 1;
            s.wanted[y.id] = true;
            run(&s, 1);
            const float *kept = s.results.of[y.id];
            for (int i = 0; i < rows * COLUMNS; i++)
                mask[cut][m * ROWS * COLUMNS + i] = kept[i] != 0;
            release(&s);
        }
    }
    ck_assert_mem_eq(mask[0], mask[1], sizeof mask[0]);
    int kept = 0;
    for (size_t i = 0; i < sizeof mask[0]; i++) kept += mask[0][i];
    ck_assert_int_gt(kept, (int)sizeof mask[0] * 2 / 5);
    ck_assert_int_lt(kept, (int)sizeof mask[0] * 3 / 5);
}
END_TEST

Suite *micro_batches_suite(void) {
    Suite *suite = suite_create("micro_batches");
    TCase *tests = tcase_create("steps");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, accumulators_sum_a_step);
    tcase_add_test(tests, invariants_serve_all_micro_batches);
    tcase_add_test(tests, dropout_goes_by_position_in_the_step);
    suite_add_tcase(suite, tests);
    return suite;
}
