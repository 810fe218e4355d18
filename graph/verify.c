// What every pass may rely on. Values are checked before nodes, so that the rules of graph/infer.h
// see sound types.
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/dtype.h"
#include "graph/build.h"
#include "graph/infer.h"
#include "graph/shape.h"

typedef struct verifier {
    const brim_graph *g;
    const char *after;
    brim_error *err;
    tensor_type *types; // of one node's inputs
} verifier;

static bool bad_value(const verifier *v, value_id id, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static bool bad_node(const verifier *v, node_id id, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static bool bad_graph(const verifier *v, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define FORMAT_FAULT(text, format)                                                                 \
    do {                                                                                           \
        va_list arguments;                                                                         \
        va_start(arguments, format);                                                               \
        if (vsnprintf(text, sizeof text, format, arguments) < 0) text[0] = '\0';                   \
        va_end(arguments);                                                                         \
    } while (0)

static bool bad_value(const verifier *v, value_id id, const char *format, ...) {
    char text[400];
    FORMAT_FAULT(text, format);
    const char *name = v->g->value[id].name;
    brim_fail(v->err, BRIM_GRAPH, "the graph after %s: value %d%s%s%s: %s", v->after, id,
              name ? " \"" : "", name ? name : "", name ? "\"" : "", text);
    return false;
}

static bool bad_node(const verifier *v, node_id id, const char *format, ...) {
    char text[400];
    FORMAT_FAULT(text, format);
    const graph_node *n = &v->g->node[id];
    bool known = (unsigned)n->op < OP_COUNT, scoped = n->scope && *n->scope;
    brim_fail(v->err, BRIM_GRAPH, "the graph after %s: node %d, %s%s%s%s: %s", v->after, id,
              known ? op_table[n->op].name : "no op", scoped ? " in scope \"" : "",
              scoped ? n->scope : "", scoped ? "\"" : "", text);
    return false;
}

static bool bad_graph(const verifier *v, const char *format, ...) {
    char text[400];
    FORMAT_FAULT(text, format);
    brim_fail(v->err, BRIM_GRAPH, "the graph after %s: %s", v->after, text);
    return false;
}

static bool is_id(const brim_graph *g, value_id id) {
    return id >= 0 && id < g->values;
}

// Values ------------------------------------------------------------------------------------------

static bool check_result_value(const verifier *v, value_id id) {
    const graph_value *x = &v->g->value[id];
    if (x->producer < 0 || x->producer >= v->g->nodes)
        return bad_value(v, id, "its producer is node %d of %d", x->producer, v->g->nodes);
    const graph_node *n = &v->g->node[x->producer];
    if (x->output < 0 || x->output >= n->outputs || n->first_output != id - x->output)
        return bad_value(v, id, "it is output %d of node %d, which says otherwise", x->output,
                         x->producer);
    return true;
}

static bool check_leaf(const verifier *v, value_id id) {
    const graph_value *x = &v->g->value[id];
    const char *fault = graph_name_fault(x->name);
    if (x->producer != -1 || x->output != 0) return bad_value(v, id, "a leaf with a producer");
    if (x->role == ROLE_CONTROL) {
        if (x->control < 0 || x->control >= CONTROL_COUNT)
            return bad_value(v, id, "there is no control slot %d", x->control);
        if (x->dtype != control_slot_dtype((control_slot)x->control) || x->shape.rank != 0)
            return bad_value(v, id, "control slot %s is a scalar %s",
                             control_slot_names[x->control],
                             brim_dtype_name(control_slot_dtype((control_slot)x->control)));
    }
    if (fault) return bad_value(v, id, "its name: %s", fault);
    if (x->role == ROLE_PARAMETER) {
        if (x->dtype != BRIM_F32)
            return bad_value(v, id, "a parameter is f32, not %s", brim_dtype_name(x->dtype));
        if ((unsigned)x->init.kind > BRIM_UNIFORM || !isfinite(x->init.scale))
            return bad_value(v, id, "its init is malformed");
    }
    if (x->role == ROLE_COPY && x->dtype != BRIM_F16 && x->dtype != BRIM_BF16)
        return bad_value(v, id, "a compute copy is f16 or bf16, not %s", brim_dtype_name(x->dtype));
    return true;
}

static bool check_update(const verifier *v, value_id id) {
    const graph_value *x = &v->g->value[id];
    if (x->update == -1) return true;
    if (!role_is_variable(x->role) || !is_id(v->g, x->update))
        return bad_value(v, id, "its update is value %d", x->update);
    const graph_value *new = &v->g->value[x->update];
    if (new->role != ROLE_RESULT || new->producer < 0 || new->producer >= v->g->nodes)
        return bad_value(v, id, "its update, value %d, is not the result of a node", x->update);
    const graph_node *n = &v->g->node[new->producer];
    if ((unsigned)n->op >= OP_COUNT || op_table[n->op].family != FAMILY_UPDATE || new->output < 0 ||
        new->output >= n->inputs || !n->input || n->input[new->output] != id)
        return bad_value(v, id, "its update, value %d, does not update it", x->update);
    return true;
}

static bool check_value(const verifier *v, value_id id) {
    const graph_value *x = &v->g->value[id];
    char reason[200];
    if ((unsigned)x->role > ROLE_CONTROL)
        return bad_value(v, id, "there is no role %d", (int)x->role);
    if ((unsigned)x->dtype >= BRIM_DTYPE_COUNT)
        return bad_value(v, id, "there is no dtype %d", (int)x->dtype);
    if (!shape_check(&x->shape, x->dtype, reason, sizeof reason))
        return bad_value(v, id, "%s", reason);
    if (x->role != ROLE_CONTROL && x->control != -1)
        return bad_value(v, id, "only control values have a slot");
    return (x->role == ROLE_RESULT ? check_result_value(v, id) : check_leaf(v, id)) &&
           check_update(v, id);
}

// Names -------------------------------------------------------------------------------------------

static int compare_leaves(const void *a, const void *b) {
    const graph_value *x = *(const graph_value *const *)a, *y = *(const graph_value *const *)b;
    if (x->role != y->role) return (int)x->role - (int)y->role;
    return strcmp(x->name, y->name);
}

static bool check_names(const verifier *v) {
    const brim_graph *g = v->g;
    const graph_value **leaf = brim_calloc_array((size_t)g->values, sizeof *leaf, v->err);
    if (!leaf) return false;
    size_t count = 0;
    bool fine = true;
    for (value_id id = 0; id < g->values; id++) {
        if (g->value[id].role != ROLE_RESULT) leaf[count++] = &g->value[id];
    }
    qsort(leaf, count, sizeof *leaf, compare_leaves);
    for (size_t i = 1; i < count && fine; i++) {
        if (compare_leaves(&leaf[i - 1], &leaf[i]) == 0)
            fine =
                bad_graph(v, "two leaves are %s \"%s\"", role_names[leaf[i]->role], leaf[i]->name);
    }
    free(leaf);
    return fine;
}

// Nodes -------------------------------------------------------------------------------------------

static bool check_inputs(const verifier *v, node_id id) {
    const graph_node *n = &v->g->node[id];
    if (n->inputs < 0 || !op_accepts(n->op, n->inputs) || (n->inputs && !n->input))
        return bad_node(v, id, "it has %d inputs", n->inputs);
    for (int k = 0; k < n->inputs; k++) {
        value_id from = n->input[k];
        if (!is_id(v->g, from))
            return bad_node(v, id, "input %d is value %d of %d", k, from, v->g->values);
        if (from >= n->first_output)
            return bad_node(v, id, "input %d, value %d, is not made before it", k, from);
        const graph_value *x = &v->g->value[from];
        if (x->role != ROLE_RESULT) continue;
        const graph_node *p = &v->g->node[x->producer];
        if (x->producer >= id)
            return bad_node(v, id, "input %d is made by node %d", k, x->producer);
        if (p->phase > n->phase)
            return bad_node(v, id, "it reads value %d, which a later phase makes", from);
        // What runs in the first section only is kept for the others.
        if (n->sections & ~p->sections && p->sections != SECTION_FIRST)
            return bad_node(v, id, "it runs in sections 0x%x, but value %d is made in 0x%x",
                            (unsigned)n->sections, from, (unsigned)p->sections);
    }
    return true;
}

static bool check_outputs(const verifier *v, node_id id) {
    const graph_node *n = &v->g->node[id];
    int declared = op_table[n->op].outputs;
    if (n->outputs < 1 || n->outputs > GRAPH_MAX_OUTPUTS ||
        (declared != OP_VARIADIC && n->outputs != declared))
        return bad_node(v, id, "it has %d outputs", n->outputs);
    if (n->first_output < 0 || n->first_output > v->g->values - n->outputs)
        return bad_node(v, id, "its outputs are values %d and on of %d", n->first_output,
                        v->g->values);
    for (int k = 0; k < n->outputs; k++) {
        const graph_value *x = &v->g->value[n->first_output + k];
        if (x->role != ROLE_RESULT || x->producer != id || x->output != k)
            return bad_node(v, id, "value %d is not its output %d", n->first_output + k, k);
    }
    return true;
}

static bool check_types(const verifier *v, node_id id) {
    const graph_node *n = &v->g->node[id];
    const graph_value *first = &v->g->value[n->first_output];
    for (int k = 0; k < n->inputs; k++) {
        const graph_value *x = &v->g->value[n->input[k]];
        v->types[k] = (tensor_type){x->dtype, x->shape};
    }
    inference i = {.op = n->op,
                   .attr = &n->attr,
                   .inputs = n->inputs,
                   .input = v->types,
                   .dtype = &first->dtype,
                   .shape = &first->shape};
    if (!infer_types(&i)) {
        if (i.status != BRIM_MEMORY) return bad_node(v, id, "%s", i.reason);
        brim_fail(v->err, i.status, "%s", i.reason); // no fault of the graph
        return false;
    }
    if (i.outputs != n->outputs)
        return bad_node(v, id, "it has %d outputs, %d are expected", n->outputs, i.outputs);
    for (int k = 0; k < n->outputs; k++) {
        char found[SHAPE_TEXT], wanted[SHAPE_TEXT];
        if (first[k].dtype == i.output[k].dtype && shape_equal(&first[k].shape, &i.output[k].shape))
            continue;
        return bad_node(v, id, "output %d is %s %s, %s %s is expected", k,
                        shape_print(&first[k].shape, found, sizeof found),
                        brim_dtype_name(first[k].dtype),
                        shape_print(&i.output[k].shape, wanted, sizeof wanted),
                        brim_dtype_name(i.output[k].dtype));
    }
    return true;
}

// What is computed again belongs to the backward pass, and is of the type of what it was.
static bool check_recomputed(const verifier *v, node_id id) {
    const graph_node *n = &v->g->node[id];
    bool update = op_table[n->op].family == FAMILY_UPDATE;
    if (n->recomputed && (update || n->phase != PHASE_BACKWARD))
        return bad_node(v, id, "it is recomputed, %s",
                        update ? "but changes a variable" : "but not in the backward phase");
    for (int k = 0; k < n->outputs; k++) {
        const graph_value *x = &v->g->value[n->first_output + k];
        if (x->original == -1) continue;
        if (!n->recomputed || !is_id(v->g, x->original) || x->original == n->first_output + k)
            return bad_node(v, id, "its output %d is said to be value %d again", k, x->original);
        const graph_value *original = &v->g->value[x->original];
        if (original->dtype != x->dtype || !shape_equal(&original->shape, &x->shape))
            return bad_node(v, id,
                            "its output %d is said to be value %d again, which has another "
                            "type",
                            k, x->original);
    }
    return true;
}

static bool check_node(const verifier *v, node_id id) {
    const graph_node *n = &v->g->node[id];
    if ((unsigned)n->op >= OP_COUNT) return bad_node(v, id, "there is no op %d", (int)n->op);
    if ((unsigned)n->phase > PHASE_UPDATE)
        return bad_node(v, id, "there is no phase %d", (int)n->phase);
    if (!n->sections || n->sections & ~SECTION_ALL)
        return bad_node(v, id, "its sections are 0x%x", (unsigned)n->sections);
    if (!n->scope || (*n->scope && graph_name_fault(n->scope)))
        return bad_node(v, id, "its scope is malformed");
    if (id > 0 && n->first_output <= n[-1].first_output)
        return bad_node(v, id, "its outputs do not follow those of the node before");
    if (!check_outputs(v, id) || !check_inputs(v, id) || !check_types(v, id)) return false;
    if (!check_recomputed(v, id)) return false;
    for (int k = 0; k < n->outputs && op_table[n->op].family == FAMILY_UPDATE; k++) {
        if (v->g->value[n->input[k]].update != n->first_output + k)
            return bad_node(v, id, "value %d does not know that this updates it", n->input[k]);
    }
    return true;
}

// The graph ---------------------------------------------------------------------------------------

static bool check_results(const verifier *v) {
    const brim_graph *g = v->g;
    if (g->results < 0 || (g->results && !g->result)) return bad_graph(v, "%d outputs", g->results);
    for (int32_t i = 0; i < g->results; i++) {
        value_id id = g->result[i];
        if (!is_id(g, id)) return bad_graph(v, "output %d is value %d of %d", i, id, g->values);
        if (g->value[id].role != ROLE_RESULT || graph_name_fault(g->value[id].name))
            return bad_value(v, id, "an output is a named result of a node");
        for (int32_t other = 0; other < i; other++) {
            if (strcmp(g->value[g->result[other]].name, g->value[id].name) == 0)
                return bad_value(v, id, "two outputs have that name");
        }
    }
    if (g->loss.sum == -1 && g->loss.count == -1) return true;
    const value_id part[] = {g->loss.sum, g->loss.count};
    for (int k = 0; k < 2; k++) {
        if (!is_id(g, part[k]) || g->value[part[k]].dtype != BRIM_F32 ||
            g->value[part[k]].shape.rank != 0)
            return bad_graph(v, "the loss is value %d by value %d, two scalars f32 are expected",
                             part[0], part[1]);
    }
    return true;
}

static bool check_frame(const verifier *v) {
    const brim_graph *g = v->g;
    if (g->values < 0 || g->nodes < 0 || (g->values && !g->value) || (g->nodes && !g->node))
        return bad_graph(v, "%d values, %d nodes", g->values, g->nodes);
    if (g->scope_depth != 0) return bad_graph(v, "scope \"%.255s\" is still open", g->scope);
    return true;
}

static bool check_all(verifier *v) {
    const brim_graph *g = v->g;
    if (!check_frame(v)) return false;
    for (value_id id = 0; id < g->values; id++) {
        if (!check_value(v, id)) return false;
    }
    int32_t widest = 1;
    for (node_id id = 0; id < g->nodes; id++) {
        if (g->node[id].inputs > widest) widest = g->node[id].inputs;
    }
    if (!check_names(v)) return false;
    v->types = brim_calloc_array((size_t)widest, sizeof *v->types, v->err);
    if (!v->types) return false;
    bool fine = true;
    for (node_id id = 0; id < g->nodes && fine; id++) fine = check_node(v, id);
    free(v->types);
    return fine && check_results(v);
}

brim_status graph_verify(const brim_graph *g, const char *after, brim_error *err) {
    if (failed(err)) return err->status;
    if (!g) return brim_fail(err, BRIM_GRAPH, "the graph after %s: there is none", after);
    verifier v = {.g = g, .after = after, .err = err};
    check_all(&v);
    return err->status;
}
