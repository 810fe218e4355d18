// What nodes cost: bytes, operations and seconds, each against a number that was found by hand.
#include "graph/cost.h"
#include "test_graph.h"

// f32 unless a name says otherwise.
#define INPUT(name, ...) brim_input(g, name, BRIM_F32, __VA_ARGS__)

static const graph_node *node_of(brim_value v) {
    return &v.graph->node[v.graph->value[v.id].producer];
}

static brim_value leaf(brim_graph *g, value_role role, brim_dtype dtype, int64_t rows,
                       int64_t columns, const char *name) {
    shape s = {2, {rows, columns}};
    return graph_value_of(g, graph_leaf(g, role, dtype, &s, name));
}

// An update of a parameter of 5 x 8 with a 16-bit copy, which is only written.
static brim_value update(brim_graph *g) {
    brim_value p = brim_parameter(g, "p", ((brim_init){0}), 5, 8);
    brim_value in[] = {p,
                       leaf(g, ROLE_STATE, BRIM_F32, 5, 8, "m"),
                       leaf(g, ROLE_COPY, BRIM_BF16, 5, 8, "copy"),
                       INPUT("gradient", 5, 8),
                       INPUT("scale", 1),
                       graph_control(g, CONTROL_LR),
                       graph_control(g, CONTROL_BIAS1)};
    in[4] = brim_reshape_dims(in[4], 0, NULL);
    return graph_op(g, OP_SGD_CAST, in, 7, &(brim_attr){.optimizer = {.beta1 = 0.9f}});
}

static brim_value attention(brim_graph *g, bool causal, bool backward) {
    char name[20];
    snprintf(name, sizeof name, "%d%d", causal, backward);
    brim_scope_push(g, "%s", name);
    brim_attr attr = {.attention = {.causal = causal, .scale = 1}};
    // 2 sequences of 5 queries with 6 heads, of 7 keys with 3 heads, all of size 4
    brim_value in[6] = {[0] = INPUT("q", 2, 5, 6, 4)};
    in[2] = INPUT("v", 2, 7, 3, 4);
    INPUT("apart", 1, 1, 1, 1); // neighbours of other shapes
    in[1] = INPUT("k", 2, 7, 3, 4);
    brim_value o = graph_op(g, OP_ATTENTION, in, 3, &attr);
    brim_scope_pop(g);
    if (!backward) return o;
    in[3] = o, in[4] = graph_output(o, 1), in[5] = brim_neg(o);
    return graph_op(g, OP_ATTENTION_BACKWARD, in, 6, &attr);
}

static brim_value projected_loss(brim_graph *g, bool backward) {
    brim_attr attr = {.chunked_targets = {-100, 128}};
    brim_value in[5] = {brim_neg(INPUT("states", 3, 8)), INPUT("table", 256, 8),
                        brim_input(g, "classes", BRIM_I32, 3)};
    brim_value loss = graph_op(g, OP_LINEAR_CROSS_ENTROPY, in, 3, &attr);
    if (!backward) return loss;
    in[3] = graph_output(loss, 1), in[4] = brim_neg(loss);
    return graph_op(g, OP_LINEAR_CROSS_ENTROPY_BACKWARD, in, 5, &attr);
}

START_TEST(nodes_move_bytes_and_compute) {
    MAKE_GRAPH;
    brim_value x = INPUT("x", 4, 6), wide = INPUT("wide", 4, 2), y = INPUT("y", 6, 5),
               z = INPUT("z", 6, 4), three = INPUT("three", 3, 4, 6);
    brim_value table = INPUT("rows", 100, 8), few = brim_input(g, "few", BRIM_I32, 3),
               many = brim_input(g, "many", BRIM_I32, 200);
    const struct {
        brim_value v;
        double bytes, operations;
    } rows[] = {
        {brim_relu(x), 96 + 96, 0},
        {brim_add(x, brim_constant(g, 2)), 96 + 4 + 96, 0},
        {brim_cast(x, BRIM_BF16), 96 + 48, 0},
        {brim_reshape(x, 24), 0, 0},
        {brim_slice(x, 1, 1, 2), 0, 0},
        {brim_concat((brim_value[]){x, wide}, 2, 1), 96 + 32 + 128, 0},
        {graph_op_shaped(g, OP_PAD, &x, 1, &(brim_attr){.start = {1, 0}}, BRIM_F32,
                         &(shape){2, {7, 6}}),
         96 + 168, 0},
        {brim_layer_norm(x, "norm", 0), 96 + 24 + 24 + 96 + 16 + 16, 0},
        {brim_matmul(x, y), 96 + 120 + 80, 2 * 4 * 5 * 6},
        {brim_matmul_t(y, true, z, false), 120 + 96 + 80, 2 * 5 * 4 * 6},
        {brim_matmul_t(x, false, three, true), 96 + 288 + 192, 2 * 3 * 4 * 4 * 6},
        {graph_op(g, OP_EMBEDDING, (brim_value[]){table, few}, 2, NULL), 96 + 12 + 96,
         0}, // three rows
        {graph_op(g, OP_EMBEDDING, (brim_value[]){table, many}, 2, NULL), 3200 + 800 + 6400,
         0}, // no more than there are
        {update(g), 160 + 160 + 160 + 4 + 4 + 4 + 160 + 160 + 80, 0},
        {brim_cast(leaf(g, ROLE_COPY, BRIM_BF16, 5, 8, "read"), BRIM_F32), 80 + 160, 0},
        {attention(g, false, false), 960 + 672 + 672 + 960 + 240, 4 * (2 * 6) * (5 * 7) * 4},
        {attention(g, true, false), 960 + 672 + 672 + 960 + 240, 2 * (2 * 6) * (5 * 7) * 4},
        {attention(g, false, true), 2 * (960 + 672 + 672) + 960 + 240 + 960,
         10 * (2 * 6) * (5 * 7) * 4},
        {projected_loss(g, false), 96 + 8192 + 12 + 12 + 12, 2 * 3 * 256 * 8},
        {projected_loss(g, true), 96 + 8192 + 12 + 12 + 12 + 96 + 8192, 6 * 3 * 256 * 8},
    };
    ASSERT_FINE(err);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const graph_node *node = node_of(rows[i].v);
        ck_assert_msg(node_bytes(g, node) == rows[i].bytes, "row %d, %s: %g bytes", (int)i,
                      op_table[node->op].name, node_bytes(g, node));
        ck_assert_msg(node_flops(g, node) == rows[i].operations, "row %d, %s: %g operations",
                      (int)i, op_table[node->op].name, node_flops(g, node));
    }
    FREE_GRAPH;
}
END_TEST

// Whichever takes longer, and a launch; what is nothing but strides takes no time at all.
START_TEST(seconds_follow_from_rates) {
    const brim_rates slow = {.memory = 8, .matmul_16 = 1e9, .matmul_32 = 1e9, .launch = 0.5};
    const brim_rates busy = {.memory = 1e9, .matmul_16 = 40, .matmul_32 = 20, .launch = 0.25};
    MAKE_GRAPH;
    brim_value x = INPUT("x", 4, 6), y = INPUT("y", 6, 5);
    brim_value wide = brim_matmul(x, y),
               narrow = brim_matmul(brim_cast(x, BRIM_BF16), brim_cast(y, BRIM_BF16));
    ASSERT_FINE(err);
    ck_assert_double_eq_tol(node_seconds(g, node_of(wide), &slow), 296.0 / 8 + 0.5, 1e-4);
    ck_assert_double_eq_tol(node_seconds(g, node_of(narrow), &slow), 148.0 / 8 + 0.5, 1e-4);
    ck_assert_double_eq_tol(node_seconds(g, node_of(wide), &busy), 240.0 / 20 + 0.25, 1e-4);
    ck_assert_double_eq_tol(node_seconds(g, node_of(narrow), &busy), 240.0 / 40 + 0.25, 1e-4);
    ck_assert_double_eq_tol(node_seconds(g, node_of(brim_constant(g, 3)), &slow), 0.5 + 0.5, 1e-4);
    ck_assert(node_seconds(g, node_of(brim_reshape(x, 24)), &slow) == 0);
    FREE_GRAPH;
}
END_TEST

Suite *cost_suite(void) {
    Suite *s = suite_create("cost");
    TCase *tests = tcase_create("cost");
    tcase_add_test(tests, nodes_move_bytes_and_compute);
    tcase_add_test(tests, seconds_follow_from_rates);
    suite_add_tcase(s, tests);
    return s;
}
