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

static int32_t draw(const float *logits, int64_t count, double temperature, uint64_t *state) {
    int32_t best = likeliest(logits, count);
    if (temperature <= 0) return best;
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += exp((logits[i] - logits[best]) / temperature);
    double left = next_uniform(state) * sum;
    for (int64_t i = 0; i < count; i++) {
        left -= exp((logits[i] - logits[best]) / temperature);
        if (left < 0) return (int32_t)i;
    }
    return best;
}

brim_status sample_tokens(const sample_options *o, int32_t *tokens, int64_t given, int64_t count,
                          brim_error *err) {
    int32_t *window = calloc((size_t)o->length, sizeof *window);
    float *logits = malloc((size_t)o->vocabulary * sizeof *logits);
    if (!window || !logits) brim_fail(err, BRIM_MEMORY, "no memory for sampling");
    uint64_t state = o->seed;
    for (int64_t at = given; at < given + count && err->status == BRIM_OK; at++) {
        int64_t seen = at < o->length ? at : o->length;
        // What follows the last token is padding that causal attention never looks at.
        memcpy(window, tokens + at - seen, (size_t)seen * sizeof *window);
        int32_t last = (int32_t)seen - 1;
        brim_program_feed(o->program, "tokens", window, (size_t)o->length * sizeof *window, err);
        brim_program_feed(o->program, "last", &last, sizeof last, err);
        brim_program_run(o->program, NULL, NULL, err);
        brim_program_read(o->program, "logits", logits, (size_t)o->vocabulary, err);
        if (err->status == BRIM_OK)
            tokens[at] = draw(logits, o->vocabulary, o->temperature, &state);
    }
    free(window);
    free(logits);
    return err->status;
}
