// Mixed precision: where casts stand, and what stays in f32.
#include "graph/build.h"
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
    brim_value one = brim_constant(g, 1); // of the first node
    brim_value x = brim_input(g, "x", BRIM_F32, 4), c = brim_exp(one);
    brim_value p = brim_softmax(x, -1);
    brim_output(brim_mul(p, c), "p");
    brim_output(brim_mul(brim_relu(x), c), "x");
    brim_output(brim_mul(brim_abs(x), one), "one");
    TAKE(pass_cast(g, BRIM_BF16, &err));
    ck_assert_int_eq(g->value[find_op(g, OP_EXP)->first_output].dtype, BRIM_F32);
    ck_assert_int_eq(g->value[g->result[0]].dtype, BRIM_F32);
    ck_assert_int_eq(g->value[g->result[1]].dtype, BRIM_BF16);
    ck_assert_int_eq(g->value[g->result[2]].dtype, BRIM_BF16);
    ck_assert_int_eq(count_ops(g, OP_CAST), 2); // of x and of c; the constant is made anew
    ck_assert_int_eq(count_ops(g, OP_CONSTANT), 2);
    FREE_GRAPH;
}
END_TEST

START_TEST(cast_keeps_the_loss_in_f32) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 1);
    brim_value y = brim_relu(x);
    brim_input(g, "between", BRIM_I32, 2); // a leaf stands before the loss
    brim_value sum = brim_reshape_dims(y, 0, NULL);
    brim_value count = brim_reshape_dims(brim_abs(x), 0, NULL);
    brim_output(sum, "sum");
    brim_output(count, "count");
    g->loss.sum = sum.id;
    g->loss.count = count.id;
    TAKE(pass_cast(g, BRIM_F16, &err));
    ck_assert_int_eq(g->value[g->loss.sum].dtype, BRIM_F32);
    ck_assert_int_eq(g->value[g->loss.count].dtype, BRIM_F32);
    ck_assert_int_eq(g->value[g->result[0]].dtype, BRIM_F16);
    ck_assert_int_eq(g->value[g->result[1]].dtype, BRIM_F16);
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

// Whatever the op: what its inputs become, and what its outputs are.
START_TEST(cast_of_each_kind) {
    MAKE_GRAPH;
    begin_widely(g);
    brim_value x = brim_input(g, "x", BRIM_F32, 1, 4, 2, 8),
               at = brim_input(g, "at", BRIM_I32, 1, 4);
    brim_value w = brim_parameter(g, "w", normal, 6, 8),
               gain = brim_parameter(g, "gain", normal, 8);
    brim_value p = brim_softmax(x, -1);                    // FULL: f32 of f32
    brim_value y = brim_attention(p, x, x, NULL);          // LOW
    brim_value z = brim_rotary(y, 100, at);                // FOLLOW, integers stay
    z = brim_rms_norm_with(brim_dropout(z, 0.5), gain, 0); // NORM: 16 bits, and a gain in f32
    brim_value wide = brim_rms_norm_with(p, gain, 0);      // NORM, of f32
    brim_value back = brim_cast(z, BRIM_BF16);             // idle; the next has a name
    brim_output(brim_relu(back), "relu");
    brim_output(brim_cast(z, BRIM_BF16), "named");
    brim_value targets[] = {brim_reshape(wide, 8, 8), w,
                            brim_reshape(brim_concat((brim_value[]){at, at}, 2, 1), 8)};
    brim_value losses = graph_op(g, OP_LINEAR_CROSS_ENTROPY, targets, 3,
                                 &(brim_attr){.chunked_targets = {-1, 2}}); // WIDE
    brim_output(losses, "losses");
    brim_output(brim_sum(z, (int[]){0}, 1, false), "sum");
    brim_output(brim_max(wide, NULL, 0, false), "max");
    TAKE(pass_cast(g, BRIM_BF16, &err));
    assert_text(
        g,
        "%0 = input \"row\" [1,2] f32\n"
        "%1 = cast(%0) [1,2] bf16\n"
        "%2 = concat(%1, %1, %1, %1, %1, %1, %1, %1, %1, %1, %1, %1, %1, %1, %1, %1, axis 0) "
        "[16,2] bf16\n"
        "%3 = input \"x\" [1,4,2,8] f32\n"
        "%4 = input \"at\" [1,4] i32\n"
        "%5 = parameter \"w\" [6,8] f32 normal(1)\n"
        "%6 = parameter \"gain\" [8] f32 normal(1)\n"
        "%7 = softmax(%3) [1,4,2,8] f32\n"
        "%8 = cast(%7) [1,4,2,8] bf16\n"
        "%9 = cast(%3) [1,4,2,8] bf16\n"
        "%10, %11 = attention(%8, %9, %9, causal, scale 0.35355338) [1,4,2,8] bf16, [1,2,4] f32\n"
        "%12 = rotary(%10, %4, base 100) [1,4,2,8] bf16\n"
        "%13 = control \"seed\" [] i32\n"
        "%14 = control \"step\" [] i32\n"
        "%15 = control \"micro\" [] i32\n"
        "%16 = dropout(%12, %13, %14, %15, p 0.5, stream 0) [1,4,2,8] bf16\n"
        "%17, %18 = rms_norm(%16, %6, 0) [1,4,2,8] bf16, [1,4,2] f32\n"
        "%19, %20 = rms_norm(%7, %6, 0) [1,4,2,8] f32, [1,4,2] f32\n"
        "%21 = relu(%17) [1,4,2,8] bf16\n"
        "%22 = cast(%17) [1,4,2,8] bf16\n"
        "%23 = reshape(%19) [8,8] f32\n"
        "%24 = concat(%4, %4, axis 1) [1,8] i32\n"
        "%25 = reshape(%24) [8] i32\n"
        "%26 = cast(%23) [8,8] bf16\n"
        "%27 = cast(%5) [6,8] bf16\n"
        "%28, %29 = linear_cross_entropy(%26, %27, %25, ignore -1, chunk 2) [8] f32, [8] f32\n"
        "%30 = sum(%17, axes 0) [4,2,8] f32\n"
        "%31 = max(%19, axes 0 1 2 3) [] f32\n"
        "output \"wide\" = %2\n"
        "output \"relu\" = %21\n"
        "output \"named\" = %22\n"
        "output \"losses\" = %28\n"
        "output \"sum\" = %30\n"
        "output \"max\" = %31\n");
    FREE_GRAPH;
}
END_TEST

// The loss may be the first node, and the only one; what nothing reads is no part of it, and keeps
// what it reads from being.
START_TEST(cast_finds_what_is_the_loss) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 1), first = brim_square(x),
               h = brim_matmul_t(brim_reshape(x, 1, 1), false, brim_reshape(x, 1, 1), true);
    brim_value shared = brim_neg(h), unread = brim_exp(shared), only = brim_tanh(h);
    brim_value sum = brim_add(total(brim_add(shared, only)), brim_reshape_dims(first, 0, NULL));
    g->loss.sum = sum.id;
    g->loss.count = brim_constant(g, 1).id;
    ck_assert_int_eq(g->value[first.id].producer, 0);
    ck_assert_int_ge(unread.id, 0);
    TAKE(pass_cast(g, BRIM_BF16, &err));
    static const struct {
        op_id op;
        brim_dtype dtype;
    } rows[] = {{OP_SQUARE, BRIM_F32}, {OP_MATMUL, BRIM_BF16}, {OP_NEG, BRIM_BF16},
                {OP_EXP, BRIM_BF16},   {OP_TANH, BRIM_F32},    {OP_SUM, BRIM_F32}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_msg(g->value[find_op(g, rows[i].op)->first_output].dtype == rows[i].dtype, "%s",
                      op_table[rows[i].op].name);
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
    tcase_add_test(cast, cast_of_each_kind);
    tcase_add_test(cast, cast_finds_what_is_the_loss);
    tcase_add_test(cast, cast_refuses_what_is_not_forward);
    suite_add_tcase(s, cast);
    return s;
}
