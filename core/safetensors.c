// The reader. The writer is in safetensors_write.c.
#include "core/safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <cjson/cJSON.h>
#include "core/alloc.h"
#include "core/arena.h"
#include "core/dtype.h"
#include "core/mapfile.h"
#include "core/size.h"
#include "core/strbuf.h"
#include "core/utf8.h"

enum {
    LENGTH_BYTES = 8,
    LARGEST_HEADER = 100000000
}; // the bound is the reference implementation's

struct safetensors {
    char *path;
    mapfile file;
    const char *header;
    size_t header_size;
    const unsigned char *data;
    size_t data_size;
    arena memory;                // names and metadata
    safetensors_tensor *tensors; // by place in the file
    size_t count, capacity;
    const safetensors_tensor **by_name;
    safetensors_pair *metadata;
    size_t pairs, pair_capacity;
};

// --- types ---

typedef struct format_dtype {
    const char *name;
    int bits;
} format_dtype;

// All types of the format, so that a file that also holds others than Brim's can be checked and
// read.
static const format_dtype format_dtypes[] = {
    {"BOOL", 8}, {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},
    {"U16", 16}, {"F16", 16},    {"BF16", 16},   {"I32", 32},    {"U32", 32},
    {"F32", 32}, {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
};

static const format_dtype *find_dtype(const char *name) {
    for (size_t i = 0; i < sizeof format_dtypes / sizeof *format_dtypes; i++) {
        if (strcmp(format_dtypes[i].name, name) == 0) return &format_dtypes[i];
    }
    return NULL;
}

static void set_dtype(safetensors_tensor *tensor, const format_dtype *dtype) {
    tensor->dtype_name = dtype->name;
    for (int i = 0; i < BRIM_DTYPE_COUNT; i++) {
        if (strcmp(dtype_safetensors_name((brim_dtype)i), dtype->name) != 0) continue;
        tensor->readable = true;
        tensor->dtype = (brim_dtype)i;
    }
}

// --- one tensor ---

// cJSON holds numbers as doubles, which are exact below 2^53.
static bool read_size(const cJSON *item, int64_t *value) {
    if (!cJSON_IsNumber(item)) return false;
    double number = item->valuedouble;
    if (!(number >= 0 && number < 0x1p53)) return false;
    *value = (int64_t)number;
    return (double)*value == number;
}

static void read_shape(safetensors_tensor *tensor, const cJSON *shape, brim_error *err) {
    if (!cJSON_IsArray(shape)) {
        brim_fail(err, BRIM_FORMAT, "\"shape\" is missing or not a list");
        return;
    }
    int64_t count = 1;
    const cJSON *item;
    cJSON_ArrayForEach(item, shape) {
        if (tensor->dims == BRIM_MAX_DIMS) {
            brim_fail(err, BRIM_FORMAT, "it has %d dimensions, expected at most %d",
                      cJSON_GetArraySize(shape), BRIM_MAX_DIMS);
            return;
        }
        int64_t *length = &tensor->shape[tensor->dims++];
        if (!read_size(item, length)) {
            brim_fail(err, BRIM_FORMAT, "\"shape\" has an entry that is not a whole number");
            return;
        }
        if (!i64_mul(count, *length, &count)) {
            brim_fail(err, BRIM_FORMAT, "\"shape\" has more than 2^63 elements");
            return;
        }
    }
    tensor->count = (size_t)count;
}

static void read_offsets(const safetensors *file, safetensors_tensor *tensor, const cJSON *offsets,
                         brim_error *err) {
    int64_t begin, end;
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !read_size(cJSON_GetArrayItem(offsets, 0), &begin) ||
        !read_size(cJSON_GetArrayItem(offsets, 1), &end)) {
        brim_fail(err, BRIM_FORMAT, "\"data_offsets\" is not a list of two whole numbers");
        return;
    }
    if (begin > end || (uint64_t)end > file->data_size) {
        brim_fail(err, BRIM_FORMAT,
                  "\"data_offsets\" [%lld, %lld] is not a range of the %zu bytes of data",
                  (long long)begin, (long long)end, file->data_size);
        return;
    }
    tensor->data = file->data + begin;
    tensor->bytes = (size_t)(end - begin);
}

static void check_bytes(const safetensors_tensor *tensor, int bits, brim_error *err) {
    size_t total;
    if (!size_mul(tensor->count, (size_t)bits, &total)) {
        brim_fail(err, BRIM_FORMAT, "\"shape\" is too large");
    } else if (total % 8 != 0 || total / 8 != tensor->bytes) {
        brim_fail(err, BRIM_FORMAT,
                  "\"data_offsets\" span %zu bytes, but %zu elements of type %s take %zu",
                  tensor->bytes, tensor->count, tensor->dtype_name, total / 8 + (total % 8 != 0));
    }
}

// The three fields of a tensor. One that stands there twice counts as missing.
static const cJSON *only_field(const cJSON *object, const char *name) {
    const cJSON *found = NULL, *item;
    cJSON_ArrayForEach(item, object) {
        if (strcmp(item->string, name) != 0) continue;
        if (found) return NULL;
        found = item;
    }
    return found;
}

static void read_tensor(safetensors *file, const cJSON *item, brim_error *err) {
    if (!brim_grow((void **)&file->tensors, &file->capacity, file->count + 1, sizeof *file->tensors,
                   err)) {
        return;
    }
    safetensors_tensor *tensor = &file->tensors[file->count++];
    tensor->name = arena_strdup(&file->memory, item->string, err);
    if (!cJSON_IsObject(item)) {
        brim_fail(err, BRIM_FORMAT, "it is not an object");
        return;
    }
    const cJSON *name = only_field(item, "dtype");
    if (!cJSON_IsString(name)) {
        brim_fail(err, BRIM_FORMAT, "\"dtype\" is missing or not a text");
        return;
    }
    const format_dtype *dtype = find_dtype(name->valuestring);
    if (!dtype) {
        brim_fail(err, BRIM_FORMAT, "\"dtype\" is \"%s\", which the format does not know",
                  name->valuestring);
        return;
    }
    set_dtype(tensor, dtype);
    read_shape(tensor, only_field(item, "shape"), err);
    read_offsets(file, tensor, only_field(item, "data_offsets"), err);
    if (!failed(err)) check_bytes(tensor, dtype->bits, err);
}

// --- the whole ---

static int compare_keys(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// Sorted, since a header may hold millions of them.
static void check_keys(const safetensors *file, brim_error *err) {
    const char **keys = brim_calloc_array(file->pairs, sizeof *keys, err);
    if (!keys) return;
    for (size_t i = 0; i < file->pairs; i++) keys[i] = file->metadata[i].key;
    if (file->pairs) qsort(keys, file->pairs, sizeof *keys, compare_keys);
    for (size_t i = 1; i < file->pairs; i++) {
        if (strcmp(keys[i - 1], keys[i]) != 0) continue;
        brim_fail(err, BRIM_FORMAT, "\"%s\" is there twice", keys[i]);
        break;
    }
    free(keys);
}

static void read_metadata(safetensors *file, const cJSON *object, brim_error *err) {
    if (!cJSON_IsObject(object)) {
        brim_fail(err, BRIM_FORMAT, "it is not an object");
        return;
    }
    const cJSON *item;
    cJSON_ArrayForEach(item, object) {
        if (!cJSON_IsString(item))
            brim_fail(err, BRIM_FORMAT, "the value of \"%s\" is not a text", item->string);
        if (!brim_grow((void **)&file->metadata, &file->pair_capacity, file->pairs + 1,
                       sizeof *file->metadata, err)) {
            return;
        }
        safetensors_pair *pair = &file->metadata[file->pairs];
        pair->key = arena_strdup(&file->memory, item->string, err);
        pair->value = arena_strdup(&file->memory, item->valuestring, err);
        if (failed(err)) return;
        file->pairs++;
    }
    check_keys(file, err);
}

static void read_items(safetensors *file, const cJSON *root, brim_error *err) {
    bool seen_metadata = false;
    const cJSON *item;
    cJSON_ArrayForEach(item, root) {
        if (strcmp(item->string, "__metadata__") != 0) {
            read_tensor(file, item, err);
            brim_error_prefix(err, "tensor %s", item->string);
        } else {
            if (seen_metadata)
                brim_fail(err, BRIM_FORMAT, "it is there twice");
            else
                read_metadata(file, item, err);
            brim_error_prefix(err, "__metadata__");
            seen_metadata = true;
        }
        if (failed(err)) return;
    }
}

static int compare_place(const void *a, const void *b) {
    const safetensors_tensor *first = a, *second = b;
    const unsigned char *x = first->data, *y = second->data;
    if (x != y) return (x > y) - (x < y);
    return (first->bytes > second->bytes) - (first->bytes < second->bytes);
}

static int compare_name(const void *a, const void *b) {
    return strcmp((*(const safetensors_tensor *const *)a)->name,
                  (*(const safetensors_tensor *const *)b)->name);
}

// Each tensor begins where the one before ends, and the last ends with the file: no byte is read
// twice, none is unused.
static void check_places(safetensors *file, brim_error *err) {
    if (file->count) qsort(file->tensors, file->count, sizeof *file->tensors, compare_place);
    const unsigned char *expected = file->data;
    for (size_t i = 0; i < file->count; i++) {
        const safetensors_tensor *tensor = &file->tensors[i];
        const unsigned char *begin = tensor->data;
        if (begin < expected) {
            brim_fail(err, BRIM_FORMAT, "tensors %s and %s overlap in the file",
                      file->tensors[i - 1].name, tensor->name);
            return;
        }
        if (begin > expected) {
            brim_fail(err, BRIM_FORMAT, "%zu bytes before tensor %s belong to no tensor",
                      (size_t)(begin - expected), tensor->name);
            return;
        }
        expected = begin + tensor->bytes;
    }
    size_t rest = (size_t)(file->data + file->data_size - expected);
    if (rest) brim_fail(err, BRIM_FORMAT, "%zu bytes at the end belong to no tensor", rest);
}

static void index_names(safetensors *file, brim_error *err) {
    file->by_name = brim_calloc_array(file->count, sizeof *file->by_name, err);
    if (!file->by_name) return;
    for (size_t i = 0; i < file->count; i++) file->by_name[i] = &file->tensors[i];
    if (file->count) qsort(file->by_name, file->count, sizeof *file->by_name, compare_name);
    for (size_t i = 1; i < file->count; i++) {
        if (compare_name(&file->by_name[i - 1], &file->by_name[i]) != 0) continue;
        brim_fail(err, BRIM_FORMAT, "tensor %s is there twice", file->by_name[i]->name);
        return;
    }
}

// cJSON ends a text at a NUL, be it raw or written as \u0000, so that two names could look the
// same.
static bool has_nul(const char *json, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (json[i] == '\0') return true;
        if (json[i] != '\\') continue;
        if (size - i >= 6 && memcmp(json + i, "\\u0000", 6) == 0) return true;
        i++; // the escaped character, which may be a backslash
    }
    return false;
}

// Of a JSON object, whose last character is a brace: no sequence of bytes goes on behind the end.
static bool is_utf8(const char *json, size_t size) {
    for (size_t i = 0; i < size;) {
        int length = utf8_length(json + i);
        if (length == 0) return false;
        i += (size_t)length;
    }
    return true;
}

// What cJSON before 1.7.18 may read a byte beyond.
static bool ends_in_comma(const char *json, size_t size) {
    return size > 0 && json[size - 1] == ',';
}

static cJSON *parse_header(const safetensors *file, brim_error *err) {
    const char *header = file->header, *stop = header + file->header_size, *end = stop;
    if (has_nul(header, file->header_size)) {
        brim_fail(err, BRIM_FORMAT, "the header contains a NUL character");
        return NULL;
    }
    cJSON *root = NULL;
    if (!ends_in_comma(header, file->header_size))
        root = cJSON_ParseWithLengthOpts(header, file->header_size, &end, false);
    while (root && end < stop && strchr(" \t\r\n", *end)) end++;
    if (!cJSON_IsObject(root) || end != stop) {
        brim_fail(err, BRIM_FORMAT,
                  "the header is not a JSON object; the fault is near its byte %zu",
                  (size_t)((end ? end : header) - header));
    } else if (!is_utf8(header, file->header_size)) {
        brim_fail(err, BRIM_FORMAT, "the header is not UTF-8");
    }
    if (!failed(err)) return root;
    cJSON_Delete(root);
    return NULL;
}

static void find_parts(safetensors *file, brim_error *err) {
    size_t size = file->file.size;
    uint64_t length = 0;
    if (size < LENGTH_BYTES) {
        brim_fail(err, BRIM_FORMAT, "the file has %zu bytes, expected 8 with the header's length",
                  size);
        return;
    }
    for (int i = 0; i < LENGTH_BYTES; i++) length |= (uint64_t)file->file.data[i] << 8 * i;
    if (length > LARGEST_HEADER) {
        brim_fail(err, BRIM_FORMAT, "the header's length is %llu, expected at most %d",
                  (unsigned long long)length, LARGEST_HEADER);
        return;
    }
    if (length > size - LENGTH_BYTES) {
        brim_fail(err, BRIM_FORMAT, "the header's length is %llu, but the file has %zu bytes",
                  (unsigned long long)length, size);
        return;
    }
    file->header = (const char *)file->file.data + LENGTH_BYTES;
    file->header_size = (size_t)length;
    file->data = file->file.data + LENGTH_BYTES + length;
    file->data_size = size - LENGTH_BYTES - (size_t)length;
}

static void read_file(safetensors *file, brim_error *err) {
    find_parts(file, err);
    if (failed(err)) return;
    cJSON *root = parse_header(file, err);
    if (!root) return;
    read_items(file, root, err);
    cJSON_Delete(root);
    if (!failed(err)) check_places(file, err);
    if (!failed(err)) index_names(file, err);
}

safetensors *safetensors_open(const char *path, brim_error *err) {
    safetensors *file = brim_calloc(sizeof *file, err);
    if (!file) return NULL;
    file->path = brim_strdup(path, err);
    if (mapfile_open(&file->file, path, err)) {
        read_file(file, err);
        brim_error_prefix(err, "%s", path);
    }
    if (!failed(err)) return file;
    safetensors_close(file);
    return NULL;
}

void safetensors_close(safetensors *file) {
    if (!file) return;
    mapfile_close(&file->file);
    arena_free(&file->memory);
    free(file->tensors);
    free(file->by_name);
    free(file->metadata);
    free(file->path);
    free(file);
}

// --- access ---

const char *safetensors_path(const safetensors *file) {
    return file->path;
}

size_t safetensors_count(const safetensors *file) {
    return file->count;
}

const safetensors_tensor *safetensors_at(const safetensors *file, size_t index) {
    return index < file->count ? &file->tensors[index] : NULL;
}

static int compare_key(const void *key, const void *entry) {
    return strcmp(key, (*(const safetensors_tensor *const *)entry)->name);
}

const safetensors_tensor *safetensors_find(const safetensors *file, const char *name) {
    const safetensors_tensor **found =
        bsearch(name, file->by_name, file->count, sizeof *file->by_name, compare_key);
    return found ? *found : NULL;
}

static void put_shape(strbuf *out, int dims, const int64_t *shape) {
    strbuf_putc(out, '[');
    for (int i = 0; i < dims; i++) {
        strbuf_printf(out, "%s%lld", i ? ", " : "", (long long)shape[i]);
    }
    strbuf_putc(out, ']');
}

static void report_shape(const safetensors *file, const safetensors_tensor *tensor, int dims,
                         const int64_t *shape, brim_error *err) {
    strbuf text = {.err = err};
    put_shape(&text, tensor->dims, tensor->shape);
    strbuf_puts(&text, ", expected ");
    put_shape(&text, dims, shape);
    brim_fail(err, BRIM_FORMAT, "%s: tensor %s has shape %s", file->path, tensor->name,
              strbuf_text(&text));
    strbuf_free(&text);
}

const safetensors_tensor *safetensors_expect(const safetensors *file, const char *name, int dims,
                                             const int64_t *shape, brim_error *err) {
    if (failed(err)) return NULL;
    const safetensors_tensor *tensor = safetensors_find(file, name);
    if (!tensor) {
        brim_fail(err, BRIM_FORMAT, "%s: tensor %s is missing", file->path, name);
        return NULL;
    }
    if (!tensor->readable) {
        brim_fail(err, BRIM_FORMAT, "%s: tensor %s has type %s, expected F32, F16, BF16 or I32",
                  file->path, name, tensor->dtype_name);
        return NULL;
    }
    bool same = tensor->dims == dims;
    for (int i = 0; same && i < dims; i++) same = tensor->shape[i] == shape[i];
    if (!same) {
        report_shape(file, tensor, dims, shape, err);
        return NULL;
    }
    return tensor;
}

const char *safetensors_metadata(const safetensors *file, const char *key) {
    for (size_t i = 0; i < file->pairs; i++) {
        if (strcmp(file->metadata[i].key, key) == 0) return file->metadata[i].value;
    }
    return NULL;
}

const char *safetensors_metadata_key(const safetensors *file, size_t index) {
    return index < file->pairs ? file->metadata[index].key : NULL;
}

const char *safetensors_header(const safetensors *file, size_t *size) {
    *size = file->header_size;
    return file->header;
}

const void *safetensors_data(const safetensors *file, size_t *size) {
    *size = file->data_size;
    return file->data;
}
