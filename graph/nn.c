// Layers. Each opens a scope of its name, so that its parameters are NAME.weight and so on, and
// errors name it.
#include <brim/nn.h>

#include <inttypes.h>
#include <math.h>
#include "graph/build.h"

// The graph, with the layer's scope open; NULL with an error stuck.
static brim_graph *open_layer(const char *what, brim_value x, const char *name, int least_rank) {
    brim_graph *g = graph_of(what, &x, 1);
    if (!g) return NULL;
    int rank = brim_rank(x);
    if (rank < least_rank) {
        graph_refuse(g, BRIM_SHAPE, what, &x, 1, "%d axes, at least %d are expected", rank,
                     least_rank);
        return NULL;
    }
    brim_scope_push(g, "%s", name ? name : "");
    return failed(g->err) ? NULL : g;
}

static brim_value close_layer(brim_graph *g, brim_value result) {
    brim_scope_pop(g);
    return failed(g->err) ? GRAPH_INVALID : result;
}

static bool is_default(brim_init init) {
    return init.kind == BRIM_ZEROS && init.scale == 0;
}

brim_value brim_linear_with(brim_value x, const char *name, int64_t out,
                            const brim_linear_options *options) {
    static const brim_linear_options defaults;
    const brim_linear_options *o = options ? options : &defaults;
    brim_graph *g = open_layer("linear", x, name, 1);
    if (!g) return GRAPH_INVALID;
    bool out_in = o->layout == BRIM_OUT_IN;
    int64_t in = brim_dim(x, -1);
    brim_init weight_init = o->init, bias_init = {BRIM_ZEROS, 0};
    if (is_default(o->init)) // as torch.nn.Linear: both uniform in +-1/sqrt(in)
        weight_init = bias_init = (brim_init){BRIM_UNIFORM, (float)(1 / sqrt((double)in))};
    brim_value weight =
        brim_parameter(g, "weight", weight_init, out_in ? out : in, out_in ? in : out);
    bool single = brim_rank(x) == 1;
    brim_value y = brim_matmul_t(single ? brim_reshape(x, 1, in) : x, false, weight, out_in);
    if (single) y = brim_reshape(y, out);
    if (!o->no_bias) y = brim_add(y, brim_parameter(g, "bias", bias_init, out));
    return close_layer(g, y);
}

brim_value brim_embedding(brim_value ids, const char *name, int64_t rows, int64_t width,
                          brim_init init) {
    brim_graph *g = open_layer("embedding", ids, name, 0);
    if (!g) return GRAPH_INVALID;
    if (is_default(init)) init = (brim_init){BRIM_NORMAL, 1};
    brim_value table = brim_parameter(g, "weight", init, rows, width);
    return close_layer(g, brim_gather(table, ids));
}

static const double default_eps = 1e-5;

brim_value brim_layer_norm(brim_value x, const char *name, double eps) {
    brim_graph *g = open_layer("layer_norm", x, name, 1);
    if (!g) return GRAPH_INVALID;
    int64_t width = brim_dim(x, -1);
    brim_value gain = brim_parameter(g, "weight", ((brim_init){BRIM_ONES, 0}), width);
    brim_value bias = brim_parameter(g, "bias", ((brim_init){BRIM_ZEROS, 0}), width);
    return close_layer(g, brim_layer_norm_with(x, gain, bias, eps != 0 ? eps : default_eps));
}

brim_value brim_rms_norm(brim_value x, const char *name, double eps) {
    brim_graph *g = open_layer("rms_norm", x, name, 1);
    if (!g) return GRAPH_INVALID;
    brim_value gain = brim_parameter(g, "weight", ((brim_init){BRIM_ONES, 0}), brim_dim(x, -1));
    return close_layer(g, brim_rms_norm_with(x, gain, eps != 0 ? eps : default_eps));
}

// Heads first .. first + heads - 1 of a packed projection [B, T, all heads * size], as [B, T,
// heads, size]. A slice of the last axis which is then split stays expressible as strides: no copy.
static brim_value take_heads(brim_value packed, int64_t first, int64_t heads, int64_t size) {
    brim_value part = brim_slice(packed, -1, first * size, heads * size);
    return brim_reshape(part, brim_dim(packed, 0), brim_dim(packed, 1), heads, size);
}

static bool check_heads(brim_graph *g, brim_value x, int64_t heads,
                        const brim_self_attention_options *o) {
    int64_t width = brim_dim(x, -1), kv_heads = o->kv_heads ? o->kv_heads : heads;
    int names = !!o->q_name + !!o->k_name + !!o->v_name;
    if (brim_rank(x) != 3)
        graph_refuse(g, BRIM_SHAPE, "self_attention", &x, 1, "3 axes are expected");
    else if (heads < 1 || (o->head_size == 0 && width % heads))
        graph_refuse(g, BRIM_SHAPE, "self_attention", &x, 1,
                     "width %" PRId64 " is not a multiple of %" PRId64 " heads", width, heads);
    else if (o->head_size < 0)
        graph_refuse(g, BRIM_SHAPE, "self_attention", &x, 1,
                     "the head size is %" PRId64 ", at least 1 is expected", o->head_size);
    else if (kv_heads < 1 || heads % kv_heads)
        graph_refuse(g, BRIM_SHAPE, "self_attention", &x, 1,
                     "%" PRId64 " heads are not a multiple of %" PRId64 " key-value heads", heads,
                     kv_heads);
    else if (names % 3)
        graph_refuse(g, BRIM_ARGUMENT, "self_attention", &x, 1,
                     "%d of q_name, k_name and v_name are given; all or none are expected", names);
    return !failed(g->err);
}

// A projection of its own to [B, T, heads, size].
static brim_value project_heads(brim_value x, const char *name, int64_t heads, int64_t size,
                                const brim_linear_options *options) {
    brim_value y = brim_linear_with(x, name, heads * size, options);
    return brim_reshape(y, brim_dim(x, 0), brim_dim(x, 1), heads, size);
}

typedef struct qkv_values {
    brim_value q, k, v;
} qkv_values;

// One statement each: C leaves the order inside an initialiser open, and parameters are numbered as
// they are made.
static qkv_values project_qkv(brim_value x, int64_t heads, int64_t kv_heads, int64_t size,
                              const brim_self_attention_options *o) {
    qkv_values p;
    if (o->q_name) {
        p.q = project_heads(x, o->q_name, heads, size, &o->qkv);
        p.k = project_heads(x, o->k_name, kv_heads, size, &o->qkv);
        p.v = project_heads(x, o->v_name, kv_heads, size, &o->qkv);
        return p;
    }
    brim_value packed = brim_linear_with(x, o->qkv_name ? o->qkv_name : "qkv",
                                         (heads + 2 * kv_heads) * size, &o->qkv);
    p.q = take_heads(packed, 0, heads, size);
    p.k = take_heads(packed, heads, kv_heads, size);
    p.v = take_heads(packed, heads + kv_heads, kv_heads, size);
    return p;
}

brim_value brim_self_attention(brim_value x, const char *name, int64_t heads,
                               const brim_self_attention_options *options) {
    static const brim_self_attention_options defaults;
    const brim_self_attention_options *o = options ? options : &defaults;
    brim_graph *g = open_layer("self_attention", x, name, 3);
    if (!g || !check_heads(g, x, heads, o)) return GRAPH_INVALID;
    int64_t kv_heads = o->kv_heads ? o->kv_heads : heads;
    int64_t width = brim_dim(x, -1), size = o->head_size ? o->head_size : width / heads;

    qkv_values p = project_qkv(x, heads, kv_heads, size, o);
    if (o->qk_norm) {
        p.q = brim_rms_norm(p.q, "q_norm", o->qk_norm_eps);
        p.k = brim_rms_norm(p.k, "k_norm", o->qk_norm_eps);
    }
    if (o->rotary_base != 0) {
        p.q = brim_rotary_scaled(p.q, o->rotary_base, &o->rotary_scaling, GRAPH_INVALID);
        p.k = brim_rotary_scaled(p.k, o->rotary_base, &o->rotary_scaling, GRAPH_INVALID);
    }
    brim_value y = brim_attention(p.q, p.k, p.v, &o->attention);
    y = brim_reshape(y, brim_dim(x, 0), brim_dim(x, 1), heads * size);
    y = brim_linear_with(y, o->projection_name ? o->projection_name : "proj", width,
                         &o->projection);
    return close_layer(g, brim_dropout(y, o->dropout));
}
