// Skipped cases, counted across the forks that Check makes.
//
//   if (!device) { skip(SKIP_no_cuda_device); return; }
#ifndef BRIM_TESTS_SKIPS_H
#define BRIM_TESTS_SKIPS_H

typedef enum skip_id {
#define SKIP(id, reason) SKIP_##id,
#include "tests/skips.def"
#undef SKIP
    SKIP_COUNT
} skip_id;

void skips_begin(void);
void skip(skip_id id);
// Prints each reason that was used with its count; returns their sum.
int skips_report(void);

#endif
