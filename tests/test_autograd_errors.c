// Errors of differentiation, word for word.
#include <check.h>
#include <stdio.h>
#include <string.h>
#include "autograd/autograd.h"
#include "graph/build.h"
#include "test_core.h"

static brim_error err;
static brim_graph *g;

static void setup(void) {
    err = (brim_error){0};
    g = brim_graph_create(&err);
}
static void teardown(void) {
    brim_graph_free(g);
}

static brim_value total(brim_value x) {
    return brim_sum(x, NULL, 0, false);
}

#define ASSERT_TEXT(expected_status, expected_text)                                                \
    do {                                                                                           \
        ck_assert_str_eq(err.text, expected_text);                                                 \
        ck_assert_int_eq(err.status, expected_status);                                             \
        err = (brim_error){0};                                                                     \
    } while (0)

static void expect_no_gradient(brim_value loss, brim_value seed, brim_value x) {
    brim_value gradient[2] = {x, x};
    ck_assert_int_ne(
        autograd_differentiate(g, loss, seed, (value_id[]){x.id, x.id}, 2, gradient, &err),
        BRIM_OK);
    for (int i = 0; i < 2; i++) ck_assert_int_lt(gradient[i].id, 0);
}

START_TEST(losses_are_checked) {
    brim_value x = brim_input(g, "x", BRIM_F32, 3, 5), one = brim_constant(g, 1), loss = total(x);
    const brim_value none = {g, -1};
    expect_no_gradient(brim_exp(x), one, x);
    ASSERT_TEXT(BRIM_SHAPE, "differentiation: the loss must be a scalar; it has shape [3, 5]");
    expect_no_gradient(loss, brim_exp(x), x);
    ASSERT_TEXT(BRIM_SHAPE, "differentiation: the loss must be a scalar; it has shape []");
    for (int i = 0; i < 2; i++) {
        expect_no_gradient(i ? loss : none, i ? none : one, x);
        ASSERT_TEXT(BRIM_GRAPH,
                    "differentiation: the loss or its gradient is not a value of the graph");
    }
    node_id before = g->nodes;
    brim_fail(&err, BRIM_IO, "earlier");
    expect_no_gradient(loss, one, x);
    ASSERT_TEXT(BRIM_IO, "earlier");
    brim_error own = {0}; // beside the graph's
    brim_value gradient = x;
    brim_fail(&err, BRIM_IO, "of the graph");
    autograd_differentiate(g, loss, one, &x.id, 1, &gradient, &own);
    ck_assert_int_eq(own.status, BRIM_IO);
    ck_assert_str_eq(own.text, "of the graph");
    ck_assert_int_lt(gradient.id, 0);
    err = own = (brim_error){0};
    brim_fail(&own, BRIM_IO, "earlier");
    ck_assert_int_eq(autograd_differentiate(g, loss, one, &x.id, 1, &gradient, &own), BRIM_IO);
    ck_assert_str_eq(own.text, "earlier");
    ck_assert_int_eq(g->nodes, before);
}
END_TEST

static brim_value without_derivative(brim_value a, brim_value b) {
    return graph_op(g, OP_SOFTMAX_BACKWARD, (brim_value[]){a, b}, 2, NULL);
}

// The op, its scope, and what it keeps from the loss.
START_TEST(missing_derivatives_are_named) {
    brim_value x = brim_input(g, "x", BRIM_F32, 3, 5), other = brim_input(g, "o", BRIM_F32, 3, 5);
    brim_value one = brim_constant(g, 1), of_both = total(without_derivative(x, other)), none[2];
    autograd_differentiate(g, of_both, one, (value_id[]){other.id, x.id}, 2, none, &err);
    ASSERT_TEXT(BRIM_GRAPH, "softmax_backward: it has no derivative; the gradient of \"x\" [3, 5] "
                            "needs one");
    brim_value loss = total(without_derivative(other, brim_mul(other, brim_exp(x))));
    expect_no_gradient(loss, one, x);
    ASSERT_TEXT(BRIM_GRAPH, "softmax_backward: it has no derivative; the gradient of \"x\" [3, 5] "
                            "needs one");
    brim_scope_push(g, "block");
    brim_value y = brim_reshape(brim_exp(x), 5, 3);
    loss = total(without_derivative(brim_tanh(y), y));
    brim_scope_pop(g);
    expect_no_gradient(loss, one, x);
    ASSERT_TEXT(BRIM_GRAPH, "softmax_backward in scope \"block\": it has no derivative; the "
                            "gradient of \"x\" [3, 5] needs one");
    char expected[200];
    snprintf(
        expected, sizeof expected,
        "softmax_backward in scope \"block\": it has no derivative; the gradient of \"value %d\" "
        "[5, 3] needs one",
        (int)y.id);
    expect_no_gradient(loss, one, y);
    ASSERT_TEXT(BRIM_GRAPH, expected);
    // What does not lead to it needs none.
    loss = brim_add(total(without_derivative(other, other)), total(x));
    autograd_differentiate(g, loss, one, &x.id, 1, none, &err);
    ASSERT_FINE(err);
    brim_error own = {0};
    brim_value gradient;
    loss = total(without_derivative(x, x));
    ck_assert_int_eq(autograd_differentiate(g, loss, one, &x.id, 1, &gradient, &own), BRIM_GRAPH);
    ASSERT_FINE(err);
}
END_TEST

static brim_value input_of(brim_value x) {
    return graph_value_of(g, g->node[g->value[x.id].producer].input[0]);
}

// Statistics that an op saves lead to no loss, even beside a result that does.
START_TEST(statistics_are_named) {
    brim_value first = brim_constant(g, 1); // value 0
    brim_value x = brim_input(g, "x", BRIM_F32, 3, 5), w = brim_input(g, "w", BRIM_F32, 5);
    brim_scope_push(g, "h.0");
    brim_value y = brim_layer_norm_with(x, w, w, 0);
    brim_scope_pop(g);
    for (int saved = 1; saved < 3; saved++) {
        brim_value loss = brim_add(total(y), total(graph_output(y, saved)));
        expect_no_gradient(loss, brim_constant(g, 1), x);
        ASSERT_TEXT(BRIM_GRAPH, saved == 1 ? "layer_norm in scope \"h.0\": output 1 has no "
                                             "derivative; only output 0 may lead to a loss"
                                           : "layer_norm in scope \"h.0\": output 2 has no "
                                             "derivative; only output 0 may lead to a loss");
    }
    brim_value row = brim_slice(x, 0, 0, 1); // one row: its statistics are the loss itself
    brim_loss of_one = brim_cross_entropy(brim_reshape(row, 5), brim_cast(first, BRIM_I32), -100);
    brim_value losses = input_of(of_one.sum);
    expect_no_gradient(graph_output(losses, 1), first, x);
    ASSERT_TEXT(BRIM_GRAPH,
                "cross_entropy: output 1 has no derivative; only output 0 may lead to a loss");
    expect_no_gradient(total(graph_output(brim_rms_norm_with(x, w, 0), 1)), brim_constant(g, 1), x);
    ASSERT_TEXT(BRIM_GRAPH,
                "rms_norm: output 1 has no derivative; only output 0 may lead to a loss");
}
END_TEST

Suite *autograd_errors_suite(void) {
    Suite *suite = suite_create("autograd_errors");
    TCase *errors = tcase_create("errors");
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_add_test(errors, losses_are_checked);
    tcase_add_test(errors, missing_derivatives_are_named);
    tcase_add_test(errors, statistics_are_named);
    suite_add_tcase(suite, errors);
    return suite;
}
