// The loss behind an output projection, with every logit written out.
#include "tests/oracle/oracle.h"

#include <math.h>
#include <stdlib.h>

typedef struct problem {
    int64_t tokens, width, classes, ignore;
    const double *x, *weight, *target;
    double *logit, *size; // of one token, and what their errors are proportional to
} problem;

static bool open_problem(const oracle_context *c, problem *p) {
    const shape *weight = &c->in[1]->shape;
    *p = (problem){.classes = weight->dim[0],
                   .width = weight->dim[1],
                   .tokens = c->in[2]->count,
                   .ignore = c->node->attr.chunked_targets.ignore,
                   .x = c->in[0]->data,
                   .weight = c->in[1]->data,
                   .target = c->in[2]->data};
    p->logit = malloc((size_t)p->classes * sizeof *p->logit);
    p->size = malloc((size_t)p->classes * sizeof *p->size);
    return p->logit && p->size;
}

static void close_problem(problem *p) {
    free(p->logit);
    free(p->size);
}

static void project(const problem *p, int64_t token) {
    for (int64_t v = 0; v < p->classes; v++) {
        p->logit[v] = p->size[v] = 0;
        for (int64_t d = 0; d < p->width; d++) {
            double term = p->x[token * p->width + d] * p->weight[v * p->width + d];
            p->logit[v] += term;
            p->size[v] += fabs(term);
        }
    }
}

static bool is_class(const problem *p, double target) {
    return target >= 0 && target < (double)p->classes;
}

// x, weight, targets; losses, logsumexp.
void oracle_linear_cross_entropy(const oracle_context *c) {
    problem p;
    bool opened = open_problem(c, &p);
    for (int64_t token = 0; opened && token < p.tokens; token++) {
        double max = -INFINITY, sum = 0, spread = 0, target = p.target[token];
        project(&p, token);
        for (int64_t v = 0; v < p.classes; v++)
            if (p.logit[v] > max || isnan(p.logit[v])) max = p.logit[v];
        for (int64_t v = 0; v < p.classes; v++) {
            double e = exp(p.logit[v] - max);
            sum += e;
            if (e > 0) spread += e * (max - p.logit[v] + p.size[v]);
        }
        double lse = max + log(sum), size = 1 + fabs(max) + fabs(log(sum)) + spread / sum;
        c->out[1].data[token] = lse;
        c->out[1].magnitude[token] = size;
        c->out[0].data[token] = 0;
        if (target == (double)p.ignore) continue;
        bool inside = is_class(&p, target);
        int64_t t = inside ? (int64_t)target : 0;
        c->out[0].data[token] = inside ? lse - p.logit[t] : NAN;
        c->out[0].magnitude[token] = inside ? size + fabs(p.logit[t]) + p.size[t] : 0;
    }
    close_problem(&p);
}

// What a device that was off by `error` may have rounded the gradient of a logit to: it is stored
// in x's dtype, for the products that follow. Returns the new size of its error.
static double store(const oracle_context *c, double *gradient, double size) {
    brim_dtype dtype = c->in[0]->dtype;
    if (!c->oracle->round || dtype == BRIM_F32) return size;
    double error = ORACLE_C * ORACLE_UNIT * size;
    double low = oracle_round(dtype, *gradient - error),
           high = oracle_round(dtype, *gradient + error);
    *gradient = oracle_round(dtype, *gradient);
    return (high - low) / (ORACLE_C * ORACLE_UNIT);
}

static void add_token(const oracle_context *c, const problem *p, int64_t token) {
    oracle_tensor *dweight = &c->out[0], *dx = &c->out[1];
    double target = p->target[token], lse = c->in[3]->data[token], dy = c->in[4]->data[token];
    if (target == (double)p->ignore) return;
    project(p, token);
    for (int64_t v = 0; v < p->classes; v++) {
        double z = p->logit[v] - lse, e = exp(z), hit = (double)v == target;
        double gradient = is_class(p, target) ? dy * (e - hit) : NAN;
        double size = fabs(dy) * (e * (1 + fabs(z) + p->size[v]) + ORACLE_FLUSHED + hit);
        size = store(c, &gradient, size) + fabs(gradient);
        for (int64_t d = 0; d < p->width; d++) {
            int64_t at_x = token * p->width + d, at_weight = v * p->width + d;
            dx->data[at_x] += gradient * p->weight[at_weight];
            dx->magnitude[at_x] += size * fabs(p->weight[at_weight]);
            dweight->data[at_weight] += gradient * p->x[at_x];
            dweight->magnitude[at_weight] += size * fabs(p->x[at_x]);
        }
    }
}

// x, weight, targets, logsumexp, dy; the gradients of weight and x.
void oracle_linear_cross_entropy_backward(const oracle_context *c) {
    problem p;
    bool opened = open_problem(c, &p);
    for (int j = 0; j < 2; j++)
        for (int64_t i = 0; i < c->out[j].count; i++) c->out[j].data[i] = 0;
    for (int64_t token = 0; opened && token < p.tokens; token++) add_token(c, &p, token);
    close_problem(&p);
}
