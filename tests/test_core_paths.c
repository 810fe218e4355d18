// Paths, files in memory, and checksums.
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <brim/report.h>
#include "core/checksum.h"
#include "core/files.h"
#include "core/mapfile.h"
#include "test_core.h"

START_TEST(mapped_files) {
    brim_error err = {0};
    mapfile file;
    ck_assert(mapfile_open(&file, test_file("m", "abc", 3), &err));
    ck_assert_uint_eq(file.size, 3);
    ck_assert_mem_eq(file.data, "abc", 3);
    void *mapped = (void *)file.data;
    mapfile_close(&file);
    ck_assert_int_ne(msync(mapped, 3, MS_ASYNC), 0); // it is there no more
    ck_assert(file.size == 0 && !file.data);
    mapfile_close(&file);
    ck_assert(mapfile_open(&file, test_file("m", "", 0), &err));
    ck_assert(file.size == 0 && file.data);
    mapfile_close(&file);
    file.size = 7;
    ck_assert(!mapfile_open(&file, test_directory, &err) && file.size == 0);
    ASSERT_FAILS(err, BRIM_IO, "is a directory");
    ck_assert(!mapfile_open(&file, "/dev/null", &err));
    ASSERT_FAILS(err, BRIM_IO, "not a regular file");
    brim_fail(&err, BRIM_SHAPE, "earlier");
    ck_assert(!mapfile_open(&file, test_file("m", "abc", 3), &err));
    ASSERT_FAILS(err, BRIM_SHAPE, "earlier");
    ck_assert(!mapfile_open(&file, "/nonexistent", &err));
    ASSERT_FAILS(err, BRIM_IO, "/nonexistent cannot be opened");
}
END_TEST

START_TEST(cache_folder) {
    brim_error err = {0};
    char buffer[160], expected[200];
    ck_assert_int_eq(setenv("XDG_CACHE_HOME", test_path("cache"), 1), 0);
    ck_assert(brim_cache_dir(buffer, sizeof buffer, &err));
    ck_assert_str_eq(buffer, test_path("cache/brim"));
    struct stat status;
    ck_assert_int_eq(stat(buffer, &status), 0);
    ck_assert_uint_eq(status.st_mode & 077, 0);
    size_t length = strlen(buffer);
    ck_assert(brim_cache_dir(buffer, length + 1, &err));
    ck_assert(!brim_cache_dir(buffer, length, &err));
    snprintf(expected, sizeof expected, "path of %zu bytes is too long", length);
    ASSERT_FAILS(err, BRIM_IO, expected);

    ck_assert_int_eq(setenv("XDG_CACHE_HOME", "relative", 1),
                     0); // the specification says to ignore it
    ck_assert_int_eq(setenv("HOME", test_directory, 1), 0);
    ck_assert(brim_cache_dir(buffer, sizeof buffer, &err));
    snprintf(expected, sizeof expected, "%s/.cache/brim", test_directory);
    ck_assert_str_eq(buffer, expected);
    ck_assert_int_eq(unsetenv("HOME"), 0);
    ck_assert(!brim_cache_dir(buffer, sizeof buffer, &err));
    ASSERT_FAILS(err, BRIM_IO, "no cache folder");
}
END_TEST

START_TEST(paths) {
    brim_error err = {0};
    static const char *const parents[][2] = {
        {"a", "."},     {"a/b", "a"}, {"a/b/", "a"}, {"/a", "/"},
        {"/a/b", "/a"}, {"/", "/"},   {"a//b", "a"}, {"./a", "."},
    };
    for (size_t i = 0; i < sizeof parents / sizeof *parents; i++) {
        char *parent = path_parent(parents[i][0], &err);
        ck_assert_str_eq(parent, parents[i][1]);
        free(parent);
    }
    static const char *const joined[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"}};
    for (size_t i = 0; i < sizeof joined / sizeof *joined; i++) {
        char *path = path_join(joined[i][0], joined[i][1], &err);
        ck_assert_str_eq(path, joined[i][2]);
        free(path);
    }
    char *a = path_temporary("x/", "tmp", &err), *b = path_temporary("x/", "tmp", &err);
    ck_assert_int_eq(strncmp(a, "x.brim-tmp-", 6), 0);
    ck_assert_uint_eq(strlen(a), 19);
    ck_assert_str_ne(a, b);
    free(a);
    free(b);
}
END_TEST

static uint64_t checksum_of(const void *data, size_t size) {
    checksum sum = checksum_start();
    checksum_add(&sum, data, size);
    return checksum_value(&sum);
}

START_TEST(checksums) {
    // Values of the xxHash library, XXH64 with seed 0.
    ck_assert_uint_eq(checksum_of("", 0), 0xef46db3751d8e999);
    ck_assert_uint_eq(checksum_of("a", 1), 0xd24ec4f1a98c6e5b);
    ck_assert_uint_eq(checksum_of("abc", 3), 0x44bc2cf5ad770999);
    unsigned char bytes[200];
    for (int i = 0; i < 200; i++) bytes[i] = (unsigned char)(i * 7);
    // Rests of words, half words and bytes, behind no, one and several stripes of 32 bytes.
    static const struct {
        size_t size;
        uint64_t sum;
    } cases[] = {{4, 0xae5acdc00a55ac41},  {7, 0xd734a6b26f3da63e},  {8, 0x87116b3365b924eb},
                 {12, 0x14b8433b9a14e611}, {15, 0x02c53ab1e360882f}, {31, 0x0f187c62b1e722b7},
                 {32, 0x91b0cb0931a8c629}, {33, 0x931b043cf8d65b94}, {63, 0x219110bf13e2fa26},
                 {64, 0xbf3052e3445775d0}, {101, 0x42312f4d55d9bd17}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_uint_eq(checksum_of(bytes, cases[i].size), cases[i].sum);
    const uint64_t expected = 0x6daaa52505587dd5; // of six whole stripes and a rest
    for (size_t first = 0; first <= sizeof bytes; first++) {
        for (size_t second = 0; second <= sizeof bytes - first; second += 13) {
            checksum sum = checksum_start();
            checksum_add(&sum, bytes, first);
            checksum_add(&sum, bytes + first, second);
            checksum_add(&sum, bytes + first + second, sizeof bytes - first - second);
            ck_assert_uint_eq(checksum_value(&sum), expected);
        }
    }
}
END_TEST

Suite *core_paths_suite(void) {
    Suite *suite = suite_create("core/paths");
    TCase *tests = tcase_create("paths");
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_add_test(tests, mapped_files);
    tcase_add_test(tests, cache_folder);
    tcase_add_test(tests, paths);
    tcase_add_test(tests, checksums);
    suite_add_tcase(suite, tests);
    return suite;
}
