// Figures that say how much a model of bytes has learnt.
#ifndef EXAMPLES_TEXT_FIGURES_H
#define EXAMPLES_TEXT_FIGURES_H

#include <brim/brim.h>

// Entropy of single bytes, in nats: what a model reaches that knows how often each byte occurs and
// nothing else.
brim_status byte_entropy(const brim_dataset *data, double *nats, brim_error *err);

typedef struct known_words {
    int words, known;
} known_words;

// How many words of four letters or more a sample has (the first and the last, which may be cut,
// left out), and how many of them occur in the data. Letters are A-Z and a-z; case does not count.
brim_status count_known_words(const brim_dataset *data, const char *sample, size_t bytes,
                              known_words *out, brim_error *err);

#endif
