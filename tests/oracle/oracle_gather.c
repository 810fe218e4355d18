// Gathers, positions, randomness and updates.
#include "tests/oracle/oracle.h"

#include <math.h>

void oracle_embedding(const oracle_context *c) {
    const oracle_tensor *table = c->in[0], *ids = c->in[1];
    int64_t rows = table->shape.dim[0], width = table->shape.dim[1];
    for (int64_t i = 0; i < ids->count; i++) {
        bool inside = ids->data[i] >= 0 && ids->data[i] < rows;
        for (int64_t k = 0; k < width; k++)
            c->out->data[i * width + k] =
                inside ? table->data[(int64_t)ids->data[i] * width + k] : NAN;
    }
}

// ids, dy. An id outside the table adds to no row.
void oracle_embedding_backward(const oracle_context *c) {
    const oracle_tensor *ids = c->in[0], *dy = c->in[1];
    int64_t rows = c->out->shape.dim[0], width = c->out->shape.dim[1];
    for (int64_t i = 0; i < c->out->count; i++) c->out->data[i] = 0;
    for (int64_t i = 0; i < ids->count; i++) {
        if (!(ids->data[i] >= 0 && ids->data[i] < rows)) continue;
        int64_t to = (int64_t)ids->data[i] * width;
        for (int64_t k = 0; k < width; k++) {
            c->out->data[to + k] += dy->data[i * width + k];
            c->out->magnitude[to + k] += fabs(dy->data[i * width + k]);
        }
    }
}

// As the Llama 3.1 model card's code and transformers' "llama3" have it, by wavelengths.
static double scaled_speed(double speed, const brim_rotary_scaling *s) {
    const double pi = 3.14159265358979323846;
    double wavelength = 2 * pi / speed;
    if (s->factor == 0 || wavelength < s->length / s->high) return speed;
    if (wavelength > s->length / s->low) return speed / s->factor;
    double smooth = (s->length / wavelength - s->low) / (s->high - s->low);
    return (1 - smooth) * speed / s->factor + smooth * speed;
}

// x [B, T, H, D], (positions [B, T]). An angle that is made in f32 is off by its own size in units
// of roundoff.
void oracle_rotary(const oracle_context *c) {
    const oracle_tensor *x = c->in[0], *positions = c->node->inputs > 1 ? c->in[1] : NULL;
    int64_t t_count = x->shape.dim[1], heads = x->shape.dim[2], half = x->shape.dim[3] / 2;
    for (int64_t row = 0; row < x->count / (2 * half); row++) {
        int64_t token = row / heads;
        double position = positions ? positions->data[token] : (double)(token % t_count);
        for (int64_t i = 0; i < half; i++) {
            double speed = pow(c->node->attr.rotary.base, -2.0 * i / (2.0 * half));
            double angle = position * scaled_speed(speed, &c->node->attr.rotary.scaling);
            if (c->node->attr.rotary.inverse) angle = -angle;
            double a = x->data[row * 2 * half + i], b = x->data[row * 2 * half + half + i];
            double size = (fabs(a) + fabs(b)) * (1 + fabs(angle));
            c->out->data[row * 2 * half + i] = a * cos(angle) - b * sin(angle);
            c->out->data[row * 2 * half + half + i] = b * cos(angle) + a * sin(angle);
            c->out->magnitude[row * 2 * half + i] = size;
            c->out->magnitude[row * 2 * half + half + i] = size;
        }
    }
}

// Philox4x32-10 from the paper (Salmon et al., SC 2011, section 3.3 and its table of constants): a
// round takes the counter (R0 L0 R1 L1) to (hi(M1 R1) ^ k0 ^ L0, lo(M1 R1), hi(M0 R0) ^ k1 ^ L1,
// lo(M0 R0)); keys grow by the Weyl constants between rounds.
static uint32_t random_word(uint64_t index, uint32_t stream, uint32_t step, uint32_t seed) {
    uint64_t block = index / 4;
    uint32_t x[4] = {(uint32_t)block, (uint32_t)(block >> 32), stream, step}, key[2] = {seed, 0};
    for (int round = 0; round < 10; round++) {
        uint64_t first = 0xD2511F53ull * x[0], second = 0xCD9E8D57ull * x[2];
        uint32_t next[4] = {(uint32_t)(second / 0x100000000ull) ^ x[1] ^ key[0], (uint32_t)second,
                            (uint32_t)(first / 0x100000000ull) ^ x[3] ^ key[1], (uint32_t)first};
        for (int i = 0; i < 4; i++) x[i] = next[i];
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    return x[index % 4];
}

// x, seed, step, micro. Element i of micro-batch m is element m n + i of the step.
void oracle_dropout(const oracle_context *c) {
    const oracle_tensor *x = c->in[0];
    double p = c->node->attr.dropout.p;
    uint32_t seed = (uint32_t)(int32_t)c->in[1]->data[0],
             step = (uint32_t)(int32_t)c->in[2]->data[0];
    uint64_t first = (uint64_t)c->in[3]->data[0] * (uint64_t)x->count;
    for (int64_t i = 0; i < x->count; i++) {
        uint32_t word = random_word(first + (uint64_t)i, c->node->attr.dropout.stream, step, seed);
        bool kept = (word >> 8) * 0x1p-24 >= p;
        c->out->data[i] = kept ? x->data[i] / (1 - p) : 0;
        c->out->magnitude[i] = fabs(c->out->data[i]);
    }
}

// Updates: what the variable is afterwards -------------------------------------------------------

void oracle_accumulate(const oracle_context *c) {
    for (int64_t i = 0; i < c->out->count; i++) {
        double x = c->in[1]->data[i] + (c->oracle->first_micro ? 0 : c->in[0]->data[i]);
        c->out->data[i] = c->oracle->round ? oracle_round(BRIM_F32, x) : x;
    }
}

// An update's operands after its variables, which are as many as its outputs.
static const oracle_tensor *const *after_variables(const oracle_context *c) {
    return c->in + c->node->outputs;
}

// The copy of the parameter that an update writes as its last variable; `plain`: how many it has
// without one.
static void put_copy(const oracle_context *c, int plain, bool keep) {
    int last = c->node->outputs - 1;
    for (int64_t i = 0; last == plain && i < c->out[0].count; i++) {
        c->out[last].data[i] = keep ? c->out[0].data[i] : c->in[last]->data[i];
        c->out[last].magnitude[i] = keep ? c->out[0].magnitude[i] : 0;
    }
}

// p, m, v, (copy), g, scale, lr, c1, c2, keep: torch.optim.AdamW.
void oracle_adamw(const oracle_context *c) {
    double beta1 = c->node->attr.optimizer.beta1, beta2 = c->node->attr.optimizer.beta2;
    double eps = c->node->attr.optimizer.eps, decay = c->node->attr.optimizer.decay;
    const oracle_tensor *const *in = after_variables(c);
    double scale = in[1]->data[0], lr = in[2]->data[0] * c->node->attr.optimizer.lr_scale;
    double c1 = in[3]->data[0], c2 = in[4]->data[0];
    bool keep = in[5]->data[0] != 0;
    for (int64_t i = 0; i < c->out[0].count; i++) {
        double p = c->in[0]->data[i], m = c->in[1]->data[i], v = c->in[2]->data[i];
        double g = in[0]->data[i] * scale;
        double result[3] = {p, m, v}, size[3] = {0, 0, 0};
        if (keep) {
            result[1] = beta1 * m + (1 - beta1) * g;
            size[1] = fabs(beta1 * m) + fabs((1 - beta1) * g);
            result[2] = beta2 * v + (1 - beta2) * g * g;
            size[2] = fabs(result[2]);
            double root = sqrt(result[2] / c2) + eps;
            result[0] = p - lr * (result[1] / c1 / root + decay * p);
            size[0] = fabs(p) + lr * (size[1] / c1 / root + fabs(decay * p));
        }
        for (int j = 0; j < 3; j++) {
            c->out[j].data[i] = result[j];
            c->out[j].magnitude[i] = size[j];
        }
    }
    put_copy(c, 3, keep);
}

// p, m, (copy), g, scale, lr, keep: torch.optim.SGD with momentum, without dampening.
void oracle_sgd(const oracle_context *c) {
    double momentum = c->node->attr.optimizer.beta1, decay = c->node->attr.optimizer.decay;
    const oracle_tensor *const *in = after_variables(c);
    double scale = in[1]->data[0], lr = in[2]->data[0] * c->node->attr.optimizer.lr_scale;
    bool keep = in[3]->data[0] != 0;
    for (int64_t i = 0; i < c->out[0].count; i++) {
        double p = c->in[0]->data[i], m = c->in[1]->data[i], g = in[0]->data[i] * scale;
        double next = keep ? momentum * m + (g + decay * p) : m;
        double size = keep ? fabs(momentum * m) + fabs(g) + fabs(decay * p) : 0;
        c->out[0].data[i] = keep ? p - lr * next : p;
        c->out[0].magnitude[i] = keep ? fabs(p) + lr * size : 0;
        c->out[1].data[i] = next;
        c->out[1].magnitude[i] = size;
    }
    put_copy(c, 2, keep);
}
