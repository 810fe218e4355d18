// How much to recompute: where the forward pass is narrow, and what each level takes.
#include <stdlib.h>
#include <string.h>
#include "autograd/autograd.h"
#include "graph/build.h"
#include "graph/pass_recompute.h"
#include "graph/recompute_levels.h"
#include "test_passes.h"

enum { BLOCKS = 3, ROWS = 4 };

// A stream of `width`, which each block makes anew from something wider, and its gradients.
typedef struct stack {
    brim_value up[BLOCKS], wide[BLOCKS], stream[BLOCKS];
} stack;

static void differentiate(brim_graph *g, brim_value loss) {
    value_id wrt[64];
    brim_value gradient[64];
    int count = 0;
    for (value_id v = 0; v < g->values; v++)
        if (g->value[v].role == ROLE_PARAMETER) wrt[count++] = v;
    autograd_differentiate(g, loss, graph_control(g, CONTROL_LOSS_SCALE), wrt, count, gradient,
                           g->err);
    for (int i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof name, "gradient%d", i);
        brim_output(gradient[i], name);
    }
    fit_graph(g);
}

static brim_value weight(brim_graph *g, int block, const char *name, int64_t in, int64_t out) {
    brim_scope_push(g, "%d", block);
    brim_value w = brim_parameter(g, name, normal, in, out);
    brim_scope_pop(g);
    return w;
}

static stack make_stack(brim_graph *g, const int64_t width[BLOCKS], bool through_views) {
    stack s;
    brim_value x = brim_input(g, "x", BRIM_F32, ROWS, 100);
    for (int i = 0; i < BLOCKS; i++) {
        s.up[i] = brim_matmul(x, weight(g, i, "up", brim_dim(x, 1), 400));
        s.wide[i] = brim_gelu(s.up[i]);
        brim_value narrow = brim_matmul(s.wide[i], weight(g, i, "down", 400, width[i]));
        s.stream[i] = narrow;
        x = through_views ? brim_reshape(brim_reshape(narrow, -1), ROWS, width[i]) : narrow;
    }
    brim_value loss = total(brim_square(x));
    g->loss.sum = loss.id;
    g->loss.count = brim_constant(g, 1).id;
    differentiate(g, loss);
    return s;
}

static void expect_level(const brim_graph *g, const recompute_levels *levels, int level,
                         const brim_value *expected, int count) {
    brim_error err = {0};
    bool *recompute = calloc((size_t)g->values, sizeof *recompute);
    recompute_level(g, levels, level, recompute, &err);
    ASSERT_FINE(err);
    for (value_id v = 0; v < g->values; v++) {
        bool wanted = false;
        for (int i = 0; i < count; i++) wanted |= expected[i].id == v;
        ck_assert_msg(recompute[v] == wanted, "level %d, value %d", level, v);
    }
    free(recompute);
}

static node_id node_of(const brim_graph *g, brim_value x) {
    return g->value[x.id].producer;
}

static int count_crossing(const brim_graph *g, const recompute_levels *levels) {
    int count = 0;
    for (value_id v = 0; v < g->values; v++) count += levels->crosses[v];
    return count;
}

// Stretches end where the stream goes on alone; each level takes one more of them, and whatever is
// cheap.
START_TEST(a_level_takes_one_more_stretch) {
    for (int through_views = 0; through_views < 2; through_views++) {
        MAKE_GRAPH;
        stack s = make_stack(g, (int64_t[]){100, 100, 100}, through_views);
        ASSERT_FINE(err);
        recompute_levels levels;
        recompute_levels_make(g, &levels, &err);
        ASSERT_FINE(err);
        ck_assert_int_eq(levels.cuts, 2);
        ck_assert_int_eq(levels.count, 4);
        for (int i = 0; i < 2; i++) {
            ck_assert_int_eq(levels.cut[i], node_of(g, s.stream[i]));
            ck_assert(levels.crosses[s.stream[i].id]);
        }
        ck_assert_int_eq(count_crossing(g, &levels), 2);
        expect_level(g, &levels, 0, NULL, 0);
        expect_level(g, &levels, 1, s.wide, 3);
        expect_level(g, &levels, 2, (brim_value[]){s.up[0], s.wide[0], s.wide[1], s.wide[2]}, 4);
        expect_level(g, &levels, 3,
                     (brim_value[]){s.up[0], s.up[1], s.wide[0], s.wide[1], s.wide[2]}, 5);
        // What is marked is taken on each level.
        g->value[s.stream[2].id].checkpoint = true;
        const brim_value all[] = {s.up[0],   s.up[1],   s.up[2],     s.wide[0],
                                  s.wide[1], s.wide[2], s.stream[0], s.stream[1]};
        for (int level = 0; level < 4; level++) expect_level(g, &levels, level, all, 8);
        recompute_levels_free(&levels);
        ck_assert(!levels.cut && !levels.crosses && levels.count == 0);
        FREE_GRAPH;
    }
}
END_TEST

// Within a hundredth of the narrowest place another one counts as narrow, too.
START_TEST(places_nearly_as_narrow_count) {
    static const struct {
        int64_t width[BLOCKS];
        int cuts;
        int first;
    } rows[] = {
        {{100, 100, 50}, 2, 0}, // the last block's end is no place
        {{100, 101, 100}, 2, 0}, {{101, 100, 100}, 2, 0}, {{100, 102, 100}, 1, 0},
        {{102, 100, 100}, 1, 1}, {{300, 100, 100}, 1, 1}, {{100, 300, 100}, 1, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        MAKE_GRAPH;
        stack s = make_stack(g, rows[i].width, false);
        recompute_levels levels;
        recompute_levels_make(g, &levels, &err);
        ASSERT_FINE(err);
        ck_assert_msg(levels.cuts == rows[i].cuts, "row %d: %d cuts", (int)i, levels.cuts);
        ck_assert_int_eq(levels.count, 2 + rows[i].cuts);
        ck_assert_int_eq(levels.cut[0], node_of(g, s.stream[rows[i].first]));
        recompute_levels_free(&levels);
        FREE_GRAPH;
    }
}
END_TEST

// A stretch without a dear node is none: neither before the first of them nor between two places,
// nor is one that goes on being narrow two.
START_TEST(stretches_hold_something_dear) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, ROWS, 8);
    brim_value early = brim_tanh(brim_tanh(x)); // narrow, with nothing dear before it
    brim_value a = brim_matmul(early, weight(g, 0, "w", 8, 8)); // narrow
    brim_value b = brim_relu(brim_exp(a));                      // still
    brim_value wide = brim_concat((brim_value[]){b, b}, 2, 1);
    brim_value c = brim_sum(brim_reshape(wide, ROWS, 2, 8), (int[]){1}, 1, false); // again narrow
    brim_value d = brim_matmul(c, weight(g, 1, "w", 8, 32));
    brim_value e = brim_matmul(brim_exp(d), weight(g, 2, "w", 32, 8));
    brim_value f = brim_matmul(brim_exp(e), weight(g, 3, "w", 8, 8));
    brim_value loss = total(brim_exp(f));
    g->loss.sum = g->loss.count = loss.id;
    differentiate(g, loss);
    recompute_levels levels;
    recompute_levels_make(g, &levels, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(levels.cuts, 2);
    ck_assert_int_eq(levels.cut[0], node_of(g, a));
    ck_assert_int_eq(levels.cut[1], node_of(g, e));
    ck_assert(levels.crosses[a.id] && levels.crosses[e.id]);
    ck_assert_int_eq(count_crossing(g, &levels), 2);
    recompute_levels_free(&levels);
    FREE_GRAPH;
}
END_TEST

// Without a product there is nothing to be cut; with one, neither.
START_TEST(levels_of_small_graphs) {
    for (int products = 0; products < 3; products++) {
        MAKE_GRAPH;
        brim_value x = brim_input(g, "x", BRIM_F32, ROWS, 8), w = weight(g, 0, "w", 8, 8);
        brim_value y = brim_mul(x, brim_slice(w, 0, 0, ROWS)), cheap = brim_exp(y);
        brim_value z = cheap;
        for (int i = 0; i < products; i++) z = brim_matmul(z, w);
        brim_value loss = total(brim_square(z));
        g->loss.sum = g->loss.count = loss.id;
        differentiate(g, loss);
        recompute_levels levels;
        recompute_levels_make(g, &levels, &err);
        ASSERT_FINE(err);
        ck_assert_int_eq(levels.count, products == 2 ? 3 : 2);
        ck_assert_int_eq(levels.cuts, levels.count - 2);
        // exp(y) is saved, y is not: it would have to be kept instead.
        expect_level(g, &levels, 1, NULL, 0);
        recompute_levels_free(&levels);
        FREE_GRAPH;
    }
}
END_TEST

// What is made once a step is there in the backward pass, and goes on nowhere.
START_TEST(what_is_made_once_a_step_is_no_part) {
    for (int micro_batches = 1; micro_batches < 3; micro_batches++) {
        MAKE_GRAPH;
        brim_value x = brim_input(g, "x", BRIM_F32, ROWS, 8), stream[2], scaled[2];
        brim_value low = brim_exp(weight(g, 0, "w", 8, 8));      // read by all blocks
        brim_value shift = brim_neg(weight(g, 1, "w", ROWS, 8)); // the backward pass reads no -w
        brim_value y = x;
        for (int i = 0; i < 2; i++) {
            brim_value wide = brim_matmul(y, weight(g, i, "up", 8, 32));
            stream[i] = brim_matmul(wide, weight(g, i, "down", 32, 8));
            scaled[i] = brim_mul(shift, x);
            y = brim_matmul(brim_mul(stream[i], scaled[i]), low);
        }
        brim_value loss = total(brim_square(y));
        g->loss.sum = g->loss.count = loss.id;
        differentiate(g, loss);
        pass_sections(g, micro_batches, &err);
        recompute_levels levels;
        recompute_levels_make(g, &levels, &err);
        ASSERT_FINE(err);
        ck_assert_int_eq(levels.crosses[low.id], micro_batches == 1 && levels.cuts > 0);
        bool *recompute = calloc((size_t)g->values, sizeof *recompute);
        recompute_level(g, &levels, 1, recompute, &err);
        ASSERT_FINE(err);
        for (int i = 0; i < 2; i++) ck_assert(recompute[scaled[i].id] == (micro_batches == 2));
        free(recompute);
        recompute_levels_free(&levels);
        FREE_GRAPH;
    }
}
END_TEST

// A mark stays on what the backward pass does not read, cheap as it is.
START_TEST(levels_keep_every_mark) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, ROWS, 8), cheap = brim_neg(x);
    brim_value sum = brim_add(cheap, x), y = brim_matmul(sum, weight(g, 0, "w", 8, 8));
    brim_value loss = total(brim_square(brim_checkpoint(y)));
    g->loss.sum = g->loss.count = loss.id;
    differentiate(g, loss);
    recompute_levels levels;
    recompute_levels_make(g, &levels, &err);
    ASSERT_FINE(err);
    for (int level = 0; level < levels.count; level++)
        expect_level(g, &levels, level, (brim_value[]){cheap, sum}, 2);
    recompute_levels_free(&levels);
    FREE_GRAPH;
}
END_TEST

START_TEST(levels_refuse_after_an_error) {
    MAKE_GRAPH;
    make_stack(g, (int64_t[]){8, 8, 8}, false);
    ASSERT_FINE(err);
    recompute_levels levels = {.count = 9};
    bool recompute[1] = {true};
    brim_fail(&err, BRIM_IO, "earlier");
    ck_assert_int_eq(recompute_levels_make(g, &levels, &err), BRIM_IO);
    ck_assert(levels.count == 0 && !levels.cut && !levels.crosses);
    ck_assert_int_eq(recompute_level(g, &levels, 0, recompute, &err), BRIM_IO);
    ASSERT_FAILS(err, BRIM_IO, "earlier");
    FREE_GRAPH;
}
END_TEST

Suite *recompute_levels_suite(void) {
    Suite *suite = suite_create("recompute_levels");
    TCase *tests = tcase_create("levels");
    tcase_add_test(tests, a_level_takes_one_more_stretch);
    tcase_add_test(tests, places_nearly_as_narrow_count);
    tcase_add_test(tests, stretches_hold_something_dear);
    tcase_add_test(tests, levels_of_small_graphs);
    tcase_add_test(tests, what_is_made_once_a_step_is_no_part);
    tcase_add_test(tests, levels_keep_every_mark);
    tcase_add_test(tests, levels_refuse_after_an_error);
    suite_add_tcase(suite, tests);
    return suite;
}
