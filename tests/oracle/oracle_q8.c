// AdamW with states as 8-bit blocks. A code is a choice, and on the edge of two intervals the last
// bit of f32 decides: so m and v are rounded here as a device rounds them, and codes are exact.
#include "tests/oracle/oracle.h"

#include <math.h>
#include <string.h>

enum { LEVELS = 8 };

static double f32(double x) {
    return oracle_round(BRIM_F32, x);
}

// The tree is linear in each decade: level i, from 10^(i - 8) to 10^(i - 7), has the codes from
// 2^i.
typedef struct tree {
    double slope[LEVELS], start[LEVELS], back_slope[LEVELS], back_start[LEVELS];
} tree;

static tree make_tree(void) {
    tree t;
    for (int i = 0; i < LEVELS; i++) {
        double codes = exp2(i), decade = pow(10, i - 7);
        t.slope[i] = f32(codes / decade / 0.9);
        t.start[i] = f32(0.8 * codes / 0.9);
        t.back_slope[i] = f32(0.9 * decade / codes);
        t.back_start[i] = f32(-0.8 * decade);
    }
    return t;
}

// The codes of m have one bit less: they lack the lowest level, and a tree of half the height.
static double code_of(const tree *t, double y, bool is_m) {
    double code = 255.5;
    for (int i = is_m; i < LEVELS; i++) code = fmin(code, f32(y * t->slope[i] + t->start[i]));
    return floor(is_m ? code / 2 : code);
}

static double value_of(const tree *t, double code, bool is_m) {
    double y = 0, middle = is_m ? 2 * code + 1 : code + 0.5;
    for (int i = is_m; i < LEVELS; i++)
        y = fmax(y, f32(middle * t->back_slope[i] + t->back_start[i]));
    return y;
}

static uint32_t word_at(const oracle_tensor *codes, int64_t block, int w) {
    return (uint32_t)(int32_t)codes->data[block * STATE_BLOCK_WORDS + w];
}

static double decode(const tree *t, uint32_t word, int byte, double scale, bool is_m) {
    uint32_t code = word >> 8 * byte & 255;
    if (!is_m) return f32(value_of(t, code, false) * scale);
    double value = f32(value_of(t, code & 127, true) * scale);
    return code & 128 ? -value : value;
}

static void encode(const tree *t, const double *x, bool is_m, int64_t block, oracle_tensor *codes,
                   oracle_tensor *scales) {
    double most = 0, top = is_m ? 0.1 + 0.9 * 63.5 / 64 : 0.1 + 0.9 * 127.5 / 128;
    for (int e = 0; e < STATE_BLOCK; e++) most = fmax(most, fabs(x[e]));
    double scale = most < 0x1p-100 ? 0 : f32(most * f32(1 / top));
    double per_scale = scale > 0 ? f32(1 / scale) : 0;
    uint32_t words[STATE_BLOCK_WORDS] = {0};
    for (int e = 0; e < STATE_BLOCK; e++) {
        uint32_t code = (uint32_t)code_of(t, f32(fabs(x[e]) * per_scale), is_m);
        if (is_m && signbit(x[e])) code |= 128;
        if (!is_m && x[e] > 0 && code == 0) code = 1;
        words[e % STATE_BLOCK_WORDS] |= code << 8 * (e / STATE_BLOCK_WORDS);
    }
    for (int w = 0; w < STATE_BLOCK_WORDS; w++)
        codes->data[block * STATE_BLOCK_WORDS + w] = (int32_t)words[w];
    scales->data[block] = scale;
}

// The operands behind the variables, which are as many as the outputs.
typedef struct factors {
    double beta1, beta2, eps, decay, scale, lr, c1, c2;
} factors;

static void update_element(const oracle_context *c, const factors *k, int64_t i, double *m,
                           double *v) {
    double g = f32(c->in[c->node->outputs]->data[i] * k->scale), p = c->in[0]->data[i];
    double one_minus_beta1 = f32(1 - k->beta1), one_minus_beta2 = f32(1 - k->beta2);
    double size = fabs(k->beta1 * *m) + fabs((1 - k->beta1) * g);
    *m = f32(one_minus_beta1 * f32(g - *m) + *m);
    *v = f32(f32(g * one_minus_beta2) * g + f32(*v * k->beta2));
    double root = sqrt(*v / k->c2) + k->eps;
    c->out[0].data[i] = p - k->lr * (*m / k->c1 / root + k->decay * p);
    c->out[0].magnitude[i] = fabs(p) + k->lr * (size / k->c1 / root + fabs(k->decay * p));
}

static void update_block(const oracle_context *c, const tree *t, const factors *k, int64_t block) {
    double m[STATE_BLOCK] = {0}, v[STATE_BLOCK] = {0};
    for (int e = 0; e < STATE_BLOCK && block * STATE_BLOCK + e < c->out[0].count; e++) {
        int w = e % STATE_BLOCK_WORDS, byte = e / STATE_BLOCK_WORDS;
        m[e] = decode(t, word_at(c->in[1], block, w), byte, c->in[2]->data[block], true);
        v[e] = decode(t, word_at(c->in[3], block, w), byte, c->in[4]->data[block], false);
        update_element(c, k, block * STATE_BLOCK + e, &m[e], &v[e]);
    }
    encode(t, m, true, block, &c->out[1], &c->out[2]);
    encode(t, v, false, block, &c->out[3], &c->out[4]);
}

static void keep_all(const oracle_context *c) {
    for (int j = 0; j < c->node->outputs; j++)
        memcpy(c->out[j].data, c->in[j]->data, (size_t)c->out[j].count * sizeof *c->out[j].data);
}

// p, m codes, m scales, v codes, v scales, (copy), g, scale, lr, c1, c2, keep.
void oracle_adamw_q8(const oracle_context *c) {
    const oracle_tensor *const *in = c->in + c->node->outputs;
    const brim_attr *a = &c->node->attr;
    factors k = {.beta1 = a->optimizer.beta1,
                 .beta2 = a->optimizer.beta2,
                 .eps = a->optimizer.eps,
                 .decay = a->optimizer.decay,
                 .scale = in[1]->data[0],
                 .lr = in[2]->data[0] * a->optimizer.lr_scale,
                 .c1 = in[3]->data[0],
                 .c2 = in[4]->data[0]};
    tree t = make_tree();
    if (in[5]->data[0] == 0) {
        keep_all(c);
        return;
    }
    for (int64_t block = 0; block < c->in[2]->count; block++) update_block(c, &t, &k, block);
    if (c->node->outputs < 6) return;
    memcpy(c->out[5].data, c->out[0].data, (size_t)c->out[0].count * sizeof(double));
    memcpy(c->out[5].magnitude, c->out[0].magnitude, (size_t)c->out[0].count * sizeof(double));
}
