// Batches from a dataset.
//
//   1. loader_split(dataset_count(data), batch, sequence, 0.02, &split, err);     where the
//   held-out part begins
//   2. loader train;
//      loader_init(&train, &(loader_options){.data = data, .batch = 8, .sequence = 256, .end =
//      split, .seed = 1}, err);
//   3. loader_next(&train, tokens, targets, err);                                 int32 [batch,
//   sequence] each
//   4. train.position is its whole state: save it; loader_restore(&train, saved, err) goes on from
//   there
//
// targets[b][t] is the token after tokens[b][t].
//
// Shuffled: the range is cut into windows of sequence tokens that do not overlap. An epoch visits
// each window once, in an order that follows from (seed, epoch) alone, and cuts at a phase of its
// own, so that the windows of two epochs differ. position counts the rows drawn so far, and may be
// taken over by a loader with another batch.
//
// Sequential, as llm.c reads a file: from position p, row b is tokens p + b T .. p + b T + T - 1,
// then p += B T, back to 0 when fewer than B T + 1 tokens remain. position counts tokens from the
// range's begin.
#ifndef BRIM_CORE_LOADER_H
#define BRIM_CORE_LOADER_H

#include "core/dataset.h"

typedef struct loader_options {
    const dataset *data;     // must outlive the loader
    int64_t batch, sequence; // rows, and tokens a row
    int64_t begin, end; // the range of tokens to draw from; an end of 0 means the end of the data
    bool sequential;
    uint64_t seed;
    int32_t vocabulary; // tokens must be below; 0: no check
} loader_options;

typedef struct loader {
    loader_options options;
    int64_t windows; // an epoch, shuffled
    int64_t slack;   // the phase is 0 .. slack, shuffled
    int64_t position;
} loader;

// False where an option is out of range or the range holds fewer than batch * sequence + 1 tokens.
bool loader_init(loader *l, const loader_options *options, brim_error *err);

// Fills tokens and targets and moves on. False, without moving, where a token is not below the
// vocabulary: the text names the file and the place.
bool loader_next(loader *l, int32_t *tokens, int32_t *targets, brim_error *err);

// Goes on from a position saved before. False where this loader cannot have been there.
bool loader_restore(loader *l, int64_t position, brim_error *err);

// Batches that go through the data once; at least 1.
int64_t loader_batches_per_epoch(const loader *l);

// Puts the last fraction of count tokens, and at least one batch, aside: training uses [0, *split),
// evaluation
// [*split, count). False where not at least a batch is left for training.
bool loader_split(int64_t count, int64_t batch, int64_t sequence, double fraction, int64_t *split,
                  brim_error *err);

#endif
