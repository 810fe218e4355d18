// The graph: names, scopes, leaves, results, misuse, and its text form.
#include <math.h>
#include "graph/build.h"
#include "test_graph.h"

static const brim_init normal = {BRIM_NORMAL, 0.02f};

// Names and scopes --------------------------------------------------------------------------------

START_TEST(scopes_prefix_names) {
    MAKE_GRAPH;
    brim_scope_push(g, "h.%d", 3);
    brim_scope_push(g, "attn");
    brim_value a = brim_parameter(g, "weight", normal, 2, 3);
    brim_value i = brim_input(g, "tokens", BRIM_I32, 4);
    brim_scope_pop(g);
    brim_value b = brim_parameter(g, "weight", normal, 5);
    brim_scope_pop(g);
    brim_value c = brim_parameter(g, "weight", normal, 6);
    ASSERT_FINE(err);
    ck_assert_str_eq(g->value[a.id].name, "h.3.attn.weight");
    ck_assert_str_eq(g->value[i.id].name, "tokens");
    ck_assert_str_eq(g->value[b.id].name, "h.3.weight");
    ck_assert_str_eq(g->value[c.id].name, "weight");
    ck_assert_int_eq(g->value[a.id].role, ROLE_PARAMETER);
    ck_assert_int_eq(g->value[i.id].role, ROLE_INPUT);
    ck_assert_int_eq(brim_value_dtype(a), BRIM_F32);
    ck_assert_int_eq(brim_value_dtype(i), BRIM_I32);
    ck_assert(g->value[a.id].init.kind == BRIM_NORMAL && g->value[a.id].init.scale == 0.02f);
    brim_scope_pop(g);
    ASSERT_REFUSED(BRIM_GRAPH, "brim_scope_pop: no scope is open");
    FREE_GRAPH;
}
END_TEST

START_TEST(nodes_keep_their_scope) {
    MAKE_GRAPH;
    brim_value x = brim_constant(g, 1);
    brim_scope_push(g, "a");
    x = brim_exp(x);
    brim_scope_push(g, "b");
    x = brim_exp(x);
    brim_scope_pop(g);
    x = brim_exp(x);
    ASSERT_FINE(err);
    ck_assert_str_eq(g->node[0].scope, "");
    ck_assert_str_eq(g->node[1].scope, "a");
    ck_assert_str_eq(g->node[2].scope, "a.b");
    ck_assert_str_eq(g->node[3].scope, "a");
    brim_exp(x);
    ck_assert_ptr_eq(g->node[4].scope, g->node[3].scope); // neighbours share its text
    FREE_GRAPH;
}
END_TEST

START_TEST(scopes_have_limits) {
    char text[2 * GRAPH_NAME_BYTES];
    memset(text, 'x', sizeof text);
    text[GRAPH_NAME_BYTES - 3] = '\0'; // 253 bytes
    MAKE_GRAPH;
    brim_scope_push(g, "a");
    brim_scope_push(g, "%s", text + 1);
    ASSERT_FINE(err);
    ck_assert_uint_eq(strlen(g->scope), GRAPH_NAME_BYTES - 2);
    brim_value w = brim_parameter(g, "w", normal, 1);
    ck_assert_int_lt(w.id, 0);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "256 bytes or more");
    brim_scope_pop(g);
    brim_scope_push(g, "%s%s", text, "x"); // 1 + 1 + 254 bytes and the NUL
    ASSERT_FAILS(err, BRIM_ARGUMENT, "together 256 bytes or more");
    text[GRAPH_NAME_BYTES - 3] = 'x';
    text[sizeof text - 1] = '\0';
    brim_scope_pop(g);
    brim_scope_push(g, "%s", text);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "it has 256 bytes or more");
    brim_scope_push(g, "%s", text + GRAPH_NAME_BYTES); // 255
    ASSERT_FINE(err);
    ck_assert_uint_eq(strlen(g->scope), GRAPH_NAME_BYTES - 1);
    brim_scope_pop(g);
    brim_scope_push(g, "a");
    for (int i = 1; i < GRAPH_SCOPE_DEPTH; i++) brim_scope_push(g, "%d", i);
    ASSERT_FINE(err);
    brim_scope_push(g, "deep");
    ASSERT_FAILS(err, BRIM_ARGUMENT, "more than 32 scopes are open");
    for (int i = 0; i < GRAPH_SCOPE_DEPTH; i++) brim_scope_pop(g);
    ASSERT_FINE(err);
    ck_assert_str_eq(g->scope, "");
    FREE_GRAPH;
}
END_TEST

START_TEST(names_are_checked) {
    MAKE_GRAPH;
    static const char *const bad[] = {"", "a b", "a\nb", "a\"b", "a\\b", "a\x7f", NULL};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        brim_parameter(g, bad[i], normal, 2);
        ASSERT_FAILS(err, BRIM_ARGUMENT, "parameter \"");
        brim_input(g, bad[i], BRIM_F32, 2);
        ASSERT_FAILS(err, BRIM_ARGUMENT, "input \"");
        brim_output(brim_constant(g, 1), bad[i]);
        ASSERT_FAILS(err, BRIM_ARGUMENT, "output \"");
        brim_scope_push(g, bad[i] ? "%s" : NULL, bad[i]);
        ASSERT_FAILS(err, BRIM_ARGUMENT, "scope \"");
    }
    ck_assert_int_eq(g->scope_depth, 0);
    brim_parameter(g, "größe/m:0", normal, 2);
    brim_parameter(g, "!#[]~", normal, 2);
    ASSERT_FINE(err);
    char name[GRAPH_NAME_BYTES + 1];
    memset(name, 'x', sizeof name);
    name[GRAPH_NAME_BYTES] = '\0';
    brim_input(g, name, BRIM_F32, 2);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "256 bytes or more");
    brim_input(g, name + 1, BRIM_F32, 2);
    ASSERT_FINE(err);
    FREE_GRAPH;
}
END_TEST

// Leaves ------------------------------------------------------------------------------------------

START_TEST(parameters_are_shared_by_name) {
    MAKE_GRAPH;
    brim_scope_push(g, "wte");
    brim_value a = brim_parameter(g, "weight", normal, 512, 384);
    brim_scope_pop(g);
    brim_value b = brim_parameter(g, "wte.weight", ((brim_init){BRIM_ONES, 0}), 512, 384);
    ASSERT_FINE(err);
    ck_assert_int_eq(a.id, b.id);
    ck_assert_int_eq(g->values, 1);
    ck_assert_int_eq(g->value[a.id].init.kind, BRIM_NORMAL);
    brim_value c = brim_parameter(g, "wte.weight", normal, 384, 512);
    ck_assert_int_lt(c.id, 0);
    ASSERT_REFUSED(BRIM_SHAPE,
                   "parameter \"wte.weight\" is asked for as [384, 512] f32, but exists "
                   "as [512, 384] f32");
    brim_value x = brim_input(g, "x", BRIM_F32, 2), y = brim_input(g, "x", BRIM_F32, 2);
    ck_assert_int_eq(x.id, y.id);
    brim_input(g, "x", BRIM_I32, 2);
    ASSERT_REFUSED(BRIM_SHAPE, "input \"x\" is asked for as [2] i32, but exists as [2] f32");
    FREE_GRAPH;
}
END_TEST

START_TEST(leaves_are_checked) {
    MAKE_GRAPH;
    static const int64_t seven[7] = {1, 1, 1, 1, 1, 1, 1};
    brim_parameter(g, "w", normal, 2, 0);
    ASSERT_REFUSED(BRIM_SHAPE,
                   "parameter \"w\" [2, 0]: axis 1 has extent 0; at least 1 is expected");
    brim_parameter(g, "w", normal, -2, 3);
    ASSERT_FAILS(err, BRIM_SHAPE, "axis 0 has extent -2");
    brim_parameter_dims(g, "w", normal, 7, seven);
    ASSERT_REFUSED(BRIM_SHAPE, "parameter \"w\": 7 axes; up to 6 are allowed");
    brim_parameter_dims(g, "w", normal, -1, seven);
    ASSERT_FAILS(err, BRIM_SHAPE, "-1 axes");
    brim_parameter_dims(g, "w", normal, 1, NULL);
    ASSERT_FAILS(err, BRIM_SHAPE, "parameter \"w\"");
    brim_parameter(g, "w", normal, (int64_t)1 << 31, (int64_t)1 << 30);
    ASSERT_FAILS(err, BRIM_SHAPE, "exceed 2^63");
    brim_parameter(g, "w", ((brim_init){(brim_init_kind)4, 1}), 2);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "no such kind");
    static const float scales[] = {-1, -1e-30f, INFINITY, 1e30f, NAN};
    for (int i = 0; i < 5; i++) {
        brim_parameter(g, "w", ((brim_init){BRIM_NORMAL, scales[i]}), 2);
        ASSERT_REFUSED(BRIM_ARGUMENT, "parameter \"w\" in scope \"\": the scale of its init is "
                                      "negative or not finite");
    }
    brim_input(g, "x", (brim_dtype)9, 2);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "input \"x\": 9 is no dtype");
    ck_assert_int_eq(g->values, 0);
    brim_value scalar = brim_input_dims(g, "x", BRIM_I32, 0, NULL);
    ASSERT_FINE(err);
    ck_assert_int_eq(brim_rank(scalar), 0);
    brim_value x = brim_parameter(g, "w", ((brim_init){BRIM_UNIFORM, 9e29f}), 2, 3);
    ASSERT_SHAPE(x, 2, 3);
    const brim_value none[] = {{g, 2}, {g, -1}};
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(brim_rank(none[i]), 0);
        ck_assert_int_eq(brim_dim(none[i], 0), 1);
        ck_assert_int_eq(brim_value_dtype(none[i]), BRIM_F32);
    }
    ck_assert_int_eq(brim_dim(x, -2), 2);
    ck_assert_int_eq(brim_value_dtype(scalar), BRIM_I32);
    brim_input(g, "big", BRIM_BF16, (int64_t)1 << 31, (int64_t)1 << 30);
    ASSERT_FINE(err);
    FREE_GRAPH;
}
END_TEST

START_TEST(other_leaves) {
    MAKE_GRAPH;
    shape s = {2, {3, 4}};
    value_id m = graph_leaf(g, ROLE_STATE, BRIM_F32, &s, "w/m");
    ck_assert_int_eq(g->value[m].role, ROLE_STATE);
    ck_assert_int_eq(g->value[m].update, -1);
    ck_assert_int_eq(g->value[m].producer, -1);
    ck_assert_int_eq(g->value[m].original, -1);
    ck_assert_int_eq(g->value[m].control, -1);
    ck_assert_int_eq(graph_leaf(g, ROLE_STATE, BRIM_F32, &s, "w/m"), -1);
    ASSERT_REFUSED(BRIM_ARGUMENT, "state \"w/m\": there is one of that name");
    ck_assert_int_eq(graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &s, "w/m"), m + 1);
    for (int slot = 0; slot < CONTROL_COUNT; slot++) {
        brim_value a = graph_control(g, (control_slot)slot),
                   b = graph_control(g, (control_slot)slot);
        ck_assert_int_eq(a.id, b.id);
        ck_assert_int_eq(g->value[a.id].control, slot);
        ck_assert_int_eq(brim_rank(a), 0);
        ck_assert_int_eq(brim_value_dtype(a), slot < CONTROL_SEED ? BRIM_F32 : BRIM_I32);
    }
    ASSERT_FINE(err);
    ck_assert_int_eq(g->values, 2 + CONTROL_COUNT);
    FREE_GRAPH;
}
END_TEST

START_TEST(a_control_value_may_be_the_first) {
    MAKE_GRAPH;
    brim_value step = graph_control(g, CONTROL_STEP);
    ck_assert(step.graph == g && step.id == 0);
    ck_assert_int_eq(graph_control(g, CONTROL_STEP).id, 0);
    ck_assert_int_eq(graph_control(g, CONTROL_LR).id, 1);
    ASSERT_FINE(err);
    FREE_GRAPH;
}
END_TEST

START_TEST(outputs_are_named) {
    MAKE_GRAPH;
    brim_value w = brim_parameter(g, "w", normal, 2), x = brim_exp(w);
    brim_output(x, "x");
    brim_output(x, "again"); // a value has one name: a copy has the other
    brim_output(w, "w");
    brim_output(x, "x");
    ASSERT_REFUSED(BRIM_ARGUMENT, "output \"x\": there is one of that name");
    ck_assert_int_eq(g->results, 3);
    ck_assert_int_eq(g->result[0], x.id);
    ck_assert_str_eq(g->value[g->result[1]].name, "again");
    ck_assert_int_eq(g->node[g->value[g->result[1]].producer].op, OP_COPY);
    ck_assert_str_eq(g->value[g->result[2]].name, "w");
    ck_assert_int_ne(g->result[2], w.id);
    ck_assert_int_eq(graph_verify(g, "test", &err), BRIM_OK);
    FREE_GRAPH;
}
END_TEST

// Misuse ------------------------------------------------------------------------------------------

START_TEST(errors_stick) {
    MAKE_GRAPH;
    brim_scope_push(g, "h.0.mlp");
    brim_value x = brim_input(g, "x", BRIM_F32, 8, 256, 384);
    brim_value bad = brim_matmul(brim_exp(x), brim_parameter(g, "weight", normal, 512, 1536));
    ck_assert_int_lt(bad.id, 0);
    int32_t values = g->values;
    ck_assert_int_lt(brim_add(bad, x).id, 0);
    ck_assert_int_lt(brim_exp(x).id, 0);
    ck_assert_int_lt(brim_input(g, "y", BRIM_F32, 1).id, 0);
    ck_assert_int_lt(brim_parameter(g, "y", normal, 1).id, 0);
    ck_assert_int_lt(brim_constant(g, 1).id, 0);
    ck_assert_int_lt(graph_control(g, CONTROL_LR).id, 0);
    brim_loss loss = brim_cross_entropy(bad, x, -100);
    ck_assert(loss.sum.id < 0 && loss.count.id < 0);
    loss = brim_linear_cross_entropy(bad, x, x, -100);
    ck_assert(loss.sum.id < 0 && loss.count.id < 0);
    loss = brim_mse(bad, x);
    ck_assert(loss.sum.id < 0 && loss.count.id < 0);
    brim_output(bad, "y");
    brim_scope_push(g, "%s", "");
    brim_scope_pop(g);
    brim_scope_pop(g);
    brim_scope_pop(g);
    ck_assert_int_eq(g->values, values);
    ck_assert_int_eq(g->results, 0);
    ASSERT_REFUSED(BRIM_SHAPE, "matmul in scope \"h.0.mlp\": [8, 256, 384] and \"h.0.mlp.weight\" "
                               "[512, 1536] do not fit: inner extents 384 and 512 differ");
    FREE_GRAPH;
}
END_TEST

START_TEST(no_graph_is_no_crash) {
    brim_value none = {0};
    ck_assert_ptr_null(brim_graph_create(NULL));
    brim_graph_free(NULL);
    brim_graph_print(NULL, stdout);
    brim_scope_push(NULL, "a");
    brim_scope_pop(NULL);
    brim_output(none, "a");
    ck_assert_int_lt(brim_input(NULL, "a", BRIM_F32, 1).id, 0);
    ck_assert_int_lt(brim_parameter(NULL, "a", normal, 1).id, 0);
    ck_assert_int_lt(brim_constant(NULL, 1).id, 0);
    ck_assert_int_lt(brim_add(none, none).id, 0);
    ck_assert_int_lt(brim_exp(none).id, 0);
    ck_assert_int_lt(brim_where(none, none, none).id, 0);
    ck_assert_int_lt(brim_reshape(none, 1).id, 0);
    ck_assert_int_lt(brim_concat(&none, 1, 0).id, 0);
    ck_assert_int_lt(brim_concat(NULL, 1, 0).id, 0);
    ck_assert_int_lt(brim_matmul(none, none).id, 0);
    ck_assert_int_lt(brim_mean(none, NULL, 0, false).id, 0);
    ck_assert_int_lt(brim_softmax(none, 0).id, 0);
    ck_assert_int_lt(brim_attention(none, none, none, NULL).id, 0);
    ck_assert_int_lt(brim_dropout(none, 0.5).id, 0);
    ck_assert_int_lt(brim_linear(none, "a", 1).id, 0);
    ck_assert_int_lt(brim_mse(none, none).sum.id, 0);
    ck_assert_int_lt(brim_cross_entropy(none, none, -1).sum.id, 0);
    ck_assert_int_lt(brim_linear_cross_entropy(none, none, none, -1).count.id, 0);
    ck_assert_int_lt(brim_log_softmax(none, 0).id, 0);
    ck_assert_int_lt(brim_rms_norm_with(none, none, 0).id, 0);
    ck_assert_int_lt(brim_gather(none, none).id, 0);
    ck_assert_int_lt(brim_rotary(none, 100, none).id, 0);
    ck_assert_int_lt(brim_permute(none, 0).id, 0);
    ck_assert_int_lt(brim_broadcast(none, 1).id, 0);
    ck_assert_int_lt(brim_slice(none, 0, 0, 1).id, 0);
    ck_assert_int_lt(brim_scale(none, 2).id, 0);
    ck_assert_int_lt(brim_cast(none, BRIM_F16).id, 0);
    ck_assert_int_lt(brim_max(none, NULL, 0, false).id, 0);
    ck_assert_int_lt(brim_checkpoint(none).id, 0);
    ck_assert_int_lt(brim_embedding(none, "a", 1, 1, normal).id, 0);
    ck_assert_int_lt(brim_layer_norm(none, "a", 0).id, 0);
    ck_assert_int_lt(brim_rms_norm(none, "a", 0).id, 0);
    ck_assert_int_lt(brim_self_attention(none, "a", 1, NULL).id, 0);
    ck_assert_int_lt(graph_op(NULL, OP_ADD, (brim_value[]){none, none}, 2, NULL).id, 0);
    ck_assert_int_eq(graph_leaf(NULL, ROLE_STATE, BRIM_F32, &(shape){0}, "a"), -1);
    ck_assert_int_lt(graph_control(NULL, CONTROL_LR).id, 0);
    ck_assert_int_eq(brim_rank(none), 0);
    ck_assert_int_eq(brim_dim(none, 5), 1);
    ck_assert_int_eq(brim_value_dtype(none), BRIM_F32);
}
END_TEST

START_TEST(strangers_are_refused) {
    MAKE_GRAPH;
    brim_error other_err = {0};
    brim_graph *other = brim_graph_create(&other_err);
    brim_value a = brim_constant(g, 1), b = brim_constant(other, 1);
    brim_add(a, b);
    ASSERT_REFUSED(BRIM_GRAPH, "add: operand 2 is a value of another graph");
    brim_add(a, GRAPH_INVALID);
    ASSERT_REFUSED(BRIM_GRAPH, "add: operand 2 is no value");
    brim_where((brim_value){0}, a, a);
    ASSERT_REFUSED(BRIM_GRAPH, "where: operand 1 is no value");
    brim_exp((brim_value){g, 1});
    ASSERT_REFUSED(BRIM_GRAPH, "exp: operand 1 is no value");
    ck_assert_int_lt(brim_scale(GRAPH_INVALID, 2).id, 0);
    graph_op(g, OP_EXP, &b, 1, NULL);
    ASSERT_REFUSED(BRIM_GRAPH, "exp: operand 1 is a value of another graph");
    graph_op(g, OP_ADD, (brim_value[]){a, b}, 2, NULL);
    ASSERT_REFUSED(BRIM_GRAPH, "add: operand 2 is a value of another graph");
    graph_op(g, OP_ADD, (brim_value[]){a, a, a}, 3, NULL);
    ASSERT_REFUSED(BRIM_GRAPH, "add: [], [] and [] do not fit: 3 operands were given");
    graph_op(g, OP_ADD, &b, 1, NULL);
    ASSERT_REFUSED(BRIM_GRAPH, "add: 1 operands were given");
    graph_op(g, OP_ADD, NULL, -1, NULL);
    ASSERT_REFUSED(BRIM_GRAPH, "add: -1 operands were given");
    graph_op(g, (op_id)OP_COUNT, &a, 1, NULL);
    ASSERT_FAILS(err, BRIM_GRAPH, "there is no op");
    ck_assert_int_eq(g->values, 1);
    ck_assert_int_eq(g->nodes, 1);
    ASSERT_FINE(other_err);
    brim_graph_free(other);
    FREE_GRAPH;
}
END_TEST

START_TEST(axes_are_checked) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 3);
    ck_assert_int_eq(brim_dim(x, -1), 3);
    ck_assert_int_eq(brim_dim(x, 2), 1);
    ASSERT_REFUSED(BRIM_ARGUMENT, "brim_dim: \"x\" [2, 3] does not fit: axis 2 of 2 axes");
    ck_assert_int_eq(brim_dim(x, -3), 1);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "axis -3 of 2 axes");
    FREE_GRAPH;
}
END_TEST

// Updates -----------------------------------------------------------------------------------------

START_TEST(updates_write_variables) {
    MAKE_GRAPH;
    shape s = {1, {3}};
    brim_value p = brim_parameter(g, "w", normal, 3);
    brim_value m = graph_value_of(g, graph_leaf(g, ROLE_STATE, BRIM_F32, &s, "w/m"));
    brim_value grad = brim_exp(p), one = brim_constant(g, 1), lr = graph_control(g, CONTROL_LR);
    brim_attr attr = {.optimizer = {.beta1 = 0.9f, .lr_scale = 1}};
    graph_op(g, OP_SGD, (brim_value[]){p, grad, grad, one, lr, one}, 6, &attr);
    ASSERT_FAILS(err, BRIM_GRAPH,
                 "do not fit: operand 2 is no parameter, state, copy or accumulator");
    graph_op(g, OP_SGD, (brim_value[]){p, p, grad, one, lr, one}, 6, &attr);
    ASSERT_FAILS(err, BRIM_GRAPH, "do not fit: operand 2 \"w\" is given twice");
    ck_assert_int_eq(g->value[p.id].update, -1);
    brim_value new = graph_op(g, OP_SGD, (brim_value[]){p, m, grad, one, lr, one}, 6, &attr);
    ASSERT_FINE(err);
    ck_assert_int_eq(g->value[p.id].update, new.id);
    ck_assert_int_eq(g->value[m.id].update, new.id + 1);
    graph_op(g, OP_SGD, (brim_value[]){p, m, grad, one, lr, one}, 6, &attr);
    ASSERT_FAILS(err, BRIM_GRAPH, "operand 1 \"w\" is updated already");
    ck_assert_int_eq(graph_verify(g, "test", &err), BRIM_OK);
    FREE_GRAPH;
}
END_TEST

// Attributes --------------------------------------------------------------------------------------

START_TEST(attributes_compare_as_bytes) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 5, 3, 4), y[2];
    for (int i = 0; i < 2; i++) { // what the union holds beside the op's own member does not count
        brim_attr attr;
        memset(&attr, i ? 0xff : 0, sizeof attr);
        attr.rotary.base = 1e4;
        attr.rotary.inverse = false;
        attr.rotary.scaling = (brim_rotary_scaling){0};
        y[i] = graph_op(g, OP_ROTARY, &x, 1, &attr);
    }
    ck_assert_mem_eq(&g->node[0].attr, &g->node[1].attr, sizeof(brim_attr));
    for (int i = 0; i < 2; i++) {
        brim_attr attr;
        memset(&attr, i, sizeof attr);
        for (int k = 0; k < 4; k++) attr.axes[k] = (int8_t)(3 - k);
        graph_op(g, OP_PERMUTE, &y[i], 1, &attr);
    }
    ASSERT_FINE(err);
    ck_assert_mem_eq(&g->node[2].attr, &g->node[3].attr, sizeof(brim_attr));
    FREE_GRAPH;
}
END_TEST

// Each op keeps its own constants, and none of what else the bytes hold.
START_TEST(attributes_are_those_of_the_op) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 3, 4, 6), i = brim_input(g, "i", BRIM_I32, 2, 3),
               w = brim_input(g, "w", BRIM_F32, 5, 6), t = brim_input(g, "t", BRIM_I32, 2, 3, 4),
               p = brim_parameter(g, "p", normal, 3), one = brim_constant(g, 1);
    brim_value m = graph_value_of(g, graph_leaf(g, ROLE_STATE, BRIM_F32, &(shape){1, {3}}, "m"));
    brim_value dy = brim_input(g, "dy", BRIM_F32, 2, 3, 6), seed = brim_cast(one, BRIM_I32);
#define CHECK(ID, operands, ...)                                                                   \
    do {                                                                                           \
        const brim_value list[] = {BRIM_UNPACK operands};                                          \
        brim_attr set, kept;                                                                       \
        memset(&set, 0xa5, sizeof set);                                                            \
        memset(&kept, 0, sizeof kept);                                                             \
        for (int k = 0; k < 2; k++) {                                                              \
            brim_attr *a = k ? &set : &kept;                                                       \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
        brim_value y = graph_op(g, OP_##ID, list, (int)(sizeof list / sizeof *list), &set);        \
        ASSERT_FINE(err);                                                                          \
        ck_assert_msg(memcmp(&g->node[g->value[y.id].producer].attr, &kept, sizeof kept) == 0,     \
                      #ID);                                                                        \
    } while (0)
#define BRIM_UNPACK(...) __VA_ARGS__
    CHECK(NEG, (x), (void)a);
    CHECK(CLAMP, (x), a->scalar[0] = 1, a->scalar[1] = 2);
    CHECK(PERMUTE, (x), for (int d = 0; d < 4; d++) a->axes[d] = (int8_t)(3 - d));
    CHECK(CONCAT, (x, x), a->axis = 2);
    CHECK(MATMUL, (x, w), a->matmul.transpose_a = false, a->matmul.transpose_b = true);
    CHECK(MATMUL, (w, w), a->matmul.transpose_a = true, a->matmul.transpose_b = false);
    CHECK(SUM, (x), a->reduce.axes = 6, a->reduce.keep = true);
    CHECK(CROSS_ENTROPY, (x, t), a->targets.ignore = -7);
    CHECK(LINEAR_CROSS_ENTROPY, (x, w, t), a->chunked_targets.ignore = -7,
          a->chunked_targets.chunk = 3);
    CHECK(ATTENTION, (x, x, x), a->attention.causal = true, a->attention.scale = 0.5f);
    CHECK(EMBEDDING_BACKWARD, (i, dy), a->rows = 9);
    CHECK(ROTARY, (x), a->rotary.base = 100, a->rotary.inverse = true,
          a->rotary.scaling = (brim_rotary_scaling){8, 1, 4, 8192});
    CHECK(DROPOUT, (x, seed, seed, seed), a->dropout.p = 0.25f, a->dropout.stream = 3);
    CHECK(SGD, (p, m, p, one, one, one), a->optimizer.beta1 = 0.1f, a->optimizer.beta2 = 0.2f,
          a->optimizer.eps = 0.3f, a->optimizer.decay = 0.4f, a->optimizer.lr_scale = 0.5f);
    brim_attr slice;
    memset(&slice, 0xa5, sizeof slice);
    for (int d = 0; d < 4; d++) slice.start[d] = d == 2;
    brim_value y = graph_op_shaped(g, OP_SLICE, &x, 1, &slice, BRIM_F32, &(shape){4, {2, 3, 3, 6}});
    ASSERT_FINE(err);
    ck_assert_mem_eq(&g->node[g->value[y.id].producer].attr, &((brim_attr){.start = {0, 0, 1}}),
                     sizeof slice);
    graph_op(g, OP_FUSED, &x, 1, NULL); // without any
    ASSERT_FAILS(err, BRIM_GRAPH, "a chain of 1 or more steps");
    graph_op(g, OP_SUM, &x, 1, NULL);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "the bit set of axes is 0x0");
    FREE_GRAPH;
}
END_TEST

START_TEST(chains_are_copied) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 3);
    const chain_step before[] = {{OP_CLAMP, BRIM_F32, {~0, 7, 7}, {-1, 1}},
                                 {OP_CAST, BRIM_BF16, {0, 7, 7}, {0}},
                                 {OP_CAST, BRIM_F32, {1, 7, 7}, {0}},
                                 {OP_WHERE, BRIM_F32, {~0, 2, 0}, {0}},
                                 {OP_NEG, BRIM_F32, {3, 7, 7}, {0}}};
    chain_step step[5];
    const int16_t outputs[4] = {4, 1, 3, 0};
    int16_t output[4];
    memcpy(output, outputs, sizeof output);
    memcpy(step, before, sizeof step);
    chain c = {5, 4, step, output};
    brim_value y = graph_op(g, OP_FUSED, &x, 1, &(brim_attr){.chain = &c});
    ASSERT_FINE(err);
    memset(step, 0, sizeof step);
    memset(output, 0, sizeof output);
    const chain *copy = g->node[g->value[y.id].producer].attr.chain;
    ck_assert(copy != &c && copy->steps == 5 && copy->outputs == 4);
    for (int k = 0; k < 4; k++) ck_assert_int_eq(copy->output[k], outputs[k]);
    for (int k = 0; k < 5; k++) {
        ck_assert(copy->step[k].op == before[k].op && copy->step[k].dtype == before[k].dtype);
        ck_assert_mem_eq(copy->step[k].scalar, before[k].scalar, sizeof before[k].scalar);
        for (int i = 0; i < 3; i++) // what is no operand does not count
            ck_assert_int_eq(copy->step[k].operand[i],
                             i < op_table[before[k].op].inputs ? before[k].operand[i] : 0);
    }
    FREE_GRAPH;
}
END_TEST

Suite *graph_suite(void) {
    Suite *suite = suite_create("graph");
    TCase *tests = tcase_create("graph");
    tcase_add_test(tests, scopes_prefix_names);
    tcase_add_test(tests, nodes_keep_their_scope);
    tcase_add_test(tests, scopes_have_limits);
    tcase_add_test(tests, names_are_checked);
    tcase_add_test(tests, parameters_are_shared_by_name);
    tcase_add_test(tests, leaves_are_checked);
    tcase_add_test(tests, other_leaves);
    tcase_add_test(tests, a_control_value_may_be_the_first);
    tcase_add_test(tests, outputs_are_named);
    tcase_add_test(tests, errors_stick);
    tcase_add_test(tests, no_graph_is_no_crash);
    tcase_add_test(tests, strangers_are_refused);
    tcase_add_test(tests, axes_are_checked);
    tcase_add_test(tests, updates_write_variables);
    tcase_add_test(tests, attributes_compare_as_bytes);
    tcase_add_test(tests, attributes_are_those_of_the_op);
    tcase_add_test(tests, chains_are_copied);
    suite_add_tcase(suite, tests);
    return suite;
}
