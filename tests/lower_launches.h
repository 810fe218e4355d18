// Launches on devices that are not there, with their arguments by name.
#ifndef BRIM_TESTS_LOWER_LAUNCHES_H
#define BRIM_TESTS_LOWER_LAUNCHES_H

#include <inttypes.h>
#include "tests/lower_rig.h"

static const device_traits cpu = {.cpu = true,
                                  .vec = 16,
                                  .group = 1,
                                  .max_group = 64,
                                  .alignment = 64,
                                  .compute_units = 2,
                                  .local_bytes = 1 << 15};
static const device_traits gpu = {.vec = 4,
                                  .group = 256,
                                  .max_group = 1024,
                                  .alignment = 256,
                                  .compute_units = 40,
                                  .local_bytes = 48 << 10,
                                  .name = "a card"};

// Forgets the graph and what was made of it.
static inline void begin_on(const device_traits *traits) {
    finish();
    start();
    device.traits = *traits;
    device.native = false;
}

static inline const launch_record *launch(int n) {
    return &record(RECORD_LAUNCH, n)->as.launch;
}
static inline const kernel_spec *kernel_of(int n) {
    return &low.program->kernel[launch(n)->kernel];
}

// The n-th launch's argument for a parameter of its kernel; offset of a buffer. Parameters are told
// apart by commas, and named by their last word.
static inline int64_t argument(int n, const char *name) {
    char head[80];
    const kernel_spec *k = kernel_of(n);
    snprintf(head, sizeof head, " %s(", k->name);
    const char *at = strstr(k->source, "KERNEL");
    while (at && strncmp(at + strcspn(at, " "), head, strlen(head)) != 0)
        at = strstr(at + 1, "KERNEL");
    ck_assert_msg(at != NULL, "%s has no %s", k->file, k->name);
    at += strcspn(at, " ") + strlen(head);
    for (int i = 0; *at != '{'; i++) {
        size_t length = strcspn(at, ",{"), end = length;
        while (end > 0 && strchr(")\n ", at[end - 1])) end--;
        size_t first = end;
        while (first > 0 && !strchr("( ", at[first - 1])) first--;
        if (end - first == strlen(name) && strncmp(at + first, name, end - first) == 0) {
            const kernel_argument *a = &launch(n)->argument[i];
            return a->kind == ARGUMENT_I32 ? a->as.i32 : a->as.i64;
        }
        at += length + (at[length] == ',');
    }
    ck_abort_msg("%s takes no %s", k->name, name);
    return 0;
}

#define ASSERT_GRID(n, x, y, z)                                                                    \
    do {                                                                                           \
        ck_assert_int_eq(launch(n)->grid[0], x);                                                   \
        ck_assert_int_eq(launch(n)->grid[1], y);                                                   \
        ck_assert_int_eq(launch(n)->grid[2], z);                                                   \
    } while (0)

static inline bool defined(int n, const char *define) {
    return strstr(kernel_of(n)->defines, define) != NULL;
}

#endif
