// Files of named tensors in the safetensors format (https://huggingface.co/docs/safetensors): 8
// bytes with the length N of the header, little-endian; N bytes of JSON, {"NAME": {"dtype": "F32",
// "shape": [2, 3], "data_offsets": [0, 24]},
// ..., "__metadata__": {"KEY": "VALUE", ...}}; and the tensors' bytes, row-major and little-endian,
// without gaps.
//
// Reading:                                                   Writing:
//   1. safetensors *file = safetensors_open(path, err);        1. file_writer *out =
//   file_create(path, err);
//   2. t = safetensors_find(file, "h.0.ln_1.weight");          2. w = safetensors_begin(out,
//   entries, n, pairs, m, err);
//   3. dtype_to_f32(t->dtype, t->data, floats, t->count);      3. safetensors_write(w, name, data,
//   bytes, err), each
//   4. safetensors_close(file);                                4. safetensors_end(w, err);
//                                                              5. file_commit(out, err);
//
// A file is validated as a whole when it is opened, since it may come from anywhere; every error
// text names the file, and the tensor where there is one. Beyond the format's own rules, a tensor
// has at most BRIM_MAX_DIMS dimensions, and no name may hold a NUL.
#ifndef BRIM_CORE_SAFETENSORS_H
#define BRIM_CORE_SAFETENSORS_H

#include <brim/dtype.h>
#include "core/files.h"

// --- reading ---

typedef struct safetensors safetensors;

typedef struct safetensors_tensor {
    const char *name;
    const char *dtype_name; // as the file spells it
    bool readable;    // the type is one of Brim's; files also hold others, such as BOOL or I64
    brim_dtype dtype; // where readable
    int dims;         // 0: a single number
    int64_t shape[BRIM_MAX_DIMS];
    size_t count;     // elements
    const void *data; // in the mapped file, at any alignment
    size_t bytes;
} safetensors_tensor;

safetensors *safetensors_open(const char *path, brim_error *err);
void safetensors_close(safetensors *file);

const char *safetensors_path(const safetensors *file);

// Tensors in the order of their bytes in the file.
size_t safetensors_count(const safetensors *file);
const safetensors_tensor *safetensors_at(const safetensors *file, size_t index);

// NULL where there is no such tensor.
const safetensors_tensor *safetensors_find(const safetensors *file, const char *name);

// The tensor of that name, with this shape and a readable type. NULL, with a text that says what
// was found and what was expected, where there is none.
const safetensors_tensor *safetensors_expect(const safetensors *file, const char *name, int dims,
                                             const int64_t *shape, brim_error *err);

// A value of "__metadata__"; NULL where there is none.
const char *safetensors_metadata(const safetensors *file, const char *key);

// The keys of "__metadata__" in the file's order; NULL beyond the last.
const char *safetensors_metadata_key(const safetensors *file, size_t index);

// The header's JSON, and all tensors' bytes: for checksums.
const char *safetensors_header(const safetensors *file, size_t *size);
const void *safetensors_data(const safetensors *file, size_t *size);

// --- writing ---

typedef struct safetensors_entry {
    const char *name;
    brim_dtype dtype;
    int dims;
    int64_t shape[BRIM_MAX_DIMS];
} safetensors_entry;

typedef struct safetensors_pair {
    const char *key, *value;
} safetensors_pair;

typedef struct safetensors_writer safetensors_writer;

// Writes the header to a file that is still empty. The metadata begins with the format's customary
// {"format": "pt"}; pairs come after it. Entries, pairs and the file must outlive the writer. NULL
// where a shape is negative or too large, or a name is taken twice.
safetensors_writer *safetensors_begin(file_writer *out, const safetensors_entry *entries,
                                      size_t count, const safetensors_pair *pairs,
                                      size_t pair_count, brim_error *err);

// Writes the tensor of that name, or its next part. Tensors come in the order of the entries, each
// with all its bytes; one of no bytes may be left out.
bool safetensors_write(safetensors_writer *w, const char *name, const void *data, size_t bytes,
                       brim_error *err);

// The header as it was written, without the 8 bytes before it; valid until safetensors_end.
const char *safetensors_written_header(const safetensors_writer *w, size_t *size);

// Frees w. False where bytes are missing. The file is still to be committed.
bool safetensors_end(safetensors_writer *w, brim_error *err);

#endif
