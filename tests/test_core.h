// What the suites of core share.
#ifndef BRIM_TEST_CORE_H
#define BRIM_TEST_CORE_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <check.h>
#include "core/error.h"

// The call before went well; its error text is shown where it did not.
#define ASSERT_FINE(err) ck_assert_msg((err).status == BRIM_OK, "unexpected error: %s", (err).text)

// The call before failed with this status and a text that names this; err is cleared.
#define ASSERT_FAILS(err, expected, part)                                                          \
    do {                                                                                           \
        ck_assert_msg((err).status == (expected), "status %s: %s", brim_status_name((err).status), \
                      (err).text);                                                                 \
        ck_assert_msg(strstr((err).text, (part)), "\"%s\" is not in: %s", (part), (err).text);     \
        ck_assert_msg(!strchr((err).text, '\n'), "more than one line: %s", (err).text);            \
        (err) = (brim_error){0};                                                                   \
    } while (0)

// ck_assert for loops of many rounds: ck_assert itself notes every call in a file.
#define ASSERT_QUICKLY(condition)                                                                  \
    do {                                                                                           \
        if (!(condition)) ck_abort_msg("Assertion '%s' failed", #condition);                       \
    } while (0)

// A directory for a test case's files, made and removed by an unchecked fixture:
//     tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
static char test_directory[64];

static inline void make_test_directory(void) {
    strcpy(test_directory, "/tmp/brim-test-XXXXXX");
    if (!mkdtemp(test_directory)) test_directory[0] = '\0';
}

static inline int remove_entry(const char *path, const struct stat *status, int type,
                               struct FTW *place) {
    (void)status, (void)type, (void)place;
    return remove(path);
}

static inline void remove_test_directory(void) {
    if (test_directory[0]) nftw(test_directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

// The path of a file in there; two of them can be in use at a time.
static inline const char *test_path(const char *name) {
    static char paths[2][160];
    static int next;
    char *path = paths[next ^= 1];
    snprintf(path, sizeof paths[0], "%s/%s", test_directory, name);
    return path;
}

static inline const char *test_file(const char *name, const void *data, size_t size) {
    const char *path = test_path(name);
    remove(path); // a file written over is synced by some file systems, which takes long
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    if (size) ck_assert_uint_eq(fwrite(data, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
    return path;
}

// All of a file, with a NUL behind it; freed by the caller.
static inline char *test_contents(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s cannot be opened", path);
    char *data = malloc(1 << 24);
    ck_assert_ptr_nonnull(data);
    size_t count = fread(data, 1, (1 << 24) - 1, file);
    data[count] = '\0';
    fclose(file);
    if (size) *size = count;
    return data;
}

#endif
