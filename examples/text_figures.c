#include "text_figures.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

enum { CHUNK = 1 << 16, LEAST_LETTERS = 4, MOST_SAMPLE_WORDS = 4096 };

// Calls visit for each chunk of the data.
static brim_status each_chunk(const brim_dataset *data,
                              void (*visit)(const int32_t *, int64_t, void *), void *user,
                              brim_error *err) {
    int32_t *chunk = malloc(CHUNK * sizeof *chunk);
    if (!chunk) return brim_fail(err, BRIM_MEMORY, "no memory to read the data");
    int64_t count = brim_dataset_count(data);
    for (int64_t at = 0; at < count; at += CHUNK) {
        int64_t n = count - at < CHUNK ? count - at : CHUNK;
        if (!brim_dataset_read(data, at, chunk, n, err)) break;
        visit(chunk, n, user);
    }
    free(chunk);
    return err->status;
}

static void count_bytes(const int32_t *chunk, int64_t n, void *user) {
    int64_t *counts = user;
    for (int64_t i = 0; i < n; i++) counts[chunk[i] & 255]++;
}

brim_status byte_entropy(const brim_dataset *data, double *nats, brim_error *err) {
    int64_t counts[256] = {0};
    if (each_chunk(data, count_bytes, counts, err)) return err->status;
    double total = (double)brim_dataset_count(data);
    *nats = 0;
    for (int i = 0; i < 256; i++)
        if (counts[i] > 0) *nats -= (double)counts[i] / total * log((double)counts[i] / total);
    return BRIM_OK;
}

// Words are told apart by a 64-bit hash (FNV-1a) of their lower-case letters.
typedef struct word_reader {
    uint64_t hash;
    int letters;
} word_reader;

// Takes one byte; returns the hash of the word that it ends, or 0.
static uint64_t end_of_word(word_reader *r, int byte) {
    if (byte < 128 && isalpha(byte)) {
        if (r->letters++ == 0) r->hash = 0xcbf29ce484222325u;
        r->hash = (r->hash ^ (uint64_t)tolower(byte)) * 0x100000001b3u;
        return 0;
    }
    uint64_t word = r->letters >= LEAST_LETTERS ? r->hash : 0;
    r->letters = 0;
    return word;
}

typedef struct word_search {
    uint64_t word[MOST_SAMPLE_WORDS];
    bool known[MOST_SAMPLE_WORDS];
    int words;
    word_reader reader;
} word_search;

static void mark_known(const int32_t *chunk, int64_t n, void *user) {
    word_search *s = user;
    for (int64_t i = 0; i < n; i++) {
        uint64_t word = end_of_word(&s->reader, chunk[i]);
        for (int w = 0; word && w < s->words; w++) s->known[w] |= s->word[w] == word;
    }
}

brim_status count_known_words(const brim_dataset *data, const char *sample, size_t bytes,
                              known_words *out, brim_error *err) {
    word_search *s = calloc(1, sizeof *s);
    if (!s) return brim_fail(err, BRIM_MEMORY, "no memory to look up the sample's words");
    size_t i = 0;
    while (i < bytes && isalpha((unsigned char)sample[i])) i++;
    for (; i < bytes && s->words < MOST_SAMPLE_WORDS; i++) {
        uint64_t word = end_of_word(&s->reader, (unsigned char)sample[i]);
        if (word) s->word[s->words++] = word;
    }
    s->reader = (word_reader){0};
    each_chunk(data, mark_known, s, err);
    *out = (known_words){.words = s->words};
    for (int w = 0; w < s->words; w++) out->known += s->known[w];
    free(s);
    return err->status;
}
