// Layouts: strides of views, parts that are written in place, outputs that take an input over.
#include "test_graph.h"
#include "tests/planned.h"

START_TEST(reshape_of_strides) {
    static const struct {
        shape from;
        int64_t stride[6];
        shape to;
        bool fits;
        int64_t expected[6];
    } cases[] = {
        {{2, {6, 4}}, {4, 1}, {1, {24}}, true, {1}},
        {{2, {6, 4}}, {12, 1}, {3, {6, 2, 2}}, true, {12, 2, 1}}, // the last axis of a slice
        {{2, {6, 4}}, {12, 1}, {3, {2, 3, 4}}, true, {36, 12, 1}},
        {{2, {6, 4}}, {12, 1}, {1, {24}}, false, {0}},
        {{2, {6, 4}}, {12, 1}, {2, {3, 8}}, false, {0}},
        {{2, {4, 6}}, {1, 4}, {2, {6, 4}}, false, {0}},    // transposed
        {{3, {2, 1, 3}}, {3, 99, 1}, {1, {6}}, true, {1}}, // an axis of 1 means nothing
        {{2, {3, 4}}, {0, 0}, {1, {12}}, true, {0}},
        {{2, {3, 4}}, {0, 1}, {1, {12}}, false, {0}},
        {{0, {0}}, {0}, {2, {1, 1}}, true, {1, 1}},
        {{1, {1}}, {7}, {0, {0}}, true, {0}},
        {{4, {2, 3, 2, 2}}, {24, 4, 2, 1}, {2, {2, 12}}, true, {24, 1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t stride[BRIM_MAX_DIMS] = {0};
        ck_assert_int_eq(layout_reshape(&cases[i].from, cases[i].stride, &cases[i].to, stride),
                         cases[i].fits);
        for (int d = 0; cases[i].fits && d < cases[i].to.rank; d++)
            if (cases[i].to.dim[d] != 1) ck_assert_int_eq(stride[d], cases[i].expected[d]);
    }
}
END_TEST

START_TEST(access_forms) {
    shape s = {3, {2, 3, 4}};
    value_layout dense = layout_dense(0, &s), rows = {.stride = {100, 10, 1}},
                 any = {.stride = {1, 2, 6}};
    ck_assert(layout_has_form(&dense, &s, ACCESS_DENSE));
    ck_assert(!layout_has_form(&rows, &s, ACCESS_DENSE) && layout_has_form(&rows, &s, ACCESS_ROWS));
    ck_assert(!layout_has_form(&any, &s, ACCESS_ROWS) && layout_has_form(&any, &s, ACCESS_ANY));
    ck_assert_int_eq(op_reads(OP_FUSED, 20), ACCESS_ANY);
    ck_assert_int_eq(op_reads(OP_CONCAT, 40), ACCESS_ANY);
    ck_assert_int_eq(op_reads(OP_ATTENTION, 2), ACCESS_ROWS);
    ck_assert_int_eq(op_reads(OP_ATTENTION, 3), ACCESS_DENSE);
    ck_assert_int_eq(op_reads(OP_ATTENTION_BACKWARD, 3), ACCESS_DENSE);
    ck_assert_int_eq(op_reads(OP_ATTENTION_BACKWARD, 5), ACCESS_ROWS);
    ck_assert_int_eq(op_writes(OP_ATTENTION_BACKWARD, 2), ACCESS_ROWS);
    ck_assert_int_eq(op_writes(OP_ATTENTION, 0), ACCESS_DENSE);
    ck_assert_int_eq(op_reads(OP_SOFTMAX, 0), ACCESS_DENSE);
    ck_assert_int_eq(op_writes(OP_SOFTMAX, 0), ACCESS_DENSE);
    for (int i = 0; i < 2; i++) ck_assert_int_eq(op_reads(OP_MATMUL, i), ACCESS_ROWS);
    ck_assert_int_eq(op_writes(OP_MATMUL, 0), ACCESS_DENSE);
    ck_assert(op_reads(OP_PAD, 0) == ACCESS_ANY && op_writes(OP_PAD, 0) == ACCESS_ANY);
    ck_assert(op_reads(OP_SLICE, 0) == ACCESS_ANY && op_writes(OP_SLICE, 0) == ACCESS_ANY);
    ck_assert(op_writes(OP_CONCAT, 0) == ACCESS_ANY && op_writes(OP_FUSED, 3) == ACCESS_ANY);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(op_reads(OP_ATTENTION, i), ACCESS_ROWS);
        ck_assert_int_eq(op_writes(OP_ATTENTION_BACKWARD, i), ACCESS_ROWS);
    }
    ck_assert_int_eq(op_reads(OP_ATTENTION_BACKWARD, 4), ACCESS_DENSE);
    ck_assert_int_eq(op_writes(OP_ATTENTION, 1), ACCESS_DENSE);
    // Products: one stride over the batch, rows that do not overlap, all of the batch or none of
    // it.
    shape c = {4, {2, 3, 5, 5}}, x = {4, {2, 3, 5, 4}}, part = {4, {2, 1, 5, 4}}, one = {2, {5, 4}};
    value_layout lx = layout_dense(0, &x), lp = layout_dense(0, &part), lo = layout_dense(0, &one);
    ck_assert(layout_suits_shape(OP_MATMUL, 0, &x, &c, &lx));
    ck_assert(layout_suits_shape(OP_MATMUL, 0, &one, &c, &lo));
    ck_assert(!layout_suits_shape(OP_MATMUL, 0, &part, &c, &lp));
    lx = (value_layout){.stride = {300, 100, 20, 1}};
    ck_assert(layout_suits_shape(OP_MATMUL, 0, &x, &c, &lx));
    lx.stride[0] = 400;
    ck_assert(!layout_suits_shape(OP_MATMUL, 0, &x, &c, &lx));
    lx = (value_layout){.stride = {0, 0, 4, 1}};
    ck_assert(layout_suits_shape(OP_MATMUL, 0, &x, &c, &lx));
    lx.stride[2] = 0;
    ck_assert(!layout_suits_shape(OP_MATMUL, 0, &x, &c, &lx));
}
END_TEST

// A batch is read where it has all of the result's matrices, or one for all of them.
START_TEST(products_read_whole_batches) {
    static const struct {
        shape operand, result;
        bool suits;
    } rows[] = {{{2, {4, 5}}, {2, {4, 6}}, true},
                {{3, {3, 4, 5}}, {3, {3, 4, 6}}, true},
                {{3, {1, 4, 5}}, {3, {3, 4, 6}}, true},
                {{3, {3, 4, 5}}, {4, {1, 3, 4, 6}}, true},
                {{3, {3, 4, 5}}, {4, {2, 3, 4, 6}}, false},
                {{4, {2, 1, 4, 5}}, {4, {2, 3, 4, 6}}, false},
                {{4, {2, 1, 4, 5}}, {5, {1, 2, 3, 4, 6}}, false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        value_layout dense = layout_dense(0, &rows[i].operand);
        ck_assert_msg(layout_suits_shape(OP_MATMUL, 0, &rows[i].operand, &rows[i].result, &dense) ==
                          rows[i].suits,
                      "row %d", (int)i);
    }
}
END_TEST

START_TEST(attention_writes_into_its_concat) {
    MAKE_GRAPH;
    brim_value in[6], d[3];
    brim_value o = packed_attention(g, in);
    in[3] = o, in[4] = graph_output(o, 1), in[5] = brim_neg(o);
    brim_attr attr = g->node[g->value[o.id].producer].attr;
    brim_value dq = graph_op(g, OP_ATTENTION_BACKWARD, in, 6, &attr);
    for (int i = 0; i < 3; i++) d[i] = brim_reshape(graph_output(dq, i), 2, 5, 8);
    brim_output(brim_sum(brim_concat(d, 3, 2), NULL, 0, false), "sum");
    planned p;
    planned_make(&p, g, 1, true, &err);
    const graph_node *backward = planned_node(&p, OP_ATTENTION_BACKWARD, 0);
    value_id whole = planned_node(&p, OP_CONCAT, 0)->first_output;
    ck_assert_int_eq(p.layout.of[whole].storage, whole);
    for (int j = 0; j < 3; j++) {
        const value_layout *l = &p.layout.of[backward->first_output + j];
        ck_assert_int_eq(l->storage, whole);
        ck_assert_int_eq(l->offset, 8 * j);
        ck_assert(l->stride[0] == 120 && l->stride[1] == 24 && l->stride[2] == 4 &&
                  l->stride[3] == 1);
    }
    // q, k and v are read where the packed projection lies: no copy.
    for (node_id n = 0; n < p.g->nodes; n++)
        if (p.g->node[n].op == OP_FUSED)
            for (int i = 0; i < p.g->node[n].attr.chain->steps; i++)
                ck_assert_int_ne(p.g->node[n].attr.chain->step[i].op, OP_COPY);
    planned_free(&p);
}
END_TEST

START_TEST(parts_that_somebody_else_places_are_copied) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), parts[7];
    parts[0] = brim_relu(x);
    parts[1] = x;                   // a leaf
    parts[2] = brim_neg(x);         // a result
    parts[3] = brim_softmax(x, -1); // whose producer writes densely
    parts[4] = brim_abs(x);         // read by an op that wants it dense
    parts[5] = brim_square(x);      // there twice
    parts[6] = parts[5];
    brim_output(brim_concat(parts, 7, 1), "whole");
    brim_output(parts[2], "negative");
    brim_output(brim_softmax(parts[4], -1), "soft");
    planned p;
    planned_make(&p, g, 1, false, &err);
    ck_assert_int_eq(planned_parts(&p), 1);
    planned_free(&p);
}
END_TEST

START_TEST(parts_along_the_first_axis_are_dense) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6);
    brim_value parts[] = {brim_softmax(x, -1), brim_abs(x)};
    brim_output(brim_concat(parts, 2, 0), "whole");
    brim_output(brim_softmax(parts[1], -1), "soft");
    planned p;
    planned_make(&p, g, 1, false, &err);
    ck_assert_int_eq(planned_parts(&p), 3);
    planned_free(&p);
}
END_TEST

// A part of a part of a result, which also is a part of the result itself: it is copied twice.
START_TEST(nested_concats_are_one_storage) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6);
    brim_value inner[] = {brim_relu(x), brim_neg(x)};
    brim_value outer[] = {brim_abs(x), brim_concat(inner, 2, 1), inner[0]};
    brim_output(brim_concat(outer, 3, 1), "whole");
    planned p;
    planned_make(&p, g, 1, false, &err);
    const graph_node *in = planned_node(&p, OP_CONCAT, 0), *out = planned_node(&p, OP_CONCAT, 1);
    value_id whole = out->first_output;
    ck_assert_int_eq(p.layout.of[in->first_output].storage, whole);
    ck_assert_int_eq(p.layout.of[in->input[1]].storage, whole);
    ck_assert_int_eq(p.layout.of[out->input[0]].offset, 0);
    ck_assert_int_eq(p.layout.of[in->first_output].offset, 6);
    ck_assert_int_eq(p.layout.of[in->input[1]].offset, 12);
    ck_assert_int_ne(p.layout.of[in->input[0]].storage, whole);
    planned_free(&p);
}
END_TEST

START_TEST(outputs_take_over_dying_inputs) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6),
               w = brim_parameter(g, "w", ((brim_init){0}), 6, 6);
    brim_value a = brim_matmul(x, w);   // dies in softmax
    brim_value b = brim_softmax(a, -1); // read later
    brim_value c = brim_softmax(b, -1); // may not take b
    brim_value d = brim_add(c, b);      // takes one of them
    brim_value e =
        brim_mul(d, brim_permute(brim_reshape(d, 6, 4), 1, 0)); // reads d in another order
    brim_output(brim_sum(e, NULL, 0, false), "sum");
    // What lies elsewhere may have any shape: it is not overwritten.
    brim_value f = brim_matmul(e, w), row = brim_softmax(brim_input(g, "row", BRIM_F32, 6), -1);
    brim_value h = brim_add(f, row);
    brim_output(brim_sum(h, NULL, 0, false), "h");
    brim_value k = brim_matmul(x, w), i = brim_add(x, k); // takes the second
    brim_output(brim_sum(i, NULL, 0, false), "i");
    value_id ids[] = {a.id, b.id, c.id, d.id, e.id, f.id, h.id, k.id, i.id};
    // In the graph as built: no pass renumbers.
    graph_schedule schedule;
    graph_layout layout;
    graph_schedule_make(g, &schedule, &err);
    graph_layout_make(g, &schedule, &layout, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(layout.of[ids[1]].storage, ids[0]);
    ck_assert_int_eq(layout.of[ids[2]].storage, ids[2]);
    ck_assert_int_eq(layout.of[ids[3]].storage, ids[2]);
    ck_assert_int_eq(layout.of[ids[4]].storage, ids[4]);
    ck_assert_int_eq(layout.of[ids[6]].storage, ids[5]);
    ck_assert_int_eq(layout.of[ids[8]].storage, ids[7]);
    graph_layout_free(&layout);
    ck_assert(!layout.of);
    graph_schedule_free(&schedule);
    FREE_GRAPH;
}
END_TEST

Suite *layout_suite(void) {
    Suite *s = suite_create("layout");
    TCase *layout = tcase_create("layout");
    tcase_add_test(layout, reshape_of_strides);
    tcase_add_test(layout, access_forms);
    tcase_add_test(layout, products_read_whole_batches);
    tcase_add_test(layout, attention_writes_into_its_concat);
    tcase_add_test(layout, parts_that_somebody_else_places_are_copied);
    tcase_add_test(layout, parts_along_the_first_axis_are_dense);
    tcase_add_test(layout, nested_concats_are_one_storage);
    tcase_add_test(layout, outputs_take_over_dying_inputs);
    suite_add_tcase(s, layout);
    return s;
}
