// Groups elementwise nodes into chains.
//
// A unit is a node, or the group of elementwise nodes that becomes one FUSED node. Units are kept
// in an order that is topological at all times. Two units may become one if no path leads from one
// to the other through a third: such a path would have to go through units between the two in the
// order, so the search for it looks at those only (as Pearce and Kelly, "A dynamic topological sort
// algorithm for directed acyclic graphs", 2007). When they are joined, the units between them that
// lead to the later one move before the earlier one.
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "graph/passes.h"
#include "graph/rewrite.h"
#include "graph/uses.h"

enum {
    MOST_STEPS = 64,       // of a chain: they all want registers
    MOST_SCALAR_STEPS = 4, // that each element of a larger chain computes again, to save a launch
};

_Static_assert((int)MOST_STEPS <= (int)GRAPH_MAX_OUTPUTS, "each step may be an output");

typedef struct unit {
    node_id tail;   // of the list of members; its head is the unit's id
    node_id shaped; // a member whose output has the chain's shape
    int32_t members;
    int32_t position; // in the order; -1: not a unit (any more)
    int32_t seen;     // by the search with that number
} unit;

typedef struct fuser {
    const brim_graph *g;
    graph_uses uses;
    int max_operands;
    unit *unit;     // by id, which is that of its first member
    node_id *of;    // by node: its unit
    node_id *next;  // by node: the next member
    node_id *order; // of units; -1: a hole
    int32_t units;
    node_id *stack, *moved;
    int32_t searches;
    bool *result;   // by value: named, or the loss
    int32_t *stamp; // by value: the count that saw it last
    int32_t stamps;
    brim_error *err;
} fuser;

static bool is_elementwise(const graph_node *node) {
    return op_table[node->op].family == FAMILY_ELEMENTWISE && node->op != OP_FUSED &&
           node->op != OP_CONSTANT;
}

static bool is_constant(const brim_graph *g, value_id v) {
    return g->value[v].producer >= 0 && g->node[g->value[v].producer].op == OP_CONSTANT;
}

static const shape *unit_shape(const fuser *f, node_id u) {
    return &f->g->value[f->g->node[f->unit[u].shaped].first_output].shape;
}

// Would the value have to be stored if these two units (b may be a itself) were one chain?
static bool leaves(const fuser *f, value_id v, node_id a, node_id b) {
    if (f->result[v]) return true;
    for (int64_t u = f->uses.start[v]; u < f->uses.start[v + 1]; u++) {
        node_id reader = f->of[f->uses.use[u].node];
        if (reader != a && reader != b) return true;
    }
    return false;
}

// What a chain of two units would need ------------------------------------------------------------

typedef struct chain_size {
    int32_t inputs, outputs, steps;
} chain_size;

static void add_sizes(fuser *f, node_id u, node_id a, node_id b, chain_size *size) {
    const brim_graph *g = f->g;
    for (node_id n = u; n >= 0; n = f->next[n]) {
        const graph_node *node = &g->node[n];
        size->steps++;
        size->outputs += leaves(f, node->first_output, a, b);
        for (int32_t i = 0; i < node->inputs; i++) {
            value_id v = node->input[i];
            if (f->stamp[v] == f->stamps) continue;
            f->stamp[v] = f->stamps;
            node_id producer = g->value[v].producer;
            if (is_constant(g, v))
                size->steps++;
            else if (producer < 0 || (f->of[producer] != a && f->of[producer] != b))
                size->inputs++;
        }
    }
}

static bool sizes_fit(fuser *f, node_id a, node_id b) {
    chain_size size = {0};
    f->stamps++;
    add_sizes(f, a, a, b, &size);
    add_sizes(f, b, a, b, &size);
    return size.steps <= MOST_STEPS && size.inputs + size.outputs <= f->max_operands;
}

// A few scalar steps that only the larger unit reads may be computed by it.
static bool is_cheap_inside(const fuser *f, node_id small, node_id large) {
    if (shape_elements(unit_shape(f, small)) != 1 || f->unit[small].members > MOST_SCALAR_STEPS)
        return false;
    for (node_id n = small; n >= 0; n = f->next[n])
        if (leaves(f, f->g->node[n].first_output, small, large)) return false;
    return true;
}

static bool shapes_fit(const fuser *f, node_id a, node_id b) {
    const shape *x = unit_shape(f, a), *y = unit_shape(f, b);
    shape both;
    if (shape_equal(x, y)) return true;
    if (!shape_broadcast(x, y, &both)) return false;
    return (shape_equal(&both, y) && is_cheap_inside(f, a, b)) ||
           (shape_equal(&both, x) && is_cheap_inside(f, b, a));
}

// The order ---------------------------------------------------------------------------------------

// Pushes the units that the inputs of u's members come from, if they stand after `from` and are
// neither of the two. True if `from` itself is among them.
static bool push_producers(fuser *f, node_id u, node_id from, node_id to, int32_t *depth) {
    const brim_graph *g = f->g;
    bool found = false;
    for (node_id n = u; n >= 0; n = f->next[n]) {
        for (int32_t i = 0; i < g->node[n].inputs; i++) {
            node_id producer = g->value[g->node[n].input[i]].producer;
            if (producer < 0) continue;
            node_id p = f->of[producer];
            found |= p == from;
            if (p == from || p == to || f->unit[p].position < f->unit[from].position ||
                f->unit[p].seen == f->searches)
                continue;
            f->unit[p].seen = f->searches;
            f->stack[(*depth)++] = p;
        }
    }
    return found;
}

// True if a path leads from `from` to `to` through a third unit. Otherwise the units between them
// that lead to `to` are those with seen == searches.
static bool is_led_around(fuser *f, node_id from, node_id to) {
    int32_t depth = 0;
    f->searches++;
    push_producers(f, to, from, to, &depth); // reading `from` directly is fine
    while (depth) {
        node_id u = f->stack[--depth];
        if (push_producers(f, u, from, to, &depth)) return true;
    }
    return false;
}

// Makes `later` part of `earlier`, after is_led_around has marked what must move.
static void join(fuser *f, node_id earlier, node_id later) {
    int32_t begin = f->unit[earlier].position, end = f->unit[later].position, at = begin, kept = 0;
    for (int32_t p = begin; p <= end; p++) {
        node_id u = f->order[p];
        if (u < 0 || u == later) continue;
        if (f->unit[u].seen == f->searches) {
            f->order[at] = u;
            f->unit[u].position = at++;
        } else {
            f->moved[kept++] = u;
        }
    }
    for (int32_t k = 0; k < kept; k++) {
        f->order[at] = f->moved[k];
        f->unit[f->moved[k]].position = at++;
    }
    while (at <= end) f->order[at++] = -1;
    while (f->units && f->order[f->units - 1] < 0) f->units--; // nobody need walk over them again
    shape both;
    if (shape_broadcast(unit_shape(f, earlier), unit_shape(f, later), &both) &&
        shape_equal(&both, unit_shape(f, later)))
        f->unit[earlier].shaped = f->unit[later].shaped;
    for (node_id n = later; n >= 0; n = f->next[n]) f->of[n] = earlier;
    f->next[f->unit[earlier].tail] = later;
    f->unit[earlier].tail = f->unit[later].tail;
    f->unit[earlier].members += f->unit[later].members;
    f->unit[later].position = -1;
}

static void try_join(fuser *f, node_id a, node_id b) {
    const graph_node *x = &f->g->node[a], *y = &f->g->node[b];
    if (a == b || !is_elementwise(x) || !is_elementwise(y) || x->phase != y->phase ||
        x->sections != y->sections)
        return;
    if (!shapes_fit(f, a, b) || !sizes_fit(f, a, b)) return;
    node_id earlier = f->unit[a].position < f->unit[b].position ? a : b,
            later = earlier == a ? b : a;
    if (!is_led_around(f, earlier, later)) join(f, earlier, later);
}

// Joins the node's unit with those that make its inputs; first with those that nobody else reads,
// whose results then need not be stored.
static void join_producers(fuser *f, node_id n) {
    const brim_graph *g = f->g;
    const graph_node *node = &g->node[n];
    for (int shared = 0; shared < 2; shared++) {
        for (int32_t i = 0; i < node->inputs; i++) {
            value_id v = node->input[i];
            node_id producer = g->value[v].producer;
            if (producer < 0 || leaves(f, v, f->of[producer], f->of[n]) != shared) continue;
            try_join(f, f->of[producer], f->of[n]);
        }
    }
}

static void group(fuser *f, bool enabled) {
    const brim_graph *g = f->g;
    for (node_id n = 0; n < g->nodes; n++)
        f->of[n] = -1; // a reader that is not a unit yet is outside of all
    for (node_id n = 0; n < g->nodes; n++) {
        f->unit[n] = (unit){.tail = n, .shaped = n, .members = 1, .position = f->units};
        f->of[n] = n;
        f->next[n] = -1;
        f->order[f->units++] = n;
        if (enabled && is_elementwise(&g->node[n])) join_producers(f, n);
    }
}

// The new graph -----------------------------------------------------------------------------------

typedef struct chain_maker {
    fuser *f;
    rewrite *r;
    bool inline_constants;
    node_id *member;
    int32_t members;
    chain_step *step;
    int16_t *output;
    value_id *input; // new ids
    graph_value *result;
    int32_t steps, inputs, outputs;
    int32_t *operand; // by old value, valid where stamp says so: the operand that it is
} chain_maker;

static int by_id(const void *a, const void *b) {
    node_id x = *(const node_id *)a, y = *(const node_id *)b;
    return (x > y) - (x < y);
}

static void list_members(chain_maker *c, node_id u) {
    c->members = 0;
    for (node_id n = u; n >= 0; n = c->f->next[n]) c->member[c->members++] = n;
    qsort(c->member, (size_t)c->members, sizeof *c->member, by_id);
}

static chain_step step_of(const brim_graph *g, node_id n) {
    const graph_node *node = &g->node[n];
    chain_step step = {.op = node->op, .dtype = g->value[node->first_output].dtype};
    if (op_table[node->op].attr == ATTR_SCALARS)
        memcpy(step.scalar, node->attr.scalar, sizeof step.scalar);
    return step;
}

// The operand that an old value is to the chain: an earlier step, a constant made now, or an input.
static int16_t operand_of(chain_maker *c, value_id v) {
    fuser *f = c->f;
    if (f->stamp[v] != f->stamps) {
        f->stamp[v] = f->stamps;
        if (c->inline_constants && is_constant(f->g, v)) {
            c->step[c->steps] = step_of(f->g, f->g->value[v].producer);
            c->operand[v] = c->steps++;
        } else {
            c->input[c->inputs] = c->r->map[v];
            c->operand[v] = ~c->inputs++;
        }
    }
    return (int16_t)c->operand[v];
}

static void add_step(chain_maker *c, node_id n, node_id u) {
    fuser *f = c->f;
    const graph_node *node = &f->g->node[n];
    chain_step step = step_of(f->g, n);
    for (int32_t i = 0; i < node->inputs; i++) step.operand[i] = operand_of(c, node->input[i]);
    value_id v = node->first_output;
    f->stamp[v] = f->stamps;
    c->operand[v] = c->steps;
    if (leaves(f, v, u, u)) {
        c->output[c->outputs] = (int16_t)c->steps;
        c->result[c->outputs++] = f->g->value[v];
    }
    c->step[c->steps++] = step;
}

static void add_chain(chain_maker *c, node_id u) {
    fuser *f = c->f;
    list_members(c, u);
    c->steps = c->inputs = c->outputs = 0;
    f->stamps++;
    for (int32_t m = 0; m < c->members; m++) add_step(c, c->member[m], u);
    if (c->outputs == 0) return; // nobody reads it
    graph_node like = f->g->node[c->member[c->members - 1]];
    chain all = {(int16_t)c->steps, (int16_t)c->outputs, c->step, c->output};
    like.op = OP_FUSED;
    like.attr = (brim_attr){.chain = &all};
    like.outputs = c->outputs;
    value_id made = rewrite_add(c->r, &like, c->input, c->inputs, c->result);
    for (int32_t m = 0, j = 0; m < c->members && !failed(c->r->err); m++) {
        const graph_node *member = &f->g->node[c->member[m]];
        value_id v = member->first_output;
        c->r->to->node[c->r->to->nodes - 1].recomputed |= member->recomputed;
        if (leaves(f, v, u, u)) c->r->map[v] = made + j++;
    }
}

static void emit(chain_maker *c) {
    const brim_graph *g = c->f->g;
    for (value_id v = 0; v < g->values; v++)
        if (g->value[v].producer < 0) rewrite_leaf(c->r, v);
    for (int32_t p = 0; p < c->f->units && !failed(c->r->err); p++) {
        node_id u = c->f->order[p];
        if (u < 0) continue;
        if (is_elementwise(&g->node[u]) || g->node[u].op == OP_CONSTANT)
            add_chain(c, u);
        else
            rewrite_copy(c->r, u, NULL);
    }
}

static brim_graph *fuse(fuser *f, bool enabled) {
    const brim_graph *g = f->g;
    brim_error *err = f->err;
    rewrite r;
    if (!rewrite_begin(&r, g, err)) return NULL;
    size_t nodes = (size_t)g->nodes, values = (size_t)g->values;
    enum { MOST = 4 * MOST_STEPS }; // each step has up to three operands
    chain_maker c = {.f = f, .r = &r, .inline_constants = enabled};
    c.member = brim_calloc_array(nodes, sizeof *c.member, err);
    c.step = brim_calloc_array(MOST, sizeof *c.step, err);
    c.output = brim_calloc_array(MOST, sizeof *c.output, err);
    c.input = brim_calloc_array(MOST, sizeof *c.input, err);
    c.result = brim_calloc_array(MOST, sizeof *c.result, err);
    c.operand = brim_calloc_array(values, sizeof *c.operand, err);
    if (!failed(err)) emit(&c);
    free(c.member);
    free(c.step);
    free(c.output);
    free(c.input);
    free(c.result);
    free(c.operand);
    return rewrite_live(rewrite_end(&r, "fuse"), "fuse", err);
}

static brim_graph *group_and_fuse(const brim_graph *g, bool enabled, int max_operands,
                                  brim_error *err) {
    size_t nodes = (size_t)g->nodes, values = (size_t)g->values;
    fuser f = {.g = g, .max_operands = max_operands, .err = err};
    f.unit = brim_calloc_array(nodes, sizeof *f.unit, err);
    f.of = brim_calloc_array(nodes, sizeof *f.of, err);
    f.next = brim_calloc_array(nodes, sizeof *f.next, err);
    f.order = brim_calloc_array(nodes, sizeof *f.order, err);
    f.stack = brim_calloc_array(nodes, sizeof *f.stack, err);
    f.moved = brim_calloc_array(nodes, sizeof *f.moved, err);
    f.result = brim_calloc_array(values, sizeof *f.result, err);
    f.stamp = brim_calloc_array(values, sizeof *f.stamp, err);
    graph_uses_make(g, &f.uses, err);
    brim_graph *fused = NULL;
    if (!failed(err)) {
        for (int32_t i = 0; i < g->results; i++) f.result[g->result[i]] = true;
        if (g->loss.sum >= 0) f.result[g->loss.sum] = f.result[g->loss.count] = true;
        group(&f, enabled);
        fused = fuse(&f, enabled);
    }
    graph_uses_free(&f.uses);
    free(f.unit);
    free(f.of);
    free(f.next);
    free(f.order);
    free(f.stack);
    free(f.moved);
    free(f.result);
    free(f.stamp);
    return fused;
}

static bool broadcast_to(const brim_graph *g, const value_id *v, int32_t count,
                         const shape *wanted) {
    shape s = {0};
    for (int32_t i = 0; i < count; i++)
        if (!shape_broadcast(&s, &g->value[v[i]].shape, &s)) return false;
    return shape_equal(&s, wanted);
}

// Elementwise nodes broadcast by themselves: where one reads a BROADCAST and would have the same
// shape without it, it reads what is broadcast.
static void copy_without_broadcasts(rewrite *r, node_id n) {
    const brim_graph *g = r->from;
    const graph_node *node = &g->node[n];
    value_id source[3], input[3];
    memcpy(source, node->input, (size_t)node->inputs * sizeof *source);
    for (int32_t i = 0; i < node->inputs; i++) {
        node_id producer = g->value[source[i]].producer;
        if (producer < 0 || g->node[producer].op != OP_BROADCAST) continue;
        source[i] = g->node[producer].input[0];
        if (!broadcast_to(g, source, node->inputs, &g->value[node->first_output].shape))
            source[i] = node->input[i];
    }
    for (int32_t i = 0; i < node->inputs; i++) input[i] = r->map[source[i]];
    rewrite_copy(r, n, input);
}

static brim_graph *skip_broadcasts(const brim_graph *g, brim_error *err) {
    rewrite r;
    if (!rewrite_begin(&r, g, err)) return NULL;
    for (value_id v = 0; v < g->values && !failed(err); v++) {
        node_id n = g->value[v].producer;
        if (n < 0)
            rewrite_leaf(&r, v);
        else if (g->node[n].first_output == v && is_elementwise(&g->node[n]))
            copy_without_broadcasts(&r, n);
        else if (g->node[n].first_output == v)
            rewrite_copy(&r, n, NULL);
    }
    return rewrite_live(rewrite_end(&r, "fuse"), "fuse", err);
}

brim_graph *pass_fuse(const brim_graph *g, bool enabled, int max_operands, brim_error *err) {
    if (!failed(err) && max_operands < 4)
        brim_fail(err, BRIM_ARGUMENT, "fuse: %d operands a chain; at least 4 are needed",
                  max_operands);
    if (failed(err)) return NULL;
    if (!enabled) return group_and_fuse(g, false, max_operands, err);
    brim_graph *direct = skip_broadcasts(g, err);
    brim_graph *fused = direct ? group_and_fuse(direct, true, max_operands, err) : NULL;
    brim_graph_free(direct);
    return fused;
}
