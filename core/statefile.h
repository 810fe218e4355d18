// The state of a training run in one file: tensors and named numbers, guarded by a checksum.
//
// Writing:                                                        Reading:
//   1. state_writer *w = state_create(path, err);                   1. state_reader *r =
//   state_open(path, err);
//   2. state_put_i64(w, "step", step, err); ...                     2. step = state_i64(r, "step",
//   err);
//   3. state_declare(w, "h.0.up/m", BRIM_F32, 2, shape, err); ...   3. data = state_tensor(r,
//   "h.0.up/m", BRIM_F32,
//   4. state_write(w, "h.0.up/m", data, bytes, err); ...                                   2,
//   shape, err);
//   5. state_commit(w, err);                                        4. state_close(r);
//
// Everything is put and declared before the first tensor's bytes are written, and tensors are
// written in the order of their declarations, each in one or more parts: so a tensor can be fetched
// from the device when its turn comes.
//
// The file is a safetensors file, so other programs can read the tensors. Numbers stand in its
// metadata as "i64 42", "f64 0x3fb999999999999a 0.1" (the bits, and the value for people) and "text
// ...". The checksum, "brim.checksum" in the metadata, covers the header, with the checksum's own
// digits taken as zeros, and all tensors.
#ifndef BRIM_CORE_STATEFILE_H
#define BRIM_CORE_STATEFILE_H

#include "core/safetensors.h"

typedef struct state_writer state_writer;

// NULL on failure, in which case the calls below do nothing.
state_writer *state_create(const char *path, brim_error *err);

void state_put_i64(state_writer *w, const char *name, int64_t value, brim_error *err);
void state_put_f64(state_writer *w, const char *name, double value, brim_error *err);
void state_put_text(state_writer *w, const char *name, const char *value, brim_error *err);

void state_declare(state_writer *w, const char *name, brim_dtype dtype, int dims,
                   const int64_t *shape, brim_error *err);

void state_write(state_writer *w, const char *name, const void *data, size_t bytes,
                 brim_error *err);

// Completes the file, gives it its name (see core/files.h) and frees w. Where this fails, or err
// already holds an error, no file appears and an older one stays.
bool state_commit(state_writer *w, brim_error *err);

// Removes what was written and frees w.
void state_discard(state_writer *w);

typedef struct state_reader state_reader;

// NULL where the file is missing, malformed or damaged: the checksum is verified here, which reads
// all of it.
state_reader *state_open(const char *path, brim_error *err);
void state_close(state_reader *r);

// 0 or "", with a text that names the file and the value, where there is no such value of that
// kind. The text lives as long as the reader.
int64_t state_i64(const state_reader *r, const char *name, brim_error *err);
double state_f64(const state_reader *r, const char *name, brim_error *err);
const char *state_text(const state_reader *r, const char *name, brim_error *err);

// The bytes of a tensor of this type and shape, at any alignment, while the reader is open; NULL
// otherwise.
const void *state_tensor(const state_reader *r, const char *name, brim_dtype dtype, int dims,
                         const int64_t *shape, brim_error *err);

// All numbers and texts in the order in which they were put: the name, or NULL beyond the last.
const char *state_name_at(const state_reader *r, size_t index);

// The tensors, with those that the caller did not ask for.
const safetensors *state_tensors(const state_reader *r);

#endif
