// Mixed precision, by the cast column of op.def.
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/dtype.h"
#include "graph/passes.h"
#include "graph/rewrite.h"
#include "graph/uses.h"

typedef struct caster {
    rewrite r;
    brim_dtype low;
    bool *of_loss; // by old node
    struct cast_value {
        bool soft;     // f32 that counts as 16-bit: a variable, a graph input, or made of constants
                       // alone
        bool constant; // made of constants alone
        value_id in[BRIM_DTYPE_COUNT]; // the value in another dtype, once somebody has asked; -1
    } * value;                         // by new id
    size_t capacity;
    value_id *inputs;
    brim_dtype *wanted;
    graph_value output[GRAPH_MAX_OUTPUTS];
} caster;

static void describe(caster *c, value_id v, bool soft, bool constant) {
    if (!brim_grow((void **)&c->value, &c->capacity, (size_t)v + 1, sizeof *c->value, c->r.err))
        return;
    c->value[v] = (struct cast_value){.soft = soft, .constant = constant};
    for (int i = 0; i < BRIM_DTYPE_COUNT; i++) c->value[v].in[i] = -1;
}

// v in that dtype: itself, or one cast that all its readers share. A constant is made anew.
static value_id in_dtype(caster *c, const graph_node *reader, value_id v, brim_dtype dtype) {
    brim_graph *g = c->r.to;
    if (failed(c->r.err) || g->value[v].dtype == dtype) return v;
    if (c->value[v].in[dtype] >= 0) return c->value[v].in[dtype];
    const graph_node *producer = g->value[v].producer < 0 ? NULL : &g->node[g->value[v].producer];
    graph_node like = {
        .outputs = 1, .phase = reader->phase, .sections = reader->sections, .scope = reader->scope};
    memset(&like.attr, 0, sizeof like.attr);
    value_id made;
    if (producer && producer->op == OP_CONSTANT) {
        like.op = OP_CONSTANT;
        like.attr = producer->attr;
        made = rewrite_add_one(&c->r, &like, NULL, 0, dtype, &(shape){0});
    } else {
        shape s = g->value[v].shape;
        like.op = OP_CAST;
        made = rewrite_add_one(&c->r, &like, &v, 1, dtype, &s);
    }
    describe(c, made, false, false);
    c->value[v].in[dtype] = made;
    return made;
}

// Marks the elementwise ops, views and sums that nothing but the loss reads: what they compute is
// the loss.
static void mark_loss(caster *c, const graph_uses *uses) {
    const brim_graph *g = c->r.from;
    for (node_id n = g->nodes - 1; n >= 0; n--) {
        const graph_node *node = &g->node[n];
        value_id v = node->first_output;
        op_family family = op_table[node->op].family;
        bool kind =
            family == FAMILY_ELEMENTWISE || family == FAMILY_VIEW || family == FAMILY_REDUCTION;
        bool only = v == g->loss.sum || v == g->loss.count || uses->start[v] < uses->start[v + 1];
        for (int64_t u = uses->start[v]; u < uses->start[v + 1]; u++)
            only &= c->of_loss[uses->use[u].node];
        c->of_loss[n] = kind && only && !g->value[v].name;
    }
}

// The promoted type of FOLLOW; *constant: its inputs are constants alone.
static brim_dtype followed(const caster *c, const graph_node *node, int32_t inputs,
                           bool *constant) {
    const brim_graph *g = c->r.to;
    brim_dtype dtype = c->low;
    *constant = true;
    for (int32_t i = 0; i < inputs; i++) {
        value_id v = c->r.map[node->input[i]];
        if (!dtype_is_float(g->value[v].dtype)) continue;
        if (g->value[v].dtype == BRIM_F32 && !c->value[v].soft) dtype = BRIM_F32;
        *constant &= c->value[v].constant;
    }
    return *constant ? BRIM_F32 : dtype;
}

// Sets the dtype that each float input must have, and those of the outputs.
static bool choose(caster *c, node_id n) {
    const brim_graph *g = c->r.to;
    const graph_node *node = &c->r.from->node[n];
    brim_dtype *wanted = c->wanted;
    bool constant = false, constant_input;
    brim_dtype first = c->output[0].dtype;
    switch (op_table[node->op].cast) {
    case CAST_LOW:
        for (int32_t i = 0; i < node->inputs; i++) wanted[i] = c->low;
        first = c->low;
        break;
    case CAST_FOLLOW:
        first = followed(c, node, node->inputs, &constant);
        if (c->of_loss[n]) first = BRIM_F32;
        for (int32_t i = 0; i < node->inputs; i++) wanted[i] = first;
        break;
    case CAST_NORM:
        first = followed(c, node, 1, &constant_input);
        for (int32_t i = 0; i < node->inputs; i++) wanted[i] = i == 0 ? first : BRIM_F32;
        break;
    case CAST_WIDE:
        for (int32_t i = 0; i < node->inputs; i++) wanted[i] = c->low;
        break;
    default: // FULL, KEEP
        for (int32_t i = 0; i < node->inputs; i++)
            wanted[i] = g->value[c->r.map[node->input[i]]].dtype;
        break;
    }
    if (dtype_is_float(c->output[0].dtype)) c->output[0].dtype = first;
    return constant;
}

// A cast that has become one to its input's own type; a name needs a value of its own.
static bool is_idle_cast(const caster *c, const graph_node *node) {
    const graph_value *out = &c->r.from->value[node->first_output];
    return node->op == OP_CAST && !out->name &&
           c->r.to->value[c->r.map[node->input[0]]].dtype == out->dtype;
}

static void cast_node(caster *c, node_id n) {
    const brim_graph *from = c->r.from;
    graph_node node = from->node[n];
    if (node.phase != PHASE_FORWARD || op_table[node.op].family == FAMILY_UPDATE ||
        node.op == OP_FUSED) {
        brim_fail(c->r.err, BRIM_GRAPH,
                  "cast: node %d (%s in scope \"%s\") is not of a forward graph", n,
                  op_table[node.op].name, node.scope);
        return;
    }
    if (is_idle_cast(c, &node)) {
        c->r.map[node.first_output] = c->r.map[node.input[0]];
        return;
    }
    memcpy(c->output, &from->value[node.first_output], (size_t)node.outputs * sizeof *c->output);
    bool constant = choose(c, n) || node.op == OP_CONSTANT;
    for (int32_t i = 0; i < node.inputs; i++) {
        value_id v = c->r.map[node.input[i]];
        bool is_float = dtype_is_float(c->r.to->value[v].dtype);
        c->inputs[i] = is_float ? in_dtype(c, &node, v, c->wanted[i]) : v;
    }
    value_id first = rewrite_add(&c->r, &node, c->inputs, node.inputs, c->output);
    for (int32_t j = 0; j < node.outputs && !failed(c->r.err); j++) {
        c->r.map[node.first_output + j] = first + j;
        bool soft = constant && c->output[j].dtype == BRIM_F32;
        describe(c, first + j, soft, soft);
    }
}

static void cast_loss(caster *c) {
    const brim_graph *from = c->r.from;
    const value_id loss[] = {from->loss.sum, from->loss.count};
    for (int i = 0; i < 2 && !failed(c->r.err); i++) {
        if (loss[i] < 0 || from->value[loss[i]].producer < 0) continue;
        const graph_node *node = &from->node[from->value[loss[i]].producer];
        c->r.loss[i] = in_dtype(c, node, c->r.map[loss[i]], BRIM_F32);
    }
}

brim_graph *pass_cast(const brim_graph *g, brim_dtype low, brim_error *err) {
    caster c = {.low = low};
    if (!failed(err) && low != BRIM_F16 && low != BRIM_BF16)
        brim_fail(err, BRIM_ARGUMENT, "cast: to %s; f16 or bf16 is expected", brim_dtype_name(low));
    if (!rewrite_begin(&c.r, g, err)) return NULL;
    size_t most = (size_t)rewrite_most_inputs(g);
    c.inputs = brim_calloc_array(most, sizeof *c.inputs, err);
    c.wanted = brim_calloc_array(most, sizeof *c.wanted, err);
    c.of_loss = brim_calloc_array((size_t)g->nodes, sizeof *c.of_loss, err);
    graph_uses uses = {0};
    if (!failed(err) && !graph_uses_make(g, &uses, err)) mark_loss(&c, &uses);
    graph_uses_free(&uses);
    for (value_id v = 0; v < g->values && !failed(err); v++) {
        node_id n = g->value[v].producer;
        if (n < 0) {
            rewrite_leaf(&c.r, v);
            describe(&c, c.r.map[v], g->value[v].role != ROLE_CONTROL, false);
        } else if (g->node[n].first_output == v) {
            cast_node(&c, n);
        }
    }
    cast_loss(&c);
    free(c.value);
    free(c.inputs);
    free(c.wanted);
    free(c.of_loss);
    return rewrite_end(&c.r, "cast");
}
