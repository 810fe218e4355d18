// The verifier: a graph with every kind of leaf and node passes; with one field of it spoilt, it
// does not. And the text form of graphs, word for word.
#include <math.h>
#include "graph/build.h"
#include "test_graph.h"

static const chain_step steps[] = {
    {OP_CLAMP, BRIM_F32, {~0}, {-1, 1.5f}},
    {OP_CONSTANT, BRIM_F32, {0}, {0.1f}},
    {OP_MUL, BRIM_F32, {0, 1}, {0}},
    {OP_CAST, BRIM_BF16, {2}, {0}},
};
static const int16_t chain_outputs[] = {2, 3};
static const chain some_chain = {4, 2, steps, chain_outputs};

// Values and nodes of the graph below that corruptions name.
typedef struct parts {
    value_id x, w, lr, acc, m, product, gradient, total, updated, low;
    graph_node *matmul, *norm, *fused, *back, *accumulate, *sgd;
} parts;

static graph_node *node_of(brim_graph *g, value_id id) {
    return &g->node[g->value[id].producer];
}

static parts build(brim_graph *g) {
    parts p = {0};
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 3);
    brim_value targets = brim_input(g, "targets", BRIM_I32, 4);
    brim_scope_push(g, "h.0");
    brim_value w = brim_parameter(g, "w", ((brim_init){BRIM_NORMAL, 0.02f}), 5, 3);
    brim_value gain = brim_parameter(g, "gain", ((brim_init){BRIM_ONES, 0}), 5);
    brim_value product = brim_matmul_t(x, false, w, true);
    brim_value norm = brim_layer_norm_with(brim_dropout(product, 0.25), gain, gain, 1e-5);
    brim_scope_pop(g);
    brim_value fused = graph_op(g, OP_FUSED, &norm, 1, &(brim_attr){.chain = &some_chain});
    brim_output(graph_output(fused, 1), "low");
    brim_loss loss = brim_cross_entropy(fused, targets, -100);
    g->loss.sum = loss.sum.id;
    g->loss.count = loss.count.id;

    g->phase = PHASE_BACKWARD;
    brim_value gradient = brim_matmul_t(fused, true, x, false);
    g->phase = PHASE_UPDATE;
    shape s = g->value[w.id].shape;
    p.acc = graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &s, "h.0.w/grad");
    brim_value total =
        graph_op(g, OP_ACCUMULATE, (brim_value[]){graph_value_of(g, p.acc), gradient}, 2, NULL);
    p.m = graph_leaf(g, ROLE_STATE, BRIM_F32, &s, "h.0.w/m");
    brim_value one = brim_constant(g, 1), lr = graph_control(g, CONTROL_LR);
    brim_attr sgd = {.optimizer = {.beta1 = 0.9f, .decay = 0.01f, .lr_scale = 1}};
    brim_value updated = graph_op(
        g, OP_SGD, (brim_value[]){w, graph_value_of(g, p.m), total, one, lr, one}, 6, &sgd);
    p.x = x.id, p.w = w.id, p.lr = lr.id, p.product = product.id, p.gradient = gradient.id;
    p.total = total.id, p.updated = updated.id, p.low = fused.id + 1;
    if (failed(g->err)) return p;
    fit_graph(g);
    p.matmul = node_of(g, p.product), p.norm = node_of(g, norm.id), p.fused = node_of(g, fused.id);
    p.back = node_of(g, p.gradient), p.accumulate = node_of(g, p.total),
    p.sgd = node_of(g, p.updated);
    p.sgd->sections = SECTION_LAST;
    return p;
}

// A copy of the first node at the end, with other outputs.
static void extra_node(brim_graph *g, value_id first_output) {
    ck_assert(graph_reserve(g, 1, 0));
    g->node[g->nodes] = g->node[0];
    g->node[g->nodes++].first_output = first_output;
}

static void extra_result(brim_graph *g, value_id id) {
    g->result = realloc(g->result, (size_t)(g->results + 1) * sizeof *g->result);
    g->result[g->results++] = id;
}

// X(name, part of the error's text, what is spoilt)
#define INPUT(node, k) ((value_id *)(p->node)->input)[k]
#define VALUE(id) g->value[p->id]
#define CORRUPTIONS(X)                                                                             \
    X(value_dtype, "there is no dtype 9", VALUE(product).dtype = (brim_dtype)9)                    \
    X(value_next_dtype, "there is no dtype 4",                                                     \
      VALUE(product).dtype = (brim_dtype)BRIM_DTYPE_COUNT)                                         \
    X(value_other_dtype, "the result is f32 and cannot be bf16", VALUE(product).dtype = BRIM_BF16) \
    X(second_dtype, "output 1 is [4] i32, [4] f32 is expected",                                    \
      g->value[p->norm->first_output + 1].dtype = BRIM_I32)                                        \
    X(value_rank, "7 axes", VALUE(product).shape.rank = 7)                                         \
    X(value_negative_rank, "-1 axes", VALUE(x).shape.rank = -1)                                    \
    X(value_extent, "extent 0", VALUE(product).shape.dim[1] = 0)                                   \
    X(value_bytes, "exceed 2^63", VALUE(x).shape.dim[1] = INT64_MAX)                               \
    X(value_other_shape, "the result is [4, 5] and cannot be [4, 6]",                              \
      VALUE(product).shape.dim[1] = 6)                                                             \
    X(second_shape, "output 1 is [3] f32, [4] f32 is expected",                                    \
      g->value[p->norm->first_output + 1].shape.dim[0] = 3)                                        \
    X(input_shape, "inner extents 7 and 3", VALUE(x).shape.dim[1] = 7)                             \
    X(value_role, "there is no role 7", VALUE(product).role = (value_role)7)                       \
    X(copy_dtype, "a compute copy is f16 or bf16, not f32", g->value[p->m].role = ROLE_COPY)       \
    X(result_to_input, "a leaf with a producer", VALUE(product).role = ROLE_INPUT)                 \
    X(input_to_result, "its producer is node -1", VALUE(x).role = ROLE_RESULT)                     \
    X(value_producer, "says otherwise", VALUE(product).producer++)                                 \
    X(value_producer_range, "its producer is node 99", VALUE(product).producer = 99)               \
    X(leaf_producer, "a leaf with a producer", VALUE(x).producer = 0)                              \
    X(value_output, "it is output 1 of node", VALUE(product).output = 1)                           \
    X(value_negative_output, "it is output -1 of node", VALUE(product).output = -1)                \
    X(leaf_output, "a leaf with a producer", VALUE(x).output = 1)                                  \
    X(control_slot, "there is no control slot 7", VALUE(lr).control = CONTROL_COUNT)               \
    X(control_kind, "control slot seed is a scalar i32", VALUE(lr).control = CONTROL_SEED)         \
    X(control_name, "two leaves are control \"seed\"", VALUE(lr).name = "seed")                    \
    X(stray_control, "only control values have a slot", VALUE(x).control = CONTROL_LR)             \
    X(leaf_name, "its name: it is empty", VALUE(x).name = NULL)                                    \
    X(leaf_name_blank, "its name: blanks", VALUE(x).name = "x y")                                  \
    X(leaf_name_twice, "two leaves are input \"targets\"", VALUE(x).name = "targets")              \
    X(parameter_dtype, "a parameter is f32, not bf16", VALUE(w).dtype = BRIM_BF16)                 \
    X(parameter_init, "its init is malformed", VALUE(w).init.kind = (brim_init_kind)4)             \
    X(parameter_scale, "its init is malformed", VALUE(w).init.scale = NAN)                         \
    X(update_missing, "does not know that this updates it", VALUE(w).update = -1)                  \
    X(update_range, "its update is value 99", VALUE(w).update = 99)                                \
    X(update_negative, "its update is value -2", VALUE(w).update = -2)                             \
    X(update_other, "does not update it", VALUE(w).update++)                                       \
    X(update_by_leaf, "is not the result of a node", VALUE(w).update = p->x)                       \
    X(update_by_matmul, "does not update it", VALUE(w).update = p->product)                        \
    X(update_of_result, "its update is value", VALUE(product).update = p->updated)                 \
    X(update_of_input, "its update is value", VALUE(x).update = p->updated)                        \
    X(update_variable, "does not update it", INPUT(sgd, 1) = p->acc)                               \
    X(node_op, "there is no op", p->matmul->op = OP_COUNT)                                         \
    X(node_other_op, "extents 4 and 5 (axis -2) differ", p->matmul->op = OP_ADD)                   \
    X(node_arity, "it has 3 inputs", p->matmul->inputs = 3)                                        \
    X(node_negative_inputs, "it has -1 inputs", p->matmul->inputs = -1)                            \
    X(node_input_list, "it has 2 inputs", p->matmul->input = NULL)                                 \
    X(node_input_range, "input 1 is value 99", INPUT(matmul, 1) = 99)                              \
    X(node_input_negative, "input 0 is value -1", INPUT(matmul, 0) = -1)                           \
    X(node_input_itself, "is not made before it", INPUT(matmul, 0) = p->product)                   \
    X(node_input_later, "is not made before it", INPUT(matmul, 1) = p->gradient)                   \
    X(node_input_swapped, "the result is [5, 4] and cannot be [4, 5]", INPUT(matmul, 0) = p->w;    \
      INPUT(matmul, 1) = p->x)                                                                     \
    X(node_outputs, "it has 2 outputs", p->matmul->outputs = 2)                                    \
    X(node_no_outputs, "which says otherwise", p->matmul->outputs = 0)                             \
    X(fused_outputs, "which says otherwise", p->fused->outputs = 1)                                \
    X(node_first_output, "which says otherwise", p->matmul->first_output++)                        \
    X(node_first_output_range, "which says otherwise", p->matmul->first_output = -1)               \
    X(node_order, "which says otherwise", graph_node n = p->norm[0]; p->norm[0] = p->norm[-1];     \
      p->norm[-1] = n)                                                                             \
    X(node_phase, "there is no phase 3", p->matmul->phase = (node_phase)3)                         \
    X(node_early_phase, "which a later phase makes", p->sgd->phase = PHASE_FORWARD)                \
    X(node_sections, "its sections are 0x0", p->matmul->sections = 0)                              \
    X(node_sections_range, "its sections are 0x8", p->matmul->sections = 8)                        \
    X(node_sections_missing, "but value", p->matmul->sections = SECTION_LAST)                      \
    X(recomputed_forward, "it is recomputed, but not in the backward phase",                       \
      p->matmul->recomputed = true)                                                                \
    X(recomputed_update, "it is recomputed, but changes a variable", p->sgd->recomputed = true)    \
    X(original_of_any, "is said to be value 0 again", VALUE(product).original = 0)                 \
    X(original_range, "is said to be value 99 again", p->back->recomputed = true;                  \
      VALUE(gradient).original = 99)                                                               \
    X(original_itself, "again", p->back->recomputed = true;                                        \
      VALUE(gradient).original = p->gradient)                                                      \
    X(original_type, "again, which has another type", p->back->recomputed = true;                  \
      VALUE(gradient).original = p->product)                                                       \
    X(node_scope, "its scope is malformed", p->matmul->scope = NULL)                               \
    X(node_scope_text, "its scope is malformed", p->matmul->scope = "a b")                         \
    X(attr_matmul, "node 0, matmul in scope \"h.0\": inner extents 4 (transposed) and 3",          \
      p->matmul->attr.matmul.transpose_a = true)                                                   \
    X(attr_eps, "eps is -1", p->norm->attr.scalar[0] = -1)                                         \
    X(attr_chain, "a chain of 1 or more steps", p->fused->attr.chain = NULL)                       \
    X(attr_chain_outputs, "1 are expected", ((chain *)p->fused->attr.chain)->outputs = 1)          \
    X(attr_chain_dtype, "step 0, clamp",                                                           \
      ((chain_step *)p->fused->attr.chain->step)->dtype = BRIM_F16)                                \
    X(attr_optimizer, "beta1 is 1", p->sgd->attr.optimizer.beta1 = 1)                              \
    X(result_range, "output 0 is value 99", g->result[0] = 99)                                     \
    X(result_negative, "output 0 is value -1", g->result[0] = -1)                                  \
    X(result_leaf, "named result of a node", g->result[0] = p->x)                                  \
    X(result_name, "named result of a node", VALUE(low).name = NULL)                               \
    X(result_list, "1 outputs", g->result = NULL)                                                  \
    X(result_count, "-1 outputs", g->results = -1)                                                 \
    X(loss_range, "the loss is value 99", g->loss.sum = 99)                                        \
    X(loss_half, "two scalars f32 are expected", g->loss.count = -1)                               \
    X(loss_shape, "two scalars f32 are expected", g->loss.sum = p->product)                        \
    X(loss_dtype, "two scalars f32 are expected", g->loss.count = p->low)                          \
    X(open_scope, "scope \"left\" is still open", brim_scope_push(g, "left"))                      \
    X(value_count, "its update is value", g->values = p->updated + 1)                              \
    X(node_count, "is not the result of a node", g->nodes--)                                       \
    X(null_values, "values, ", g->value = NULL)                                                    \
    X(null_nodes, "values, ", g->node = NULL)                                                      \
    X(result_twice, "two outputs have that name", extra_result(g, p->low))                         \
    X(result_twice_later, "two outputs have that name", VALUE(product).name = "other";             \
      extra_result(g, p->product); extra_result(g, p->low))                                        \
    X(result_twice_between, "two outputs have that name", VALUE(product).name = "other";           \
      extra_result(g, p->product); VALUE(gradient).name = "other"; extra_result(g, p->gradient))   \
    X(result_end, "output 0 is value 29 of 29", g->result[0] = g->values)                          \
    X(value_producer_end, "value 4: its producer is node 14 of 14",                                \
      VALUE(product).producer = g->nodes)                                                          \
    X(value_unknown_role, "value 4: there is no role -1", VALUE(product).role = (value_role)-1)    \
    X(value_unknown_dtype, "there is no dtype -1", VALUE(product).dtype = (brim_dtype)-1)          \
    X(leaf_is_named, "value 0 \"x\": a leaf with a producer", VALUE(x).producer = 3)               \
    X(control_none, "there is no control slot -1", VALUE(lr).control = -1)                         \
    X(control_rank, "control slot lr is a scalar f32", VALUE(lr).shape = ((shape){1, {1}}))        \
    X(result_control, "only control values have a slot", VALUE(product).control = 0)               \
    X(result_of_state, "does not update it", VALUE(m).update = p->updated)                         \
    X(update_end, "its update is value 29", VALUE(w).update = g->values)                           \
    X(update_producer_end, "is not the result of a node", VALUE(updated).producer = g->nodes)      \
    X(update_no_producer, "is not the result of a node", VALUE(updated).producer = -1)             \
    X(update_no_output, "does not update it", VALUE(updated).output = -1)                          \
    X(update_output_end, "does not update it", VALUE(updated).output = (int8_t)p->sgd->inputs)     \
    X(update_no_op, "does not update it", p->sgd->op = OP_COUNT)                                   \
    X(update_no_inputs, "does not update it", p->sgd->input = NULL)                                \
    X(node_input_end, "input 1 is value 29 of 29", INPUT(matmul, 1) = g->values)                   \
    X(node_input_next, "input 1, value 5, is not made before it", INPUT(matmul, 1) = 5)            \
    X(node_unknown_op, "node 0, no op in scope \"h.0\": there is no op -1",                        \
      p->matmul->op = (op_id)-1)                                                                   \
    X(node_unknown_phase, "there is no phase -1", p->matmul->phase = (node_phase)-1)               \
    X(node_sections_some, "it runs in sections 0x7, but value", p->matmul->sections = SECTION_ALL; \
      p->norm[-1].sections = SECTION_MIDDLE)                                                       \
    X(node_has_no_outputs, "it has 0 outputs", extra_node(g, g->values);                           \
      g->node[g->nodes - 1].outputs = 0)                                                           \
    X(extra_node_end, "its outputs are values 29 and on of 29", extra_node(g, g->values))          \
    X(original_end, "said to be value 29 again", p->back->recomputed = true;                       \
      VALUE(gradient).original = g->values)                                                        \
    X(original_second, "its output 1 is said to be value 0 again",                                 \
      g->value[p->norm->first_output + 1].original = 0)                                            \
    X(original_second_type, "output 1 is said to be value 0 again, which has another type",        \
      p->norm->phase = PHASE_BACKWARD;                                                             \
      p->norm->recomputed = true; g->value[p->norm->first_output + 1].original = 0)                \
    X(original_shape, "again, which has another type", p->back->recomputed = true;                 \
      VALUE(gradient).original = 0)                                                                \
    X(loss_other_half, "the loss is value -1 by value 20, two scalars", g->loss.sum = -1)          \
    X(loss_end, "the loss is value 19 by value 29, two scalars", g->loss.count = g->values)        \
    X(no_nodes, "29 values, -1 nodes", g->nodes = -1)                                              \
    X(extra_node, "do not follow those of the node before", extra_node(g, p->product))             \
    X(extra_node_range, "its outputs are values 99", extra_node(g, 99))                            \
    X(extra_node_value, "is not its output 0", extra_node(g, g->values - 1))                       \
    X(no_values, "0 nodes", g->values = -1; g->nodes = 0)

#define X(name, fault, ...)                                                                        \
    static void spoil_##name(brim_graph *g, const parts *p) {                                      \
        (void)g, (void)p;                                                                          \
        __VA_ARGS__;                                                                               \
    }
CORRUPTIONS(X)
#undef X

typedef struct corruption {
    const char *name, *fault;
    void (*spoil)(brim_graph *, const parts *);
} corruption;

static const corruption corruptions[] = {
#define X(name, fault, ...) {#name, fault, spoil_##name},
    CORRUPTIONS(X)
#undef X
};
enum { COUNT = sizeof corruptions / sizeof *corruptions };

START_TEST(spoilt_graph_is_refused) {
    const corruption *c = &corruptions[_i];
    MAKE_GRAPH;
    parts p = build(g);
    ASSERT_FINE(err);
    ck_assert_int_eq(graph_verify(g, "pass x", &err), BRIM_OK);
    brim_graph whole = *g; // what the spoiling hides is freed all the same
    c->spoil(g, &p);
    ck_assert_msg(graph_verify(g, "pass x", &err) == BRIM_GRAPH, "%s passes", c->name);
    ck_assert_msg(strstr(err.text, c->fault), "%s: \"%s\" is not in: %s", c->name, c->fault,
                  err.text);
    ck_assert_msg(strstr(err.text, "the graph after pass x: ") == err.text, "%s", err.text);
    if (!g->result) g->result = whole.result;
    if (!g->value) g->value = whole.value;
    if (!g->node) g->node = whole.node;
    FREE_GRAPH;
}
END_TEST

START_TEST(sound_graphs_pass) {
    MAKE_GRAPH;
    ck_assert_int_eq(graph_verify(g, "nothing", &err), BRIM_OK);
    brim_constant(g, 1); // value 0 is made by a node
    parts p = build(g);
    graph_leaf(g, ROLE_STATE, BRIM_F32, &(shape){0}, "h.0.w/grad"); // of another role
    p.matmul->sections = SECTION_FIRST;                             // kept for the other sections
    g->value[p.gradient].original = p.w;                            // of the same type
    p.back->recomputed = true;
    ASSERT_FINE(err);
    ck_assert_int_eq(graph_verify(g, "building", &err), BRIM_OK);
    brim_fail(&err, BRIM_IO, "earlier");
    ck_assert_int_eq(graph_verify(g, "building", &err), BRIM_IO);
    err = (brim_error){0};
    ck_assert_int_eq(graph_verify(NULL, "nothing", &err), BRIM_GRAPH);
    ck_assert_str_eq(err.text, "the graph after nothing: there is none");
    err = (brim_error){0};
    brim_graph_free(g);
    g = brim_graph_create(&err); // the first node has the most operands
    brim_value x[16] = {brim_input(g, "x", BRIM_F32, 2)};
    for (int i = 1; i < 16; i++) x[i] = x[0];
    brim_output(brim_neg(brim_concat(x, 16, 0)), "y");
    fit_graph(g);
    ck_assert_int_eq(graph_verify(g, "building", &err), BRIM_OK);
    FREE_GRAPH;
}
END_TEST

// Text form ---------------------------------------------------------------------------------------

START_TEST(text_of_a_step) {
    MAKE_GRAPH;
    build(g);
    ASSERT_FINE(err);
    assert_text(g, "%0 = input \"x\" [4,3] f32\n"
                   "%1 = input \"targets\" [4] i32\n"
                   "%2 = parameter \"h.0.w\" [5,3] f32 normal(0.02) -> %27\n"
                   "%3 = parameter \"h.0.gain\" [5] f32 ones\n"
                   "%4 = matmul(%0, %2, transpose_b) [4,5] f32 h.0\n"
                   "%5 = control \"seed\" [] i32\n"
                   "%6 = control \"step\" [] i32\n"
                   "%7 = control \"micro\" [] i32\n"
                   "%8 = dropout(%4, %5, %6, %7, p 0.25, stream 0) [4,5] f32 h.0\n"
                   "%9, %10, %11 = layer_norm(%8, %3, %3, 1e-05) [4,5] f32, [4] f32, [4] f32 "
                   "h.0\n"
                   "%12, %13 = fused(%9, t0 = clamp(a0, -1, 1.5) f32; t1 = constant(0.1) f32; "
                   "t2 = mul(t0, t1) f32; t3 = cast(t2) bf16; out t2 t3) [4,5] f32, [4,5] bf16\n"
                   "%14, %15 = cross_entropy(%12, %1, ignore -100) [4] f32, [4] f32\n"
                   "%16 = constant(-100) [] i32\n"
                   "%17 = ne(%1, %16) [4] i32\n"
                   "%18 = cast(%17) [4] f32\n"
                   "%19 = sum(%14, axes 0) [] f32\n"
                   "%20 = sum(%18, axes 0) [] f32\n"
                   "%21 = matmul(%12, %0, transpose_a) [5,3] f32 ; backward\n"
                   "%22 = accumulator \"h.0.w/grad\" [5,3] f32 -> %23\n"
                   "%23 = accumulate(%22, %21) [5,3] f32 ; update\n"
                   "%24 = state \"h.0.w/m\" [5,3] f32 -> %28\n"
                   "%25 = constant(1) [] f32 ; update\n"
                   "%26 = control \"lr\" [] f32\n"
                   "%27, %28 = sgd(%2, %24, %23, %25, %26, %25, beta1 0.9, beta2 0, eps 0, "
                   "decay 0.01, lr_scale 1) [5,3] f32, [5,3] f32 ; update, last\n"
                   "output \"low\" = %13\n"
                   "loss = %19 / %20\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(text_of_attributes) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 4, 6, 8);
    brim_value ids = brim_input(g, "ids", BRIM_I32, 2, 4);
    brim_permute(x, 3, 0, 1, 2);
    brim_slice(x, 2, 5, 1);
    graph_op_shaped(g, OP_PAD, &ids, 1, &(brim_attr){.start = {0, 3}}, BRIM_I32,
                    &(shape){2, {2, 9}});
    brim_concat((brim_value[]){x, x}, 2, 1);
    brim_sum(x, (int[]){1, 3}, 2, true);
    brim_matmul_t(x, true, x, false);
    brim_clamp(x, -0.1, INFINITY);
    brim_pow(x, 1.0 / 3);
    brim_attention(x, x, x, &(brim_attention_options){.bidirectional = true, .segments = ids});
    brim_attention(x, x, x, NULL);
    brim_rotary(x, 1e4, ids);
    graph_op(g, OP_ROTARY, &x, 1, &(brim_attr){.rotary = {0.1, true, {8, 1, 4, 8192}}});
    brim_value ids_dy[] = {ids, brim_input(g, "dy", BRIM_BF16, 2, 4, 8)};
    graph_op_as(g, OP_EMBEDDING_BACKWARD, ids_dy, 2, &(brim_attr){.rows = 50257}, BRIM_F32);
    g->node[0].sections = SECTION_FIRST | SECTION_LAST;
    g->node[1].phase = PHASE_BACKWARD;
    ASSERT_FINE(err);
    assert_text(g, "%0 = input \"x\" [2,4,6,8] f32\n"
                   "%1 = input \"ids\" [2,4] i32\n"
                   "%2 = permute(%0, axes 3 0 1 2) [8,2,4,6] f32 ; first+last\n"
                   "%3 = slice(%0, start 0 0 5 0) [2,4,1,8] f32 ; backward\n"
                   "%4 = pad(%1, start 0 3) [2,9] i32\n"
                   "%5 = concat(%0, %0, axis 1) [2,8,6,8] f32\n"
                   "%6 = sum(%0, axes 1 3, keep) [2,1,6,1] f32\n"
                   "%7 = matmul(%0, %0, transpose_a) [2,4,8,8] f32\n"
                   "%8 = clamp(%0, -0.1, inf) [2,4,6,8] f32\n"
                   "%9 = pow(%0, 0.33333334) [2,4,6,8] f32\n"
                   "%10, %11 = attention(%0, %0, %0, %1, scale 0.35355338) [2,4,6,8] f32, "
                   "[2,6,4] f32\n"
                   "%12, %13 = attention(%0, %0, %0, causal, scale 0.35355338) [2,4,6,8] f32, "
                   "[2,6,4] f32\n"
                   "%14 = rotary(%0, %1, base 10000) [2,4,6,8] f32\n"
                   "%15 = rotary(%0, base 0.1, inverse, slower by 8 from 1 to 4 turns in 8192) "
                   "[2,4,6,8] f32\n"
                   "%16 = input \"dy\" [2,4,8] bf16\n"
                   "%17 = embedding_backward(%1, %16, rows 50257) [50257,8] f32\n");
    FREE_GRAPH;
}
END_TEST

Suite *graph_verify_suite(void) {
    Suite *suite = suite_create("graph/verify");
    TCase *tests = tcase_create("verifier");
    tcase_add_loop_test(tests, spoilt_graph_is_refused, 0, COUNT);
    tcase_add_test(tests, sound_graphs_pass);
    tcase_add_test(tests, text_of_a_step);
    tcase_add_test(tests, text_of_attributes);
    suite_add_tcase(suite, tests);
    return suite;
}
