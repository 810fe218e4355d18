// Training data: files that together form one stream of tokens, and batches drawn from it.
//
//   1. brim_dataset *data = brim_dataset_open(paths, count, &err);
//   2. brim_loader_split(brim_dataset_count(data), batch, length, 0.02, &split, &err);  the held-out part begins there
//   3. brim_loader train;
//      brim_loader_init(&train, &(brim_loader_options){.data = data, .batch = 8, .sequence = 256, .end = split}, &err);
//   4. brim_loader_next(&train, tokens, targets, &err);       int32 [batch, sequence] each
//   5. train.position is its whole state: save it; brim_loader_restore goes on from there
//   6. brim_dataset_close(data);
//
// Two kinds of file are read; all files of a stream are of one kind:
//   text    UTF-8, plain or gzip (told by its magic bytes), taken as bytes: tokens are 0 .. 255
//   tokens  llm.c's format, told by the name's end ".bin" or by its magic number: a header of 256 little-endian int32
//           (magic 20240520, version 1, number of tokens, the rest unused), then so many little-endian uint16 tokens
// Plain files stay on disk and are mapped; gzip is unpacked into memory.
#ifndef BRIM_DATA_H
#define BRIM_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <brim/error.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brim_dataset brim_dataset;

typedef enum brim_dataset_kind { BRIM_DATA_TEXT, BRIM_DATA_TOKENS } brim_dataset_kind;

// NULL, with a text that names the file, the field and what was expected, where a file is missing, empty, damaged, of a
// length other than its header says, compressed in a way that is not read, or of another kind than the first.
BRIM_API brim_dataset *brim_dataset_open(const char *const *paths, size_t count, brim_error *err);
BRIM_API void brim_dataset_close(brim_dataset *data);

BRIM_API brim_dataset_kind brim_dataset_kind_of(const brim_dataset *data);

// Number of tokens.
BRIM_API int64_t brim_dataset_count(const brim_dataset *data);

// What all tokens are below by the nature of the files: 256 for text, 65536 for tokens.
BRIM_API int32_t brim_dataset_token_limit(const brim_dataset *data);

// Copies tokens position .. position + count - 1. False where they are not all inside the stream.
BRIM_API bool brim_dataset_read(const brim_dataset *data, int64_t position, int32_t *tokens, int64_t count,
                                brim_error *err);

// The largest token, found by reading everything. progress may be NULL; it is called now and then with the tokens done
// and in total.
BRIM_API int32_t brim_dataset_max_token(const brim_dataset *data,
                                        void (*progress)(void *user, int64_t done, int64_t total), void *user);

// The file that holds the token at position, and the token's number within that file; for error texts.
BRIM_API const char *brim_dataset_locate(const brim_dataset *data, int64_t position, int64_t *within);

// Loaders --------------------------------------------------------------------------------------------------------------
//
// targets[b][t] is the token after tokens[b][t].
//
// Shuffled: the range is cut into windows of `sequence` tokens that do not overlap. An epoch visits each window once, in
// an order that follows from (seed, epoch) alone, and cuts at a phase of its own, so that the windows of two epochs
// differ. position counts the rows drawn so far, and may be taken over by a loader with another batch.
//
// Sequential, as llm.c reads a file: from position p, row b is tokens p + b T .. p + b T + T - 1, then p += B T, back
// to 0 when fewer than B T + 1 tokens remain. position counts tokens from the range's begin.

typedef struct brim_loader_options {
    const brim_dataset *data; // must outlive the loader
    int64_t batch, sequence;  // rows, and tokens a row
    int64_t begin, end;       // the range of tokens to draw from; an end of 0 means the end of the data
    bool sequential;
    uint64_t seed;
    int32_t vocabulary; // tokens must be below; 0: no check
} brim_loader_options;

typedef struct brim_loader {
    brim_loader_options options;
    int64_t windows; // an epoch, shuffled
    int64_t slack;   // the phase is 0 .. slack, shuffled
    int64_t position;
} brim_loader;

// False where an option is out of range or the range holds fewer than batch * sequence + 1 tokens.
BRIM_API bool brim_loader_init(brim_loader *loader, const brim_loader_options *options, brim_error *err);

// Fills tokens and targets and moves on. False, without moving, where a token is not below the vocabulary: the text
// names the file and the place.
BRIM_API bool brim_loader_next(brim_loader *loader, int32_t *tokens, int32_t *targets, brim_error *err);

// Goes on from a position saved before. False where this loader cannot have been there.
BRIM_API bool brim_loader_restore(brim_loader *loader, int64_t position, brim_error *err);

// Batches that go through the data once; at least 1.
BRIM_API int64_t brim_loader_batches_per_epoch(const brim_loader *loader);

// Puts the last fraction of count tokens, and at least one batch, aside: training uses [0, *split), evaluation
// [*split, count). False where not at least a batch is left for training.
BRIM_API bool brim_loader_split(int64_t count, int64_t batch, int64_t sequence, double fraction, int64_t *split,
                                brim_error *err);

#ifdef __cplusplus
}
#endif
#endif
