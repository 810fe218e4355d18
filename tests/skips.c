#include "tests/skips.h"

#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

static const char *const reasons[] = {
#define SKIP(id, reason) reason,
#include "tests/skips.def"
#undef SKIP
};

// Shared with the processes that Check forks for each test.
static atomic_int *counts;

void skips_begin(void) {
    void *page = mmap(NULL, SKIP_COUNT * sizeof *counts, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    counts = page == MAP_FAILED ? NULL : page;
}

void skip(skip_id id) {
    if (counts) atomic_fetch_add(&counts[id], 1);
}

int skips_report(void) {
    int sum = 0;
    for (int i = 0; counts && i < SKIP_COUNT; i++) {
        int n = atomic_load(&counts[i]);
        if (n > 0) printf("skipped %d: %s\n", n, reasons[i]);
        sum += n;
    }
    return sum;
}
