// Memory of the host: how much there is, as files of the system tell it, and what is taken of it.
#include <dirent.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include "backends/host_memory.h"
#include "tests/test_core.h"

static brim_error err;

static void begin(void) {
    err = (brim_error){0};
}

static void write_text(const char *name, const char *text) {
    if (text)
        test_file(name, text, strlen(text));
    else
        unlink(test_path(name));
}

// A container gives what its limit leaves, the file cache not counted; and no more than there is.
START_TEST(what_is_free) {
    static const char meminfo[] = "MemTotal: 9 kB\nMemFree: 8 kB\nMemAvailable:     1000 kB\n";
    static const struct {
        const char *meminfo, *limit, *used, *stat;
        int64_t expected;
    } rows[] = {
        {meminfo, NULL, NULL, NULL, 1024000},
        {NULL, NULL, NULL, NULL, -1},
        {"MemTotal: 9 kB\n", NULL, NULL, NULL, -1},
        {"MemAvailable: none\n", NULL, NULL, NULL, -1},
        {"MemAvailable: 1 kB\n", NULL, NULL, NULL, 1024},
        {"MemAvailable: 0 kB\n", NULL, NULL, NULL, 0},
        {meminfo, "max\n", "5000\n", "file 7\n", 1024000},
        {meminfo, "50000\n", NULL, NULL, 1024000},
        {meminfo, "50000\n", "5000\n", NULL, 45000},
        {meminfo, "50000\n", "5000\n", "anon 3\nfile_mapped 9\nfile 2000\n", 47000},
        {meminfo, "50000\n", "5000\n", "file 4999\n", 49999},
        {meminfo, "50000\n", "5000\n", "file 5000\n", 45000}, // it tells nothing of what is used
        {meminfo, "50000\n", "5000\n", "file 0\n", 45000},
        {meminfo, "50000\n", "50000\n", NULL, 0},
        {meminfo, "50000\n", "60000\n", NULL, 0},
        {meminfo, "50000\n", "0\n", NULL, 50000},
        {meminfo, "0\n", "0\n", NULL, 0},
        {meminfo, "9000000\n", "5000\n", NULL, 1024000},
        {NULL, "9000000\n", "5000\n", NULL, 8995000},
        {"MemAvailable: 0 kB\n", "50000\n", "5000\n", NULL, 0},
        {"MemAvailable: 1 kB\n", "50000\n", "5000\n", NULL, 1024},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[160];
        write_text("memory.max", rows[i].limit);
        write_text("memory.current", rows[i].used);
        write_text("memory.stat", rows[i].stat);
        write_text("meminfo", rows[i].meminfo);
        snprintf(path, sizeof path, "%s", test_path("meminfo"));
        ck_assert_msg(host_memory_free(path, test_directory) == rows[i].expected, "row %zu: %lld",
                      i, (long long)host_memory_free(path, test_directory));
    }
}
END_TEST

static int descriptors(void) {
    DIR *d = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(d)) count++;
    closedir(d);
    return count;
}

START_TEST(a_system_that_does_not_tell) {
    const struct rlimit none = {0, 0};
    struct rlimit before;
    int open_before = descriptors();
    ck_assert_int_gt(host_memory_available(), 0);
    ck_assert_int_eq(descriptors(), open_before);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){none.rlim_cur, before.rlim_max});
    int64_t available = host_memory_available();
    void *memory = host_memory_map(4096, &err); // it may have them
    setrlimit(RLIMIT_NOFILE, &before);
    ck_assert_int_eq(available, -1);
    ASSERT_FINE(err);
    host_memory_unmap(memory, 4096);
}
END_TEST

START_TEST(memory_is_filled) {
    static const int64_t sizes[] = {(40 << 20) + 7, (16 << 20) + 1, 16 << 20, 7, 4, 3};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t bytes = sizes[s];
        uint8_t *memory = host_memory_map(bytes + 4, &err);
        ASSERT_FINE(err);
        memset(memory, 0xee, (size_t)bytes + 4);
        host_memory_fill(memory, bytes, 0x04030201, &err);
        ASSERT_FINE(err);
        for (int64_t i = 0; i < bytes; i++)
            ASSERT_QUICKLY(memory[i] == (i < bytes - bytes % 4 ? i % 4 + 1 : 0));
        for (int64_t i = bytes; i < bytes + 4; i++) ck_assert_uint_eq(memory[i], 0xee);
        host_memory_unmap(memory, bytes + 4);
        unsigned char resident;
        ck_assert_int_eq(mincore(memory, 1, &resident), -1); // no such pages any more
    }
    uint8_t untouched = 0xee;
    host_memory_fill(&untouched, 0, 1, &err);
    ASSERT_FINE(err);
    ck_assert_uint_eq(untouched, 0xee);
}
END_TEST

START_TEST(memory_that_is_not_there) {
    long long there, wanted, missing;
    ck_assert_ptr_null(host_memory_map((int64_t)1 << 50, &err));
    ck_assert_int_eq(
        sscanf(err.text,
               "the host has %lld bytes of memory to give, %lld are needed: %lld bytes "
               "are missing",
               &there, &wanted, &missing),
        3);
    ck_assert(wanted == (long long)1 << 50 && missing == wanted - there && there > 0);
    ck_assert_ptr_null(host_memory_map(4096, &err)); // an error from before is left as it is
    ASSERT_FAILS(err, BRIM_MEMORY, "bytes are missing");
    ck_assert_ptr_null(host_memory_map(0, &err));
    ASSERT_FAILS(err, BRIM_MEMORY, "the system does not give 0 bytes of host memory");
    host_memory_unmap(NULL, 4096);
}
END_TEST

Suite *host_memory_suite(void) {
    Suite *suite = suite_create("host_memory");
    TCase *tests = tcase_create("host_memory");
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_add_checked_fixture(tests, begin, NULL);
    tcase_add_test(tests, what_is_free);
    tcase_add_test(tests, a_system_that_does_not_tell);
    tcase_add_test(tests, memory_is_filled);
    tcase_add_test(tests, memory_that_is_not_there);
    suite_add_tcase(suite, tests);
    return suite;
}
