// Passes over graphs: what each makes of small graphs, word for word, and that none changes what
// random ones compute.
#include <stdio.h>
#include <string.h>
#include <brim/nn.h>
#include "graph/layout.h"
#include "graph/passes.h"
#include "sandbox.h"
#include "test_graph.h"

enum { OPERANDS = 24 };
static const brim_init normal = {BRIM_NORMAL, 1};

// `next` becomes g.
#define TAKE(next)                                                                                 \
    do {                                                                                           \
        brim_graph *taken = (next);                                                                \
        ASSERT_FINE(err);                                                                          \
        brim_graph_free(g);                                                                        \
        g = taken;                                                                                 \
    } while (0)

static int count_ops(const brim_graph *g, op_id op) {
    int count = 0;
    for (node_id n = 0; n < g->nodes; n++) count += g->node[n].op == op;
    return count;
}

static const graph_node *find_op(const brim_graph *g, op_id op) {
    for (node_id n = 0; n < g->nodes; n++)
        if (g->node[n].op == op) return &g->node[n];
    ck_abort_msg("no node is %s", op_table[op].name);
}

static brim_value total(brim_value x) {
    return brim_sum(x, NULL, 0, false);
}

// Prune -------------------------------------------------------------------------------------------

START_TEST(prune_removes_what_nothing_needs) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    brim_input(g, "unused", BRIM_I32, 2);
    brim_parameter(g, "idle", normal, 3);
    graph_control(g, CONTROL_LR);
    brim_exp(brim_neg(x));
    brim_output(brim_relu(x), "y");
    g->loss.sum = total(x).id;
    g->loss.count = brim_constant(g, 4).id;
    TAKE(pass_prune(g, &err));
    assert_text(g, "%0 = input \"x\" [4] f32\n"
                   "%1 = input \"unused\" [2] i32\n"
                   "%2 = parameter \"idle\" [3] f32 normal(1)\n"
                   "%3 = relu(%0) [4] f32\n"
                   "%4 = sum(%0, axes 0) [] f32\n"
                   "%5 = constant(4) [] f32\n"
                   "output \"y\" = %3\n"
                   "loss = %4 / %5\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(prune_merges_equal_nodes) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 4);
    brim_value a = brim_mul(x, brim_constant(g, 2)), b = brim_mul(x, brim_constant(g, 2));
    brim_value c = brim_mul(x, brim_constant(g, 3));
    brim_value d = brim_slice(x, 1, 0, 2), e = brim_slice(x, 1, 1, 2), f = brim_slice(x, 1, 1, 2);
    brim_output(brim_add(brim_add(a, b), c), "abc");
    brim_output(brim_add(d, brim_add(e, f)), "def");
    TAKE(pass_prune(g, &err));
    assert_text(g, "%0 = input \"x\" [2,4] f32\n"
                   "%1 = constant(2) [] f32\n"
                   "%2 = mul(%0, %1) [2,4] f32\n"
                   "%3 = constant(3) [] f32\n"
                   "%4 = mul(%0, %3) [2,4] f32\n"
                   "%5 = slice(%0, start 0 0) [2,2] f32\n"
                   "%6 = slice(%0, start 0 1) [2,2] f32\n"
                   "%7 = add(%2, %2) [2,4] f32\n"
                   "%8 = add(%7, %4) [2,4] f32\n"
                   "%9 = add(%6, %6) [2,2] f32\n"
                   "%10 = add(%5, %9) [2,2] f32\n"
                   "output \"abc\" = %8\n"
                   "output \"def\" = %10\n");
    brim_graph *again = pass_prune(g, &err); // nothing is left to do
    char *text = graph_text(again);
    assert_text(g, text);
    free(text);
    brim_graph_free(again);
    FREE_GRAPH;
}
END_TEST

START_TEST(prune_keeps_names_draws_and_phases_apart) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    brim_value named[] = {brim_relu(x), brim_relu(x), brim_relu(x)};
    brim_output(named[0], "a");
    brim_output(named[1], "b"); // a value has one name
    brim_output(brim_add(brim_dropout(x, 0.5), brim_dropout(x, 0.5)), "drawn");
    brim_output(brim_neg(named[2]), "c");
    brim_value draw[] = {x, graph_control(g, CONTROL_SEED), graph_control(g, CONTROL_STEP),
                         graph_control(g, CONTROL_MICRO)};
    brim_attr attr = {.dropout = {.p = 0.5f, .stream = 7}};
    brim_value e = graph_op(g, OP_DROPOUT, draw, 4, &attr),
               f = graph_op(g, OP_DROPOUT, draw, 4, &attr);
    brim_output(brim_add(e, f), "e+f");
    brim_output(brim_add(brim_cast(brim_cast(x, BRIM_F16), BRIM_F32),
                         brim_cast(brim_cast(x, BRIM_BF16), BRIM_F32)),
                "dtypes");
    TAKE(pass_prune(g, &err));
    ck_assert_int_eq(count_ops(g, OP_RELU), 2);
    ck_assert_int_eq(count_ops(g, OP_DROPOUT), 4);
    ck_assert_int_eq(count_ops(g, OP_CAST), 4);
    FREE_GRAPH;
    g = brim_graph_create(&err); // what a later phase made may not be read by an earlier one
    x = brim_input(g, "x", BRIM_F32, 4);
    g->phase = PHASE_BACKWARD;
    brim_value late = brim_relu(x);
    g->phase = PHASE_FORWARD;
    brim_value early = brim_relu(x);
    brim_output(brim_neg(early), "early");
    g->phase = PHASE_UPDATE;
    brim_output(brim_add(late, brim_relu(x)), "late");
    TAKE(pass_prune(g, &err));
    ck_assert_int_eq(count_ops(g, OP_RELU), 2);
    FREE_GRAPH;
}
END_TEST

START_TEST(prune_gives_a_merged_value_its_name) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4), a = brim_relu(x), b = brim_relu(x);
    brim_output(brim_neg(a), "a");
    brim_output(b, "b");
    TAKE(pass_prune(g, &err));
    assert_text(g, "%0 = input \"x\" [4] f32\n"
                   "%1 = relu(%0) [4] f32\n"
                   "%2 = neg(%1) [4] f32\n"
                   "output \"a\" = %2\n"
                   "output \"b\" = %1\n");
    FREE_GRAPH;
}
END_TEST

// Densify -----------------------------------------------------------------------------------------

START_TEST(densify_leaves_what_can_be_read) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 3, 12), y = brim_input(g, "y", BRIM_F32, 5, 4);
    brim_value heads =
        brim_reshape(brim_slice(x, 2, 4, 4), 2, 3, 2, 2);     // the last axis of a slice is split
    brim_value a = brim_neg(brim_permute(heads, 0, 2, 1, 3)); // elementwise ops read anything
    brim_value b = brim_matmul(brim_slice(x, 2, 0, 4), brim_permute(y, 1, 0));
    brim_output(brim_add(total(a), total(b)), "sum");
    TAKE(pass_densify(g, &err));
    ck_assert_int_eq(count_ops(g, OP_COPY), 0);
    ck_assert_int_eq(count_ops(g, OP_MATMUL), 1);
    // The transposed operand is read as it lies.
    const graph_node *product = find_op(g, OP_MATMUL);
    ck_assert(product->attr.matmul.transpose_b && !product->attr.matmul.transpose_a);
    FREE_GRAPH;
}
END_TEST

START_TEST(densify_copies_the_rest_once) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6);
    brim_value t = brim_permute(x, 1, 0);
    brim_value a = brim_softmax(t, -1), b = brim_log_softmax(t, -1), c = brim_reshape(t, 24);
    brim_output(brim_add(brim_reshape(brim_add(a, b), 24), c), "y");
    brim_output(t, "t"); // a view of a leaf
    TAKE(pass_densify(g, &err));
    assert_text(g, "%0 = input \"x\" [4,6] f32\n"
                   "%1 = permute(%0, axes 1 0) [6,4] f32\n"
                   "%2 = copy(%1) [6,4] f32\n"
                   "%3 = softmax(%2) [6,4] f32\n"
                   "%4 = log_softmax(%2) [6,4] f32\n"
                   "%5 = reshape(%2) [24] f32\n"
                   "%6 = add(%3, %4) [6,4] f32\n"
                   "%7 = reshape(%6) [24] f32\n"
                   "%8 = add(%7, %5) [24] f32\n"
                   "output \"y\" = %8\n"
                   "output \"t\" = %2\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(densify_spreads_half_a_batch) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 1, 4, 3),
               y = brim_input(g, "y", BRIM_F32, 2, 5, 3, 4);
    brim_output(brim_matmul(x, y), "xy");
    TAKE(pass_densify(g, &err));
    assert_text(g, "%0 = input \"x\" [2,1,4,3] f32\n"
                   "%1 = input \"y\" [2,5,3,4] f32\n"
                   "%2 = broadcast(%0) [2,5,4,3] f32\n"
                   "%3 = copy(%2) [2,5,4,3] f32\n"
                   "%4 = matmul(%3, %1) [2,5,4,4] f32\n"
                   "output \"xy\" = %4\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(densify_gives_results_a_storage) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), y = brim_relu(x);
    brim_value w = brim_parameter(g, "w", normal, 6);
    brim_output(brim_slice(y, 1, 0, 3), "part");
    brim_output(brim_reshape(y, 24), "all");       // all of a node's output: no copy
    brim_output(brim_reshape(w, 2, 3), "weights"); // a variable changes
    brim_output(brim_slice(y, 0, 0, 2), "begin");
    TAKE(pass_densify(g, &err));
    ck_assert_int_eq(count_ops(g, OP_COPY), 3);
    static const char *const names[] = {"part", "all", "weights", "begin"};
    ck_assert_int_eq(g->results, 4);
    for (int i = 0; i < 4; i++) {
        ck_assert_str_eq(g->value[g->result[i]].name, names[i]);
        ck_assert_int_eq(g->node[g->value[g->result[i]].producer].op,
                         i == 1 ? OP_RESHAPE : OP_COPY);
        for (value_id v = 0; v < g->values; v++) // what was copied has lost its name
            ck_assert(v == g->result[i] || !g->value[v].name ||
                      strcmp(g->value[v].name, names[i]) != 0);
    }
    FREE_GRAPH;
}
END_TEST

// What a later phase copied may not be read by an earlier one.
START_TEST(densify_keeps_phases_apart) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), t = brim_permute(x, 1, 0);
    g->phase = PHASE_BACKWARD;
    brim_output(brim_softmax(t, -1), "late");
    g->phase = PHASE_FORWARD;
    brim_output(brim_log_softmax(t, -1), "early");
    TAKE(pass_densify(g, &err));
    ck_assert_int_eq(count_ops(g, OP_COPY), 2);
    FREE_GRAPH;
}
END_TEST

// Every operand of every node has a form that it takes, whatever the graph.
START_TEST(densified_graphs_can_be_laid_out) {
    for (uint64_t seed = 0; seed < 150; seed++) {
        brim_error err = {0};
        brim_graph *g = sandbox_graph(seed, 40, 1, &err);
        TAKE(pass_densify(g, &err));
        graph_schedule schedule;
        graph_layout layout;
        graph_schedule_make(g, &schedule, &err);
        graph_layout_make(g, &schedule, &layout, &err);
        ASSERT_FINE(err);
        for (node_id n = 0; n < g->nodes; n++)
            for (int i = 0; i < g->node[n].inputs && !op_is_view(g->node[n].op); i++)
                ck_assert(layout_suits(g, &g->node[n], i, &layout.of[g->node[n].input[i]]));
        graph_layout_free(&layout);
        graph_schedule_free(&schedule);
        FREE_GRAPH;
    }
}
END_TEST

// Fuse --------------------------------------------------------------------------------------------

START_TEST(fuse_makes_one_chain) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), bias = brim_parameter(g, "bias", normal, 6);
    brim_value h = brim_add(x, bias);
    brim_value y = brim_gelu(h);
    y = brim_mul(y, brim_constant(g, 0.5));
    brim_output(h, "h"); // needed outside: a second output
    brim_output(brim_softmax(y, -1), "y");
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    assert_text(
        g,
        "%0 = input \"x\" [4,6] f32\n"
        "%1 = parameter \"bias\" [6] f32 normal(1)\n"
        "%2, %3 = fused(%0, %1, t0 = add(a0, a1) f32; t1 = gelu(t0) f32; t2 = constant(0.5) f32; "
        "t3 = mul(t1, t2) f32; out t0 t3) [4,6] f32, [4,6] f32\n"
        "%4 = softmax(%3) [4,6] f32\n"
        "output \"h\" = %2\n"
        "output \"y\" = %4\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(fuse_off_makes_a_chain_of_each) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    brim_value y = brim_relu(x);
    brim_output(brim_mul(y, brim_constant(g, 0.5)), "y");
    TAKE(pass_fuse(g, false, OPERANDS, &err));
    assert_text(g, "%0 = input \"x\" [4] f32\n"
                   "%1 = fused(%0, t0 = relu(a0) f32; out t0) [4] f32\n"
                   "%2 = fused(t0 = constant(0.5) f32; out t0) [] f32\n"
                   "%3 = fused(%1, %2, t0 = mul(a0, a1) f32; out t0) [4] f32\n"
                   "output \"y\" = %3\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(fuse_makes_no_cycle) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6);
    brim_value a = brim_relu(x);
    brim_value b = brim_add(a, brim_softmax(a, -1)); // a leads to b through the softmax
    brim_value c = brim_add(b, brim_neg(x));
    brim_output(c, "c");
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    assert_text(g, "%0 = input \"x\" [4,6] f32\n"
                   "%1 = fused(%0, t0 = relu(a0) f32; out t0) [4,6] f32\n"
                   "%2 = softmax(%1) [4,6] f32\n"
                   "%3 = fused(%1, %2, %0, t0 = add(a0, a1) f32; t1 = neg(a2) f32; t2 = add(t0, "
                   "t1) f32; out t2) "
                   "[4,6] f32\n"
                   "output \"c\" = %3\n");
    FREE_GRAPH;
}
END_TEST

// The second chain is made before the node that would lead back to it.
START_TEST(fuse_moves_units_out_of_the_way) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), w = brim_input(g, "w", BRIM_F32, 4, 6);
    brim_value a = brim_relu(x);
    brim_value s = brim_softmax(w, -1); // after a in the order, before a + s
    brim_value t = brim_softmax(a, -1); // reads a
    brim_value b = brim_add(a, s);      // joins a, which must move behind s
    brim_value c = brim_add(b, t);      // may not join: a leads to it through t
    brim_output(c, "c");
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    assert_text(g, "%0 = input \"x\" [4,6] f32\n"
                   "%1 = input \"w\" [4,6] f32\n"
                   "%2 = softmax(%1) [4,6] f32\n"
                   "%3, %4 = fused(%0, %2, t0 = relu(a0) f32; t1 = add(t0, a1) f32; out t0 t1) "
                   "[4,6] f32, [4,6] f32\n"
                   "%5 = softmax(%3) [4,6] f32\n"
                   "%6 = fused(%4, %5, t0 = add(a0, a1) f32; out t0) [4,6] f32\n"
                   "output \"c\" = %6\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(fuse_keeps_shapes_apart) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), r = brim_input(g, "r", BRIM_F32, 4, 1);
    brim_value s = brim_input(g, "s", BRIM_F32, 1);
    brim_value row = brim_exp(r); // would be computed six times for each row
    brim_value scale = brim_reshape(s, 1, 1);
    scale = brim_mul(scale, brim_constant(g, 2)); // one scalar: may be inside
    brim_output(brim_mul(brim_mul(x, row), scale), "y");
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    assert_text(
        g,
        "%0 = input \"x\" [4,6] f32\n"
        "%1 = input \"r\" [4,1] f32\n"
        "%2 = input \"s\" [1] f32\n"
        "%3 = fused(%1, t0 = exp(a0) f32; out t0) [4,1] f32\n"
        "%4 = reshape(%2) [1,1] f32\n"
        "%5 = fused(%4, %0, %3, t0 = constant(2) f32; t1 = mul(a0, t0) f32; t2 = mul(a1, a2) f32; "
        "t3 = mul(t2, t1) f32; out t3) [4,6] f32\n"
        "output \"y\" = %5\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(fuse_keeps_scalars_that_others_read) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), y = brim_input(g, "y", BRIM_F32, 5);
    brim_value scale = brim_exp(brim_input(g, "s", BRIM_F32, 1));
    brim_output(brim_mul(x, scale), "xs");
    brim_output(brim_mul(y, scale), "ys");
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    ck_assert_int_eq(count_ops(g, OP_FUSED), 3);
    FREE_GRAPH;
}
END_TEST

START_TEST(fuse_skips_broadcasts) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), b = brim_input(g, "b", BRIM_F32, 6);
    brim_output(brim_add(x, brim_broadcast(b, 4, 6)), "y");
    brim_output(brim_neg(brim_broadcast(b, 2, 6)), "z"); // this one makes the shape
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    assert_text(g, "%0 = input \"x\" [4,6] f32\n"
                   "%1 = input \"b\" [6] f32\n"
                   "%2 = fused(%0, %1, t0 = add(a0, a1) f32; out t0) [4,6] f32\n"
                   "%3 = broadcast(%1) [2,6] f32\n"
                   "%4 = fused(%3, t0 = neg(a0) f32; out t0) [2,6] f32\n"
                   "output \"y\" = %2\n"
                   "output \"z\" = %4\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(fuse_keeps_phases_and_sections_apart) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4), w = brim_parameter(g, "w", normal, 4);
    brim_value y = brim_mul(x, brim_neg(w)); // -w is made once a step
    g->phase = PHASE_BACKWARD;
    brim_output(brim_relu(y), "y");
    pass_sections(g, 3, &err);
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    ck_assert_int_eq(count_ops(g, OP_FUSED), 3);
    FREE_GRAPH;
}
END_TEST

START_TEST(fuse_limits_operands) {
    MAKE_GRAPH;
    brim_value sum = brim_input(g, "x0", BRIM_F32, 4);
    for (int i = 1; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        sum = brim_add(sum, brim_input(g, name, BRIM_F32, 4));
    }
    brim_output(sum, "sum");
    TAKE(pass_fuse(g, true, 8, &err));
    for (node_id n = 0; n < g->nodes; n++)
        ck_assert_int_le(g->node[n].inputs + g->node[n].outputs, 8);
    ck_assert_int_eq(g->nodes, 7); // 7 inputs and an output make 6 additions: 39 in 7 chains
    ck_assert_ptr_null(pass_fuse(g, true, 3, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "at least 4");
    FREE_GRAPH;
}
END_TEST

START_TEST(fuse_limits_steps) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    for (int i = 0; i < 500; i++) x = brim_relu(brim_neg(x));
    brim_output(x, "y");
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    ck_assert_int_eq(g->nodes, 16);
    for (node_id n = 0; n < g->nodes; n++) ck_assert_int_le(g->node[n].attr.chain->steps, 64);
    FREE_GRAPH;
}
END_TEST

// No node but FUSED is elementwise; each chain has one shape; and what is inside one is not stored.
START_TEST(fused_graphs_are_well_formed) {
    for (uint64_t seed = 0; seed < 100; seed++) {
        brim_error err = {0};
        brim_graph *g = sandbox_graph(seed, 60, 2, &err);
        TAKE(pass_prune(g, &err));
        int before = g->nodes;
        TAKE(pass_fuse(g, true, 10, &err));
        ck_assert_int_le(g->nodes, before);
        for (node_id n = 0; n < g->nodes; n++) {
            const graph_node *node = &g->node[n];
            ck_assert(op_table[node->op].family != FAMILY_ELEMENTWISE || node->op == OP_FUSED);
            if (node->op != OP_FUSED) continue;
            ck_assert_int_le(node->inputs + node->outputs, 10);
            for (int i = 0; i < node->inputs; i++)
                for (int k = 0; k < i; k++) ck_assert_int_ne(node->input[i], node->input[k]);
        }
        FREE_GRAPH;
    }
}
END_TEST

// Cast --------------------------------------------------------------------------------------------

START_TEST(cast_of_a_layer) {
    MAKE_GRAPH;
    brim_value ids = brim_input(g, "ids", BRIM_I32, 3);
    brim_value table = brim_parameter(g, "table", normal, 8, 4);
    brim_value x = brim_layer_norm(brim_gather(table, ids), "ln", 0);
    brim_value logits = brim_matmul_t(brim_mul(x, brim_constant(g, 2)), false, table, true);
    brim_output(logits, "logits");
    brim_loss loss = brim_cross_entropy(logits, ids, -1);
    g->loss.sum = loss.sum.id, g->loss.count = loss.count.id;
    TAKE(pass_cast(g, BRIM_BF16, &err));
    ck_assert_int_eq(count_ops(g, OP_CAST), 2); // the table's one compute copy, and the targets
    TAKE(pass_prune(g, &err));
    assert_text(g, "%0 = input \"ids\" [3] i32\n"
                   "%1 = parameter \"table\" [8,4] f32 normal(1)\n"
                   "%2 = cast(%1) [8,4] bf16\n"
                   "%3 = embedding(%2, %0) [3,4] bf16\n"
                   "%4 = parameter \"ln.weight\" [4] f32 ones\n"
                   "%5 = parameter \"ln.bias\" [4] f32 zeros\n"
                   "%6, %7, %8 = layer_norm(%3, %4, %5, 1e-05) [3,4] bf16, [3] f32, [3] f32 ln\n"
                   "%9 = constant(2) [] bf16\n"
                   "%10 = mul(%6, %9) [3,4] bf16\n"
                   "%11 = matmul(%10, %2, transpose_b) [3,8] bf16\n"
                   "%12, %13 = cross_entropy(%11, %0, ignore -1) [3] f32, [3] f32\n"
                   "%14 = constant(-1) [] i32\n"
                   "%15 = ne(%0, %14) [3] i32\n"
                   "%16 = cast(%15) [3] f32\n"
                   "%17 = sum(%12, axes 0) [] f32\n"
                   "%18 = sum(%16, axes 0) [] f32\n"
                   "output \"logits\" = %11\n"
                   "loss = %17 / %18\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(cast_follows_f32) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 3, 4), w = brim_parameter(g, "w", normal, 4, 4);
    brim_value h = brim_matmul(x, w);   // f16
    brim_value p = brim_softmax(h, -1); // f32
    brim_value q = brim_mul(p, h);      // f32: h is promoted
    brim_value r = brim_add(q, w.graph ? brim_slice(w, 0, 0, 3) : w);
    brim_value s = brim_add(x, brim_constant(g, 1)); // graph inputs and variables count as f16
    brim_output(r, "r");
    brim_output(s, "s");
    brim_output(brim_matmul_t(q, true, s, false), "t");
    brim_output(brim_cast(h, BRIM_F32), "u");
    TAKE(pass_cast(g, BRIM_F16, &err));
    static const struct {
        const char *name;
        brim_dtype dtype;
    } expected[] = {{"r", BRIM_F32}, {"s", BRIM_F16}, {"t", BRIM_F16}, {"u", BRIM_F16}};
    for (int i = 0; i < 4; i++) {
        ck_assert_str_eq(g->value[g->result[i]].name, expected[i].name);
        ck_assert_int_eq(g->value[g->result[i]].dtype, expected[i].dtype);
    }
    FREE_GRAPH;
}
END_TEST

// What is made of constants alone is rounded where it meets 16-bit values, not before.
START_TEST(cast_adapts_constants) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4), c = brim_exp(brim_constant(g, 1));
    brim_value p = brim_softmax(x, -1);
    brim_output(brim_mul(p, c), "p");
    brim_output(brim_mul(brim_relu(x), c), "x");
    TAKE(pass_cast(g, BRIM_BF16, &err));
    ck_assert_int_eq(g->value[find_op(g, OP_EXP)->first_output].dtype, BRIM_F32);
    ck_assert_int_eq(g->value[g->result[0]].dtype, BRIM_F32);
    ck_assert_int_eq(g->value[g->result[1]].dtype, BRIM_BF16);
    FREE_GRAPH;
}
END_TEST

START_TEST(cast_keeps_the_loss_in_f32) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 1);
    brim_value sum = brim_reshape_dims(brim_relu(x), 0, (int64_t[]){0});
    brim_output(sum, "sum");
    g->loss.sum = sum.id;
    g->loss.count = brim_constant(g, 1).id;
    TAKE(pass_cast(g, BRIM_F16, &err));
    ck_assert_int_eq(g->value[g->loss.sum].dtype, BRIM_F32);
    ck_assert_int_eq(g->value[g->loss.count].dtype, BRIM_F32);
    ck_assert_int_eq(g->value[g->result[0]].dtype, BRIM_F16);
    FREE_GRAPH;
}
END_TEST

// A mean squared error in f32 of a prediction in 16 bits; the residual stream before it stays in 16
// bits.
START_TEST(cast_computes_the_loss_in_f32) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 4),
               target = brim_input(g, "target", BRIM_F32, 4, 4);
    brim_value w = brim_parameter(g, "w", normal, 4, 4);
    brim_value h = brim_matmul(x, w), y = brim_add(h, brim_matmul(h, w));
    brim_loss loss = brim_mse(brim_neg(y), target);
    brim_output(y, "y");
    g->loss.sum = loss.sum.id, g->loss.count = loss.count.id;
    TAKE(pass_cast(g, BRIM_BF16, &err));
    ck_assert_int_eq(g->value[g->result[0]].dtype, BRIM_BF16);
    static const op_id in_f32[] = {OP_NEG, OP_SUB, OP_SUM_SQUARES};
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(g->value[find_op(g, in_f32[i])->first_output].dtype, BRIM_F32);
    // The target has not been through 16 bits.
    const graph_node *sub = find_op(g, OP_SUB);
    ck_assert_str_eq(g->value[sub->input[1]].name, "target");
    FREE_GRAPH;
}
END_TEST

START_TEST(cast_refuses_what_is_not_forward) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    g->phase = PHASE_BACKWARD;
    brim_output(brim_relu(x), "y");
    ck_assert_ptr_null(pass_cast(g, BRIM_BF16, &err));
    ASSERT_FAILS(err, BRIM_GRAPH, "cast: node 0 (relu in scope \"\") is not of a forward graph");
    ck_assert_ptr_null(pass_cast(g, BRIM_F32, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "to f32; f16 or bf16 is expected");
    FREE_GRAPH;
}
END_TEST

// Sections ----------------------------------------------------------------------------------------

START_TEST(sections_of_a_step) {
    MAKE_GRAPH;
    shape s = {1, {4}};
    brim_value x = brim_input(g, "x", BRIM_F32, 4), w = brim_parameter(g, "w", normal, 4);
    brim_value scaled = brim_mul(w, brim_constant(g, 2)); // once a step
    brim_value y = brim_mul(x, scaled);
    g->phase = PHASE_UPDATE;
    brim_value gradient = brim_relu(y); // of the update, but summed
    value_id sum = graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &s, "g"),
             m = graph_leaf(g, ROLE_STATE, BRIM_F32, &s, "m");
    brim_value total_gradient =
        graph_op(g, OP_ACCUMULATE, (brim_value[]){graph_value_of(g, sum), gradient}, 2, NULL);
    brim_value lr = graph_control(g, CONTROL_LR);
    graph_op(g, OP_SGD,
             (brim_value[]){w, graph_value_of(g, m), brim_neg(total_gradient), lr, lr, lr}, 6,
             &(brim_attr){.optimizer = {0}});
    pass_sections(g, 2, &err);
    ASSERT_FINE(err);
    static const struct {
        op_id op;
        int sections;
    } expected[] = {{OP_CONSTANT, SECTION_ALL},   {OP_MUL, SECTION_FIRST},
                    {OP_MUL, SECTION_ALL},        {OP_RELU, SECTION_ALL},
                    {OP_ACCUMULATE, SECTION_ALL}, {OP_NEG, SECTION_LAST},
                    {OP_SGD, SECTION_LAST}};
    ck_assert_int_eq(g->nodes, 7);
    for (int n = 0; n < 7; n++) {
        ck_assert_int_eq(g->node[n].op, expected[n].op);
        ck_assert_int_eq(g->node[n].sections, expected[n].sections);
    }
    g->phase = PHASE_FORWARD;
    value_id loss = graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &s, "loss");
    brim_value sum_of_losses =
        graph_op(g, OP_ACCUMULATE, (brim_value[]){graph_value_of(g, loss), y}, 2, NULL);
    brim_neg(sum_of_losses); // complete in the last micro-batch only, whatever its phase
    pass_sections(g, 2, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(g->node[7].sections, SECTION_ALL);
    ck_assert_int_eq(g->node[8].sections, SECTION_LAST);
    pass_sections(g, 1, &err);
    ASSERT_FINE(err);
    for (int n = 0; n < 9; n++) ck_assert_int_eq(g->node[n].sections, SECTION_LAST);
    ck_assert_int_ne(pass_sections(g, 0, &err), BRIM_OK);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "0 micro-batches");
    FREE_GRAPH;
}
END_TEST

// All ---------------------------------------------------------------------------------------------

static void compare_runs(brim_graph *g, const sandbox_outcome *expected, int micro_batches,
                         const char *pass, int seed) {
    sandbox_outcome found;
    sandbox_run_plain(g, micro_batches, &found);
    const char *difference = sandbox_difference(expected, &found);
    ck_assert_msg(!difference, "seed %d: %s differs after %s", seed, difference, pass);
    sandbox_outcome_free(&found);
}

START_TEST(passes_keep_every_bit) {
    for (int seed = _i * 100; seed < _i * 100 + 100; seed++) {
        int micro_batches = 1 + seed % 3;
        brim_error err = {0};
        brim_graph *g = sandbox_graph((uint64_t)seed, 40, micro_batches, &err), *built = g;
        ASSERT_FINE(err);
        sandbox_outcome expected;
        sandbox_run_plain(built, micro_batches, &expected);
        g = pass_prune(built, &err);
        ASSERT_FINE(err);
        compare_runs(g, &expected, micro_batches, "prune", seed);
        TAKE(pass_densify(g, &err));
        compare_runs(g, &expected, micro_batches, "densify", seed);
        pass_sections(g, micro_batches, &err);
        brim_graph *apart = pass_fuse(g, false, OPERANDS, &err);
        ASSERT_FINE(err);
        compare_runs(apart, &expected, micro_batches, "fuse (off)", seed);
        brim_graph_free(apart);
        TAKE(pass_fuse(g, true, 4 + seed % 20, &err));
        compare_runs(g, &expected, micro_batches, "fuse", seed);
        sandbox_outcome_free(&expected);
        brim_graph_free(built);
        FREE_GRAPH;
    }
}
END_TEST

// In 16 bits too: each step of a chain is rounded to its dtype.
START_TEST(fusion_keeps_16_bit_roundings) {
    for (int seed = 0; seed < 100; seed++) {
        brim_error err = {0};
        brim_graph *g = brim_graph_create(&err);
        uint64_t random = (uint64_t)seed;
        brim_value v[30] = {brim_input(g, "x", BRIM_F32, 3, 4), brim_parameter(g, "w", normal, 4)};
        for (int i = 2; i < 30; i++) {
            brim_value a = v[sandbox_below(&random, i)], b = v[sandbox_below(&random, i)];
            v[i] = sandbox_below(&random, 6) == 0 ? brim_softmax(a, -1)
                   : sandbox_below(&random, 2)    ? brim_mul(a, b)
                                                  : brim_add(a, b);
        }
        brim_output(v[29], "y");
        brim_output(v[20], "z");
        TAKE(pass_cast(g, seed % 2 ? BRIM_BF16 : BRIM_F16, &err));
        sandbox_outcome expected;
        brim_graph *kept = g;
        sandbox_run_plain(g, 1, &expected);
        g = pass_prune(g, &err);
        ASSERT_FINE(err);
        TAKE(pass_fuse(g, true, OPERANDS, &err));
        compare_runs(g, &expected, 1, "fuse", seed);
        sandbox_outcome_free(&expected);
        brim_graph_free(kept);
        FREE_GRAPH;
    }
}
END_TEST

START_TEST(passes_do_nothing_after_an_error) {
    MAKE_GRAPH;
    brim_output(brim_relu(brim_input(g, "x", BRIM_F32, 4)), "y");
    brim_fail(&err, BRIM_IO, "earlier");
    ck_assert_ptr_null(pass_prune(g, &err));
    ck_assert_ptr_null(pass_densify(g, &err));
    ck_assert_ptr_null(pass_fuse(g, true, OPERANDS, &err));
    ck_assert_ptr_null(pass_fuse(g, false, OPERANDS, &err));
    ck_assert_ptr_null(pass_cast(g, BRIM_BF16, &err));
    ck_assert_int_eq(pass_sections(g, 2, &err), BRIM_IO);
    ASSERT_FAILS(err, BRIM_IO, "earlier");
    FREE_GRAPH;
}
END_TEST

Suite *passes_suite(void) {
    Suite *s = suite_create("passes");
    TCase *prune = tcase_create("prune");
    tcase_add_test(prune, prune_removes_what_nothing_needs);
    tcase_add_test(prune, prune_merges_equal_nodes);
    tcase_add_test(prune, prune_keeps_names_draws_and_phases_apart);
    tcase_add_test(prune, prune_gives_a_merged_value_its_name);
    suite_add_tcase(s, prune);
    TCase *densify = tcase_create("densify");
    tcase_add_test(densify, densify_leaves_what_can_be_read);
    tcase_add_test(densify, densify_copies_the_rest_once);
    tcase_add_test(densify, densify_spreads_half_a_batch);
    tcase_add_test(densify, densify_gives_results_a_storage);
    tcase_add_test(densify, densify_keeps_phases_apart);
    tcase_add_test(densify, densified_graphs_can_be_laid_out);
    suite_add_tcase(s, densify);
    TCase *fuse = tcase_create("fuse");
    tcase_add_test(fuse, fuse_makes_one_chain);
    tcase_add_test(fuse, fuse_off_makes_a_chain_of_each);
    tcase_add_test(fuse, fuse_makes_no_cycle);
    tcase_add_test(fuse, fuse_moves_units_out_of_the_way);
    tcase_add_test(fuse, fuse_keeps_shapes_apart);
    tcase_add_test(fuse, fuse_keeps_scalars_that_others_read);
    tcase_add_test(fuse, fuse_skips_broadcasts);
    tcase_add_test(fuse, fuse_keeps_phases_and_sections_apart);
    tcase_add_test(fuse, fuse_limits_operands);
    tcase_add_test(fuse, fuse_limits_steps);
    tcase_add_test(fuse, fused_graphs_are_well_formed);
    suite_add_tcase(s, fuse);
    TCase *cast = tcase_create("cast");
    tcase_add_test(cast, cast_of_a_layer);
    tcase_add_test(cast, cast_follows_f32);
    tcase_add_test(cast, cast_adapts_constants);
    tcase_add_test(cast, cast_keeps_the_loss_in_f32);
    tcase_add_test(cast, cast_computes_the_loss_in_f32);
    tcase_add_test(cast, cast_refuses_what_is_not_forward);
    suite_add_tcase(s, cast);
    TCase *sections = tcase_create("sections");
    tcase_add_test(sections, sections_of_a_step);
    suite_add_tcase(s, sections);
    TCase *all = tcase_create("all");
    tcase_set_timeout(all, 300);
    tcase_add_loop_test(all, passes_keep_every_bit, 0, 4);
    tcase_add_test(all, fusion_keeps_16_bit_roundings);
    tcase_add_test(all, passes_do_nothing_after_an_error);
    suite_add_tcase(s, all);
    return s;
}
