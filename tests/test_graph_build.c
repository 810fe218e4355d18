// The constructors of <brim/graph.h>: which nodes they make, and how they refuse.
#include <math.h>
#include "graph/build.h"
#include "test_graph.h"

static const graph_node *node_of(brim_value v) {
    return &v.graph->node[v.graph->value[v.id].producer];
}

static float constant_of(brim_value v) {
    ck_assert_int_eq(node_of(v)->op, OP_CONSTANT);
    return node_of(v)->attr.scalar[0];
}

static brim_value operand_of(brim_value v, int input) {
    return graph_value_of(v.graph, node_of(v)->input[input]);
}

// Elementwise -------------------------------------------------------------------------------------

START_TEST(elementwise_makes_its_op) {
    static const struct {
        op_id op;
        brim_value (*make)(brim_value);
    } unary[] = {
        {OP_NEG, brim_neg},         {OP_ABS, brim_abs},
        {OP_EXP, brim_exp},         {OP_LOG, brim_log},
        {OP_SQRT, brim_sqrt},       {OP_RSQRT, brim_rsqrt},
        {OP_SQUARE, brim_square},   {OP_TANH, brim_tanh},
        {OP_SIGMOID, brim_sigmoid}, {OP_RELU, brim_relu},
        {OP_GELU, brim_gelu},       {OP_GELU_ERF, brim_gelu_erf},
        {OP_SILU, brim_silu},       {OP_IS_FINITE, brim_is_finite},
    };
    static const struct {
        op_id op;
        brim_value (*make)(brim_value, brim_value);
    } binary[] = {
        {OP_ADD, brim_add}, {OP_SUB, brim_sub},         {OP_MUL, brim_mul},
        {OP_DIV, brim_div}, {OP_MAXIMUM, brim_maximum}, {OP_MINIMUM, brim_minimum},
        {OP_LT, brim_lt},   {OP_LE, brim_le},           {OP_GT, brim_gt},
        {OP_GE, brim_ge},   {OP_EQ, brim_eq},           {OP_NE, brim_ne},
    };
    MAKE_GRAPH;
    brim_value a = brim_input(g, "a", BRIM_F32, 2, 1), b = brim_input(g, "b", BRIM_F32, 3);
    for (size_t i = 0; i < sizeof unary / sizeof *unary; i++) {
        brim_value y = unary[i].make(a);
        ck_assert_int_eq(node_of(y)->op, unary[i].op);
        ASSERT_SHAPE(y, 2, 1);
    }
    for (size_t i = 0; i < sizeof binary / sizeof *binary; i++) {
        brim_value y = binary[i].make(a, b);
        ck_assert_int_eq(node_of(y)->op, binary[i].op);
        ck_assert_int_eq(operand_of(y, 0).id, a.id);
        ck_assert_int_eq(operand_of(y, 1).id, b.id);
        ASSERT_SHAPE(y, 2, 3);
    }
    brim_value y = brim_pow(a, 3);
    ck_assert(node_of(y)->op == OP_POW && node_of(y)->attr.scalar[0] == 3);
    y = brim_clamp(a, -1, 2);
    ck_assert(node_of(y)->op == OP_CLAMP && node_of(y)->attr.scalar[0] == -1);
    ck_assert(node_of(y)->attr.scalar[1] == 2);
    y = brim_where(b, a, b);
    ck_assert(node_of(y)->op == OP_WHERE && operand_of(y, 1).id == a.id);
    ASSERT_FINE(err);
    FREE_GRAPH;
}
END_TEST

START_TEST(constants_take_on_a_dtype) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_BF16, 2), i = brim_input(g, "i", BRIM_I32, 2);
    brim_value two = brim_constant(g, 2);
    brim_value y = brim_add(x, two);
    ck_assert_int_eq(brim_value_dtype(y), BRIM_BF16);
    ck_assert(constant_of(operand_of(y, 1)) == 2);
    y = brim_div(two, x);
    ck_assert_int_eq(brim_value_dtype(operand_of(y, 0)), BRIM_BF16);
    y = brim_eq(i, two);
    ck_assert_int_eq(brim_value_dtype(operand_of(y, 1)), BRIM_I32);
    y = brim_where(i, two, x);
    ck_assert_int_eq(brim_value_dtype(y), BRIM_BF16);
    y = brim_scale(x, 0.5);
    ck_assert(node_of(y)->op == OP_MUL && constant_of(operand_of(y, 1)) == 0.5f);
    ck_assert_int_eq(brim_value_dtype(y), BRIM_BF16);
    ck_assert_int_eq(brim_value_dtype(two), BRIM_F32);
    ASSERT_FINE(err);

    brim_add(x, brim_cast(x, BRIM_F32));
    ASSERT_REFUSED(BRIM_SHAPE,
                   "add: \"x\" [2] bf16 and [2] f32 do not fit: operands 1 and 2 are bf16 "
                   "and f32, one dtype is expected (brim_cast)");
    brim_eq(i, brim_constant(g, 0.5));
    ASSERT_REFUSED(BRIM_ARGUMENT, "constant: 0.5 as i32: an integer of up to 2^24 is expected");
    brim_scale(i, 16777217);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "an integer of up to 2^24");
    brim_constant(g, 1e39);
    ASSERT_REFUSED(BRIM_ARGUMENT, "constant: 1e+39 as f32: it is too large");
    brim_constant(g, NAN);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "it is not a number");
    brim_scale(brim_cast(x, BRIM_F16), 1e5);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "100000 as f16: it is too large");
    ck_assert(constant_of(brim_constant(g, -INFINITY)) == -INFINITY);
    ASSERT_FINE(err);
    FREE_GRAPH;
}
END_TEST

START_TEST(constants_have_a_range) {
    static const struct {
        brim_dtype dtype;
        double value;
        bool fits;
    } rows[] = {
        {BRIM_I32, 0x1p24, true},       {BRIM_I32, -0x1p24, true},  {BRIM_I32, 0x1p24 + 1, false},
        {BRIM_I32, -0x1p24 - 1, false}, {BRIM_I32, 2.5, false},     {BRIM_I32, NAN, false},
        {BRIM_I32, INFINITY, false},    {BRIM_F16, 65504, true},    {BRIM_F16, 65519, true},
        {BRIM_F16, -65520, false},      {BRIM_F16, INFINITY, true}, {BRIM_F16, NAN, false},
        {BRIM_BF16, 65520, true},       {BRIM_BF16, 3.4e38, false}, {BRIM_BF16, -INFINITY, true},
        {BRIM_F32, 3.4e38, true},       {BRIM_F32, -3.5e38, false}, {BRIM_F32, 1e-60, true},
        {BRIM_F32, -INFINITY, true},    {BRIM_F32, NAN, false},
    };
    MAKE_GRAPH;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        brim_value c = graph_constant(g, rows[i].dtype, rows[i].value);
        ck_assert_msg((c.id >= 0) == rows[i].fits && failed(&err) == !rows[i].fits, "row %d",
                      (int)i);
        if (rows[i].fits) ck_assert(constant_of(c) == (float)rows[i].value);
        if (rows[i].fits) ck_assert_int_eq(brim_value_dtype(c), rows[i].dtype);
        err = (brim_error){0};
    }
    FREE_GRAPH;
}
END_TEST

START_TEST(casts) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_I32, 2);
    ck_assert_int_eq(brim_cast(x, BRIM_I32).id, x.id);
    brim_value y = brim_cast(x, BRIM_F16);
    ck_assert(node_of(y)->op == OP_CAST && brim_value_dtype(y) == BRIM_F16);
    brim_cast(x, (brim_dtype)BRIM_DTYPE_COUNT);
    ASSERT_REFUSED(BRIM_ARGUMENT, "cast: \"x\" [2] does not fit: 4 is no dtype");
    brim_cast(x, (brim_dtype)77);
    ASSERT_REFUSED(BRIM_ARGUMENT, "cast: \"x\" [2] does not fit: 77 is no dtype");
    brim_exp(x);
    ASSERT_REFUSED(BRIM_SHAPE,
                   "exp: \"x\" [2] does not fit: operand 1 is i32, a float type is expected");
    FREE_GRAPH;
}
END_TEST

// Shapes ------------------------------------------------------------------------------------------

START_TEST(reshapes) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 3, 4);
    ASSERT_SHAPE(brim_reshape(x, 6, 4), 6, 4);
    ASSERT_SHAPE(brim_reshape(x, 3, -1, 2), 3, 4, 2);
    ASSERT_SHAPE(brim_reshape(x, -1), 24);
    ck_assert_int_eq(brim_reshape(x, 2, -1, 4).id, x.id);
    ASSERT_SHAPE(brim_reshape(x, 1, -1, 1, 2, 3, 1), 1, 4, 1, 2, 3, 1);
    brim_value one = brim_reshape_dims(brim_sum(x, NULL, 0, true), 0, NULL);
    ck_assert_int_eq(brim_rank(one), 0);
    ASSERT_SHAPE(brim_reshape(one, -1, 1), 1, 1);
    ASSERT_FINE(err);
    brim_reshape(x, 5, -1);
    ASSERT_REFUSED(BRIM_SHAPE,
                   "reshape: \"x\" [2, 3, 4] does not fit: its 24 elements are no multiple "
                   "of the other extents' 5");
    brim_reshape(x, -1, -1);
    ASSERT_FAILS(err, BRIM_SHAPE, "more than one extent is -1");
    brim_reshape(x, 5, 5);
    ASSERT_REFUSED(BRIM_SHAPE,
                   "reshape: \"x\" [2, 3, 4] does not fit: it has 24 elements, [5, 5] has 25");
    brim_reshape(x, 0, -1);
    ASSERT_REFUSED(BRIM_SHAPE,
                   "reshape: \"x\" [2, 3, 4] does not fit: axis 0 has extent 0; at least "
                   "1 is expected");
    brim_reshape_dims(x, -1, (int64_t[]){24});
    ASSERT_REFUSED(BRIM_SHAPE,
                   "reshape: \"x\" [2, 3, 4] does not fit: -1 axes were asked for, 0 to "
                   "6 are expected");
    brim_reshape(x, -2, 12);
    ASSERT_FAILS(err, BRIM_SHAPE, "extent -2");
    brim_reshape(x, INT64_MAX, INT64_MAX, -1);
    ASSERT_FAILS(err, BRIM_SHAPE, "exceed 2^63");
    brim_reshape(x, 1, 1, 1, 1, 1, 1, 24);
    ASSERT_FAILS(err, BRIM_SHAPE, "7 axes were asked for, 0 to 6 are expected");
    brim_reshape_dims(x, 1, NULL);
    ASSERT_FAILS(err, BRIM_SHAPE, "reshape");
    FREE_GRAPH;
}
END_TEST

START_TEST(permutes_and_broadcasts) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 3, 4);
    ASSERT_SHAPE(brim_permute(x, 2, 0, 1), 4, 2, 3);
    ASSERT_SHAPE(brim_permute(x, -1, 0, -2), 4, 2, 3);
    ASSERT_SHAPE(brim_permute(x, 1, 0, 2), 3, 2, 4);
    ASSERT_SHAPE(brim_permute(x, -3, -1, -2), 2, 4, 3);
    ck_assert_int_eq(brim_permute(x, -3, -2, 2).id, x.id);
    ck_assert_int_eq(brim_permute(x, 0, 1, 2).id, x.id);
    ASSERT_SHAPE(brim_broadcast(brim_slice(x, 1, 0, 1), 5, 2, 3, 4), 5, 2, 3, 4);
    ck_assert_int_eq(brim_broadcast(x, 2, 3, 4).id, x.id);
    ASSERT_FINE(err);
    brim_permute(x, 0, 1);
    ASSERT_REFUSED(BRIM_ARGUMENT,
                   "permute: \"x\" [2, 3, 4] does not fit: 2 axes are listed, 3 are expected");
    brim_permute(x, 0, 1, 1);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "axis 1 is listed twice or does not exist");
    brim_permute(x, 0, 1, 3);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "axis 3 of 3 axes");
    brim_permute(x, 0, 1, -4);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "axis -4 of 3 axes");
    brim_permute_axes(x, 7, (int64_t[]){0, 1, 2, 3, 4, 5, 6});
    ASSERT_REFUSED(BRIM_SHAPE,
                   "permute: \"x\" [2, 3, 4] does not fit: 7 axes were asked for, 0 to 6 "
                   "are expected");
    brim_permute_axes(x, 3, NULL);
    ASSERT_FAILS(err, BRIM_SHAPE, "permute");
    brim_broadcast_dims(x, 7, (int64_t[]){1, 1, 1, 1, 2, 3, 4});
    ASSERT_REFUSED(BRIM_SHAPE,
                   "broadcast: \"x\" [2, 3, 4] does not fit: 7 axes were asked for, 0 to "
                   "6 are expected");
    brim_permute(x, 0, 1, INT64_MIN);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "axis -9223372036854775808 of 3 axes");
    brim_broadcast(x, 2, 3, 8);
    ASSERT_REFUSED(BRIM_SHAPE,
                   "broadcast: \"x\" [2, 3, 4] does not fit: it does not broadcast to [2, 3, 8]");
    brim_broadcast(x, 3, 4);
    ASSERT_FAILS(err, BRIM_SHAPE, "does not broadcast to [3, 4]");
    FREE_GRAPH;
}
END_TEST

START_TEST(slices_and_concats) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 3, 4);
    brim_value y = brim_slice(x, -1, 1, 3);
    ASSERT_SHAPE(y, 2, 3, 3);
    ck_assert_int_eq(node_of(y)->attr.start[2], 1);
    ck_assert_int_eq(brim_slice(x, 1, 0, 3).id, x.id);
    y = brim_concat((brim_value[]){x, y, x}, 3, -1);
    ASSERT_SHAPE(y, 2, 3, 11);
    ck_assert_int_eq(node_of(y)->attr.axis, 2);
    ck_assert_int_eq(brim_concat(&x, 1, 0).id, x.id);
    brim_value many[40];
    for (int i = 0; i < 40; i++) many[i] = x;
    ASSERT_SHAPE(brim_concat(many, 40, 0), 80, 3, 4);
    ASSERT_FINE(err);
    ASSERT_SHAPE(brim_slice(x, 1, 2, 1), 2, 1, 4);
    ASSERT_SHAPE(brim_slice(x, -3, 1, 1), 1, 3, 4);
    brim_slice(x, 1, 0, 4);
    ASSERT_FAILS(err, BRIM_SHAPE, "4 elements from 0 on do not lie within the 3 of axis 1");
    brim_slice(x, 1, 3, 1);
    ASSERT_FAILS(err, BRIM_SHAPE, "1 elements from 3 on do not lie within the 3 of axis 1");
    brim_slice(x, 1, 1, 3);
    ASSERT_REFUSED(BRIM_SHAPE,
                   "slice: \"x\" [2, 3, 4] does not fit: 3 elements from 1 on do not lie "
                   "within the 3 of axis 1");
    brim_slice(x, 1, INT64_MAX, INT64_MAX);
    ASSERT_FAILS(err, BRIM_SHAPE, "do not lie within the 3");
    brim_slice(x, 1, -1, 1);
    ASSERT_FAILS(err, BRIM_SHAPE, "1 elements from -1");
    brim_slice(x, 1, 0, 0);
    ASSERT_FAILS(err, BRIM_SHAPE, "0 elements");
    brim_slice(x, 3, 0, 1);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "axis 3 of 3 axes");
    brim_concat((brim_value[]){x, y}, 2, 0);
    ASSERT_REFUSED(BRIM_SHAPE,
                   "concat: \"x\" [2, 3, 4] and [2, 3, 11] do not fit: operands 1 and 2 may "
                   "differ in the extent of axis 0 only");
    brim_concat(&x, 1, 3);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "axis 3");
    ck_assert_int_lt(brim_concat(&x, 0, 0).id, 0);
    FREE_GRAPH;
}
END_TEST

// Contractions, reductions, rows ------------------------------------------------------------------

START_TEST(matmuls) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 3, 4), w = brim_input(g, "w", BRIM_F32, 5, 4);
    brim_value y = brim_matmul_t(x, false, w, true);
    ASSERT_SHAPE(y, 2, 3, 5); // one product of 6 rows
    ck_assert_int_eq(node_of(y)->op, OP_RESHAPE);
    ASSERT_SHAPE(operand_of(y, 0), 6, 5);
    ASSERT_SHAPE(operand_of(operand_of(y, 0), 0), 6, 4);
    y = brim_matmul_t(x, true, x, false);
    ASSERT_SHAPE(y, 2, 4, 4);
    ck_assert_int_eq(node_of(y)->op, OP_MATMUL);
    y = brim_matmul(w, brim_reshape(x, 2, 4, 3));
    ASSERT_SHAPE(y, 2, 5, 3);
    ck_assert_int_eq(node_of(y)->op, OP_MATMUL);
    ASSERT_FINE(err);
    brim_matmul(x, w);
    ASSERT_REFUSED(BRIM_SHAPE,
                   "matmul: \"x\" [2, 3, 4] and \"w\" [5, 4] do not fit: inner extents 4 "
                   "and 5 differ");
    brim_matmul_t(x, true, w, true);
    ASSERT_FAILS(err, BRIM_SHAPE, "inner extents 3 (transposed) and 4 (transposed) differ");
    FREE_GRAPH;
}
END_TEST

START_TEST(reductions) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_BF16, 2, 3, 4);
    brim_value y = brim_sum(x, (int[]){-1, 0}, 2, false);
    ASSERT_SHAPE(y, 3);
    ck_assert_int_eq(brim_value_dtype(y), BRIM_F32);
    ASSERT_SHAPE(brim_sum(x, (int[]){1}, 1, true), 2, 1, 4);
    ck_assert_int_eq(brim_rank(brim_sum(x, NULL, 0, false)), 0);
    y = brim_max(x, NULL, 0, true);
    ASSERT_SHAPE(y, 1, 1, 1);
    ck_assert_int_eq(brim_value_dtype(y), BRIM_BF16);
    y = brim_mean(x, (int[]){0, 2}, 2, false);
    ASSERT_SHAPE(y, 3);
    ck_assert(constant_of(operand_of(y, 1)) == 0.125f);
    y = brim_mean(brim_sum(x, NULL, 0, false), NULL, 0, false);
    ck_assert_int_eq(brim_rank(y), 0);
    ASSERT_FINE(err);
    brim_sum(x, (int[]){1, -2}, 2, false);
    ASSERT_REFUSED(BRIM_ARGUMENT, "sum: \"x\" [2, 3, 4] does not fit: axis -2 is listed twice");
    brim_mean(x, (int[]){3}, 1, false);
    ASSERT_REFUSED(BRIM_ARGUMENT, "mean: \"x\" [2, 3, 4] does not fit: axis 3 of 3 axes");
    brim_max(x, NULL, 1, false);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "max");
    brim_sum(x, (int[]){1}, -1, false);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "-1 axes");
    FREE_GRAPH;
}
END_TEST

START_TEST(rows) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 3, 4), w = brim_input(g, "w", BRIM_F32, 4);
    brim_value y = brim_softmax(x, -1);
    ck_assert_int_eq(operand_of(y, 0).id, x.id);
    y = brim_log_softmax(x, 0); // axes 0 and 2 change places, and back
    ASSERT_SHAPE(y, 2, 3, 4);
    ck_assert_int_eq(node_of(y)->op, OP_PERMUTE);
    ck_assert_int_eq(node_of(operand_of(y, 0))->op, OP_LOG_SOFTMAX);
    ASSERT_SHAPE(operand_of(y, 0), 4, 3, 2);
    brim_value deep = brim_reshape(x, 1, 2, 1, 3, 1, 4); // as many axes as there may be
    y = brim_softmax(deep, 3);
    ASSERT_SHAPE(y, 1, 2, 1, 3, 1, 4);
    ASSERT_SHAPE(operand_of(y, 0), 1, 2, 1, 4, 1, 3);
    ASSERT_SHAPE(brim_sum(deep, (int[]){5, 1}, 2, false), 1, 1, 3, 1);
    ASSERT_SHAPE(brim_layer_norm_with(x, w, w, 1e-5), 2, 3, 4);
    y = brim_rms_norm_with(x, w, 1e-6);
    ck_assert(node_of(y)->attr.scalar[0] == 1e-6f);
    ASSERT_SHAPE(graph_output(y, 1), 2, 3);
    ASSERT_FINE(err);
    brim_softmax(x, 3);
    ASSERT_REFUSED(BRIM_ARGUMENT, "softmax: \"x\" [2, 3, 4] does not fit: axis 3 of 3 axes");
    brim_rms_norm_with(x, x, 1e-6);
    ASSERT_REFUSED(BRIM_SHAPE,
                   "rms_norm: \"x\" [2, 3, 4] and \"x\" [2, 3, 4] do not fit: the gain is "
                   "[2, 3, 4], [4] is expected");
    brim_layer_norm_with(x, w, w, -1);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "eps is -1");
    FREE_GRAPH;
}
END_TEST

// Sequences ---------------------------------------------------------------------------------------

START_TEST(sequences) {
    MAKE_GRAPH;
    brim_value q = brim_input(g, "q", BRIM_F32, 2, 5, 6, 16),
               k = brim_input(g, "k", BRIM_F32, 2, 5, 3, 16);
    brim_value ids = brim_input(g, "ids", BRIM_I32, 2, 5),
               table = brim_input(g, "t", BRIM_F32, 9, 4);
    brim_value y = brim_attention(q, k, k, NULL);
    ASSERT_SHAPE(y, 2, 5, 6, 16);
    ASSERT_SHAPE(graph_output(y, 1), 2, 6, 5);
    ck_assert(node_of(y)->attr.attention.causal && node_of(y)->attr.attention.scale == 0.25f);
    y = brim_attention(q, k, k, &(brim_attention_options){true, 0.5f, ids});
    ck_assert(!node_of(y)->attr.attention.causal && node_of(y)->attr.attention.scale == 0.5f);
    ck_assert_int_eq(node_of(y)->inputs, 4);
    y = brim_rotary(q, 1e4, (brim_value){0});
    ck_assert_int_eq(node_of(y)->inputs, 1);
    ck_assert(node_of(y)->attr.rotary.scaling.factor == 0);
    brim_rotary_scaling scaling = {8, 1, 4, 8192}, none = {0, 1, 4, 8192};
    y = brim_rotary_scaled(q, 500, &scaling, ids);
    ck_assert_mem_eq(&node_of(y)->attr.rotary.scaling, &scaling, sizeof scaling);
    ck_assert(node_of(y)->attr.rotary.base == 500);
    y = brim_rotary_scaled(q, 500, &none, ids);
    ck_assert(node_of(y)->attr.rotary.scaling.high == 0);
    y = brim_rotary(q, 1e4, ids);
    ck_assert_int_eq(operand_of(y, 1).id, ids.id);
    ck_assert(node_of(y)->attr.rotary.base == 1e4 && !node_of(y)->attr.rotary.inverse);
    ASSERT_SHAPE(brim_gather(table, ids), 2, 5, 4);
    ASSERT_FINE(err);
    brim_attention(q, k, k, &(brim_attention_options){.scale = -1});
    ASSERT_FAILS(err, BRIM_ARGUMENT, "the scale is -1, more than 0 is expected");
    brim_attention(brim_sum(q, NULL, 0, false), k, k, NULL);
    ASSERT_FAILS(err, BRIM_SHAPE, "operand 1 has 0 axes, 4 are expected");
    brim_gather(ids, table);
    ASSERT_REFUSED(BRIM_SHAPE,
                   "embedding: \"ids\" [2, 5] i32 and \"t\" [9, 4] f32 do not fit: operand 1 "
                   "is i32, a float type is expected");
    FREE_GRAPH;
}
END_TEST

START_TEST(dropout) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2);
    ck_assert_int_eq(brim_dropout(x, 0).id, x.id);
    for (uint32_t i = 0; i < 2; i++) {
        brim_value y = brim_dropout(x, 0.25);
        ck_assert_int_eq(node_of(y)->op, OP_DROPOUT);
        ck_assert(node_of(y)->attr.dropout.p == 0.25f && node_of(y)->attr.dropout.stream == i);
        for (int k = 0; k < 3; k++)
            ck_assert_int_eq(g->value[operand_of(y, k + 1).id].control, CONTROL_SEED + k);
    }
    static const double bad[] = {1, -0.1, NAN, 0.99999999999};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        brim_dropout(x, bad[i]);
        ASSERT_FAILS(err, BRIM_ARGUMENT, "0 <= p < 1 is expected");
    }
    g->training = false;
    ck_assert_int_eq(brim_dropout(x, 0.25).id, x.id);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) { // then as well
        brim_dropout(x, bad[i]);
        ASSERT_FAILS(err, BRIM_ARGUMENT, "0 <= p < 1 is expected");
    }
    ASSERT_FINE(err);
    FREE_GRAPH;
}
END_TEST

// Losses ------------------------------------------------------------------------------------------

START_TEST(losses) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_BF16, 2, 3, 9), t = brim_input(g, "t", BRIM_I32, 2, 3);
    brim_cross_entropy(x, t, -100);
    brim_mse(x, brim_cast(x, BRIM_F32));
    ASSERT_FINE(err);
    assert_text(g, "%0 = input \"x\" [2,3,9] bf16\n"
                   "%1 = input \"t\" [2,3] i32\n"
                   "%2, %3 = cross_entropy(%0, %1, ignore -100) [2,3] f32, [2,3] f32\n"
                   "%4 = constant(-100) [] i32\n"
                   "%5 = ne(%1, %4) [2,3] i32\n"
                   "%6 = cast(%5) [2,3] f32\n"
                   "%7 = sum(%2, axes 0 1) [] f32\n"
                   "%8 = sum(%6, axes 0 1) [] f32\n"
                   "%9 = cast(%0) [2,3,9] f32\n"
                   "%10 = cast(%0) [2,3,9] f32\n"
                   "%11 = sub(%10, %9) [2,3,9] f32\n"
                   "%12 = sum_squares(%11, axes 0 1 2) [] f32\n"
                   "%13 = constant(54) [] f32\n");
    for (int sign = -1; sign < 2; sign += 2) { // as far as f32 tells integers apart
        ck_assert_int_ge(brim_cross_entropy(x, t, sign * ((1 << 24) - 1)).sum.id, 0);
        ASSERT_FINE(err);
        ck_assert_int_lt(brim_cross_entropy(x, t, sign * (1 << 24)).sum.id, 0);
        ASSERT_FAILS(err, BRIM_ARGUMENT, "16777216, one below 2^24 is expected");
    }
    brim_loss loss = brim_mse(brim_cast(x, BRIM_F32), x); // the difference is one of f32
    ASSERT_FINE(err);
    ck_assert_int_eq(brim_value_dtype(operand_of(operand_of(loss.sum, 0), 1)), BRIM_F32);
    brim_cross_entropy(x, x, -100);
    ASSERT_REFUSED(BRIM_SHAPE,
                   "cross_entropy: \"x\" [2, 3, 9] and \"x\" [2, 3, 9] do not fit: operand "
                   "2 is bf16, i32 is expected");
    brim_cross_entropy(x, t, 1 << 24);
    ASSERT_REFUSED(BRIM_ARGUMENT,
                   "cross_entropy: \"x\" [2, 3, 9] bf16 and \"t\" [2, 3] i32 do not fit: "
                   "the target to ignore is 16777216, one below 2^24 is expected");
    brim_cross_entropy(x, t, INT32_MIN);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "one below 2^24");
    brim_mse(x, brim_constant(g, 1));
    ASSERT_REFUSED(BRIM_SHAPE,
                   "mse: \"x\" [2, 3, 9] bf16 and [] f32 do not fit: one shape is expected");
    FREE_GRAPH;
}
END_TEST

Suite *graph_build_suite(void) {
    Suite *suite = suite_create("graph/build");
    TCase *tests = tcase_create("constructors");
    tcase_add_test(tests, elementwise_makes_its_op);
    tcase_add_test(tests, constants_take_on_a_dtype);
    tcase_add_test(tests, constants_have_a_range);
    tcase_add_test(tests, casts);
    tcase_add_test(tests, reshapes);
    tcase_add_test(tests, permutes_and_broadcasts);
    tcase_add_test(tests, slices_and_concats);
    tcase_add_test(tests, matmuls);
    tcase_add_test(tests, reductions);
    tcase_add_test(tests, rows);
    tcase_add_test(tests, sequences);
    tcase_add_test(tests, dropout);
    tcase_add_test(tests, losses);
    suite_add_tcase(suite, tests);
    return suite;
}
