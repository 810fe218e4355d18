#include "sandbox.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <check.h>
#include "core/dtype.h"
#include "core/half.h"

uint64_t sandbox_random(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static uint64_t hash(uint64_t a, uint64_t b) {
    uint64_t state = a * 0x2545F4914F6CDD1Du + b;
    return sandbox_random(&state);
}

static void *allocate(int64_t count, size_t size) {
    void *memory = calloc((size_t)(count ? count : 1), size);
    if (!memory) ck_abort_msg("no memory");
    return memory;
}

static float rounded(brim_dtype dtype, float x) {
    unsigned char stored[4];
    dtype_from_f32(dtype, &x, stored, 1);
    dtype_to_f32(dtype, stored, &x, 1);
    return x;
}

// What leaves hold --------------------------------------------------------------------------------

static float leaf_element(const graph_value *v, int64_t i, int micro) {
    uint64_t seed = 7;
    for (const char *c = v->name; *c; c++) seed = hash(seed, (uint64_t)*c);
    if (v->role == ROLE_INPUT) seed = hash(seed, (uint64_t)micro);
    if (v->role == ROLE_CONTROL)
        return v->control == CONTROL_MICRO ? (float)micro : 1.0f + v->control;
    float x = (float)(hash(seed, (uint64_t)i) >> 40) * 0x1p-23f - 1.0f;
    return v->dtype == BRIM_I32 ? floorf(x * 4) : rounded(v->dtype, x);
}

static bool is_variable(const graph_value *v) {
    return role_is_variable(v->role);
}

// Elementwise -------------------------------------------------------------------------------------

static float apply(op_id op, const float *scalar, const float *x) {
    switch (op) {
    case OP_CONSTANT:
        return scalar[0];
    case OP_COPY:
    case OP_CAST:
        return x[0];
    case OP_NEG:
        return -x[0];
    case OP_ABS:
        return fabsf(x[0]);
    case OP_RELU:
        return x[0] > 0 ? x[0] : 0;
    case OP_SQUARE:
        return x[0] * x[0];
    case OP_CLAMP:
        return fminf(fmaxf(x[0], scalar[0]), scalar[1]);
    case OP_ADD:
        return x[0] + x[1];
    case OP_SUB:
        return x[0] - x[1];
    case OP_MUL:
        return x[0] * x[1];
    case OP_MAXIMUM:
        return x[0] > x[1] ? x[0] : x[1];
    case OP_LT:
        return x[0] < x[1];
    case OP_WHERE:
        return x[0] != 0 ? x[1] : x[2];
    default:
        ck_abort_msg("the sandbox cannot compute %s", op_table[op].name);
    }
}

static float to_dtype(op_id op, brim_dtype dtype, float x) {
    if (op == OP_CAST && dtype == BRIM_I32)
        return isnan(x) ? 0 : truncf(fminf(fmaxf(x, -1e6f), 1e6f));
    return rounded(dtype, x);
}

// One element of each output from one of each input.
static void elementwise(const brim_graph *g, const graph_node *node, const float *in, float *out) {
    if (node->op != OP_FUSED) {
        out[0] = to_dtype(node->op, g->value[node->first_output].dtype,
                          apply(node->op, node->attr.scalar, in));
        return;
    }
    const chain *c = node->attr.chain;
    float *step = allocate(c->steps, sizeof *step);
    for (int s = 0; s < c->steps; s++) {
        float x[3] = {0};
        for (int k = 0; k < op_table[c->step[s].op].inputs; k++) {
            int from = c->step[s].operand[k];
            x[k] = from >= 0 ? step[from] : in[~from];
        }
        step[s] =
            to_dtype(c->step[s].op, c->step[s].dtype, apply(c->step[s].op, c->step[s].scalar, x));
    }
    for (int j = 0; j < c->outputs; j++) out[j] = step[c->output[j]];
    free(step);
}

// Places ------------------------------------------------------------------------------------------

// The i-th element in row-major order of shape s.
static int64_t at(const shape *s, const int64_t *stride, int64_t offset, int64_t i) {
    for (int32_t d = s->rank - 1; d >= 0; d--) {
        offset += i % s->dim[d] * stride[d];
        i /= s->dim[d];
    }
    return offset;
}

// Where the i-th element of shape `whole` finds its operand in a value that broadcasts into it.
static int64_t broadcast_at(const shape *whole, const shape *s, const value_layout *l, int64_t i) {
    int64_t stride[BRIM_MAX_DIMS] = {0};
    int32_t missing = whole->rank - s->rank;
    for (int32_t d = 0; d < s->rank; d++) stride[d + missing] = s->dim[d] == 1 ? 0 : l->stride[d];
    return at(whole, stride, l->offset, i);
}

// Nodes on dense arrays ---------------------------------------------------------------------------

static void matmul(const brim_graph *g, const graph_node *node, float *const *in, float *out) {
    const shape *a = &g->value[node->input[0]].shape, *b = &g->value[node->input[1]].shape;
    const shape *c = &g->value[node->first_output].shape;
    bool ta = node->attr.matmul.transpose_a, tb = node->attr.matmul.transpose_b;
    int64_t m = c->dim[c->rank - 2], n = c->dim[c->rank - 1], k = a->dim[a->rank - (ta ? 2 : 1)];
    shape batch = *c, batch_a = *a, batch_b = *b;
    batch.rank -= 2, batch_a.rank -= 2, batch_b.rank -= 2;
    value_layout la = layout_dense(0, &batch_a), lb = layout_dense(0, &batch_b);
    for (int64_t i = 0; i < shape_elements(&batch); i++) {
        const float *x = in[0] + broadcast_at(&batch, &batch_a, &la, i) * m * k;
        const float *y = in[1] + broadcast_at(&batch, &batch_b, &lb, i) * k * n;
        for (int64_t r = 0; r < m; r++) {
            for (int64_t s = 0; s < n; s++) {
                float sum = 0;
                for (int64_t t = 0; t < k; t++)
                    sum += x[ta ? t * m + r : r * k + t] * y[tb ? s * k + t : t * n + s];
                out[(i * m + r) * n + s] = sum;
            }
        }
    }
}

static void concat(const brim_graph *g, const graph_node *node, float *const *in, float *out) {
    const shape *s = &g->value[node->first_output].shape;
    value_layout l = layout_dense(0, s);
    for (int32_t k = 0; k < node->inputs; k++) {
        const shape *part = &g->value[node->input[k]].shape;
        for (int64_t i = 0; i < shape_elements(part); i++)
            out[at(part, l.stride, l.offset, i)] = in[k][i];
        l.offset += part->dim[node->attr.axis] * l.stride[node->attr.axis];
    }
}

static void update(const brim_graph *g, const graph_node *node, float *const *in, float *const *out,
                   bool first) {
    int64_t count = shape_elements(&g->value[node->first_output].shape);
    for (int64_t i = 0; i < count; i++) {
        if (node->op == OP_ACCUMULATE) {
            out[0][i] = first ? in[1][i] : in[0][i] + in[1][i];
        } else { // SGD
            out[1][i] = node->attr.optimizer.beta1 * in[1][i] + in[2][i] * in[3][0];
            out[0][i] = in[0][i] - in[4][0] * out[1][i];
        }
    }
}

// Any function will do, as long as it depends on where in its inputs, not where in memory, it
// reads.
static float opaque(const brim_graph *g, const graph_node *node, float *const *in, int j,
                    int64_t i) {
    float sum = 0;
    uint64_t salt = hash((uint64_t)node->op, (uint64_t)j);
    if (node->op == OP_DROPOUT) salt = hash(salt, node->attr.dropout.stream);
    if (node->op == OP_SUM) salt = hash(salt, node->attr.reduce.axes);
    for (int32_t k = 0; k < node->inputs; k++) {
        int64_t count = shape_elements(&g->value[node->input[k]].shape);
        uint64_t h = hash(salt, (uint64_t)(i * 64 + k));
        sum += in[k][h % (uint64_t)count] * (0.25f + (float)(h >> 61) * 0.125f);
    }
    return sum / (float)node->inputs;
}

static void evaluate(const brim_graph *g, const graph_node *node, float *const *in,
                     float *const *out, bool first) {
    const shape *s = &g->value[node->first_output].shape;
    int64_t count = shape_elements(s);
    if (op_table[node->op].family == FAMILY_UPDATE) {
        update(g, node, in, out, first);
    } else if (node->op == OP_MATMUL) {
        matmul(g, node, in, out[0]);
    } else if (node->op == OP_CONCAT) {
        concat(g, node, in, out[0]);
    } else if (node->op == OP_PAD) {
        const shape *part = &g->value[node->input[0]].shape;
        value_layout l = layout_dense(0, s);
        for (int32_t d = 0; d < s->rank; d++) l.offset += node->attr.start[d] * l.stride[d];
        memset(out[0], 0, (size_t)count * sizeof **out);
        for (int64_t i = 0; i < shape_elements(part); i++)
            out[0][at(part, l.stride, l.offset, i)] = in[0][i];
    } else {
        for (int j = 0; j < node->outputs; j++)
            for (int64_t i = 0; i < shape_elements(&g->value[node->first_output + j].shape); i++)
                out[j][i] = opaque(g, node, in, j, i);
    }
    for (int j = 0; j < node->outputs; j++) {
        const graph_value *v = &g->value[node->first_output + j];
        for (int64_t i = 0; i < shape_elements(&v->shape); i++)
            out[j][i] = rounded(v->dtype, out[j][i]);
    }
}

// Plain -------------------------------------------------------------------------------------------

static void plain_elementwise(const brim_graph *g, const graph_node *node, float *const *value) {
    const shape *s = &g->value[node->first_output].shape;
    float *in = allocate(node->inputs, sizeof *in), *out = allocate(node->outputs, sizeof *out);
    for (int64_t i = 0; i < shape_elements(s); i++) {
        for (int32_t k = 0; k < node->inputs; k++) {
            const shape *x = &g->value[node->input[k]].shape;
            value_layout l = layout_dense(0, x);
            in[k] = value[node->input[k]][broadcast_at(s, x, &l, i)];
        }
        elementwise(g, node, in, out);
        for (int j = 0; j < node->outputs; j++) value[node->first_output + j][i] = out[j];
    }
    free(in);
    free(out);
}

static void plain_view(const brim_graph *g, const graph_node *node, float *const *value) {
    const shape *from = &g->value[node->input[0]].shape, *to = &g->value[node->first_output].shape;
    value_layout in = layout_dense(0, from), out;
    if (!layout_of_view(g, node, &in, &out)) ck_abort_msg("a view that strides cannot express");
    for (int64_t i = 0; i < shape_elements(to); i++)
        value[node->first_output][i] = value[node->input[0]][at(to, out.stride, out.offset, i)];
}

static void plain_node(const brim_graph *g, const graph_node *node, float *const *value,
                       bool first) {
    if (op_is_view(node->op)) {
        plain_view(g, node, value);
    } else if (op_table[node->op].family == FAMILY_ELEMENTWISE) {
        plain_elementwise(g, node, value);
    } else {
        float **in = allocate(node->inputs, sizeof *in), *out[GRAPH_MAX_OUTPUTS];
        for (int32_t k = 0; k < node->inputs; k++) in[k] = value[node->input[k]];
        for (int j = 0; j < node->outputs; j++) out[j] = value[node->first_output + j];
        evaluate(g, node, in, out, first);
        free(in);
    }
}

static void keep(sandbox_outcome *out, const char *name, const float *data, int64_t count) {
    sandbox_tensor t = {name, count, allocate(count, sizeof *t.data)};
    memcpy(t.data, data, (size_t)count * sizeof *data);
    out->tensor[out->count++] = t;
}

void sandbox_run_plain(const brim_graph *g, int micro_batches, sandbox_outcome *out) {
    float **value = allocate(g->values, sizeof *value);
    *out = (sandbox_outcome){allocate(g->values, sizeof *out->tensor), 0};
    for (value_id v = 0; v < g->values; v++) {
        int64_t count = shape_elements(&g->value[v].shape);
        value[v] = allocate(count, sizeof **value);
        for (int64_t i = 0; i < count && is_variable(&g->value[v]); i++)
            value[v][i] = leaf_element(&g->value[v], i, 0);
    }
    for (int micro = 0; micro < micro_batches; micro++) {
        for (value_id v = 0; v < g->values; v++) {
            const graph_value *x = &g->value[v];
            for (int64_t i = 0; (x->role == ROLE_INPUT || x->role == ROLE_CONTROL) &&
                                i < shape_elements(&x->shape);
                 i++)
                value[v][i] = leaf_element(x, i, micro);
        }
        for (node_id n = 0; n < g->nodes; n++) plain_node(g, &g->node[n], value, micro == 0);
        for (value_id v = 0; v < g->values; v++) { // variables change when all have read them
            value_id new = g->value[v].update;
            if (new < 0) continue;
            if (micro < micro_batches - 1 && g->node[g->value[new].producer].op != OP_ACCUMULATE)
                continue;
            memcpy(value[v], value[new],
                   (size_t)shape_elements(&g->value[v].shape) * sizeof **value);
        }
    }
    for (int32_t r = 0; r < g->results; r++) {
        const graph_value *v = &g->value[g->result[r]];
        keep(out, v->name, value[g->result[r]], shape_elements(&v->shape));
    }
    for (value_id v = 0; v < g->values; v++)
        if (is_variable(&g->value[v]) && g->value[v].role != ROLE_ACCUMULATOR)
            keep(out, g->value[v].name, value[v], shape_elements(&g->value[v].shape));
    for (value_id v = 0; v < g->values; v++) free(value[v]);
    free(value);
}

// Planned -----------------------------------------------------------------------------------------

typedef struct machine {
    const brim_graph *g;
    const graph_layout *layout;
    const memory_plan *plan;
    unsigned char *memory[SPACES];
    memory_space space; // of the node that runs
    int32_t position;
    uint64_t random;
} machine;

// Bytes of an element, given its index in the storage.
static unsigned char *element(const machine *m, value_id v, int64_t index) {
    const value_layout *l = &m->layout->of[v];
    int64_t bytes = (int64_t)brim_dtype_bytes(m->g->value[v].dtype);
    // Between two nodes: at home.
    const storage_place *place =
        m->position < 0 ? &m->plan->storage[l->storage]
                        : memory_plan_place(m->plan, l->storage, m->space, m->position);
    // (ck_assert writes a record each time it is passed: not in a loop over elements.)
    if (place->offset < 0 || (index + 1) * bytes > place->bytes)
        ck_abort_msg("element %d of value %d lies outside of its storage", (int)index, v);
    if (m->position >= 0 && place->space != m->space)
        ck_abort_msg("value %d is not where the node at %d needs it", v, m->position);
    return m->memory[place->space] + place->offset + index * bytes;
}

static float load(const machine *m, value_id v, int64_t index) {
    float x;
    dtype_to_f32(m->g->value[v].dtype, element(m, v, index), &x, 1);
    return x;
}

static void store(const machine *m, value_id v, int64_t index, float x) {
    dtype_from_f32(m->g->value[v].dtype, &x, element(m, v, index), 1);
}

static float *gather(const machine *m, value_id v) {
    const shape *s = &m->g->value[v].shape;
    const value_layout *l = &m->layout->of[v];
    float *data = allocate(shape_elements(s), sizeof *data);
    for (int64_t i = 0; i < shape_elements(s); i++)
        data[i] = load(m, v, at(s, l->stride, l->offset, i));
    return data;
}

static void scatter(const machine *m, value_id v, const float *data) {
    const shape *s = &m->g->value[v].shape;
    const value_layout *l = &m->layout->of[v];
    for (int64_t i = 0; i < shape_elements(s); i++)
        store(m, v, at(s, l->stride, l->offset, i), data[i]);
}

static void planned_elementwise(machine *m, const graph_node *node) {
    const brim_graph *g = m->g;
    const shape *s = &g->value[node->first_output].shape;
    int64_t count = shape_elements(s), step = 1 + sandbox_below(&m->random, count),
            i = sandbox_below(&m->random, count);
    for (int64_t a = step, b = count; b;) { // a step without a common factor visits every element
        int64_t rest = a % b;
        a = b, b = rest;
        if (!b && a != 1) a = ++step, b = count;
    }
    float *in = allocate(node->inputs, sizeof *in), *out = allocate(node->outputs, sizeof *out);
    for (int64_t n = 0; n < count; n++, i = (i + step) % count) {
        for (int32_t k = 0; k < node->inputs; k++) {
            value_id v = node->input[k];
            in[k] = load(m, v, broadcast_at(s, &g->value[v].shape, &m->layout->of[v], i));
        }
        elementwise(g, node, in, out);
        for (int j = 0; j < node->outputs; j++) {
            value_id v = node->first_output + j;
            store(m, v, at(s, m->layout->of[v].stride, m->layout->of[v].offset, i), out[j]);
        }
    }
    free(in);
    free(out);
}

static void planned_concat(const machine *m, const graph_node *node) {
    value_layout l = m->layout->of[node->first_output];
    for (int32_t k = 0; k < node->inputs; k++) {
        value_id v = node->input[k];
        const shape *s = &m->g->value[v].shape;
        if (m->layout->of[v].storage != l.storage) {
            float *data = gather(m, v);
            for (int64_t i = 0; i < shape_elements(s); i++)
                store(m, node->first_output, at(s, l.stride, l.offset, i), data[i]);
            free(data);
        }
        l.offset += s->dim[node->attr.axis] * l.stride[node->attr.axis];
    }
}

static void planned_node(machine *m, node_id n, bool first) {
    const brim_graph *g = m->g;
    const graph_node *node = &g->node[n];
    const storage_place *workspace = &m->plan->workspace[n];
    if (workspace->offset >= 0)
        memset(m->memory[SPACE_DEVICE] + workspace->offset, 0xff, (size_t)workspace->bytes);
    if (op_is_view(node->op)) return;
    if (node->op == OP_CONCAT) {
        planned_concat(m, node);
    } else if (op_table[node->op].family == FAMILY_ELEMENTWISE) {
        planned_elementwise(m, node);
    } else {
        float **in = allocate(node->inputs, sizeof *in), *out[GRAPH_MAX_OUTPUTS];
        for (int32_t k = 0; k < node->inputs; k++) in[k] = gather(m, node->input[k]);
        for (int j = 0; j < node->outputs; j++)
            out[j] =
                allocate(shape_elements(&g->value[node->first_output + j].shape), sizeof **out);
        evaluate(g, node, in, out, first);
        for (int j = 0; j < node->outputs; j++) scatter(m, node->first_output + j, out[j]);
        for (int32_t k = 0; k < node->inputs; k++) free(in[k]);
        for (int j = 0; j < node->outputs; j++) free(out[j]);
        free(in);
    }
}

static void fill_leaves(const machine *m, bool variables, int micro) {
    for (value_id v = 0; v < m->g->values; v++) {
        const graph_value *x = &m->g->value[v];
        if (x->producer >= 0 || is_variable(x) != variables) continue;
        for (int64_t i = 0; i < shape_elements(&x->shape); i++)
            store(m, v, at(&x->shape, m->layout->of[v].stride, m->layout->of[v].offset, i),
                  leaf_element(x, i, micro));
    }
}

static void run_transfers(machine *m, int32_t *next, bool after, int section) {
    for (; *next < m->plan->transfers; ++*next) {
        const transfer *t = &m->plan->transfer[*next];
        if (t->position != m->position || t->after != after) return;
        if (!(t->sections & section)) continue;
        transfer_ends ends = memory_plan_ends(m->plan, t);
        memcpy(m->memory[ends.to->space] + ends.to->offset,
               m->memory[ends.from->space] + ends.from->offset, (size_t)ends.to->bytes);
    }
}

static void run_section(machine *m, const graph_schedule *schedule, int section, bool first) {
    int32_t next = 0;
    for (m->position = 0; m->position < schedule->count; m->position++) {
        node_id n = schedule->order[m->position];
        m->space = m->plan->on_host[n] ? SPACE_HOST : SPACE_DEVICE;
        run_transfers(m, &next, false, section);
        if (m->g->node[n].sections & section) planned_node(m, n, first);
        run_transfers(m, &next, true, section);
    }
    m->position = -1;
}

void sandbox_run_planned(const brim_graph *g, const graph_layout *layout,
                         const graph_schedule *schedule, const memory_plan *plan, int micro_batches,
                         uint64_t seed, sandbox_outcome *out) {
    machine m = {.g = g, .layout = layout, .plan = plan, .position = -1, .random = seed};
    for (int space = 0; space < SPACES; space++) {
        m.memory[space] = allocate(plan->peak_bytes[space], 1);
        memset(m.memory[space], 0xff, (size_t)plan->peak_bytes[space]); // NaN in every float type
    }
    fill_leaves(&m, true, 0);
    for (int micro = 0; micro < micro_batches; micro++) {
        int section = micro == micro_batches - 1 ? SECTION_LAST
                      : micro == 0               ? SECTION_FIRST
                                                 : SECTION_MIDDLE;
        fill_leaves(&m, false, micro);
        run_section(&m, schedule, section, micro == 0);
    }
    *out = (sandbox_outcome){allocate(g->values, sizeof *out->tensor), 0};
    for (value_id v = 0; v < g->values; v++) {
        bool result = false;
        for (int32_t r = 0; r < g->results; r++) result |= g->result[r] == v;
        // A sum over micro-batches is done with when the step is.
        if (!result && (!is_variable(&g->value[v]) || g->value[v].role == ROLE_ACCUMULATOR))
            continue;
        float *data = gather(&m, v);
        keep(out, g->value[v].name, data, shape_elements(&g->value[v].shape));
        free(data);
    }
    for (int space = 0; space < SPACES; space++) free(m.memory[space]);
}

void sandbox_outcome_free(sandbox_outcome *outcome) {
    for (int i = 0; i < outcome->count; i++) free(outcome->tensor[i].data);
    free(outcome->tensor);
    *outcome = (sandbox_outcome){0};
}

static bool same_floats(const sandbox_tensor *a, const sandbox_tensor *b) {
    if (a->count != b->count) return false;
    for (int64_t i = 0; i < a->count; i++)
        if (f32_bits(a->data[i]) != f32_bits(b->data[i]) &&
            !(isnan(a->data[i]) && isnan(b->data[i])))
            return false;
    return true;
}

const char *sandbox_difference(const sandbox_outcome *a, const sandbox_outcome *b) {
    for (int i = 0; i < a->count; i++) {
        bool same = false;
        for (int j = 0; j < b->count && !same; j++)
            same = strcmp(a->tensor[i].name, b->tensor[j].name) == 0 &&
                   same_floats(&a->tensor[i], &b->tensor[j]);
        if (!same) return a->tensor[i].name;
    }
    return a->count == b->count ? NULL : "the number of tensors";
}
