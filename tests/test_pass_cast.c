// Mixed precision: where casts stand, and what stays in f32.
#include "test_passes.h"

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

// A cast that the user wrote and one that the pass made are one.
START_TEST(casts_are_shared_with_the_user_s) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 3, 4), w = brim_parameter(g, "w", normal, 4, 4);
    brim_output(brim_neg(brim_cast(w, BRIM_BF16)), "mine");
    brim_output(brim_matmul(x, w), "product");
    TAKE(pass_cast(g, BRIM_BF16, &err));
    TAKE(pass_prune(g, &err));
    ck_assert_int_eq(count_ops(g, OP_CAST), 2); // of w and x
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

Suite *pass_cast_suite(void) {
    Suite *s = suite_create("pass_cast");
    TCase *cast = tcase_create("cast");
    tcase_add_test(cast, cast_of_a_layer);
    tcase_add_test(cast, cast_follows_f32);
    tcase_add_test(cast, cast_adapts_constants);
    tcase_add_test(cast, cast_keeps_the_loss_in_f32);
    tcase_add_test(cast, cast_computes_the_loss_in_f32);
    tcase_add_test(cast, casts_are_shared_with_the_user_s);
    tcase_add_test(cast, cast_refuses_what_is_not_forward);
    suite_add_tcase(s, cast);
    return s;
}
