// Attention, with every score written out.
#include "tests/oracle/oracle.h"

#include <math.h>
#include <stdlib.h>

typedef struct problem {
    int64_t batch, queries, keys, heads, groups, size;
    bool causal;
    double scale;
    const double *q, *k, *v, *segments;
} problem;

static problem problem_of(const oracle_context *c, int segments) {
    const shape *q = &c->in[0]->shape, *k = &c->in[1]->shape;
    return (problem){.batch = q->dim[0],
                     .queries = q->dim[1],
                     .keys = k->dim[1],
                     .heads = q->dim[2],
                     .groups = k->dim[2],
                     .size = q->dim[3],
                     .causal = c->node->attr.attention.causal,
                     .scale = c->node->attr.attention.scale,
                     .q = c->in[0]->data,
                     .k = c->in[1]->data,
                     .v = c->in[2]->data,
                     .segments = c->node->inputs > segments ? c->in[segments]->data : NULL};
}

static int64_t query_at(const problem *p, int64_t b, int64_t i, int64_t h) {
    return ((b * p->queries + i) * p->heads + h) * p->size;
}
static int64_t key_at(const problem *p, int64_t b, int64_t j, int64_t h) {
    int64_t group = h / (p->heads / p->groups);
    return ((b * p->keys + j) * p->groups + group) * p->size;
}

static bool sees(const problem *p, int64_t b, int64_t i, int64_t j) {
    if (p->causal && j > i + p->keys - p->queries) return false;
    if (!p->segments) return true;
    return p->segments[b * p->queries + i] == p->segments[b * p->keys + j];
}

// The scores of one query and, in size, what their errors are proportional to; -inf where a key is
// not seen.
static void scores_of(const problem *p, int64_t b, int64_t i, int64_t h, double *score,
                      double *size) {
    for (int64_t j = 0; j < p->keys; j++) {
        score[j] = -INFINITY;
        size[j] = 0;
        if (!sees(p, b, i, j)) continue;
        const double *q = p->q + query_at(p, b, i, h), *k = p->k + key_at(p, b, j, h);
        double dot = 0;
        for (int64_t d = 0; d < p->size; d++) {
            dot += q[d] * k[d];
            size[j] += fabs(q[d] * k[d]) * fabs(p->scale);
        }
        score[j] = dot * p->scale;
    }
}

static void attend(const oracle_context *c, const problem *p, int64_t b, int64_t i, int64_t h,
                   double *score, double *size) {
    scores_of(p, b, i, h, score, size);
    int64_t lse_at = (b * p->heads + h) * p->queries + i, o_at = query_at(p, b, i, h);
    double max = -INFINITY, sum = 0, spread = 0;
    for (int64_t j = 0; j < p->keys; j++) max = fmax(max, score[j]);
    for (int64_t j = 0; j < p->keys; j++) {
        if (score[j] == -INFINITY) continue;
        double e = exp(score[j] - max);
        sum += e;
        spread += e * (size[j] + max - score[j]);
    }
    spread /= sum;
    c->out[1].data[lse_at] = max + log(sum);
    c->out[1].magnitude[lse_at] = 1 + fabs(max) + fabs(log(sum)) + spread;
    for (int64_t d = 0; d < p->size; d++) {
        double o = 0, o_size = 0;
        for (int64_t j = 0; j < p->keys; j++) {
            if (score[j] == -INFINITY) continue;
            double weight = exp(score[j] - max) / sum, v = p->v[key_at(p, b, j, h) + d];
            o += weight * v;
            o_size += (weight * (2 + size[j] + max - score[j] + spread) + ORACLE_FLUSHED) * fabs(v);
        }
        c->out[0].data[o_at + d] = o;
        c->out[0].magnitude[o_at + d] = o_size;
    }
}

void oracle_attention(const oracle_context *c) {
    problem p = problem_of(c, 3);
    double *score = malloc((size_t)p.keys * sizeof *score),
           *size = malloc((size_t)p.keys * sizeof *size);
    for (int64_t b = 0; score && size && b < p.batch; b++)
        for (int64_t h = 0; h < p.heads; h++)
            for (int64_t i = 0; i < p.queries; i++) attend(c, &p, b, i, h, score, size);
    free(score);
    free(size);
}

// One query's part of the gradients: from do, o and logsumexp as they were stored.
static void attend_backward(const oracle_context *c, const problem *p, int64_t b, int64_t i,
                            int64_t h, double *score, double *size) {
    scores_of(p, b, i, h, score, size);
    int64_t at = query_at(p, b, i, h);
    const double *o = c->in[3]->data + at, *d_o = c->in[5]->data + at, *q = p->q + at;
    double lse = c->in[4]->data[(b * p->heads + h) * p->queries + i];
    oracle_tensor *dq = &c->out[0], *dk = &c->out[1], *dv = &c->out[2];
    double delta = 0, delta_size = 0;
    for (int64_t d = 0; d < p->size; d++) {
        delta += d_o[d] * o[d];
        delta_size += fabs(d_o[d] * o[d]);
    }
    for (int64_t j = 0; j < p->keys; j++) {
        if (score[j] == -INFINITY) continue;
        int64_t key = key_at(p, b, j, h);
        double weight = exp(score[j] - lse),
               weight_size = weight * (1 + size[j] + fabs(score[j] - lse)) + ORACLE_FLUSHED;
        double dp = 0, dp_size = 0;
        for (int64_t d = 0; d < p->size; d++) {
            dp += d_o[d] * p->v[key + d];
            dp_size += fabs(d_o[d] * p->v[key + d]);
        }
        double ds = weight * (dp - delta) * p->scale;
        double ds_size = weight_size * (dp_size + delta_size) * fabs(p->scale);
        for (int64_t d = 0; d < p->size; d++) {
            dq->data[at + d] += ds * p->k[key + d];
            dq->magnitude[at + d] += ds_size * fabs(p->k[key + d]);
            dk->data[key + d] += ds * q[d];
            dk->magnitude[key + d] += ds_size * fabs(q[d]);
            dv->data[key + d] += weight * d_o[d];
            dv->magnitude[key + d] += weight_size * fabs(d_o[d]);
        }
    }
}

// q, k, v, o, logsumexp, do, (segments); dq, dk, dv.
void oracle_attention_backward(const oracle_context *c) {
    problem p = problem_of(c, 6);
    for (int j = 0; j < 3; j++)
        for (int64_t i = 0; i < c->out[j].count; i++) c->out[j].data[i] = 0;
    double *score = malloc((size_t)p.keys * sizeof *score),
           *size = malloc((size_t)p.keys * sizeof *size);
    for (int64_t b = 0; score && size && b < p.batch; b++)
        for (int64_t h = 0; h < p.heads; h++)
            for (int64_t i = 0; i < p.queries; i++) attend_backward(c, &p, b, i, h, score, size);
    free(score);
    free(size);
}
