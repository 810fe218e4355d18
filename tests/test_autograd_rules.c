// What derivative rules make, beyond numbers that are right: in which dtype, of how many products,
// and nothing that is not asked for. And errors of differentiation, word for word.
#include <check.h>
#include <math.h>
#include <string.h>
#include "autograd/autograd.h"
#include "test_core.h"
#include "tests/op_case_run.h"

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

static void differentiate(brim_value loss, const brim_value *x, int count, brim_value *gradient) {
    value_id wrt[8];
    for (int i = 0; i < count; i++) wrt[i] = x[i].id;
    autograd_differentiate(g, loss, brim_constant(g, 1), wrt, count, gradient, &err);
    ASSERT_FINE(err);
}

static brim_value gradient_of(brim_value loss, brim_value x) {
    brim_value gradient;
    differentiate(loss, &x, 1, &gradient);
    ck_assert_int_ge(gradient.id, 0);
    return gradient;
}

static const graph_node *node_of(brim_value x) {
    return &g->node[g->value[x.id].producer];
}

static brim_value input_of(brim_value x, int input) {
    return graph_value_of(g, node_of(x)->input[input]);
}

static int count_backward(op_id op) {
    int count = 0;
    for (node_id n = 0; n < g->nodes; n++)
        count += g->node[n].phase == PHASE_BACKWARD && g->node[n].op == op;
    return count;
}

// Differences -------------------------------------------------------------------------------------

static double loss_at(oracle *o, value_id loss, value_id x, const leaf_values *at,
                      const leaf_values *along, double step) {
    for (int64_t i = 0; i < o->value[x].count; i++)
        o->value[x].data[i] = at->of[x][i] + step * along->of[x][i];
    oracle_run(o, &err);
    ASSERT_FINE(err);
    return o->value[loss].data[0];
}

// The gradients of a loss that is smooth, against differences by the five-point rule.
static void check_by_differences(brim_value loss, const brim_value *x, int count, int row) {
    brim_value gradient[8];
    differentiate(loss, x, count, gradient);
    leaf_values at = leaf_values_make(g, NULL, 1, &err), along = leaf_values_make(g, NULL, 2, &err);
    oracle *o = oracle_create(g, &err);
    leaf_values_set(&at, o, &err);
    for (int k = 0; k < count; k++) {
        const double h = 1e-3;
        double far = loss_at(o, loss.id, x[k].id, &at, &along, 2 * h) -
                     loss_at(o, loss.id, x[k].id, &at, &along, -2 * h);
        double near = loss_at(o, loss.id, x[k].id, &at, &along, h) -
                      loss_at(o, loss.id, x[k].id, &at, &along, -h);
        loss_at(o, loss.id, x[k].id, &at, &along, 0);
        const oracle_tensor *t = &o->value[gradient[k].id];
        double product = 0, size = 0, measured = (8 * near - far) / (12 * h);
        ck_assert_int_eq(t->count, o->value[x[k].id].count);
        for (int64_t i = 0; i < t->count; i++) {
            product += t->data[i] * along.of[x[k].id][i];
            size += fabs(t->data[i] * along.of[x[k].id][i]);
        }
        ck_assert_msg(fabs(product - measured) <= 1e-7 * size,
                      "row %d, operand %d: the rule gives %.12g, differences %.12g", row, k,
                      product, measured);
    }
    oracle_free(o);
    leaf_values_free(&at);
    leaf_values_free(&along);
}

// Products of batches, of which either operand may have fewer: numbers, and what of them are
// products over all rows, rather than a batch of products and a sum.
static const struct batch {
    shape a, b;
    bool transpose_a, transpose_b;
    int sums; // that are needed
} batches[] = {
    {{3, {2, 3, 4}}, {2, {4, 5}}, false, false, 0},
    {{3, {2, 3, 4}}, {2, {5, 4}}, false, true, 0},
    {{4, {2, 3, 4, 5}}, {4, {1, 1, 5, 6}}, false, false, 0},
    {{4, {1, 3, 4, 5}}, {3, {1, 6, 5}}, false, true, 0},
    {{3, {1, 3, 4}}, {2, {4, 5}}, false, false, 1},
    {{3, {2, 4, 3}}, {2, {4, 5}}, true, false, 1},
    {{3, {2, 4, 3}}, {3, {1, 5, 4}}, true, true, 1},
    {{2, {3, 4}}, {3, {2, 4, 5}}, false, false, 1},
    {{4, {2, 1, 3, 4}}, {4, {2, 3, 4, 5}}, false, false, 1},
    {{4, {2, 3, 3, 4}}, {4, {2, 1, 4, 5}}, false, false, 1},
    {{4, {2, 1, 3, 4}}, {4, {1, 3, 4, 5}}, false, false, 2},
    {{3, {2, 3, 4}}, {4, {3, 1, 5, 4}}, false, true, 2},
    {{4, {2, 3, 3, 4}}, {4, {2, 3, 4, 5}}, false, false, 0},
};

START_TEST(batches_of_products) {
    const struct batch *c = &batches[_i];
    brim_value x[2] = {brim_input_dims(g, "a", BRIM_F32, c->a.rank, c->a.dim),
                       brim_input_dims(g, "b", BRIM_F32, c->b.rank, c->b.dim)};
    brim_attr attr = {.matmul = {c->transpose_a, c->transpose_b}};
    brim_value y = graph_op(g, OP_MATMUL, x, 2, &attr);
    check_by_differences(total(brim_square(y)), x, 2, _i);
    ck_assert_int_eq(count_backward(OP_MATMUL), 2);
    ck_assert_int_eq(count_backward(OP_SUM), c->sums);
}
END_TEST

// Of 16-bit operands: what is summed is f32 until then, what is not is written in 16 bits.
START_TEST(batches_of_16_bit_products) {
    const struct batch *c = &batches[_i];
    brim_value x[2] = {brim_input_dims(g, "a", BRIM_BF16, c->a.rank, c->a.dim),
                       brim_input_dims(g, "b", BRIM_BF16, c->b.rank, c->b.dim)},
               gradient[2];
    brim_attr attr = {.matmul = {c->transpose_a, c->transpose_b}};
    differentiate(total(brim_square(graph_op(g, OP_MATMUL, x, 2, &attr))), x, 2, gradient);
    bool summed[4096] = {false};
    int sums = 0;
    for (node_id n = 0; n < g->nodes; n++) {
        const graph_node *node = &g->node[n];
        if (node->phase == PHASE_BACKWARD && node->op == OP_SUM)
            summed[node->input[0]] = true, sums++;
    }
    ck_assert_int_eq(sums, c->sums);
    for (node_id n = 0; n < g->nodes; n++) {
        const graph_node *node = &g->node[n];
        if (node->phase == PHASE_BACKWARD && node->op == OP_MATMUL)
            ck_assert_int_eq(g->value[node->first_output].dtype,
                             summed[node->first_output] ? BRIM_F32 : BRIM_BF16);
    }
    for (int i = 0; i < 2; i++) ck_assert_int_eq(brim_value_dtype(gradient[i]), BRIM_BF16);
}
END_TEST

// Gradients of operands that were broadcast.
START_TEST(sums_over_broadcast_axes) {
    static const shape rows[][2] = {
        {{2, {3, 4}}, {2, {3, 4}}},    {{2, {3, 4}}, {1, {4}}},       {{2, {3, 4}}, {2, {3, 1}}},
        {{2, {3, 4}}, {0, {0}}},       {{3, {2, 1, 4}}, {2, {3, 1}}}, {{3, {2, 1, 4}}, {2, {3, 4}}},
        {{3, {2, 3, 4}}, {1, {1}}},    {{3, {2, 1, 4}}, {1, {1}}},    {{1, {1}}, {3, {1, 1, 1}}},
        {{3, {1, 3, 1}}, {2, {1, 1}}}, {{2, {1, 4}}, {3, {2, 3, 1}}},
    };
    for (int i = 0; i < (int)(sizeof rows / sizeof *rows); i++) {
        teardown(), setup();
        brim_value x[2] = {brim_input_dims(g, "a", BRIM_F32, rows[i][0].rank, rows[i][0].dim),
                           brim_input_dims(g, "b", BRIM_F32, rows[i][1].rank, rows[i][1].dim)};
        brim_value y = brim_mul(brim_add(x[0], brim_exp(x[1])), brim_sub(x[1], x[0]));
        check_by_differences(total(brim_square(y)), x, 2, i);
    }
}
END_TEST

// Parts of a [4, 6] value: those that tile it along an axis are joined, others are added up.
static const struct tiles {
    int count;
    int64_t part[4][3]; // axis, first, extent
    int concats, adds;
} tiles[] = {
    {2, {{1, 0, 2}, {1, 2, 4}}, 1, 0},
    {2, {{0, 1, 3}, {0, 0, 1}}, 1, 0},
    {4, {{1, 0, 2}, {0, 0, 1}, {1, 2, 4}, {0, 1, 3}}, 2, 1},
    {4, {{0, 1, 3}, {1, 2, 4}, {0, 0, 1}, {1, 0, 2}}, 2, 1},
    {3, {{1, 0, 3}, {1, 0, 3}, {1, 3, 3}}, 0, 2},
    {3, {{1, 2, 4}, {1, 0, 6}, {1, 0, 2}}, 1, 1},
    {2, {{1, 1, 2}, {1, 3, 3}}, 0, 1},
    {2, {{1, 0, 2}, {1, 2, 2}}, 0, 1},
    {2, {{0, 0, 4}, {1, 0, 6}}, 0, 1}, // whole, both
    {3, {{0, 0, 2}, {0, 2, 2}, {1, 5, 1}}, 1, 1},
    {2, {{0, 0, 2}, {1, 2, 4}}, 0, 1}, // of different axes
    {1, {{1, 2, 3}}, 0, 0},
};

START_TEST(parts_of_a_value) {
    const struct tiles *c = &tiles[_i];
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), loss = brim_constant(g, 0);
    for (int i = 0; i < c->count; i++) {
        brim_value part = brim_slice(x, (int)c->part[i][0], c->part[i][1], c->part[i][2]);
        loss = brim_add(loss, brim_scale(total(brim_square(part)), i + 1));
    }
    check_by_differences(loss, &x, 1, _i);
    ck_assert_int_eq(count_backward(OP_CONCAT), c->concats);
    ck_assert_int_eq(count_backward(OP_ADD), c->adds);
}
END_TEST

// What is wanted of a value on the way is what its producer's gradient is made of.
START_TEST(sums_are_made_once) {
    brim_value x = brim_input(g, "x", BRIM_F32, 6), y = brim_exp(x), gradient[2];
    brim_value loss = brim_add(total(brim_tanh(y)), total(brim_square(y)));
    differentiate(loss, (brim_value[]){y, x}, 2, gradient);
    ck_assert_int_eq(count_backward(OP_ADD), 1);
    ck_assert_int_eq(node_of(gradient[0])->op, OP_ADD);
    ck_assert_int_eq(input_of(gradient[1], 0).id, gradient[0].id);
}
END_TEST

// Corners, which are cut along two axes, tile nothing along one.
START_TEST(corners_are_added) {
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), loss = brim_constant(g, 0);
    for (int64_t i = 0; i < 2; i++) {
        brim_attr attr = {.start = {2 * i, 3 * i}};
        shape half = {2, {2, 3}};
        brim_value part = graph_op_shaped(g, OP_SLICE, &x, 1, &attr, BRIM_F32, &half);
        loss = brim_add(loss, brim_scale(total(brim_square(part)), (double)i + 1));
    }
    check_by_differences(loss, &x, 1, 0);
    ck_assert_int_eq(count_backward(OP_CONCAT), 0);
}
END_TEST

// The order of a sum decides its bits: what was joined stands where the first of it stood.
START_TEST(what_is_joined_stands_first) {
    brim_value x = brim_input(g, "x", BRIM_F32, 6);
    static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 2, 0}, {2, 0, 1}}; // 2: the whole
    for (int i = 0; i < 4; i++) {
        brim_value loss = brim_constant(g, 0);
        for (int k = 0; k < 3; k++) { // the last use's gradient is made first
            int64_t first = orders[i][k] == 1 ? 2 : 0;
            brim_value use = orders[i][k] == 2 ? x : brim_slice(x, 0, first, 2 + first);
            loss = brim_add(loss, total(brim_exp(use)));
        }
        brim_value sum = gradient_of(loss, x);
        ck_assert_int_eq(node_of(sum)->op, OP_ADD);
        ck_assert_msg(node_of(input_of(sum, orders[i][2] == 2))->op == OP_CONCAT, "order %d", i);
    }
}
END_TEST

// What is asked for -------------------------------------------------------------------------------

static bool *find_needed(brim_value x) {
    static bool needed[4096];
    ck_assert_int_le(g->nodes, 4096);
    memset(needed, 0, sizeof needed);
    if (x.id >= 0 && g->value[x.id].producer >= 0) needed[g->value[x.id].producer] = true;
    for (node_id n = g->nodes - 1; n >= 0; n--)
        for (int32_t i = 0; needed[n] && i < g->node[n].inputs; i++)
            if (g->value[g->node[n].input[i]].producer >= 0)
                needed[g->value[g->node[n].input[i]].producer] = true;
    return needed;
}

static brim_value one_gradient(const op_case *c, brim_dtype dtype, int leaf) {
    op_case_graph made;
    ck_assert(op_case_build(c, g, dtype, &made));
    brim_value loss = total(brim_scale(brim_cast(made.result, BRIM_F32), 0.5)), gradient;
    autograd_differentiate(g, loss, brim_constant(g, 1), &made.x[leaf].id, 1, &gradient, &err);
    ASSERT_FINE(err);
    return gradient;
}

// The gradient of each operand alone is there if it is there beside the others', in its dtype, and
// no node is made that it does not need, but for parts that were joined.
START_TEST(one_operand_at_a_time) {
    const op_case *c = &op_cases[_i];
    if (!(c->uses & OP_CASE_TEST) || op_table[c->op].derivative != DERIVATIVE_RULE) return;
    for (int dtype = 0; dtype < BRIM_I32; dtype++) {
        if (!(c->dtypes >> dtype & 1)) continue;
        teardown(), setup();
        op_case_graph made;
        brim_value cotangent, loss, all[OP_CASE_LEAVES];
        ck_assert(op_case_build(c, g, (brim_dtype)dtype, &made));
        ck_assert(op_case_differentiate(&made, &cotangent, &loss, all));
        for (int k = 0; k < made.leaves; k++) {
            if (made.leaf[k].dtype == BRIM_I32) continue;
            teardown(), setup();
            brim_value alone = one_gradient(c, (brim_dtype)dtype, k);
            char title[100];
            op_case_title(c, (brim_dtype)dtype, title, sizeof title);
            ck_assert_msg((alone.id >= 0) == (all[k].id >= 0), "%s, operand %d", title, k);
            if (alone.id < 0) continue;
            ck_assert_msg(brim_value_dtype(alone) == made.leaf[k].dtype, "%s, operand %d", title,
                          k);
            const bool *needed = find_needed(alone);
            for (node_id n = 0; n < g->nodes; n++)
                ck_assert_msg(g->node[n].phase != PHASE_BACKWARD || needed[n] ||
                                  g->node[n].op == OP_PAD,
                              "%s, operand %d: node %d, %s, is not needed", title, k, n,
                              op_table[g->node[n].op].name);
        }
    }
}
END_TEST

// A value on the way ends the walk where it alone is wanted; one that no derivative reaches has a
// gradient all the same; what a rule leaves out is none, whatever value 0 is.
START_TEST(the_walk_ends_at_what_is_wanted) {
    brim_value other = brim_input(g, "other", BRIM_F32, 7), x = brim_input(g, "x", BRIM_F32, 3);
    brim_value y = brim_exp(x), gradient[2];
    gradient_of(total(brim_tanh(y)), y);
    ck_assert_int_eq(count_backward(OP_MUL), 0);
    brim_value step = brim_gt(x, brim_constant(g, 0));
    differentiate(total(brim_mul(step, brim_tanh(x))), (brim_value[]){step, x}, 2, gradient);
    ck_assert(gradient[0].id >= 0 && gradient[1].id >= 0);
    brim_value constant = brim_mul(brim_pow(x, 0), brim_where(x, y, y));
    differentiate(total(constant), (brim_value[]){x, other}, 2, gradient);
    ck_assert_int_ge(gradient[0].id, 0);
    ck_assert_int_lt(gradient[1].id, 0);
}
END_TEST

START_TEST(powers_need_no_power) {
    static const int powers[] = {0, 0, 0, 1}; // of the gradient of a^p
    for (int p = 1; p < 4; p++) {
        teardown(), setup();
        brim_value x = brim_input(g, "x", BRIM_F32, 3);
        check_by_differences(total(brim_pow(x, p)), &x, 1, p);
        ck_assert_int_eq(count_backward(OP_POW), powers[p]);
    }
}
END_TEST

// Dtypes ------------------------------------------------------------------------------------------

static brim_value copy_of(const char *name, int64_t rows, int64_t columns) {
    return brim_cast(brim_parameter(g, name, (brim_init){0}, rows, columns), BRIM_BF16);
}

// An operand that was broadcast is summed into the dtype of its own gradient, whichever place it
// has: f32 for the copy of a parameter, else 16 bits.
START_TEST(sums_have_the_dtype_of_the_operand) {
    for (int place = 0; place < 2; place++) {
        for (int of_parameter = 0; of_parameter < 2; of_parameter++) {
            teardown(), setup();
            brim_value copy = copy_of("w", of_parameter ? 1 : 3, 4);
            brim_value other = brim_input(g, "x", BRIM_BF16, of_parameter ? 3 : 1, 4);
            brim_value few = of_parameter ? copy : other, many = of_parameter ? other : copy;
            brim_value y = place ? brim_add(many, few) : brim_add(few, many);
            brim_value gradient = gradient_of(total(brim_exp(y)), few);
            ck_assert_int_eq(node_of(gradient)->op, OP_RESHAPE);
            ck_assert_int_eq(node_of(input_of(gradient, 0))->op, OP_SUM);
            ck_assert_int_eq(brim_value_dtype(gradient), of_parameter ? BRIM_F32 : BRIM_BF16);
        }
    }
}
END_TEST

// dy times a factor is rounded once: made in f32 where it is summed or wanted in f32, else in 16
// bits at once.
START_TEST(factors_are_multiplied_in_the_dtype_that_is_kept) {
    brim_value x = brim_input(g, "x", BRIM_BF16, 3, 4), row = brim_input(g, "r", BRIM_BF16, 4);
    brim_value copy = copy_of("w", 3, 4);
    brim_graph *const graph = g;
    const struct {
        brim_value y, operand;
        op_id op;
        brim_dtype dtype;
    } rows[] = {
        {brim_mul(x, brim_exp(x)), x, OP_MUL, BRIM_BF16},
        {brim_mul(x, row), x, OP_MUL, BRIM_BF16},
        {brim_mul(x, row), row, OP_MUL, BRIM_F32},
        {brim_mul(row, x), row, OP_MUL, BRIM_F32},
        {brim_mul(copy, x), copy, OP_MUL, BRIM_F32},
        {brim_mul(x, copy), copy, OP_MUL, BRIM_F32},
        {brim_mul(x, copy), x, OP_MUL, BRIM_BF16},
        {brim_exp(x), x, OP_MUL, BRIM_BF16},
        {brim_exp(copy), copy, OP_MUL, BRIM_F32},
        {brim_log(x), x, OP_DIV, BRIM_BF16},
        {brim_log(copy), copy, OP_DIV, BRIM_F32},
        {brim_div(x, row), x, OP_DIV, BRIM_BF16},
        {brim_div(copy, row), copy, OP_DIV, BRIM_F32},
        {brim_div(row, x), row, OP_DIV, BRIM_F32},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        node_id before = graph->nodes;
        gradient_of(total(rows[i].y), rows[i].operand);
        int found = 0;
        for (node_id n = before; n < g->nodes; n++) {
            const graph_node *node = &g->node[n];
            if (node->phase != PHASE_BACKWARD || node->op != rows[i].op) continue;
            ck_assert_msg(g->value[node->first_output].dtype == rows[i].dtype, "row %d", (int)i);
            found++;
        }
        ck_assert_msg(found > 0, "row %d", (int)i);
    }
}
END_TEST

// What joins the copy of a parameter and something else has a gradient in 16 bits, as has what is
// computed from a copy.
START_TEST(only_copies_have_gradients_in_f32) {
    brim_value copy = copy_of("w", 3, 4), x = brim_input(g, "x", BRIM_BF16, 3, 4);
    const struct {
        brim_value value;
        brim_dtype dtype;
    } rows[] = {
        {copy, BRIM_F32},
        {brim_permute(copy, 1, 0), BRIM_F32},
        {brim_concat((brim_value[]){copy, copy_of("v", 3, 4)}, 2, 0), BRIM_F32},
        {brim_concat((brim_value[]){copy, x}, 2, 0), BRIM_BF16},
        {brim_concat((brim_value[]){x, copy}, 2, 0), BRIM_BF16},
        {brim_neg(copy), BRIM_BF16},
        {brim_permute(x, 1, 0), BRIM_BF16},
        {brim_cast(brim_cast(x, BRIM_F32), BRIM_BF16), BRIM_BF16},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        brim_value gradient = gradient_of(total(brim_exp(rows[i].value)), rows[i].value);
        ck_assert_msg(brim_value_dtype(gradient) == rows[i].dtype, "row %d", (int)i);
    }
}
END_TEST

// A product in f32 of 16-bit operands, logits say: the products of its gradients read 16 bits.
START_TEST(products_in_f32_have_gradients_in_16_bits) {
    brim_value x[2] = {brim_input(g, "x", BRIM_BF16, 3, 4), brim_input(g, "w", BRIM_BF16, 4, 5)};
    brim_value y = graph_op_as(g, OP_MATMUL, x, 2, NULL, BRIM_F32), gradient[2];
    differentiate(total(brim_square(y)), x, 2, gradient);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(node_of(gradient[i])->op, OP_MATMUL);
        ck_assert_int_eq(brim_value_dtype(gradient[i]), BRIM_BF16);
        for (int k = 0; k < 2; k++)
            ck_assert_int_eq(brim_value_dtype(input_of(gradient[i], k)), BRIM_BF16);
    }
    ck_assert_int_eq(count_backward(OP_CAST), 1); // dy, for both
}
END_TEST

// A sum's gradient is rounded before it is spread.
START_TEST(gradients_of_sums_are_spread_in_16_bits) {
    brim_value x = brim_input(g, "x", BRIM_F16, 3, 4);
    brim_value gradient = gradient_of(total(brim_square(brim_sum(x, (int[]){1}, 1, false))), x);
    ck_assert_int_eq(node_of(gradient)->op, OP_BROADCAST);
    ck_assert_int_eq(brim_value_dtype(input_of(gradient, 0)), BRIM_F16);
}
END_TEST

// A gradient may be asked for in another dtype of any value, of results of ops as well.
START_TEST(gradients_of_results_in_another_dtype) {
    brim_value x = brim_input(g, "x", BRIM_BF16, 2, 5, 3, 4);
    brim_value y = brim_softmax(brim_attention(x, x, x, NULL), -1),
               z = brim_rms_norm_with(brim_cast(y, BRIM_BF16), brim_input(g, "gain", BRIM_F32, 4),
                                      0);
    const brim_value results[] = {x, brim_attention(x, x, x, NULL), y, z, brim_exp(z)};
    for (int i = 0; i < 5; i++) {
        brim_dtype other = brim_value_dtype(results[i]) == BRIM_F32 ? BRIM_BF16 : BRIM_F32;
        brim_value loss = total(brim_exp(results[i])), gradient[2];
        autograd_differentiate_as(g, loss, brim_constant(g, 1), (value_id[]){results[i].id, x.id},
                                  (brim_dtype[]){other, BRIM_BF16}, 2, gradient, &err);
        ASSERT_FINE(err);
        ck_assert_int_eq(brim_value_dtype(gradient[0]), other);
        ck_assert_int_eq(brim_value_dtype(gradient[1]), BRIM_BF16);
    }
}
END_TEST

START_TEST(the_seed_takes_on_the_dtype_of_the_loss) {
    brim_value first = brim_constant(g, 1); // value 0
    brim_value x = brim_input(g, "x", BRIM_BF16, 4), loss = brim_max(x, NULL, 0, false), gradient;
    brim_value sum = total(brim_cast(x, BRIM_F32)), s = brim_input_dims(g, "s", BRIM_F32, 0, NULL);
    const brim_value losses[] = {sum, brim_add(s, brim_exp(s)), s}, of[] = {x, s, s};
    const op_id made[] = {OP_CAST, OP_ADD, OP_CONSTANT}; // the seed itself for the last
    for (int i = 0; i < 3; i++) {
        autograd_differentiate(g, losses[i], first, &of[i].id, 1, &gradient, &err);
        ASSERT_FINE(err);
        ck_assert_int_ge(gradient.id, 0);
        ck_assert_msg(node_of(gradient)->op == made[i], "loss %d", i);
    }
    ck_assert_int_eq(brim_value_dtype(gradient_of(loss, x)), BRIM_BF16);
    brim_value own = gradient_of(loss, loss);
    ck_assert_int_eq(brim_value_dtype(own), BRIM_BF16);
    ck_assert_int_eq(node_of(own)->op, OP_CAST);
    ck_assert_int_eq(node_of(input_of(own, 0))->op, OP_CONSTANT);
}
END_TEST

Suite *autograd_rules_suite(void) {
    Suite *suite = suite_create("autograd_rules");
    TCase *numbers = tcase_create("numbers");
    tcase_add_checked_fixture(numbers, setup, teardown);
    tcase_add_loop_test(numbers, batches_of_products, 0, sizeof batches / sizeof *batches);
    tcase_add_loop_test(numbers, batches_of_16_bit_products, 0, sizeof batches / sizeof *batches);
    tcase_add_test(numbers, sums_over_broadcast_axes);
    tcase_add_loop_test(numbers, parts_of_a_value, 0, sizeof tiles / sizeof *tiles);
    tcase_add_test(numbers, sums_are_made_once);
    tcase_add_test(numbers, corners_are_added);
    tcase_add_test(numbers, what_is_joined_stands_first);
    tcase_add_test(numbers, the_walk_ends_at_what_is_wanted);
    tcase_add_test(numbers, powers_need_no_power);
    suite_add_tcase(suite, numbers);
    TCase *made = tcase_create("made");
    tcase_set_timeout(made, 60);
    tcase_add_checked_fixture(made, setup, teardown);
    tcase_add_loop_test(made, one_operand_at_a_time, 0, op_case_count);
    tcase_add_test(made, sums_have_the_dtype_of_the_operand);
    tcase_add_test(made, factors_are_multiplied_in_the_dtype_that_is_kept);
    tcase_add_test(made, only_copies_have_gradients_in_f32);
    tcase_add_test(made, products_in_f32_have_gradients_in_16_bits);
    tcase_add_test(made, gradients_of_sums_are_spread_in_16_bits);
    tcase_add_test(made, gradients_of_results_in_another_dtype);
    tcase_add_test(made, the_seed_takes_on_the_dtype_of_the_loss);
    suite_add_tcase(suite, made);
    return suite;
}
