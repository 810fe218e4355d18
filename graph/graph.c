#include "graph/build.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "graph/shape.h"

const char *const role_names[] = {
    [ROLE_RESULT] = "result",   [ROLE_INPUT] = "input", [ROLE_PARAMETER] = "parameter",
    [ROLE_STATE] = "state",     [ROLE_COPY] = "copy",   [ROLE_ACCUMULATOR] = "accumulator",
    [ROLE_CONTROL] = "control",
};

const char *const control_slot_names[CONTROL_COUNT] = {
    [CONTROL_LR] = "lr",       [CONTROL_LOSS_SCALE] = "loss_scale",
    [CONTROL_BIAS1] = "bias1", [CONTROL_BIAS2] = "bias2",
    [CONTROL_SEED] = "seed",   [CONTROL_STEP] = "step",
    [CONTROL_MICRO] = "micro",
};

brim_dtype control_slot_dtype(control_slot slot) {
    return slot >= CONTROL_SEED ? BRIM_I32 : BRIM_F32;
}

brim_graph *brim_graph_create(brim_error *err) {
    if (!err) return NULL;
    brim_graph *g = brim_calloc(sizeof *g, err);
    arena *memory = brim_calloc(sizeof *memory, err);
    if (!g || !memory) {
        free(g);
        free(memory);
        return NULL;
    }
    g->err = err;
    g->memory = memory;
    g->training = true;
    g->scope_text = "";
    g->loss.sum = g->loss.count = -1;
    return g;
}

void brim_graph_free(brim_graph *g) {
    if (!g) return;
    arena_free(g->memory);
    free(g->memory);
    free(g->value);
    free(g->node);
    free(g->result);
    free(g);
}

// brim_grow counts in size_t, ids are 32 bits.
static bool grow(void **array, int32_t *capacity, int32_t count, int32_t more, size_t size,
                 brim_error *err) {
    if (more > INT32_MAX - count) {
        brim_fail(err, BRIM_MEMORY, "a graph holds at most %d values or nodes", INT32_MAX);
        return false;
    }
    size_t held = (size_t)*capacity;
    if (!brim_grow(array, &held, (size_t)count + (size_t)more, size, err)) return false;
    *capacity = held > INT32_MAX ? INT32_MAX : (int32_t)held;
    return true;
}

bool graph_reserve(brim_graph *g, int32_t nodes, int32_t values) {
    return grow((void **)&g->node, &g->node_capacity, g->nodes, nodes, sizeof *g->node, g->err) &&
           grow((void **)&g->value, &g->value_capacity, g->values, values, sizeof *g->value,
                g->err);
}

value_id graph_add_value(brim_graph *g, const graph_value *value) {
    if (!graph_reserve(g, 0, 1)) return -1;
    g->value[g->values] = *value;
    return g->values++;
}

// Scopes ------------------------------------------------------------------------------------------

const char *graph_name_fault(const char *name) {
    if (!name || !*name) return "it is empty";
    size_t length = 0;
    for (const unsigned char *c = (const unsigned char *)name; *c; c++, length++) {
        // Names stand in one-line dumps, error texts and JSON headers.
        if (*c <= ' ' || *c == '"' || *c == '\\' || *c == 0x7f)
            return "blanks, quotes, backslashes and control characters are not allowed";
    }
    return length < GRAPH_NAME_BYTES ? NULL : "it has 256 bytes or more";
}

void brim_scope_push(brim_graph *g, const char *format, ...) {
    if (!g || failed(g->err)) return;
    char name[GRAPH_NAME_BYTES + 1] = "";
    if (format) {
        va_list arguments;
        va_start(arguments, format);
        if (vsnprintf(name, sizeof name, format, arguments) < 0) name[0] = '\0';
        va_end(arguments);
    }
    const char *fault = graph_name_fault(name);
    size_t used = strlen(g->scope), length = strlen(name);
    if (fault) {
        brim_fail(g->err, BRIM_ARGUMENT, "scope \"%.40s\" in scope \"%s\": %s", name, g->scope,
                  fault);
    } else if (g->scope_depth == GRAPH_SCOPE_DEPTH) {
        brim_fail(g->err, BRIM_ARGUMENT,
                  "scope \"%s\" in scope \"%s\": more than %d scopes are open", name, g->scope,
                  GRAPH_SCOPE_DEPTH);
    } else if (used + (used > 0) + length >= sizeof g->scope) {
        brim_fail(g->err, BRIM_ARGUMENT, "scope \"%s\" in scope \"%s\": together %d bytes or more",
                  name, g->scope, GRAPH_NAME_BYTES);
    } else {
        g->scope_end[g->scope_depth++] = (uint16_t)used;
        if (used) g->scope[used++] = '.';
        memcpy(g->scope + used, name, length + 1);
    }
}

void brim_scope_pop(brim_graph *g) {
    if (!g || failed(g->err)) return;
    if (g->scope_depth == 0) {
        brim_fail(g->err, BRIM_GRAPH, "brim_scope_pop: no scope is open");
        return;
    }
    g->scope[g->scope_end[--g->scope_depth]] = '\0';
}

const char *graph_scope_text(brim_graph *g) {
    if (strcmp(g->scope, g->scope_text) != 0) {
        const char *copy = arena_strdup(g->memory, g->scope, g->err);
        if (copy) g->scope_text = copy;
    }
    return g->scope_text;
}

// Leaves ------------------------------------------------------------------------------------------

value_id graph_find_leaf(const brim_graph *g, value_role role, const char *name) {
    for (value_id id = 0; id < g->values; id++) {
        const graph_value *v = &g->value[id];
        if (v->role == role && v->name && strcmp(v->name, name) == 0) return id;
    }
    return -1;
}

static value_id add_leaf(brim_graph *g, value_role role, brim_dtype dtype, const shape *s,
                         const char *name) {
    char reason[200];
    if ((unsigned)dtype >= BRIM_DTYPE_COUNT) {
        brim_fail(g->err, BRIM_ARGUMENT, "%s \"%s\": %d is no dtype", role_names[role], name,
                  (int)dtype);
        return -1;
    }
    if (!shape_check(s, dtype, reason, sizeof reason)) {
        char text[SHAPE_TEXT];
        brim_fail(g->err, BRIM_SHAPE, "%s \"%s\" %s: %s", role_names[role], name,
                  shape_print(s, text, sizeof text), reason);
        return -1;
    }
    const char *copy = arena_strdup(g->memory, name, g->err);
    if (!copy) return -1;
    graph_value v = {.dtype = dtype,
                     .shape = *s,
                     .role = role,
                     .producer = -1,
                     .control = -1,
                     .name = copy,
                     .update = -1,
                     .original = -1};
    return graph_add_value(g, &v);
}

value_id graph_leaf(brim_graph *g, value_role role, brim_dtype dtype, const shape *s,
                    const char *name) {
    if (!g || failed(g->err)) return -1;
    const char *fault = graph_name_fault(name);
    if (!fault && graph_find_leaf(g, role, name) >= 0) fault = "there is one of that name";
    if (fault) {
        brim_fail(g->err, BRIM_ARGUMENT, "%s \"%.255s\": %s", role_names[role], name ? name : "",
                  fault);
        return -1;
    }
    return add_leaf(g, role, dtype, s, name);
}

brim_value graph_control(brim_graph *g, control_slot slot) {
    if (!g || failed(g->err)) return GRAPH_INVALID;
    for (value_id id = 0; id < g->values; id++) {
        const graph_value *v = &g->value[id];
        if (v->role == ROLE_CONTROL && v->control == (int)slot) return graph_value_of(g, id);
    }
    value_id id =
        add_leaf(g, ROLE_CONTROL, control_slot_dtype(slot), &(shape){0}, control_slot_names[slot]);
    if (id < 0) return GRAPH_INVALID;
    g->value[id].control = (int8_t)slot;
    return graph_value_of(g, id);
}

// The leaf that is there already, if it is the same tensor; an error if it is another. False where
// there is none.
static bool find_same(brim_graph *g, value_role role, brim_dtype dtype, const shape *s,
                      const char *name, brim_value *out) {
    value_id id = graph_find_leaf(g, role, name);
    if (id < 0) return false;
    const graph_value *v = &g->value[id];
    bool same = v->dtype == dtype && shape_equal(&v->shape, s);
    if (!same) {
        char old[SHAPE_TEXT], new[SHAPE_TEXT];
        brim_fail(g->err, BRIM_SHAPE, "%s \"%s\" is asked for as %s %s, but exists as %s %s",
                  role_names[role], name, shape_print(s, new, sizeof new), brim_dtype_name(dtype),
                  shape_print(&v->shape, old, sizeof old), brim_dtype_name(v->dtype));
    }
    *out = same ? graph_value_of(g, id) : GRAPH_INVALID;
    return true;
}

static brim_value named_leaf(brim_graph *g, value_role role, const char *name, brim_dtype dtype,
                             int rank, const int64_t *dims, brim_init init) {
    shape s;
    const char *fault = graph_name_fault(name);
    if (fault) {
        brim_fail(g->err, BRIM_ARGUMENT, "%s \"%.255s\" in scope \"%s\": %s", role_names[role],
                  name ? name : "", g->scope, fault);
        return GRAPH_INVALID;
    }
    if (!shape_make(rank, dims, &s)) {
        brim_fail(g->err, BRIM_SHAPE, "%s \"%s\": %d axes; up to %d are allowed", role_names[role],
                  name, rank, BRIM_MAX_DIMS);
        return GRAPH_INVALID;
    }
    brim_value same;
    if (find_same(g, role, dtype, &s, name, &same)) return same;
    value_id id = add_leaf(g, role, dtype, &s, name);
    if (id < 0) return GRAPH_INVALID;
    g->value[id].init = init;
    return graph_value_of(g, id);
}

brim_value brim_input_dims(brim_graph *g, const char *name, brim_dtype dtype, int rank,
                           const int64_t *dims) {
    if (!g || failed(g->err)) return GRAPH_INVALID;
    return named_leaf(g, ROLE_INPUT, name, dtype, rank, dims, (brim_init){0});
}

brim_value brim_parameter_dims(brim_graph *g, const char *name, brim_init init, int rank,
                               const int64_t *dims) {
    if (!g || failed(g->err)) return GRAPH_INVALID;
    char full[2 * GRAPH_NAME_BYTES];
    const char *fault = graph_name_fault(name);
    if (!fault && (unsigned)init.kind > BRIM_UNIFORM) fault = "its init has no such kind";
    if (!fault && !(init.scale >= 0 && init.scale < 1e30f))
        fault = "the scale of its init is negative or not finite";
    if (fault) {
        brim_fail(g->err, BRIM_ARGUMENT, "parameter \"%.255s\" in scope \"%s\": %s",
                  name ? name : "", g->scope, fault);
        return GRAPH_INVALID;
    }
    snprintf(full, sizeof full, "%s%s%s", g->scope, *g->scope ? "." : "", name);
    return named_leaf(g, ROLE_PARAMETER, full, BRIM_F32, rank, dims, init);
}

// Results -----------------------------------------------------------------------------------------

static bool is_result(const brim_graph *g, value_id id) {
    for (int32_t i = 0; i < g->results; i++) {
        if (g->result[i] == id) return true;
    }
    return false;
}

void brim_output(brim_value x, const char *name) {
    brim_graph *g = graph_of("output", &x, 1);
    if (!g) return;
    const char *fault = graph_name_fault(name);
    for (int32_t i = 0; i < g->results && !fault; i++) {
        if (strcmp(g->value[g->result[i]].name, name) == 0) fault = "there is one of that name";
    }
    if (fault) {
        brim_fail(g->err, BRIM_ARGUMENT, "output \"%.255s\": %s", name ? name : "", fault);
        return;
    }
    // A value has one name: a leaf, or a result that has one, is named through a copy.
    if (g->value[x.id].role != ROLE_RESULT || is_result(g, x.id))
        x = graph_op(g, OP_COPY, &x, 1, NULL);
    const char *copy = arena_strdup(g->memory, name, g->err);
    if (x.id < 0 || !copy ||
        !grow((void **)&g->result, &g->result_capacity, g->results, 1, sizeof *g->result, g->err))
        return;
    g->value[x.id].name = copy;
    g->result[g->results++] = x.id;
}

brim_value brim_checkpoint(brim_value x) {
    brim_graph *g = graph_of("checkpoint", &x, 1);
    if (!g) return GRAPH_INVALID;
    g->value[x.id].checkpoint = true;
    return x;
}

// Reading -----------------------------------------------------------------------------------------

static const graph_value *value_at(brim_value x) {
    return x.graph && x.id >= 0 && x.id < x.graph->values ? &x.graph->value[x.id] : NULL;
}

int brim_rank(brim_value x) {
    const graph_value *v = value_at(x);
    return v ? v->shape.rank : 0;
}

int64_t brim_dim(brim_value x, int axis) {
    const graph_value *v = value_at(x);
    if (!v || !graph_axis("brim_dim", x, &axis)) return 1;
    return v->shape.dim[axis];
}

brim_dtype brim_value_dtype(brim_value x) {
    const graph_value *v = value_at(x);
    return v ? v->dtype : BRIM_F32;
}
