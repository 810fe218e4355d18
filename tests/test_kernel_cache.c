// The cache of compiled kernels: keys, damage, several processes, directories it must not use.
#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "backends/kernel_cache.h"
#include "tests/test_core.h"

static char folder[64];
static kernel_cache *cache;
static brim_error err;

static void start(void) {
    err = (brim_error){0};
    strcpy(folder, "/tmp/brim-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    cache = kernel_cache_open(folder, &err);
    ASSERT_FINE(err);
}

static void finish(void) {
    kernel_cache_close(cache);
    char command[100];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

static kernel_key key_of(const char *a, const char *b) {
    return (kernel_key){.part = {a, b}, .parts = 2};
}

static bool holds(const char *a, const char *b, const char *expected) {
    kernel_key key = key_of(a, b);
    void *data = NULL;
    size_t bytes = 0;
    if (!kernel_cache_get(cache, &key, &data, &bytes)) return false;
    bool same = bytes == strlen(expected) && memcmp(data, expected, bytes) == 0;
    free(data);
    ck_assert_msg(same, "the entry is not \"%s\"", expected);
    return true;
}

static void put(const char *a, const char *b, const char *data) {
    kernel_key key = key_of(a, b);
    kernel_cache_put(cache, &key, data, strlen(data));
}

// The only file in the folder; what "files" counts otherwise.
static int list(char path[400]) {
    DIR *directory = opendir(folder);
    ck_assert_ptr_nonnull(directory);
    int files = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, 400, "%s/%s", folder, entry->d_name);
        files++;
    }
    closedir(directory);
    return files;
}

START_TEST(entries_are_found_by_the_whole_key) {
    put("source", "options", "compiled");
    ck_assert(holds("source", "options", "compiled"));
    ck_assert(!holds("source", "option", ""));
    ck_assert(!holds("sourceo", "ptions", "")); // the boundary counts
    ck_assert(!holds("options", "source", ""));
    put("source", "other", "something else");
    ck_assert(holds("source", "options", "compiled"));
    ck_assert(holds("source", "other", "something else"));
    kernel_cache *again = kernel_cache_open(folder, &err);
    ASSERT_FINE(err);
    kernel_cache_close(cache);
    cache = again;
    ck_assert(holds("source", "options", "compiled"));
}
END_TEST

START_TEST(entries_are_replaced) {
    put("a", "b", "first");
    put("a", "b", "the second");
    ck_assert(holds("a", "b", "the second"));
    char path[400];
    ck_assert_int_eq(list(path), 1);
}
END_TEST

// Whichever byte is changed, the entry is missing; put makes it good again.
START_TEST(damage_is_noticed) {
    char path[400];
    put("key", "b", "data");
    ck_assert_int_eq(list(path), 1);
    struct stat info;
    ck_assert_int_eq(stat(path, &info), 0);
    for (off_t at = 0; at < info.st_size; at++) {
        int file = open(path, O_RDWR);
        char byte;
        ck_assert_int_eq(pread(file, &byte, 1, at), 1);
        byte ^= 0x10;
        ck_assert_int_eq(pwrite(file, &byte, 1, at), 1);
        close(file);
        ck_assert_msg(!holds("key", "b", "data"), "byte %ld", (long)at);
        put("key", "b", "data");
        ck_assert(holds("key", "b", "data"));
    }
}
END_TEST

START_TEST(wrong_sizes_are_noticed) {
    char path[400];
    put("key", "b", "data");
    ck_assert_int_eq(list(path), 1);
    struct stat info;
    ck_assert_int_eq(stat(path, &info), 0);
    for (off_t size = 0; size < info.st_size; size++) {
        ck_assert_int_eq(truncate(path, size), 0);
        ck_assert_msg(!holds("key", "b", "data"), "size %ld", (long)size);
        put("key", "b", "data");
    }
    ck_assert_int_eq(truncate(path, info.st_size + 1), 0);
    ck_assert(!holds("key", "b", "data"));
}
END_TEST

START_TEST(links_are_not_followed) {
    char path[400], elsewhere[100];
    put("key", "b", "data");
    ck_assert_int_eq(list(path), 1);
    snprintf(elsewhere, sizeof elsewhere, "%s-elsewhere", folder);
    ck_assert_int_eq(rename(path, elsewhere), 0);
    ck_assert_int_eq(symlink(elsewhere, path), 0);
    ck_assert(!holds("key", "b", "data"));
    put("key", "b", "new data"); // replaces the link, not its target
    ck_assert(holds("key", "b", "new data"));
    struct stat info;
    ck_assert_int_eq(lstat(path, &info), 0);
    ck_assert(S_ISREG(info.st_mode));
    ck_assert_int_eq(info.st_mode & 0777, 0600);
    ck_assert_int_eq(unlink(elsewhere), 0);

    char link[100];
    snprintf(link, sizeof link, "%s/link", folder);
    ck_assert_int_eq(symlink(folder, link), 0);
    ck_assert_ptr_null(kernel_cache_open(link, &err));
    ASSERT_FAILS(err, BRIM_IO, link);
}
END_TEST

START_TEST(directories_of_others_are_not_used) {
    char path[100];
    snprintf(path, sizeof path, "%s/open", folder);
    ck_assert_int_eq(mkdir(path, 0777), 0);
    ck_assert_int_eq(chmod(path, 0777), 0);
    ck_assert_ptr_null(kernel_cache_open(path, &err));
    ASSERT_FAILS(err, BRIM_IO, "other users may write to it");
    err = (brim_error){0};
    snprintf(path, sizeof path, "%s/file", folder);
    ck_assert_int_eq(close(creat(path, 0600)), 0);
    ck_assert_ptr_null(kernel_cache_open(path, &err));
    ASSERT_FAILS(err, BRIM_IO, "not a directory");
}
END_TEST

START_TEST(directories_are_made_private) {
    char path[100];
    snprintf(path, sizeof path, "%s/a/b/c", folder);
    kernel_cache *made = kernel_cache_open(path, &err);
    ASSERT_FINE(err);
    ck_assert_str_eq(kernel_cache_directory(made), path);
    kernel_cache_close(made);
    struct stat info;
    ck_assert_int_eq(stat(path, &info), 0);
    ck_assert_int_eq(info.st_mode & 0777, 0700);
}
END_TEST

START_TEST(a_cache_may_keep_nothing) {
    kernel_cache *none = kernel_cache_open("", &err);
    ASSERT_FINE(err);
    ck_assert_str_eq(kernel_cache_directory(none), "");
    kernel_key key = key_of("a", "b");
    kernel_cache_put(none, &key, "data", 4);
    void *data;
    size_t bytes;
    ck_assert(!kernel_cache_get(none, &key, &data, &bytes));
    kernel_cache_close(none);
}
END_TEST

// Two processes write and read the same few entries; nobody ever sees a mixed one.
START_TEST(processes_may_share_it) {
    enum { ROUNDS = 300, KEYS = 3, BYTES = 5000 };
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    static char data[BYTES];
    int mixed = 0, found = 0;
    for (int i = 0; i < ROUNDS; i++) {
        const char *name[] = {"x", "y", "z"};
        kernel_key key = key_of(name[i % KEYS], "");
        memset(data, child ? 'p' : 'c', BYTES);
        kernel_cache_put(cache, &key, data, BYTES);
        void *got;
        size_t bytes;
        if (!kernel_cache_get(cache, &key, &got, &bytes)) continue;
        found++;
        const char *text = got;
        mixed += bytes != BYTES || (text[0] != 'p' && text[0] != 'c');
        for (size_t at = 1; at < bytes; at++) mixed += text[at] != text[0];
        free(got);
    }
    if (child == 0) _exit(mixed == 0 && found == ROUNDS ? 0 : 1);
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(mixed, 0);
    ck_assert_int_eq(found, ROUNDS);
    char path[400];
    ck_assert_int_eq(list(path), KEYS);
}
END_TEST

Suite *kernel_cache_suite(void) {
    Suite *suite = suite_create("kernel_cache");
    TCase *tests = tcase_create("kernel_cache");
    tcase_add_checked_fixture(tests, start, finish);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, entries_are_found_by_the_whole_key);
    tcase_add_test(tests, entries_are_replaced);
    tcase_add_test(tests, damage_is_noticed);
    tcase_add_test(tests, wrong_sizes_are_noticed);
    tcase_add_test(tests, links_are_not_followed);
    tcase_add_test(tests, directories_of_others_are_not_used);
    tcase_add_test(tests, directories_are_made_private);
    tcase_add_test(tests, a_cache_may_keep_nothing);
    tcase_add_test(tests, processes_may_share_it);
    suite_add_tcase(suite, tests);
    return suite;
}
