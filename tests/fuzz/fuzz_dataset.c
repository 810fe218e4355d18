// Training data: the first byte says how the rest is taken, as a file of an open name, as NAME.bin,
// as two files, or as a text that is packed by gzip before. What can be opened reads as the bytes
// that are there, and a loader stays inside.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <brim/data.h>
#include "tests/fuzz/fuzz.h"

// Deflate packs 1032 bytes into one; a buffer that grows by half is there twice while it moves.
enum { LARGEST_FACTOR = 1032 * 5 / 2 };

// ---- what was opened ----------------------------------------------------------------------------

static int32_t *read_all(const brim_dataset *d, int64_t count) {
    brim_error err = {0};
    int32_t *tokens = malloc((size_t)count * sizeof *tokens);
    FUZZ_CHECK(tokens, "no memory for the tokens");
    for (int64_t done = 0, part = 1; done < count; done += part, part = part * 2 + 1) {
        if (part > count - done) part = count - done;
        FUZZ_CHECK(brim_dataset_read(d, done, tokens + done, part, &err), "%s", err.text);
    }
    FUZZ_CHECK(!brim_dataset_read(d, count, tokens, 1, &err) && fuzz_error(&err), "no end");
    return tokens;
}

static void check_tokens(const brim_dataset *d, const int32_t *tokens, int64_t count) {
    int32_t largest = 0;
    for (int64_t i = 0; i < count; i++) {
        FUZZ_CHECK(tokens[i] >= 0 && tokens[i] < brim_dataset_token_limit(d), "a token too large");
        if (tokens[i] > largest) largest = tokens[i];
    }
    FUZZ_CHECK(brim_dataset_max_token(d, NULL, NULL) == largest, "another largest token");
    int64_t within;
    FUZZ_CHECK(brim_dataset_locate(d, count - 1, &within) && within >= 0 && within < count,
               "the last token is in no file");
}

// Some rows, with the shape and the place that the input's first bytes choose.
static void check_loader(const brim_dataset *d, const int32_t *tokens, const uint8_t *choice) {
    brim_error err = {0};
    brim_loader loader;
    brim_loader_options o = {.data = d,
                             .batch = choice[0] % 5,
                             .sequence = choice[1] % 40,
                             .begin = choice[2] % 8,
                             .sequential = choice[3] & 1,
                             .vocabulary = choice[3] & 2 ? 200 : 0,
                             .seed = choice[3]};
    int64_t position, split;
    memcpy(&position, choice, sizeof position);
    if (brim_loader_split(brim_dataset_count(d), o.batch, o.sequence, 0.1, &split, &err))
        FUZZ_CHECK(split > 0 && split < brim_dataset_count(d), "a split outside");
    fuzz_error(&err);
    if (!brim_loader_init(&loader, &o, &err)) {
        FUZZ_CHECK(fuzz_error(&err), "no loader and no error");
        return;
    }
    int32_t row[5 * 40], target[5 * 40];
    for (int i = 0; i < 4; i++) {
        if (i == 2) brim_loader_restore(&loader, position, &err);
        if (fuzz_error(&err)) continue;
        if (!brim_loader_next(&loader, row, target, &err)) break;
        for (int64_t t = 0; t + 1 < o.sequence; t++)
            FUZZ_CHECK(target[t] == row[t + 1], "a target that is not the next token");
        if (i == 0 && o.sequential)
            FUZZ_CHECK(memcmp(row, tokens + o.begin, (size_t)o.sequence * sizeof *row) == 0,
                       "the first row is not the data's begin");
    }
    fuzz_error(&err);
}

// NULL where it cannot be opened; else all tokens.
static int32_t *check_data(const char *const *paths, size_t files, size_t size,
                           const uint8_t choice[8], int64_t *count, brim_dataset_kind *kind) {
    brim_error err = {0};
    fuzz_begin(size, LARGEST_FACTOR);
    brim_dataset *d = brim_dataset_open(paths, files, &err);
    fuzz_end();
    FUZZ_CHECK(!d == fuzz_error(&err), "data or an error");
    if (!d) return NULL;
    *count = brim_dataset_count(d);
    *kind = brim_dataset_kind_of(d);
    FUZZ_CHECK(*count > 0, "data without tokens");
    int32_t *tokens = read_all(d, *count);
    check_tokens(d, tokens, *count);
    check_loader(d, tokens, choice);
    brim_dataset_close(d);
    return tokens;
}

// ---- ways to take the input ---------------------------------------------------------------------

static bool is_gzip(const uint8_t *data, size_t size) {
    return size >= 2 && data[0] == 0x1f && data[1] == 0x8b;
}

static void check_plain(const uint8_t *data, size_t size, const int32_t *tokens, int64_t count,
                        brim_dataset_kind kind) {
    if (kind == BRIM_DATA_TOKENS) {
        FUZZ_CHECK(size == 1024 + 2 * (size_t)count, "a token file of another size");
        for (int64_t i = 0; i < count; i++)
            FUZZ_CHECK(tokens[i] == data[1024 + 2 * i] + 256 * data[1025 + 2 * i], "a token");
    } else if (!is_gzip(data, size)) {
        FUZZ_CHECK((size_t)count == size, "a text of another length");
        for (size_t i = 0; i < size; i++) FUZZ_CHECK(tokens[i] == data[i], "a byte of the text");
    }
}

static void one_file(const uint8_t *data, size_t size, bool named_bin, const uint8_t choice[8]) {
    const char *path = fuzz_file(data, size);
    if (named_bin) {
        const char *link = fuzz_path("tokens.bin");
        if (access(link, F_OK) != 0) FUZZ_CHECK(symlink(path, link) == 0, "no link");
        path = link;
    }
    int64_t count;
    brim_dataset_kind kind;
    int32_t *tokens = check_data(&path, 1, size, choice, &count, &kind);
    if (tokens) check_plain(data, size, tokens, count, kind);
    free(tokens);
}

static void two_files(const uint8_t *data, size_t size, size_t cut, const uint8_t choice[8]) {
    fuzz_write("part", data, cut);
    char first[128];
    snprintf(first, sizeof first, "%s", fuzz_path("part"));
    const char *paths[] = {first, fuzz_file(data + cut, size - cut)};
    int64_t count;
    brim_dataset_kind kind;
    int32_t *tokens = check_data(paths, 2, size, choice, &count, &kind);
    bool plain = !is_gzip(data, cut) && !is_gzip(data + cut, size - cut);
    if (tokens && kind == BRIM_DATA_TEXT && plain)
        check_plain(data, size, tokens, count, BRIM_DATA_TEXT);
    free(tokens);
}

static size_t pack(const uint8_t *data, size_t size, uint8_t *out, size_t room) {
    enum { GZIP = 16 };
    z_stream z = {0};
    FUZZ_CHECK(deflateInit2(&z, 6, Z_DEFLATED, MAX_WBITS + GZIP, 1, Z_DEFAULT_STRATEGY) == Z_OK,
               "zlib does not start");
    z.next_in = (Bytef *)data, z.avail_in = (uInt)size;
    z.next_out = out, z.avail_out = (uInt)room;
    FUZZ_CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END, "zlib does not pack");
    deflateEnd(&z);
    return room - z.avail_out;
}

// In two members, as files that were put together have them.
static void packed(const uint8_t *data, size_t size, size_t cut, const uint8_t choice[8]) {
    size_t room = 2 * size + 256;
    uint8_t *out = malloc(room);
    FUZZ_CHECK(out, "no memory to pack");
    size_t used = pack(data, cut, out, room);
    used += pack(data + cut, size - cut, out + used, room - used);
    const char *path = fuzz_file(out, used);
    int64_t count = 0;
    brim_dataset_kind kind;
    int32_t *tokens = check_data(&path, 1, size, choice, &count, &kind);
    if (tokens) {
        FUZZ_CHECK((size_t)count == size, "a text of another length was unpacked");
        for (size_t i = 0; i < size; i++) FUZZ_CHECK(tokens[i] == data[i], "a byte of the text");
    }
    free(tokens);
    free(out);
}

void fuzz_one(const uint8_t *data, size_t size) {
    enum { HEAD = 10 }; // how, where to cut, and what the loader does
    if (size < HEAD) return;
    int how = data[0] % 4;
    const uint8_t *choice = data + 2, *rest = data + HEAD;
    size -= HEAD;
    size_t cut = size * data[1] / 255;
    if (how < 2) one_file(rest, size, how == 1, choice);
    if (how == 2) two_files(rest, size, cut, choice);
    if (how == 3) packed(rest, size, cut, choice);
}
