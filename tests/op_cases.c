#include "tests/op_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "autograd/autograd.h"
#include "core/dtype.h"
#include "core/philox.h"
#include "tests/op_case_builders.h"
#include "tests/oracle/oracle.h"

// What the rows are written with.
#define TEST OP_CASE_TEST
#define BENCH OP_CASE_BENCH
#define BOTH (OP_CASE_TEST | OP_CASE_BENCH)
#define FLOATS (1u << BRIM_F32 | 1u << BRIM_F16 | 1u << BRIM_BF16)
#define HALVES (1u << BRIM_F16 | 1u << BRIM_BF16)
#define F32 (1u << BRIM_F32)
#define F16 (1u << BRIM_F16)
#define BF16 (1u << BRIM_BF16)

#define OP_CASE(op, name, uses, dtypes, leaves, ...)                                               \
    static brim_value build_##op##_##name(const brim_value *x) {                                   \
        return __VA_ARGS__;                                                                        \
    }
#include "tests/op_cases.def"
#undef OP_CASE

const op_case op_cases[] = {
#define OP_CASE(op, name, uses, dtypes, leaves, ...)                                               \
    {OP_##op, #name, uses, dtypes, leaves, build_##op##_##name},
#include "tests/op_cases.def"
#undef OP_CASE
};
const int op_case_count = sizeof op_cases / sizeof *op_cases;

static const struct {
    const char *word;
    bool smooth;
} fills[] = {
#define X(id, word, smooth, meaning) [OP_CASE_FILL_##id] = {#word, smooth},
    OP_CASE_FILLS(X)
#undef X
};

// Reading "7x33:f32:pos" -------------------------------------------------------------------------

static bool read_word(op_case_leaf *leaf, const char *word, size_t length) {
    static const struct {
        const char *word;
        value_role role;
    } roles[] = {{"param", ROLE_PARAMETER},
                 {"state", ROLE_STATE},
                 {"copy", ROLE_COPY},
                 {"acc", ROLE_ACCUMULATOR}};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (strlen(roles[i].word) != length || strncmp(word, roles[i].word, length) != 0) continue;
        leaf->role = roles[i].role;
        if (leaf->role != ROLE_COPY) leaf->dtype = BRIM_F32;
        return true;
    }
    for (int dtype = 0; dtype < BRIM_DTYPE_COUNT; dtype++) {
        const char *name = brim_dtype_name((brim_dtype)dtype);
        if (strlen(name) != length || strncmp(word, name, length) != 0) continue;
        leaf->dtype = (brim_dtype)dtype;
        return true;
    }
    const char *equals = memchr(word, '=', length);
    size_t name = equals ? (size_t)(equals - word) : length;
    for (size_t i = 0; i < sizeof fills / sizeof *fills; i++) {
        if (strlen(fills[i].word) != name || strncmp(word, fills[i].word, name) != 0) continue;
        leaf->fill = (op_case_fill_kind)i;
        if (equals) leaf->argument = strtod(equals + 1, NULL);
        if (leaf->fill >= OP_CASE_FILL_BELOW) leaf->dtype = BRIM_I32;
        return true;
    }
    return false;
}

// "s" is a scalar.
static bool read_leaf(op_case_leaf *leaf, const char *text, size_t length) {
    const char *end = text + length, *at = text;
    if (at < end && *at == 's')
        at++;
    else {
        while (at < end && *at != ':') {
            char *next;
            if (leaf->shape.rank == BRIM_MAX_DIMS) return false;
            leaf->shape.dim[leaf->shape.rank++] = strtoll(at, &next, 10);
            if (next == at) return false;
            at = next < end && *next == 'x' ? next + 1 : next;
        }
    }
    while (at < end) {
        if (*at++ != ':') return false;
        size_t word = 0;
        while (at + word < end && at[word] != ':') word++;
        if (!read_word(leaf, at, word)) return false;
        at += word;
    }
    return true;
}

// Names are those of value ids: many cases can share a graph.
static brim_value make_leaf(brim_graph *g, const op_case_leaf *leaf) {
    char name[16];
    snprintf(name, sizeof name, "x%d", g->values);
    const shape *s = &leaf->shape;
    if (leaf->role == ROLE_INPUT) return brim_input_dims(g, name, leaf->dtype, s->rank, s->dim);
    if (leaf->role == ROLE_PARAMETER)
        return brim_parameter_dims(g, name, (brim_init){BRIM_ZEROS, 0}, s->rank, s->dim);
    return graph_value_of(g, graph_leaf(g, leaf->role, leaf->dtype, s, name));
}

bool op_case_build(const op_case *c, brim_graph *g, brim_dtype dtype, op_case_graph *out) {
    *out = (op_case_graph){.smooth = true, .result = GRAPH_INVALID};
    for (const char *at = c->leaves; *at;) {
        size_t length = strcspn(at, " ");
        op_case_leaf *leaf = &out->leaf[out->leaves];
        *leaf = (op_case_leaf){.role = ROLE_INPUT, .dtype = dtype, .number = out->leaves};
        if (out->leaves == OP_CASE_LEAVES || !read_leaf(leaf, at, length)) {
            brim_fail(g->err, BRIM_ARGUMENT, "op case %s: \"%.*s\" is no leaf", c->name,
                      (int)length, at);
            return false;
        }
        out->x[out->leaves++] = make_leaf(g, leaf);
        out->smooth &= fills[leaf->fill].smooth;
        at += length + strspn(at + length, " ");
    }
    if (!failed(g->err)) out->result = c->build(out->x);
    return !failed(g->err) && out->result.id >= 0;
}

// Numbers ----------------------------------------------------------------------------------------

static double uniform(uint64_t seed, uint64_t stream, uint64_t i, int word) {
    return ((double)philox_at(seed, stream, i).v[word] + 0.5) * 0x1p-32;
}

static double normal(uint64_t seed, uint64_t stream, uint64_t i) {
    double u = uniform(seed, stream, i, 0), v = uniform(seed, stream, i, 1);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static const double special_values[] = {
    0,         -0.0,     1,         -1,      INFINITY,      -INFINITY,      NAN,
    0.5,       -0.5,     65504,     -65504,  3.38953139e38, -3.38953139e38, 0x1p-126,
    -0x1p-126, 0x1p-133, -0x1p-133, 0x1p-14, 0x1p-24,       -0x1p-24,       88.5,
    -87,       -103,     20,        -20,     5.5,           -5.5,           3,
    -3,        2,        1e-4,      -1e-4};

static double number(const op_case_leaf *leaf, uint64_t seed, uint64_t i) {
    uint64_t stream = (uint64_t)leaf->number;
    double u = uniform(seed, stream, i, 2), z = normal(seed, stream, i);
    int64_t columns = leaf->shape.rank ? leaf->shape.dim[leaf->shape.rank - 1] : 1;
    double limit = leaf->argument;
    switch (leaf->fill) {
    case OP_CASE_FILL_NORMAL:
        return z;
    case OP_CASE_FILL_UNIT:
        return 2 * u - 1;
    case OP_CASE_FILL_POSITIVE:
        return 0.25 + 1.75 * u;
    case OP_CASE_FILL_AWAY:
        return floor(2 * z) / 2 + 0.1 + 0.3 * u;
    case OP_CASE_FILL_DISTINCT: { // 257 steps of 3/256 in an order without pattern, shifted by leaf
        int64_t step = (int64_t)((i * 97 + seed * 31) % 257) - 128;
        return (double)step * (3.0 / 256) + leaf->number / 256.0;
    }
    case OP_CASE_FILL_VALUE:
        return leaf->argument;
    case OP_CASE_FILL_TIES:
        return floor(4 * u) - 1;
    case OP_CASE_FILL_WIDE:
        return copysign(exp2(24 * u - 12), z);
    case OP_CASE_FILL_SPECIAL:
        return special_values[i % (sizeof special_values / sizeof *special_values)];
    case OP_CASE_FILL_BELOW:
        return floor(u * limit);
    case OP_CASE_FILL_TARGETS:
        return z > 0.67 ? -100 : floor(u * limit);
    case OP_CASE_FILL_OUTSIDE:
        return floor(u * (limit + 4)) - 2;
    case OP_CASE_FILL_SEGMENTS:
        return floor((double)(i % (uint64_t)columns) * 3 / (double)columns) + 5;
    }
    return 0;
}

void op_case_fill(const op_case_leaf *leaf, uint32_t seed, double *out) {
    int64_t count = shape_elements(&leaf->shape);
    for (int64_t i = 0; i < count; i++)
        out[i] = oracle_round(leaf->dtype, number(leaf, seed, (uint64_t)i));
}

// Gradients --------------------------------------------------------------------------------------

bool op_case_differentiate(op_case_graph *made, brim_value *cotangent, brim_value *loss,
                           brim_value *gradient) {
    brim_graph *g = made->result.graph;
    shape s = g->value[made->result.id].shape;
    char name[24];
    snprintf(name, sizeof name, "cotangent%d", g->values);
    *cotangent = brim_input_dims(g, name, BRIM_F32, s.rank, s.dim);
    brim_value product = brim_mul(brim_cast(made->result, BRIM_F32), *cotangent);
    *loss = brim_sum(product, NULL, 0, false);
    value_id wrt[OP_CASE_LEAVES];
    int slot[OP_CASE_LEAVES], count = 0;
    brim_value found[OP_CASE_LEAVES];
    for (int i = 0; i < made->leaves; i++) {
        gradient[i] = GRAPH_INVALID;
        if (!dtype_is_float(made->leaf[i].dtype)) continue;
        slot[count] = i;
        wrt[count++] = made->x[i].id;
    }
    brim_value one = brim_constant(g, 1);
    autograd_differentiate(g, *loss, one, wrt, count, found, g->err);
    for (int k = 0; k < count; k++) gradient[slot[k]] = found[k];
    return !failed(g->err);
}

const char *op_case_title(const op_case *c, brim_dtype dtype, char *buffer, size_t size) {
    snprintf(buffer, size, "%s/%s %s", op_table[c->op].name, c->name, brim_dtype_name(dtype));
    return buffer;
}
