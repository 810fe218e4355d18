// Random graphs: small shapes, every kind of view, products, chains, concatenations of things that
// can and of things that cannot be written in place, and updates.
#include <stdio.h>
#include <string.h>
#include <brim/nn.h>
#include "sandbox.h"

enum { MOST_VALUES = 4000, MOST_ELEMENTS = 400, MOST_PARAMETERS = 6 };

typedef struct generator {
    brim_graph *g;
    uint64_t random;
    brim_value pool[MOST_VALUES];
    int values, names;
} generator;

static int64_t below(generator *r, int64_t n) {
    return sandbox_below(&r->random, n);
}

static const shape *shape_of(brim_value v) {
    return &v.graph->value[v.id].shape;
}

static void add(generator *r, brim_value v) {
    if (v.id < 0 || r->values == MOST_VALUES || shape_elements(shape_of(v)) > MOST_ELEMENTS) return;
    r->pool[r->values++] = v;
}

// Recent values are more likely.
static brim_value any(generator *r) {
    int64_t window = below(r, 2) && r->values > 6 ? 6 : r->values;
    return r->pool[r->values - 1 - below(r, window)];
}

static brim_value of_rank(generator *r, int least) {
    for (int tries = 0; tries < 20; tries++) {
        brim_value v = any(r);
        if (brim_rank(v) >= least) return v;
    }
    return r->pool[0];
}

static void unary(generator *r) {
    static brim_value (*const make[])(brim_value) = {brim_neg, brim_abs, brim_relu, brim_square};
    brim_value x = any(r);
    int64_t which = below(r, 6);
    add(r, which == 4   ? brim_clamp(x, -2, 2)
           : which == 5 ? brim_sub(x, brim_constant(r->g, (double)below(r, 3)))
                        : make[which](x));
}

static void binary(generator *r) {
    static brim_value (*const make[])(brim_value, brim_value) = {brim_add, brim_sub, brim_mul,
                                                                 brim_maximum, brim_lt};
    brim_value a = any(r), b = any(r);
    shape s;
    for (int tries = 0; tries < 10 && !shape_broadcast(shape_of(a), shape_of(b), &s); tries++)
        b = any(r);
    if (!shape_broadcast(shape_of(a), shape_of(b), &s)) return;
    add(r, make[below(r, 5)](a, b));
}

static void where(generator *r) {
    brim_value a = any(r);
    add(r, brim_where(brim_lt(a, brim_constant(r->g, 0)), a, brim_neg(a)));
}

static void slice(generator *r) {
    brim_value x = of_rank(r, 1);
    int axis = (int)below(r, brim_rank(x));
    int64_t extent = 1 + below(r, brim_dim(x, axis));
    add(r, brim_slice(x, axis, below(r, brim_dim(x, axis) - extent + 1), extent));
}

static void permute(generator *r) {
    brim_value x = of_rank(r, 2);
    int64_t axes[BRIM_MAX_DIMS];
    int rank = brim_rank(x);
    for (int i = 0; i < rank; i++) axes[i] = i;
    for (int i = rank - 1; i > 0; i--) {
        int64_t j = below(r, i + 1), kept = axes[i];
        axes[i] = axes[j];
        axes[j] = kept;
    }
    add(r, brim_permute_axes(x, rank, axes));
}

static void reshape(generator *r) {
    brim_value x = any(r);
    int64_t left = shape_elements(shape_of(x)), dims[BRIM_MAX_DIMS];
    int rank = 0;
    while (left > 1 && rank < 3) {
        int64_t part = 1 + below(r, left);
        while (left % part) part--;
        dims[rank++] = part;
        left /= part;
    }
    dims[rank++] = left;
    add(r, brim_reshape_dims(x, rank, dims));
}

static void broadcast(generator *r) {
    brim_value x = any(r);
    shape s = *shape_of(x);
    for (int i = 0; i < s.rank; i++)
        if (s.dim[i] == 1) s.dim[i] = 2;
    if (s.rank < 4) {
        memmove(s.dim + 1, s.dim, (size_t)s.rank * sizeof *s.dim);
        s.dim[0] = 1 + below(r, 2);
        s.rank++;
    }
    add(r, brim_broadcast_dims(x, s.rank, s.dim));
}

static void concat(generator *r) {
    brim_value x = of_rank(r, 1), parts[3] = {x, x, x};
    int axis = (int)below(r, brim_rank(x)), count = 2 + (int)below(r, 2);
    for (int i = 1; i < count; i++)
        parts[i] = below(r, 3) ? brim_mul(x, brim_constant(r->g, i))
                               : brim_slice(x, axis, 0, 1 + below(r, brim_dim(x, axis)));
    if (below(r, 2)) parts[0] = brim_relu(x);
    add(r, brim_concat(parts, count, axis));
}

static void pad(generator *r) {
    brim_value x = of_rank(r, 1);
    shape s = *shape_of(x);
    brim_attr attr;
    memset(&attr, 0, sizeof attr);
    int axis = (int)below(r, s.rank);
    attr.start[axis] = below(r, 3);
    s.dim[axis] += attr.start[axis] + below(r, 3);
    add(r, graph_op_shaped(r->g, OP_PAD, &x, 1, &attr, brim_value_dtype(x), &s));
}

static void product(generator *r) {
    brim_value x = of_rank(r, 2);
    bool ta = below(r, 2), tb = below(r, 2);
    int64_t k = brim_dim(x, ta ? -2 : -1), n = 1 + below(r, 4);
    char name[40];
    if (below(r, 3) == 0 && brim_rank(x) == 3) { // a batch on both sides, or on one
        brim_value y = below(r, 2) ? x : brim_slice(x, 0, 0, 1);
        add(r, brim_matmul_t(x, false, below(r, 2) ? y : brim_relu(y), true));
        return;
    }
    snprintf(name, sizeof name, "w%dx%d", (int)(tb ? n : k), (int)(tb ? k : n));
    brim_value w =
        brim_parameter(r->g, name, ((brim_init){BRIM_NORMAL, 1}), tb ? n : k, tb ? k : n);
    add(r, brim_matmul_t(x, ta, w, tb));
}

static void reduce(generator *r) {
    brim_value x = of_rank(r, 1);
    int axis = (int)below(r, brim_rank(x));
    add(r, brim_sum(x, &axis, 1, below(r, 2)));
}

static void row_op(generator *r) {
    brim_value x = of_rank(r, 1);
    char name[40];
    snprintf(name, sizeof name, "ln%d", (int)brim_dim(x, -1));
    switch (below(r, 3)) {
    case 0:
        add(r, brim_softmax(x, -1));
        break;
    case 1:
        add(r, brim_layer_norm(x, name, 0));
        break;
    default:
        add(r, brim_dropout(x, 0.5));
        break;
    }
}

// Attention over a packed projection, forward and, as autograd would, backward into a CONCAT.
static void attention(generator *r) {
    int64_t B = 1 + below(r, 2), T = 1 + below(r, 3), H = 1 + below(r, 2), D = 2;
    shape s = {3, {B, T, 3 * H * D}};
    brim_value x = of_rank(r, 1), part[3];
    x = brim_broadcast_dims(brim_sum(x, NULL, 0, false), s.rank, s.dim);
    brim_value packed = brim_add(x, brim_parameter(r->g, "bias", ((brim_init){0}), 1));
    for (int i = 0; i < 3; i++) {
        part[i] = brim_reshape(brim_slice(packed, 2, i * H * D, H * D), B, T, H, D);
        if (i < 2 && below(r, 2)) part[i] = brim_rotary(part[i], 1e4, GRAPH_INVALID);
    }
    brim_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.attention.scale = 1;
    brim_value o = graph_op(r->g, OP_ATTENTION, part, 3, &attr);
    add(r, brim_reshape(o, B, T, H * D));
    brim_value in[] = {part[0], part[1], part[2], o, graph_output(o, 1), brim_neg(o)};
    brim_value dq = graph_op(r->g, OP_ATTENTION_BACKWARD, in, 6, &attr), d[3];
    for (int i = 0; i < 3; i++) {
        d[i] = graph_output(dq, i);
        if (i < 2 && below(r, 3) == 0) d[i] = brim_rotary(d[i], 1e4, GRAPH_INVALID);
        d[i] = brim_reshape(d[i], B, T, H * D);
    }
    add(r, brim_concat(d, 3, 2));
}

static void node(generator *r) {
    static void (*const make[])(generator *) = {unary,     binary, where, slice,   permute, reshape,
                                                broadcast, concat, pad,   product, reduce,  row_op,
                                                attention, binary, unary, binary};
    make[below(r, sizeof make / sizeof *make)](r);
}

// The gradient of a parameter: something of its shape.
static brim_value gradient_for(generator *r, value_id parameter) {
    shape s = r->g->value[parameter].shape;
    brim_value x = brim_sum(any(r), NULL, 0, false);
    brim_value p = graph_value_of(r->g, parameter);
    return below(r, 2) ? brim_add(brim_mul(p, x), p) : brim_broadcast_dims(x, s.rank, s.dim);
}

static void updates(generator *r, int micro_batches) {
    brim_graph *g = r->g;
    value_id list[MOST_PARAMETERS];
    brim_value gradient[MOST_PARAMETERS];
    int count = 0;
    for (value_id v = 0; v < g->values && count < MOST_PARAMETERS; v++)
        if (g->value[v].role == ROLE_PARAMETER && below(r, 4)) list[count++] = v;
    for (int i = 0; i < count; i++) gradient[i] = gradient_for(r, list[i]);
    g->phase = PHASE_UPDATE;
    for (int i = 0; i < count && micro_batches > 1; i++) {
        char name[80];
        snprintf(name, sizeof name, "%s/gradient", g->value[list[i]].name);
        shape s = g->value[list[i]].shape;
        value_id sum = graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &s, name);
        gradient[i] = graph_op(g, OP_ACCUMULATE,
                               (brim_value[]){graph_value_of(g, sum), gradient[i]}, 2, NULL);
    }
    brim_value scale = brim_mul(graph_control(g, CONTROL_LOSS_SCALE), brim_constant(g, 0.125));
    for (int i = 0; i < count; i++) {
        char name[80];
        snprintf(name, sizeof name, "%s/momentum", g->value[list[i]].name);
        shape s = g->value[list[i]].shape;
        value_id momentum = graph_leaf(g, ROLE_STATE, BRIM_F32, &s, name);
        brim_attr attr;
        memset(&attr, 0, sizeof attr);
        attr.optimizer.beta1 = 0.5f;
        brim_value in[] = {
            graph_value_of(g, list[i]),   graph_value_of(g, momentum), gradient[i], scale,
            graph_control(g, CONTROL_LR), brim_constant(g, 1)};
        graph_op(g, OP_SGD, in, 6, &attr);
    }
}

brim_graph *sandbox_graph(uint64_t seed, int nodes, int micro_batches, brim_error *err) {
    static generator r; // tests run one at a time
    memset(&r, 0, sizeof r);
    r.random = seed;
    r.g = brim_graph_create(err);
    if (!r.g) return NULL;
    add(&r, brim_input(r.g, "x", BRIM_F32, 2, 3, 4));
    add(&r, brim_input(r.g, "y", BRIM_F32, 3, 4));
    add(&r, brim_parameter(r.g, "p", ((brim_init){BRIM_NORMAL, 1}), 3, 4));
    add(&r, brim_parameter(r.g, "q", ((brim_init){BRIM_NORMAL, 1}), 2, 1, 4));
    brim_input(r.g, "unused", BRIM_I32, 5);
    for (int i = 0; i < nodes; i++) {
        if (i == nodes / 2) r.g->phase = PHASE_BACKWARD;
        node(&r);
    }
    updates(&r, micro_batches);
    r.g->phase = PHASE_UPDATE;
    for (int i = 0; i < 4; i++) {
        char name[20];
        snprintf(name, sizeof name, "out%d", i);
        brim_output(any(&r), name);
    }
    return r.g;
}
