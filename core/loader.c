#include <brim/data.h>

#include <math.h>
#include "core/error.h"
#include "core/philox.h"
#include "core/size.h"

// batch * sequence + 1: the tokens of a batch and the last one's target.
static bool batch_tokens(int64_t batch, int64_t sequence, int64_t *tokens, brim_error *err) {
    if (batch < 1 || sequence < 1) {
        brim_fail(err, BRIM_ARGUMENT,
                  "a batch of %lld rows of %lld tokens: both must be at least 1", (long long)batch,
                  (long long)sequence);
        return false;
    }
    if (!i64_mul(batch, sequence, tokens) || !i64_add(*tokens, 1, tokens)) {
        brim_fail(err, BRIM_ARGUMENT, "a batch of %lld rows of %lld tokens is beyond 2^63 tokens",
                  (long long)batch, (long long)sequence);
        return false;
    }
    return true;
}

static void check_range(const brim_loader_options *o, brim_error *err) {
    int64_t count = brim_dataset_count(o->data), needed;
    if (o->begin < 0 || o->end > count || o->begin > o->end) {
        brim_fail(err, BRIM_ARGUMENT, "tokens %lld to %lld are not a range of the %lld in the data",
                  (long long)o->begin, (long long)o->end, (long long)count);
        return;
    }
    if (!batch_tokens(o->batch, o->sequence, &needed, err)) return;
    if (o->end - o->begin < needed) {
        brim_fail(err, BRIM_ARGUMENT,
                  "too little data: a batch of %lld x %lld takes %lld tokens with the last target, "
                  "and there are %lld",
                  (long long)o->batch, (long long)o->sequence, (long long)needed,
                  (long long)(o->end - o->begin));
    }
}

bool brim_loader_init(brim_loader *l, const brim_loader_options *options, brim_error *err) {
    if (failed(err)) return false;
    *l = (brim_loader){.options = *options};
    brim_loader_options *o = &l->options;
    if (o->end == 0) o->end = brim_dataset_count(o->data);
    check_range(o, err);
    if (failed(err)) return false;

    // All windows need one token more, the last target. One window is given up for the phase, where
    // there are enough for a batch without it.
    int64_t inputs = o->end - o->begin - 1;
    l->windows = inputs / o->sequence;
    if (l->windows > o->batch) l->windows--;
    l->slack = inputs - l->windows * o->sequence;
    if (l->slack > o->sequence - 1) l->slack = o->sequence - 1;
    return true;
}

// The first token of the row, counted from the start of the data.
static int64_t row_begin(const brim_loader *l, int64_t row) {
    const brim_loader_options *o = &l->options;
    if (o->sequential) return o->begin + l->position + row * o->sequence;
    enum { PHASE_STREAM = 1 };
    uint64_t epoch = (uint64_t)((l->position + row) / l->windows);
    int64_t window = shuffle_index((l->position + row) % l->windows, l->windows, o->seed, epoch);
    philox_block random = philox_at(~o->seed, PHASE_STREAM, epoch);
    uint64_t number = (uint64_t)random.v[1] << 32 | random.v[0];
    int64_t phase = (int64_t)(number % ((uint64_t)l->slack + 1));
    return o->begin + phase + window * o->sequence;
}

static bool check_tokens(const brim_loader *l, const int32_t *tokens, int64_t begin,
                         brim_error *err) {
    const brim_loader_options *o = &l->options;
    if (o->vocabulary <= 0) return true;
    for (int64_t i = 0; i < o->sequence; i++) {
        if (tokens[i] < o->vocabulary) continue;
        int64_t within;
        const char *path = brim_dataset_locate(o->data, begin + i, &within);
        brim_fail(err, BRIM_FORMAT,
                  "%s: token number %lld is %d, expected less than the vocabulary of %d", path,
                  (long long)within, tokens[i], o->vocabulary);
        return false;
    }
    return true;
}

bool brim_loader_next(brim_loader *l, int32_t *tokens, int32_t *targets, brim_error *err) {
    const brim_loader_options *o = &l->options;
    for (int64_t row = 0; row < o->batch; row++) {
        int64_t begin = row_begin(l, row), at = row * o->sequence;
        if (!brim_dataset_read(o->data, begin, tokens + at, o->sequence, err)) return false;
        if (!brim_dataset_read(o->data, begin + 1, targets + at, o->sequence, err)) return false;
        if (!check_tokens(l, tokens + at, begin, err)) return false;
        if (!check_tokens(l, targets + at, begin + 1, err)) return false;
    }
    if (!o->sequential) {
        l->position += o->batch;
        return true;
    }
    int64_t step = o->batch * o->sequence;
    l->position += step;
    if (o->end - o->begin - l->position < step + 1) l->position = 0;
    return true;
}

bool brim_loader_restore(brim_loader *l, int64_t position, brim_error *err) {
    if (failed(err)) return false;
    const brim_loader_options *o = &l->options;
    int64_t range = o->end - o->begin, step = o->batch * o->sequence;
    if (position < 0 || (o->sequential && position > range)) {
        brim_fail(err, BRIM_FORMAT, "data position %lld is not inside the %lld tokens of the data",
                  (long long)position, (long long)range);
        return false;
    }
    if (!o->sequential && position > INT64_MAX / 2) {
        brim_fail(err, BRIM_FORMAT, "data position %lld is beyond 2^62", (long long)position);
        return false;
    }
    l->position = o->sequential && range - position < step + 1 ? 0 : position;
    return true;
}

int64_t brim_loader_batches_per_epoch(const brim_loader *l) {
    const brim_loader_options *o = &l->options;
    if (!o->sequential) return l->windows / o->batch;
    return (o->end - o->begin - 1) / (o->batch * o->sequence);
}

bool brim_loader_split(int64_t count, int64_t batch, int64_t sequence, double fraction,
                       int64_t *split, brim_error *err) {
    int64_t needed;
    if (failed(err) || !batch_tokens(batch, sequence, &needed, err)) return false;
    if (!(fraction >= 0 && fraction < 1)) {
        brim_fail(err, BRIM_ARGUMENT, "the held-out fraction is %g, expected 0 up to less than 1",
                  fraction);
        return false;
    }
    int64_t held_out = (int64_t)ceil((double)count * fraction);
    if (held_out < needed) held_out = needed;
    if (held_out > count || count - held_out < needed) {
        brim_fail(err, BRIM_ARGUMENT,
                  "too little data: training and evaluation take a batch of %lld x %lld each, %lld "
                  "tokens with the last target, and there are %lld in all",
                  (long long)batch, (long long)sequence, (long long)needed, (long long)count);
        return false;
    }
    *split = count - held_out;
    return true;
}
