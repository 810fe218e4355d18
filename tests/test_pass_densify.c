// Copies before readers that cannot take their input's strides: which are made, and which are not.
#include <string.h>
#include "graph/layout.h"
#include "sandbox.h"
#include "test_passes.h"

START_TEST(a_graph_may_begin_with_a_constant) {
    MAKE_GRAPH;
    brim_value two = brim_constant(g, 2), x = brim_input(g, "x", BRIM_F32, 3);
    ck_assert_int_eq(two.id, 0);
    brim_output(brim_add(brim_mul(x, two), two), "y");
    TAKE(pass_prune(g, &err));
    TAKE(pass_densify(g, &err));
    ck_assert_int_eq(count_ops(g, OP_CONSTANT), 1);
    const graph_node *mul = find_op(g, OP_MUL), *add = find_op(g, OP_ADD);
    ck_assert_int_eq(mul->input[1], add->input[1]);
    ck_assert_int_eq(g->node[g->value[mul->input[1]].producer].op, OP_CONSTANT);
    FREE_GRAPH;
}
END_TEST

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

START_TEST(densify_transposes_each_matrix_of_a_batch) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 3, 4, 5),
               y = brim_input(g, "y", BRIM_F32, 2, 3, 4, 6);
    brim_output(total(brim_matmul(brim_permute(x, 0, 1, 3, 2), y)), "sum");
    TAKE(pass_densify(g, &err));
    const graph_node *product = find_op(g, OP_MATMUL);
    ck_assert(product->attr.matmul.transpose_a && !product->attr.matmul.transpose_b);
    ck_assert_int_eq(count_ops(g, OP_COPY), 0);
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

// Products ----------------------------------------------------------------------------------------

static brim_value input(brim_graph *g, int rank, const int64_t *dims) {
    return brim_input_dims(g, "x", BRIM_F32, rank, dims);
}
#define X(...) input(g, BRIM_COUNT_DIMS(__VA_ARGS__), BRIM_DIMS(__VA_ARGS__))

// Views as an operand of a product: which are read as they lie, which by the product's flag, and
// which are copied, some of them spread over the batch before.
typedef struct operand {
    brim_value view;
    int swaps, copies, spreads;
} operand;

enum { OPERAND_ROWS = 14 };

static operand operand_row(brim_graph *g, int row) {
    switch (row) {
    case 0:
        return (operand){X(4, 6), 0, 0, 0};
    case 1:
        return (operand){brim_permute(X(4, 6), 1, 0), 1, 0, 0};
    case 2:
        return (operand){brim_slice(X(8, 6), 1, 2, 4), 0, 0, 0};
    case 3:
        return (operand){brim_permute(brim_slice(X(8, 6), 1, 2, 4), 1, 0), 1, 0, 0};
    case 4: // rows that overlap
        return (operand){brim_broadcast(X(4), 3, 4), 0, 1, 0};
    case 5:
        return (operand){brim_permute(brim_broadcast(X(4), 3, 4), 1, 0), 0, 1, 0};
    case 6: // one row lies as one column does
        return (operand){brim_permute(X(6, 1), 1, 0), 0, 0, 0};
    case 7:
        return (operand){brim_permute(brim_slice(X(8, 6), 1, 0, 1), 1, 0), 1, 0, 0};
    case 8:
        return (operand){brim_slice(X(8, 6), 1, 2, 1), 0, 0, 0};
    case 9: // matrices at more than one stride
        return (operand){brim_slice(X(2, 3, 4, 5), 1, 0, 2), 0, 1, 0};
    case 10:
        return (operand){brim_permute(X(2, 3, 4, 5), 1, 0, 3, 2), 0, 1, 0};
    case 11:
        return (operand){brim_permute(X(3, 4, 5), 0, 2, 1), 1, 0, 0};
    case 12:
        return (operand){brim_slice(X(6, 4, 5), 0, 1, 3), 0, 0, 0};
    default: // neither axis is dense
        return (operand){brim_permute(X(4, 5, 6), 2, 0, 1), 0, 1, 0};
    }
}

START_TEST(operands_of_products) {
    for (int second = 0; second < 2; second++) {
        MAKE_GRAPH;
        operand o = operand_row(g, _i);
        shape s = g->value[o.view.id].shape;
        s.dim[s.rank - 2 + second] = s.dim[s.rank - 1 - second]; // [.., K, K] or so
        brim_value other = brim_input_dims(g, "other", BRIM_F32, s.rank, s.dim);
        brim_value operands[] = {second ? other : o.view, second ? o.view : other};
        brim_output(brim_neg(graph_op(g, OP_MATMUL, operands, 2, NULL)), "y");
        int permutes = count_ops(g, OP_PERMUTE), broadcasts = count_ops(g, OP_BROADCAST);
        TAKE(pass_densify(g, &err));
        const graph_node *product = find_op(g, OP_MATMUL);
        ck_assert_int_eq(product->attr.matmul.transpose_a, second ? 0 : o.swaps);
        ck_assert_int_eq(product->attr.matmul.transpose_b, second ? o.swaps : 0);
        ck_assert_int_eq(count_ops(g, OP_PERMUTE), permutes + o.swaps);
        ck_assert_int_eq(count_ops(g, OP_BROADCAST), broadcasts + o.spreads);
        ck_assert_int_eq(count_ops(g, OP_COPY), o.copies);
        graph_verify(g, "densify", &err);
        ASSERT_FINE(err);
        FREE_GRAPH;
    }
}
END_TEST

// A flag that is set already is taken back.
START_TEST(operands_that_are_transposed_twice) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), y = brim_input(g, "y", BRIM_F32, 6, 4);
    brim_output(brim_matmul_t(brim_permute(x, 1, 0), true, brim_permute(y, 1, 0), true), "xy");
    TAKE(pass_densify(g, &err));
    const graph_node *product = find_op(g, OP_MATMUL);
    ck_assert(!product->attr.matmul.transpose_a && !product->attr.matmul.transpose_b);
    ck_assert_int_eq(count_ops(g, OP_COPY), 0);
    FREE_GRAPH;
}
END_TEST

// Both operands of a batch may have to be spread.
START_TEST(densify_spreads_both_operands) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 1, 4, 3),
               y = brim_input(g, "y", BRIM_F32, 1, 5, 3, 6);
    brim_output(brim_matmul(x, y), "xy");
    TAKE(pass_densify(g, &err));
    assert_text(g, "%0 = input \"x\" [2,1,4,3] f32\n"
                   "%1 = input \"y\" [1,5,3,6] f32\n"
                   "%2 = broadcast(%0) [2,5,4,3] f32\n"
                   "%3 = copy(%2) [2,5,4,3] f32\n"
                   "%4 = broadcast(%1) [2,5,3,6] f32\n"
                   "%5 = copy(%4) [2,5,3,6] f32\n"
                   "%6 = matmul(%3, %5) [2,5,4,6] f32\n"
                   "output \"xy\" = %6\n");
    FREE_GRAPH;
}
END_TEST

// A copy is shared by readers of the same sections alone, and stands in its reader's scope.
START_TEST(copies_are_of_their_readers_sections) {
    for (int apart = 0; apart < 2; apart++) {
        MAKE_GRAPH;
        brim_value t = brim_permute(brim_input(g, "x", BRIM_F32, 4, 6), 1, 0);
        brim_scope_push(g, "reader");
        brim_value a = brim_softmax(t, -1), b = brim_log_softmax(t, -1);
        brim_scope_pop(g);
        brim_output(brim_add(a, b), "y");
        if (apart) g->node[g->value[a.id].producer].sections = SECTION_FIRST;
        TAKE(pass_densify(g, &err));
        ck_assert_int_eq(count_ops(g, OP_COPY), 1 + apart);
        ck_assert_str_eq(find_op(g, OP_COPY)->scope, "reader");
        ck_assert_int_eq(find_op(g, OP_COPY)->sections, apart ? SECTION_FIRST : SECTION_ALL);
        FREE_GRAPH;
    }
}
END_TEST

// Results have their bytes to themselves, in order, in the scope where they were made.
START_TEST(results_that_are_views_are_copied) {
    for (int row = 0; row < 6; row++) {
        MAKE_GRAPH;
        brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), y = brim_exp(x);
        brim_scope_push(g, "views");
        brim_value result = row == 0   ? brim_permute(y, 1, 0)
                            : row == 1 ? brim_broadcast(y, 2, 4, 6)
                            : row == 2 ? brim_slice(y, 0, 0, 3)
                            : row == 3 ? brim_reshape(x, 24)
                            : row == 4 ? brim_reshape(y, 2, 12)
                                       : brim_permute(brim_reshape(y, 24, 1), 1, 0);
        brim_scope_pop(g);
        brim_output(result, "result");
        brim_output(brim_neg(result), "read");
        TAKE(pass_densify(g, &err));
        ck_assert_msg(count_ops(g, OP_COPY) == (row < 4), "row %d", row);
        ck_assert_str_eq(g->node[g->value[g->result[0]].producer].scope, "views");
        ck_assert_str_eq(g->value[g->result[0]].name, "result");
        FREE_GRAPH;
    }
}
END_TEST

Suite *pass_densify_suite(void) {
    Suite *s = suite_create("pass_densify");
    TCase *densify = tcase_create("densify");
    tcase_add_test(densify, a_graph_may_begin_with_a_constant);
    tcase_add_test(densify, densify_leaves_what_can_be_read);
    tcase_add_test(densify, densify_transposes_each_matrix_of_a_batch);
    tcase_add_test(densify, densify_copies_the_rest_once);
    tcase_add_test(densify, densify_spreads_half_a_batch);
    tcase_add_test(densify, densify_gives_results_a_storage);
    tcase_add_test(densify, densify_keeps_phases_apart);
    tcase_add_test(densify, densified_graphs_can_be_laid_out);
    tcase_add_loop_test(densify, operands_of_products, 0, OPERAND_ROWS);
    tcase_add_test(densify, operands_that_are_transposed_twice);
    tcase_add_test(densify, densify_spreads_both_operands);
    tcase_add_test(densify, copies_are_of_their_readers_sections);
    tcase_add_test(densify, results_that_are_views_are_copied);
    suite_add_tcase(s, densify);
    return s;
}
