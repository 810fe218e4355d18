#include "sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// SplitMix64 (Steele, Lea, Flood 2014).
static double next_uniform(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static int32_t likeliest(const float *logits, int64_t count) {
    int64_t best = 0;
    for (int64_t i = 1; i < count; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

static int by_weight(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

// The least weight in the nucleus (Holtzman et al. 2020): the fewest tokens, likeliest first, whose
// weights make up `share` of all. What weighs the same as the last of them is in it too.
static double nucleus_floor(const double *weights, int64_t count, double share, double *sorted) {
    double sum = 0, reached = 0;
    memcpy(sorted, weights, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, by_weight);
    for (int64_t i = 0; i < count; i++) sum += sorted[i];
    for (int64_t i = 0; i < count; i++)
        if ((reached += sorted[i]) >= share * sum) return sorted[i];
    return 0;
}

typedef struct sampler {
    const sample_options *options;
    uint64_t state;
    int32_t *window;
    float *logits;
    double *weights, *sorted;
} sampler;

static int32_t draw(sampler *s) {
    const sample_options *o = s->options;
    int32_t best = likeliest(s->logits, o->vocabulary);
    if (o->temperature <= 0) return best;
    for (int64_t i = 0; i < o->vocabulary; i++)
        s->weights[i] = exp((s->logits[i] - s->logits[best]) / o->temperature);
    double least = 0, sum = 0;
    if (o->top_p < 1) least = nucleus_floor(s->weights, o->vocabulary, o->top_p, s->sorted);
    for (int64_t i = 0; i < o->vocabulary; i++) {
        if (s->weights[i] < least) s->weights[i] = 0;
        sum += s->weights[i];
    }
    double left = next_uniform(&s->state) * sum;
    for (int64_t i = 0; i < o->vocabulary; i++) {
        left -= s->weights[i];
        if (left < 0) return (int32_t)i;
    }
    return best;
}

static int32_t next_token(sampler *s, const int32_t *tokens, int64_t at, brim_error *err) {
    const sample_options *o = s->options;
    int64_t seen = at < o->length ? at : o->length;
    // What follows the last token is padding that causal attention never looks at.
    memcpy(s->window, tokens + at - seen, (size_t)seen * sizeof *s->window);
    int32_t last = (int32_t)seen - 1;
    brim_program_feed(o->program, "tokens", s->window, (size_t)o->length * sizeof *s->window, err);
    brim_program_feed(o->program, "last", &last, sizeof last, err);
    brim_program_run(o->program, NULL, NULL, err);
    brim_program_read(o->program, "logits", s->logits, (size_t)o->vocabulary, err);
    return err->status == BRIM_OK ? draw(s) : 0;
}

int64_t sample_tokens(const sample_options *o, int32_t *tokens, int64_t given, int64_t count,
                      brim_error *err) {
    size_t vocabulary = (size_t)o->vocabulary;
    sampler s = {.options = o,
                 .state = o->seed,
                 .window = calloc((size_t)o->length, sizeof *s.window),
                 .logits = malloc(vocabulary * sizeof *s.logits),
                 .weights = malloc(vocabulary * sizeof *s.weights),
                 .sorted = malloc(vocabulary * sizeof *s.sorted)};
    if (!s.window || !s.logits || !s.weights || !s.sorted)
        brim_fail(err, BRIM_MEMORY, "no memory for sampling");
    int64_t added = 0;
    while (added < count && err->status == BRIM_OK && !(o->stop && *o->stop)) {
        int32_t token = next_token(&s, tokens, given + added, err);
        if (err->status == BRIM_OK) tokens[given + added++] = token;
    }
    free(s.window);
    free(s.logits);
    free(s.weights);
    free(s.sorted);
    return added;
}
