// Derivative rules against central differences, in the oracle's double precision, and what
// differentiation does around them.
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <brim/nn.h>
#include "autograd/autograd.h"
#include "test_core.h"
#include "tests/op_case_run.h"

// Differences ------------------------------------------------------------------------------------

typedef struct differentiated {
    brim_error err;
    brim_graph *g;
    op_case_graph made;
    brim_value cotangent, loss, gradient[OP_CASE_LEAVES];
    leaf_values leaves;
    oracle *oracle;
} differentiated;

static void differentiate(differentiated *d, const op_case *c, brim_dtype dtype) {
    *d = (differentiated){0};
    d->g = brim_graph_create(&d->err);
    ck_assert_msg(op_case_build(c, d->g, dtype, &d->made) &&
                      op_case_differentiate(&d->made, &d->cotangent, &d->loss, d->gradient),
                  "%s/%s: %s", op_table[c->op].name, c->name, d->err.text);
    d->leaves = leaf_values_make(d->g, &d->made, 5, &d->err);
    d->oracle = oracle_create(d->g, &d->err);
    leaf_values_set(&d->leaves, d->oracle, &d->err);
    oracle_run(d->oracle, &d->err);
    ASSERT_FINE(d->err);
}

static void release(differentiated *d) {
    oracle_free(d->oracle);
    leaf_values_free(&d->leaves);
    brim_graph_free(d->g);
}

// The loss where a leaf is moved by `step` times `direction`.
static double loss_at(differentiated *d, value_id leaf, const double *direction, double step) {
    oracle_tensor *x = &d->oracle->value[leaf];
    for (int64_t i = 0; i < x->count; i++) x->data[i] = d->leaves.of[leaf][i] + step * direction[i];
    node_id last = d->g->value[d->loss.id].producer;
    for (node_id n = 0; n <= last; n++) oracle_run_node(d->oracle, n, &d->err);
    ASSERT_FINE(d->err);
    return d->oracle->value[d->loss.id].data[0];
}

// The derivative along a direction by the five-point rule, whose error is of the fourth order in
// the step.
static double difference(differentiated *d, value_id leaf, const double *direction) {
    const double h = 1e-4;
    double far = loss_at(d, leaf, direction, 2 * h) - loss_at(d, leaf, direction, -2 * h);
    double near = loss_at(d, leaf, direction, h) - loss_at(d, leaf, direction, -h);
    loss_at(d, leaf, direction, 0);
    return (8 * near - far) / (12 * h);
}

static void check_leaf(differentiated *d, const op_case *c, brim_dtype dtype, int k) {
    char title[100];
    op_case_title(c, dtype, title, sizeof title);
    value_id leaf = d->made.x[k].id;
    op_case_leaf along = {.dtype = BRIM_F32, .shape = d->made.leaf[k].shape, .number = 70 + k};
    double *direction = calloc((size_t)shape_elements(&along.shape), sizeof *direction);
    op_case_fill(&along, 9, direction);
    const oracle_tensor *gradient =
        d->gradient[k].id < 0 ? NULL : &d->oracle->value[d->gradient[k].id];
    double product = 0, size = 0;
    for (int64_t i = 0; gradient && i < gradient->count; i++) {
        product += gradient->data[i] * direction[i];
        size += fabs(gradient->data[i] * direction[i]);
    }
    double measured = difference(d, leaf, direction);
    // What is left of the fourth-order error, and of double's roundoff in the loss over the step.
    double tolerance = 1e-7 * size + 1e-9 * (1 + fabs(d->oracle->value[d->loss.id].data[0]));
    ck_assert_msg(fabs(product - measured) <= tolerance,
                  "%s, leaf %d: the rule gives %.12g, differences %.12g (allowed: %.3g)", title, k,
                  product, measured, tolerance);
    free(direction);
}

static int checked_rules(const op_case *c, brim_dtype dtype) {
    differentiated d;
    int checked = 0;
    differentiate(&d, c, dtype);
    for (int k = 0; d.made.smooth && k < d.made.leaves; k++) {
        if (d.made.leaf[k].dtype == BRIM_I32) continue;
        check_leaf(&d, c, dtype, k);
        checked++;
    }
    release(&d);
    return checked;
}

START_TEST(rules_against_differences) {
    const op_case *c = &op_cases[_i];
    if (!(c->uses & OP_CASE_TEST) || op_table[c->op].derivative == DERIVATIVE_NONE) return;
    for (int dtype = 0; dtype < BRIM_I32; dtype++)
        if (c->dtypes >> dtype & 1) checked_rules(c, (brim_dtype)dtype);
}
END_TEST

// Each rule was among the cases that can be differentiated.
START_TEST(every_rule_has_differences) {
    bool seen[OP_COUNT] = {false};
    for (int i = 0; i < op_case_count; i++) {
        brim_error err = {0};
        brim_graph *g = brim_graph_create(&err);
        op_case_graph made;
        if ((op_cases[i].uses & OP_CASE_TEST) && op_case_build(&op_cases[i], g, BRIM_F32, &made) &&
            made.smooth)
            seen[op_cases[i].op] = true;
        brim_graph_free(g);
    }
    for (int op = 0; op < OP_COUNT; op++) {
        bool rule = op_table[op].derivative == DERIVATIVE_RULE;
        ck_assert_msg(rule == (derivative_rules[op] != NULL),
                      "%s: op.def and the table of rules disagree", op_table[op].name);
        ck_assert_msg(!rule || seen[op], "%s: no case can be checked by differences",
                      op_table[op].name);
    }
}
END_TEST

// Ties -------------------------------------------------------------------------------------------

static brim_error err;
static brim_graph *g;

static void setup(void) {
    err = (brim_error){0};
    g = brim_graph_create(&err);
}
static void teardown(void) {
    brim_graph_free(g);
}

// The gradient of `loss` with respect to one value.
static brim_value gradient_of(brim_value loss, brim_value x) {
    brim_value gradient;
    autograd_differentiate(g, loss, brim_constant(g, 1), &x.id, 1, &gradient, &err);
    ASSERT_FINE(err);
    return gradient;
}

// A value's elements, given those of one leaf.
static void evaluate(brim_value leaf, const double *x, brim_value of, double *out) {
    oracle *o = oracle_create(g, &err);
    oracle_set(o, leaf.id, x, &err);
    oracle_run(o, &err);
    ASSERT_FINE(err);
    memcpy(out, o->value[of.id].data, (size_t)o->value[of.id].count * sizeof *out);
    oracle_free(o);
}

START_TEST(ties_share) {
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 4);
    brim_value top = brim_max(x, (int[]){1}, 1, false);
    brim_value pair = brim_maximum(brim_slice(x, 1, 0, 2), brim_slice(x, 1, 2, 2));
    brim_value loss =
        brim_add(brim_sum(brim_scale(top, 6), NULL, 0, false), brim_sum(pair, NULL, 0, false));
    brim_value gradient = gradient_of(loss, x);
    double out[8];
    evaluate(x, (double[]){3, 1, 3, 3, /**/ 2, 5, 1, 5}, gradient, out);
    const double expected[] = {2.5, 0, 2.5, 3, /**/ 1, 3.5, 0, 3.5};
    for (int i = 0; i < 8; i++) ck_assert_double_eq(out[i], expected[i]);
}
END_TEST

START_TEST(kinks) {
    brim_value x = brim_input(g, "x", BRIM_F32, 3);
    brim_value y = brim_add(brim_add(brim_abs(x), brim_relu(x)), brim_clamp(x, -1, 0));
    brim_value gradient = gradient_of(brim_sum(y, NULL, 0, false), x);
    double out[3];
    evaluate(x, (double[]){-1, 0, 2}, gradient, out);
    ck_assert_double_eq(out[0], -1 + 0 + 1);
    ck_assert_double_eq(out[1], 0 + 0 + 1);
    ck_assert_double_eq(out[2], 1 + 1 + 0);
}
END_TEST

// The walk ---------------------------------------------------------------------------------------

static int count_backward(op_id op) {
    int count = 0;
    for (node_id n = 0; n < g->nodes; n++)
        count += g->node[n].phase == PHASE_BACKWARD && g->node[n].op == op;
    return count;
}

START_TEST(only_the_path_is_visited) {
    brim_value w = brim_parameter(g, "w", (brim_init){0}, 5, 3);
    brim_value other = brim_parameter(g, "other", (brim_init){0}, 5, 3);
    brim_value x = brim_input(g, "x", BRIM_F32, 7, 5);
    brim_value y = brim_matmul(brim_tanh(x), w);
    brim_sum(brim_exp(brim_matmul(x, other)), NULL, 0, false); // leads to no loss
    brim_value loss = brim_sum(brim_square(y), NULL, 0, false);
    brim_value gradient[2];
    autograd_differentiate(g, loss, brim_constant(g, 1), (value_id[]){w.id, other.id}, 2, gradient,
                           &err);
    ASSERT_FINE(err);
    ck_assert_int_ge(gradient[0].id, 0);
    ck_assert_int_lt(gradient[1].id, 0);
    ck_assert_int_eq(count_backward(OP_MATMUL), 1); // not that of x
    ck_assert_int_eq(count_backward(OP_TANH_BACKWARD), 0);
    ck_assert_int_eq(count_backward(OP_EXP), 0);
}
END_TEST

START_TEST(uses_are_added) {
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    brim_value y = brim_add(brim_mul(x, x), brim_add(brim_scale(x, 3), x));
    brim_value gradient = gradient_of(brim_sum(y, NULL, 0, false), x);
    double out[4];
    evaluate(x, (double[]){0, 1, -2, 0.5}, gradient, out);
    const double expected[] = {4, 6, 0, 5};
    for (int i = 0; i < 4; i++) ck_assert_double_eq(out[i], expected[i]);
    ck_assert_int_eq(g->node[g->value[gradient.id].producer].op, OP_ADD);
}
END_TEST

START_TEST(the_seed_scales) {
    brim_value x = brim_input(g, "x", BRIM_F32, 2), loss = brim_sum(brim_square(x), NULL, 0, false),
               gradient;
    brim_value seed = brim_constant(g, 1024);
    autograd_differentiate(g, loss, seed, &x.id, 1, &gradient, &err);
    ASSERT_FINE(err);
    double out[2];
    evaluate(x, (double[]){1, -3}, gradient, out);
    ck_assert_double_eq(out[0], 2048);
    ck_assert_double_eq(out[1], -6144);
}
END_TEST

START_TEST(values_that_do_not_matter) {
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    brim_value loss =
        brim_sum(brim_mul(brim_gt(x, brim_constant(g, 0)), brim_pow(x, 0)), NULL, 0, false);
    ck_assert_int_lt(gradient_of(loss, x).id, 0);
    brim_value ids = brim_input(g, "ids", BRIM_I32, 4);
    brim_value counted = brim_sum(brim_cast(ids, BRIM_F32), NULL, 0, false);
    ck_assert_int_lt(gradient_of(counted, ids).id, 0);
    ck_assert_int_eq(gradient_of(loss, loss).graph->value[loss.id].shape.rank, 0);
}
END_TEST

START_TEST(nodes_keep_scope_and_phase) {
    brim_value x = brim_input(g, "x", BRIM_F32, 3, 4);
    brim_scope_push(g, "h.%d", 7);
    brim_value y = brim_softmax(x, -1);
    brim_scope_pop(g);
    brim_scope_push(g, "loss");
    brim_value loss = brim_sum(brim_square(y), NULL, 0, false);
    brim_value gradient = gradient_of(loss, x);
    ck_assert_str_eq(g->scope, "loss");
    ck_assert_int_eq(g->phase, PHASE_FORWARD);
    const graph_node *node = &g->node[g->value[gradient.id].producer];
    ck_assert_str_eq(node->scope, "h.7");
    ck_assert_int_eq(node->phase, PHASE_BACKWARD);
    ck_assert_int_eq(node->op, OP_SOFTMAX_BACKWARD);
    brim_value after = brim_exp(x);
    ck_assert_str_eq(g->node[g->value[after.id].producer].scope, "loss");
}
END_TEST

// Gradients of slices ----------------------------------------------------------------------------

// The op that makes the gradient of a [2, 12] input, of which parts are used.
static op_id gradient_of_slices(int count, const int64_t (*part)[2]) {
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 12), loss = brim_constant(g, 0);
    for (int i = 0; i < count; i++) {
        brim_value y = brim_exp(brim_slice(x, 1, part[i][0], part[i][1]));
        loss = brim_add(loss, brim_sum(y, NULL, 0, false));
    }
    brim_value gradient = gradient_of(loss, x);
    return g->node[g->value[gradient.id].producer].op;
}

START_TEST(slices_that_tile_are_joined) {
    ck_assert_int_eq(gradient_of_slices(3, (const int64_t[][2]){{8, 4}, {0, 3}, {3, 5}}),
                     OP_CONCAT);
    ck_assert_int_eq(count_backward(OP_CONCAT), 1);
    ck_assert_int_eq(count_backward(OP_ADD), 0);
}
END_TEST

START_TEST(slices_that_overlap_are_added) {
    ck_assert_int_eq(gradient_of_slices(2, (const int64_t[][2]){{0, 7}, {5, 7}}), OP_ADD);
    ck_assert_int_eq(count_backward(OP_CONCAT), 0);
}
END_TEST

START_TEST(slices_with_a_gap_are_added) {
    ck_assert_int_eq(gradient_of_slices(2, (const int64_t[][2]){{0, 5}, {7, 5}}), OP_ADD);
    ck_assert_int_eq(count_backward(OP_CONCAT), 0);
}
END_TEST

// Tiles beside a use of the whole: one CONCAT and one ADD, and the right numbers.
START_TEST(tiles_beside_other_uses) {
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    brim_value parts = brim_add(brim_sum(brim_scale(brim_slice(x, 0, 0, 2), 3), NULL, 0, false),
                                brim_sum(brim_scale(brim_slice(x, 0, 2, 2), 5), NULL, 0, false));
    brim_value gradient = gradient_of(brim_add(parts, brim_sum(brim_square(x), NULL, 0, false)), x);
    double out[4];
    evaluate(x, (double[]){1, 2, 3, 4}, gradient, out);
    const double expected[] = {5, 7, 11, 13};
    for (int i = 0; i < 4; i++) ck_assert_double_eq(out[i], expected[i]);
    ck_assert_int_eq(count_backward(OP_CONCAT), 1);
}
END_TEST

// Compute copies ---------------------------------------------------------------------------------

static bool reaches_cast_to_16_bits(value_id v, int depth) {
    node_id producer = g->value[v].producer;
    if (producer < 0 || g->node[producer].phase != PHASE_BACKWARD || depth == 0) return false;
    const graph_node *node = &g->node[producer];
    op_family family = op_table[node->op].family;
    if (node->op == OP_CAST && g->value[v].dtype != BRIM_F32) return true;
    if (family != FAMILY_VIEW && family != FAMILY_ELEMENTWISE && node->op != OP_SUM) return false;
    for (int32_t i = 0; i < node->inputs; i++)
        if (reaches_cast_to_16_bits(node->input[i], depth - 1)) return true;
    return false;
}

// Weights, biases and gains whose compute copy is used in some way: the gradient is f32 from where
// it is made.
START_TEST(gradients_of_compute_copies_are_f32) {
    brim_value x = brim_input(g, "x", BRIM_BF16, 2, 7, 6),
               ids = brim_input(g, "ids", BRIM_I32, 2, 7);
    brim_value w[5];
    const char *names[] = {"product", "transposed", "bias", "gain", "table"};
    for (int i = 0; i < 5; i++) {
        w[i] = i == 2 || i == 3 ? brim_parameter(g, names[i], (brim_init){0}, 6)
                                : brim_parameter(g, names[i], (brim_init){0}, 6, 6);
    }
    brim_value copy[5];
    for (int i = 0; i < 5; i++) copy[i] = brim_cast(w[i], BRIM_BF16);
    brim_value y = brim_matmul(x, copy[0]);
    y = brim_matmul(y, brim_permute(brim_reshape(copy[1], 6, 6), 1, 0));
    y = brim_mul(brim_add(y, copy[2]), copy[3]);
    y = brim_add(y, brim_gather(copy[4], ids));
    brim_value loss = brim_sum(brim_cast(y, BRIM_F32), NULL, 0, false), gradient[5];
    value_id wrt[5];
    for (int i = 0; i < 5; i++) wrt[i] = w[i].id;
    autograd_differentiate(g, loss, brim_constant(g, 1), wrt, 5, gradient, &err);
    ASSERT_FINE(err);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(brim_value_dtype(gradient[i]), BRIM_F32);
        const graph_node *node = &g->node[g->value[gradient[i].id].producer];
        ck_assert_msg(node->op != OP_CAST, "the gradient of %s is cast", names[i]);
    }
    ck_assert_msg(!reaches_cast_to_16_bits(gradient[1].id, 4),
                  "the gradient of a transposed copy is rounded");
    ck_assert_msg(!reaches_cast_to_16_bits(gradient[3].id, 2), "the gradient of a gain is rounded");
    graph_verify(g, "differentiation", &err);
    ASSERT_FINE(err);
}
END_TEST

static op_id op_of(brim_value x) {
    return g->node[g->value[x.id].producer].op;
}

// A gradient that is asked for in 16 bits is rounded once: by its product, or behind the sum over
// uses, of which each is f32.
START_TEST(gradients_may_be_rounded_once) {
    brim_value x = brim_input(g, "x", BRIM_BF16, 2, 7, 6), w[4];
    value_id wrt[4];
    const char *names[] = {"once", "viewed", "twice", "f32"};
    brim_value y = x;
    for (int i = 0; i < 4; i++) {
        w[i] = brim_parameter(g, names[i], (brim_init){0}, 6, 6);
        wrt[i] = w[i].id;
        brim_value copy = brim_cast(w[i], BRIM_BF16);
        y = brim_matmul(y, i == 1 ? brim_permute(copy, 1, 0) : copy);
        if (i == 2) y = brim_matmul(y, copy);
    }
    brim_value loss = brim_sum(brim_cast(y, BRIM_F32), NULL, 0, false), gradient[4];
    const brim_dtype dtype[4] = {BRIM_BF16, BRIM_BF16, BRIM_BF16, BRIM_F32};
    autograd_differentiate_as(g, loss, brim_constant(g, 1), wrt, dtype, 4, gradient, &err);
    ASSERT_FINE(err);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(brim_value_dtype(gradient[i]), dtype[i]);
    ck_assert_int_eq(op_of(gradient[0]), OP_MATMUL);
    ck_assert_int_eq(op_of(gradient[1]), OP_PERMUTE);
    ck_assert(!reaches_cast_to_16_bits(gradient[1].id, 4));
    ck_assert_int_eq(op_of(gradient[2]), OP_CAST);
    const graph_node *cast = &g->node[g->value[gradient[2].id].producer];
    brim_value sum = graph_value_of(g, cast->input[0]);
    ck_assert_int_eq(brim_value_dtype(sum), BRIM_F32);
    ck_assert_int_eq(op_of(sum), OP_ADD);
    ck_assert(!reaches_cast_to_16_bits(sum.id, 4));
    ck_assert_int_eq(op_of(gradient[3]), OP_MATMUL);
    graph_verify(g, "differentiation", &err);
    ASSERT_FINE(err);
}
END_TEST

// What joins the copies of two parameters, of which one has a gradient in f32, has one in f32.
START_TEST(a_neighbour_rounds_no_gradient) {
    brim_value x = brim_input(g, "x", BRIM_BF16, 7, 6), w[2], copy[2], gradient[2];
    for (int i = 0; i < 2; i++) {
        w[i] = brim_parameter(g, i ? "b" : "a", (brim_init){0}, 6, 3);
        copy[i] = brim_cast(w[i], BRIM_BF16);
    }
    brim_value y = brim_matmul(x, brim_concat(copy, 2, 1));
    brim_value loss = brim_sum(brim_cast(y, BRIM_F32), NULL, 0, false);
    autograd_differentiate_as(g, loss, brim_constant(g, 1), (value_id[]){w[0].id, w[1].id},
                              (brim_dtype[]){BRIM_BF16, BRIM_F32}, 2, gradient, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(brim_value_dtype(gradient[0]), BRIM_BF16);
    ck_assert_int_eq(brim_value_dtype(gradient[1]), BRIM_F32);
    ck_assert(!reaches_cast_to_16_bits(gradient[1].id, 4));
}
END_TEST

// The gradient of a 16-bit value that is no compute copy is 16 bits, as are those of all
// activations.
START_TEST(gradients_of_activations_keep_their_dtype) {
    brim_value x = brim_input(g, "x", BRIM_F16, 7, 6), w = brim_input(g, "w", BRIM_F16, 6, 5);
    brim_value y = brim_softmax(brim_gelu(brim_matmul(x, w)), -1);
    brim_value gradient[2];
    autograd_differentiate(g, brim_sum(brim_square(y), NULL, 0, false), brim_constant(g, 1),
                           (value_id[]){x.id, w.id}, 2, gradient, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(brim_value_dtype(gradient[0]), BRIM_F16);
    ck_assert_int_eq(brim_value_dtype(gradient[1]), BRIM_F16);
    for (node_id n = 0; n < g->nodes; n++)
        if (g->node[n].op == OP_GELU_BACKWARD)
            ck_assert_int_eq(g->value[g->node[n].first_output].dtype, BRIM_F16);
}
END_TEST

// A shared weight's gradient is one product over all rows, not a batch of products and a sum.
START_TEST(linear_weights_take_one_product) {
    brim_value x = brim_input(g, "x", BRIM_F32, 3, 7, 6),
               w = brim_parameter(g, "w", (brim_init){0}, 5, 6);
    brim_value y = brim_matmul_t(x, false, w, true);
    brim_value gradient = gradient_of(brim_sum(brim_square(y), NULL, 0, false), w);
    const graph_node *node = &g->node[g->value[gradient.id].producer];
    ck_assert_int_eq(node->op, OP_MATMUL);
    ck_assert_int_eq(g->value[node->input[0]].shape.rank, 2);
}
END_TEST

// A 16-bit operand's gradient is written in 16 bits by the product itself; in f32 where it is summed
// over a broadcast batch afterwards.
START_TEST(products_write_16_bits_unless_summed) {
    brim_value few = brim_input(g, "few", BRIM_BF16, 1, 4, 3),
               a = brim_input(g, "a", BRIM_BF16, 2, 3, 4),
               b = brim_input(g, "b", BRIM_BF16, 2, 4, 5);
    brim_value whole = brim_matmul(a, b);
    brim_input(g, "between", BRIM_F32, 9); // the value behind a product says nothing of it
    brim_value left = brim_matmul_t(few, true, b, false);
    brim_input(g, "and", BRIM_F32, 9);
    brim_value right = brim_matmul_t(b, true, few, false);
    brim_input(g, "behind", BRIM_F32, 9);
    const struct {
        brim_value product, operand;
        op_id op;
    } rows[] = {{whole, a, OP_MATMUL}, {whole, b, OP_MATMUL}, {left, few, OP_CAST},
                {left, b, OP_MATMUL},  {right, b, OP_MATMUL}, {right, few, OP_CAST}};
    for (int i = 0; i < 6; i++) {
        brim_value gradient =
            gradient_of(brim_sum(brim_square(rows[i].product), NULL, 0, false), rows[i].operand);
        ck_assert_int_eq(brim_value_dtype(gradient), BRIM_BF16);
        ck_assert_msg(g->node[g->value[gradient.id].producer].op == rows[i].op, "row %d", i);
    }
}
END_TEST

// Errors -----------------------------------------------------------------------------------------

START_TEST(missing_derivative_is_named) {
    brim_value w = brim_parameter(g, "h.weight", (brim_init){0}, 3, 5);
    brim_scope_push(g, "block");
    brim_value inputs[] = {brim_exp(w), brim_exp(w)};
    brim_value y = graph_op(g, OP_SOFTMAX_BACKWARD, inputs, 2, NULL);
    brim_scope_pop(g);
    brim_value loss = brim_sum(y, NULL, 0, false), gradient;
    autograd_differentiate(g, loss, brim_constant(g, 1), &w.id, 1, &gradient, &err);
    ck_assert_ptr_nonnull(strstr(err.text, "\"h.weight\" [3, 5]"));
    ck_assert_ptr_nonnull(strstr(err.text, "\"block\""));
    ck_assert_int_lt(gradient.id, 0);
    ASSERT_FAILS(err, BRIM_GRAPH, "softmax_backward");
}
END_TEST

START_TEST(loss_must_be_scalar) {
    brim_value x = brim_input(g, "x", BRIM_F32, 3, 5), gradient;
    autograd_differentiate(g, brim_exp(x), brim_constant(g, 1), &x.id, 1, &gradient, &err);
    ASSERT_FAILS(err, BRIM_SHAPE, "[3, 5]");
}
END_TEST

// What an op saves for its backward pass leads to no loss: of every op that saves something.
START_TEST(statistics_have_no_derivative) {
    const op_case *c = &op_cases[_i];
    if (op_table[c->op].outputs < 2 || op_table[c->op].derivative != DERIVATIVE_RULE) return;
    op_case_graph made;
    op_case_build(c, g, BRIM_F32, &made);
    ASSERT_FINE(err);
    if (g->node[g->value[made.result.id].producer].op != c->op) return; // more follows it
    brim_value saved = graph_output(made.result, 1), gradient, loss;
    loss = brim_sum(saved, NULL, 0, false);
    autograd_differentiate(g, loss, brim_constant(g, 1), &made.x[0].id, 1, &gradient, &err);
    ck_assert_msg(strstr(err.text, op_table[c->op].name), "%s/%s: %s", op_table[c->op].name,
                  c->name, err.text);
    ASSERT_FAILS(err, BRIM_GRAPH, "output 1 has no derivative; only output 0 may lead to a loss");
}
END_TEST

Suite *autograd_suite(void) {
    Suite *suite = suite_create("autograd");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 120);
    tcase_add_loop_test(rules, rules_against_differences, 0, op_case_count);
    tcase_add_test(rules, every_rule_has_differences);
    suite_add_tcase(suite, rules);
    TCase *walk = tcase_create("walk");
    tcase_add_checked_fixture(walk, setup, teardown);
    tcase_add_test(walk, ties_share);
    tcase_add_test(walk, kinks);
    tcase_add_test(walk, only_the_path_is_visited);
    tcase_add_test(walk, uses_are_added);
    tcase_add_test(walk, the_seed_scales);
    tcase_add_test(walk, values_that_do_not_matter);
    tcase_add_test(walk, nodes_keep_scope_and_phase);
    tcase_add_test(walk, slices_that_tile_are_joined);
    tcase_add_test(walk, slices_that_overlap_are_added);
    tcase_add_test(walk, slices_with_a_gap_are_added);
    tcase_add_test(walk, tiles_beside_other_uses);
    tcase_add_test(walk, gradients_of_compute_copies_are_f32);
    tcase_add_test(walk, gradients_may_be_rounded_once);
    tcase_add_test(walk, a_neighbour_rounds_no_gradient);
    tcase_add_test(walk, gradients_of_activations_keep_their_dtype);
    tcase_add_test(walk, linear_weights_take_one_product);
    tcase_add_test(walk, products_write_16_bits_unless_summed);
    tcase_add_test(walk, missing_derivative_is_named);
    tcase_add_test(walk, loss_must_be_scalar);
    tcase_add_loop_test(walk, statistics_have_no_derivative, 0, op_case_count);
    suite_add_tcase(suite, walk);
    return suite;
}
