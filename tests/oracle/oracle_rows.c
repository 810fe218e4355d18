// Ops on rows of the last axis.
#include "tests/oracle/oracle.h"

#include <math.h>

static int64_t row_length(const oracle_tensor *x) {
    return x->shape.rank ? x->shape.dim[x->shape.rank - 1] : 1;
}

// The largest element, the logarithm of the sum of e^(x - max), and what an error of x - max does
// to that sum.
typedef struct row_sum {
    double max, log_sum, spread;
} row_sum;

static row_sum sum_row(const double *x, int64_t n) {
    row_sum r = {-INFINITY, 0, 0};
    for (int64_t i = 0; i < n; i++)
        if (x[i] > r.max || isnan(x[i])) r.max = x[i];
    double sum = 0, spread = 0;
    for (int64_t i = 0; i < n; i++) {
        double e = exp(x[i] - r.max);
        sum += e;
        if (e > 0) spread += e * (r.max - x[i]);
    }
    r.log_sum = log(sum);
    r.spread = spread / sum;
    return r;
}

void oracle_softmax(const oracle_context *c) {
    int64_t n = row_length(c->out);
    for (int64_t start = 0; start < c->out->count; start += n) {
        row_sum r = sum_row(c->in[0]->data + start, n);
        for (int64_t i = start; i < start + n; i++) {
            double x = c->in[0]->data[i] - r.max, y = exp(x - r.log_sum);
            c->out->data[i] = y;
            c->out->magnitude[i] = y * (2 + fabs(x) + r.spread) + ORACLE_FLUSHED;
        }
    }
}

void oracle_log_softmax(const oracle_context *c) {
    int64_t n = row_length(c->out);
    for (int64_t start = 0; start < c->out->count; start += n) {
        row_sum r = sum_row(c->in[0]->data + start, n);
        for (int64_t i = start; i < start + n; i++) {
            double x = c->in[0]->data[i] - r.max;
            c->out->data[i] = x - r.log_sum;
            c->out->magnitude[i] = 1 + fabs(x) + fabs(r.max) + fabs(r.log_sum) + r.spread;
        }
    }
}

// Of y and dy.
void oracle_softmax_backward(const oracle_context *c) {
    const double *y = c->in[0]->data, *dy = c->in[1]->data;
    int64_t n = row_length(c->out);
    for (int64_t start = 0; start < c->out->count; start += n) {
        double sum = 0, size = 0;
        for (int64_t i = start; i < start + n; i++) {
            sum += y[i] * dy[i];
            size += fabs(y[i] * dy[i]);
        }
        for (int64_t i = start; i < start + n; i++) {
            c->out->data[i] = y[i] * (dy[i] - sum);
            c->out->magnitude[i] = fabs(y[i]) * (fabs(dy[i]) + size);
        }
    }
}

void oracle_log_softmax_backward(const oracle_context *c) {
    const double *y = c->in[0]->data, *dy = c->in[1]->data;
    int64_t n = row_length(c->out);
    for (int64_t start = 0; start < c->out->count; start += n) {
        double sum = 0, size = 0;
        for (int64_t i = start; i < start + n; i++) {
            sum += dy[i];
            size += fabs(dy[i]);
        }
        for (int64_t i = start; i < start + n; i++) {
            c->out->data[i] = dy[i] - exp(y[i]) * sum;
            c->out->magnitude[i] =
                fabs(dy[i]) + (exp(y[i]) * (1 + fabs(y[i])) + ORACLE_FLUSHED) * size;
        }
    }
}

// x, gain, bias; y, mean, rstd. The variance is that of n elements, from deviations.
void oracle_layer_norm(const oracle_context *c) {
    const double *x = c->in[0]->data, *gain = c->in[1]->data, *bias = c->in[2]->data;
    oracle_tensor *y = &c->out[0], *mean = &c->out[1], *rstd = &c->out[2];
    double eps = c->node->attr.scalar[0];
    int64_t n = row_length(y);
    for (int64_t row = 0; row < y->count / n; row++) {
        double sum = 0, size = 0, squares = 0;
        for (int64_t i = 0; i < n; i++) {
            sum += x[row * n + i];
            size += fabs(x[row * n + i]);
        }
        for (int64_t i = 0; i < n; i++) {
            double d = x[row * n + i] - sum / n;
            squares += d * d;
        }
        double m = sum / n, r = 1 / sqrt(squares / n + eps);
        mean->data[row] = m;
        mean->magnitude[row] = size / n;
        rstd->data[row] = r;
        rstd->magnitude[row] = 2 * r;
        for (int64_t i = 0; i < n; i++) {
            double d = x[row * n + i] - m;
            y->data[row * n + i] = d * r * gain[i] + bias[i];
            y->magnitude[row * n + i] =
                (2 * fabs(d) + size / n) * r * fabs(gain[i]) + fabs(bias[i]);
        }
    }
}

// rstd (dy gain - mean(dy gain) - xhat mean(dy gain xhat)), xhat = (x - mean) rstd; without a mean
// (rms norm) the second term is missing.
static void norm_backward(const oracle_context *c, const double *dy, const double *x,
                          const double *gain, const double *mean, const double *rstd) {
    int64_t n = row_length(c->out);
    for (int64_t row = 0; row < c->out->count / n; row++) {
        double m = mean ? mean[row] : 0, r = rstd[row];
        double sum = 0, sum_size = 0, dot = 0, dot_size = 0;
        for (int64_t i = 0; i < n; i++) {
            double g = dy[row * n + i] * gain[i], xhat = (x[row * n + i] - m) * r;
            sum += g;
            sum_size += fabs(g);
            dot += g * xhat;
            dot_size += fabs(g * xhat);
        }
        if (!mean) sum = sum_size = 0;
        for (int64_t i = 0; i < n; i++) {
            double g = dy[row * n + i] * gain[i], xhat = (x[row * n + i] - m) * r;
            c->out->data[row * n + i] = r * (g - sum / n - xhat * dot / n);
            c->out->magnitude[row * n + i] =
                fabs(r) * (fabs(g) + sum_size / n + fabs(xhat) * dot_size / n);
        }
    }
}

// Sums over rows of dy xhat and of dy.
static void norm_backward_params(const oracle_context *c, const double *dy, const double *x,
                                 const double *mean, const double *rstd) {
    oracle_tensor *dgain = &c->out[0], *dbias = mean ? &c->out[1] : NULL;
    int64_t n = dgain->count, rows = c->in[0]->count / n;
    for (int64_t i = 0; i < n; i++) {
        double gain = 0, gain_size = 0, bias = 0, bias_size = 0;
        for (int64_t row = 0; row < rows; row++) {
            double g = dy[row * n + i],
                   term = g * (x[row * n + i] - (mean ? mean[row] : 0)) * rstd[row];
            gain += term;
            gain_size += fabs(term);
            bias += g;
            bias_size += fabs(g);
        }
        dgain->data[i] = gain;
        dgain->magnitude[i] = gain_size;
        if (!dbias) continue;
        dbias->data[i] = bias;
        dbias->magnitude[i] = bias_size;
    }
}

void oracle_layer_norm_backward(const oracle_context *c) {
    norm_backward(c, c->in[0]->data, c->in[1]->data, c->in[2]->data, c->in[3]->data,
                  c->in[4]->data);
}
void oracle_layer_norm_backward_params(const oracle_context *c) {
    norm_backward_params(c, c->in[0]->data, c->in[1]->data, c->in[2]->data, c->in[3]->data);
}
void oracle_rms_norm_backward(const oracle_context *c) {
    norm_backward(c, c->in[0]->data, c->in[1]->data, c->in[2]->data, NULL, c->in[3]->data);
}
void oracle_rms_norm_backward_params(const oracle_context *c) {
    norm_backward_params(c, c->in[0]->data, c->in[1]->data, NULL, c->in[2]->data);
}

void oracle_rms_norm(const oracle_context *c) {
    const double *x = c->in[0]->data, *gain = c->in[1]->data;
    oracle_tensor *y = &c->out[0], *rstd = &c->out[1];
    int64_t n = row_length(y);
    for (int64_t row = 0; row < y->count / n; row++) {
        double squares = 0;
        for (int64_t i = 0; i < n; i++) squares += x[row * n + i] * x[row * n + i];
        double r = 1 / sqrt(squares / n + c->node->attr.scalar[0]);
        rstd->data[row] = r;
        rstd->magnitude[row] = 2 * r;
        for (int64_t i = 0; i < n; i++) {
            y->data[row * n + i] = x[row * n + i] * r * gain[i];
            y->magnitude[row * n + i] = 2 * fabs(y->data[row * n + i]);
        }
    }
}

// logits, targets; losses, logsumexp.
void oracle_cross_entropy(const oracle_context *c) {
    const oracle_tensor *x = c->in[0];
    int64_t n = row_length(x);
    for (int64_t row = 0; row < x->count / n; row++) {
        row_sum r = sum_row(x->data + row * n, n);
        double target = c->in[1]->data[row], lse = r.max + r.log_sum;
        double size = 1 + fabs(r.max) + fabs(r.log_sum) + r.spread;
        c->out[1].data[row] = lse;
        c->out[1].magnitude[row] = size;
        c->out[0].data[row] = 0;
        if (target == c->node->attr.targets.ignore) continue;
        bool inside = target >= 0 && target < n;
        c->out[0].data[row] = inside ? lse - x->data[row * n + (int64_t)target] : NAN;
        c->out[0].magnitude[row] = inside ? size + fabs(x->data[row * n + (int64_t)target]) : 0;
    }
}

// logits, targets, logsumexp, dy. A target outside the logits is no number to learn from: NaN.
void oracle_cross_entropy_backward(const oracle_context *c) {
    const oracle_tensor *x = c->in[0];
    int64_t n = row_length(x);
    for (int64_t row = 0; row < x->count / n; row++) {
        double target = c->in[1]->data[row], lse = c->in[2]->data[row], dy = c->in[3]->data[row];
        bool ignored = target == c->node->attr.targets.ignore, inside = target >= 0 && target < n;
        for (int64_t i = 0; i < n; i++) {
            double z = x->data[row * n + i] - lse, p = exp(z), hit = i == target;
            double *y = &c->out->data[row * n + i], *size = &c->out->magnitude[row * n + i];
            *y = ignored ? 0 : inside ? dy * (p - hit) : NAN;
            *size = ignored || !inside ? 0 : fabs(dy) * (p * (1 + fabs(z)) + ORACLE_FLUSHED + hit);
        }
    }
}
