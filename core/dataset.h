// Training data: files that together form one stream of tokens.
//
//   1. dataset *data = dataset_open(paths, count, err);
//   2. dataset_read(data, position, tokens, n, err);       position counts tokens from the start of
//   the first file
//   3. dataset_close(data);
//
// Two kinds of file are read; all files of a stream are of one kind:
//   text    UTF-8, plain or gzip (told by its magic bytes), taken as bytes: tokens are 0 .. 255
//   tokens  llm.c's format, told by the name's end ".bin" or by its magic number: a header of 256
//   little-endian int32
//           (magic 20240520, version 1, number of tokens, the rest unused), then so many
//           little-endian uint16 tokens
// Plain files stay on disk and are mapped; gzip is unpacked into memory. A loader (core/loader.h)
// draws batches.
#ifndef BRIM_CORE_DATASET_H
#define BRIM_CORE_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/error.h"

typedef struct dataset dataset;

typedef enum dataset_kind { DATASET_TEXT, DATASET_TOKENS } dataset_kind;

// NULL, with a text that names the file, the field and what was expected, where a file is missing,
// empty, damaged, of a length other than its header says, compressed in a way that is not read, or
// of another kind than the first.
dataset *dataset_open(const char *const *paths, size_t count, brim_error *err);
void dataset_close(dataset *data);

dataset_kind dataset_kind_of(const dataset *data);

// Number of tokens.
int64_t dataset_count(const dataset *data);

// What all tokens are below by the nature of the files: 256 for text, 65536 for tokens.
int32_t dataset_token_limit(const dataset *data);

// Copies tokens position .. position + count - 1. False where they are not all inside the stream.
bool dataset_read(const dataset *data, int64_t position, int32_t *tokens, int64_t count,
                  brim_error *err);

// The largest token, found by reading everything. progress may be NULL; it is called now and then
// with the tokens done and in total.
int32_t dataset_max_token(const dataset *data,
                          void (*progress)(void *user, int64_t done, int64_t total), void *user);

// The file that holds the token at position, and the token's number within that file; for error
// texts.
const char *dataset_locate(const dataset *data, int64_t position, int64_t *within);

#endif
