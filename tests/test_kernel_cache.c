// The cache of compiled kernels: keys, damage, several processes, bounds, directories it must not
// use.
#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "backends/kernel_cache.h"
#include "tests/disk_watch.h"
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

// A system that takes and gives a few bytes at a time.
START_TEST(entries_come_in_parts) { // of _i bytes
    disk_most_at_once((size_t)_i);
    put("a source", "its options", "what was compiled of it");
    bool there = holds("a source", "its options", "what was compiled of it");
    disk_most_at_once(0);
    ck_assert(there);
    ck_assert(holds("a source", "its options", "what was compiled of it"));
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
    ck_assert_str_eq(kernel_cache_warning(cache), "");
    ck_assert(!holds("key", "b", "data"));
    ck_assert_ptr_nonnull(strstr(kernel_cache_warning(cache), "it is a symbolic link"));
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
    ck_assert_int_eq(chdir(folder), 0);
    kernel_cache *here = kernel_cache_open("k", &err);
    ASSERT_FINE(err);
    ck_assert_str_eq(kernel_cache_directory(here), "k");
    kernel_cache_close(here);
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

// Where none is named it is the user's own, if there is one that can be used; if not, that is no
// error.
START_TEST(the_cache_of_the_user) {
    char path[100], expected[200];
    snprintf(path, sizeof path, "%s/user", folder);
    snprintf(expected, sizeof expected, "%s/brim/kernels", path);
    ck_assert_int_eq(setenv("XDG_CACHE_HOME", path, 1), 0);
    kernel_cache *own = kernel_cache_open(NULL, &err);
    ASSERT_FINE(err);
    ck_assert_str_eq(kernel_cache_directory(own), expected);
    ck_assert_str_eq(kernel_cache_warning(own), "");
    kernel_cache_close(own);

    ck_assert_int_eq(chmod(expected, 0770), 0);
    own = kernel_cache_open(NULL, &err);
    ASSERT_FINE(err);
    ck_assert_str_eq(kernel_cache_directory(own), "");
    snprintf(path, sizeof path, "%s is not used: other users may write to it", "kernels");
    ck_assert_ptr_nonnull(strstr(kernel_cache_warning(own), path));
    kernel_cache_close(own);

    ck_assert_int_eq(unsetenv("XDG_CACHE_HOME") | unsetenv("HOME"), 0);
    own = kernel_cache_open(NULL, &err);
    ASSERT_FINE(err);
    ck_assert_str_eq(kernel_cache_directory(own), "");
    kernel_cache_close(own);
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

enum { DAY = 24 * 60 * 60, SIZE = 1000 };

// Calls visit with the path of each file.
static void each_file(void (*visit)(const char *path, const struct stat *info, void *user),
                      void *user) {
    char path[400];
    struct stat info;
    DIR *directory = opendir(folder);
    ck_assert_ptr_nonnull(directory);
    for (struct dirent *entry; (entry = readdir(directory));) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (stat(path, &info) == 0 && S_ISREG(info.st_mode)) visit(path, &info, user);
    }
    closedir(directory);
}

static void make_older(const char *path, const struct stat *info, void *days) {
    if (time(NULL) - info->st_mtime > DAY / 2) return;
    struct timespec times[2] = {{.tv_sec = time(NULL) - *(int *)days * DAY}};
    times[1] = times[0];
    ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void add_size(const char *path, const struct stat *info, void *sum) {
    (void)path;
    *(uint64_t *)sum += (uint64_t)info->st_size;
}

// An entry of SIZE bytes and a header.
static void put_sized(const char *name) {
    char data[SIZE + 1] = "";
    memset(data, *name, SIZE);
    put(name, "", data);
}

// The same, used so many days ago.
static void put_old(const char *name, int days) {
    put_sized(name);
    each_file(make_older, &days);
}

static bool still_holds(const char *name) {
    char data[SIZE + 1] = "";
    memset(data, *name, SIZE);
    return holds(name, "", data);
}

START_TEST(those_used_longest_ago_go_first) {
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    for (int i = 0; i < 8; i++) put_old(names[i], 30 + (i * 3) % 8);
    uint64_t all = 0, left = 0;
    each_file(add_size, &all);
    kernel_cache_trim(cache, all);
    each_file(add_size, &left);
    ck_assert_uint_eq(left, all);
    ck_assert(still_holds("f")); // 37 days: the oldest one, until now
    kernel_cache_trim(cache, all - 1);
    left = 0;
    each_file(add_size, &left);
    ck_assert_uint_eq(left, all / 8 * 7);
    ck_assert(!still_holds("c")); // 36
    kernel_cache_trim(cache, all / 8 * 6);
    left = 0;
    each_file(add_size, &left);
    ck_assert_uint_eq(left, all / 8 * 5);
    ck_assert(!still_holds("h") && !still_holds("e")); // 35 and 34
    for (const char *name = "abdfg"; *name; name++)
        ck_assert_msg(still_holds((char[]){*name, 0}), "%c", *name);
    kernel_cache_trim(cache, 0);
    char path[400];
    ck_assert_int_eq(list(path), 0);
}
END_TEST

static time_t used(const char *path) {
    struct stat info;
    ck_assert_int_eq(stat(path, &info), 0);
    return info.st_mtime;
}

// That an entry is in use is noted once a day, also where a clock was wrong.
START_TEST(use_is_noted_once_a_day) {
    static const struct {
        long seconds; // ago
        bool noted;
    } cases[] = {{DAY - 100, false}, {DAY + 100, true}, {100 - DAY, false}, {-DAY - 100, true}};
    char path[400];
    put("key", "", "data");
    ck_assert_int_eq(list(path), 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        time_t now = time(NULL);
        struct timespec times[2] = {{.tv_sec = now - cases[i].seconds}};
        times[1] = times[0];
        ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
        ck_assert(holds("key", "", "data"));
        time_t expected = cases[i].noted ? now : now - cases[i].seconds;
        ck_assert_int_ge(used(path), expected - 1);
        ck_assert_int_le(used(path), expected + (cases[i].noted ? 50 : 0));
    }
}
END_TEST

// Entries of one second go by its parts.
START_TEST(the_older_of_one_second_goes_first) {
    static const char *const names[] = {"a", "b", "c"};
    static const long parts[] = {700, 300, 500};
    char path[400];
    time_t second = time(NULL) - DAY;
    for (int i = 0; i < 3; i++) {
        put_sized(names[i]);
        struct timespec times[2] = {{second, parts[i]}, {second, parts[i]}};
        DIR *directory = opendir(folder);
        ck_assert_ptr_nonnull(directory);
        for (struct dirent *entry; (entry = readdir(directory));) {
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            if (entry->d_name[0] != '.' && used(path) > second)
                ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
        }
        closedir(directory);
    }
    uint64_t all = 0;
    each_file(add_size, &all);
    kernel_cache_trim(cache, all - 1);
    ck_assert(!still_holds("b") && still_holds("a") && still_holds("c"));
}
END_TEST

START_TEST(putting_keeps_within_the_bound) {
    char path[400];
    put_old("old", 9);
    snprintf(path, sizeof path, "%s/fedcba9876543210.kernel", folder);
    int file = open(path, O_CREAT | O_WRONLY, 0600);
    ck_assert_int_eq(ftruncate(file, KERNEL_CACHE_BYTES), 0); // takes no room on the disk
    close(file);
    int days = 10;
    each_file(make_older, &days);
    put("within a process", "", "nothing is counted again");
    ck_assert_int_eq(access(path, F_OK), 0);
    kernel_cache_close(cache);
    cache = kernel_cache_open(folder, &err);
    ck_assert_int_eq(access(path, F_OK), 0);
    put("new", "", "data");
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert(still_holds("old") && holds("new", "", "data"));
}
END_TEST

START_TEST(only_entries_are_removed) {
    static const char *const others[] = {"notes.txt",
                                         "0123456789abcdef.kernels",
                                         "0123456789abcde.kernel",
                                         "0123456789abcdef.kernel.txt",
                                         "0123456789abcdef.kernex",
                                         "0123456789abcdeF.kernel",
                                         "0123456789abcdef.kernel-1"};
    enum { OTHERS = sizeof others / sizeof *others };
    char path[400];
    for (int i = 0; i < OTHERS; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, others[i]);
        ck_assert_int_eq(close(creat(path, 0600)), 0);
    }
    put("key", "", "data");
    kernel_cache_trim(cache, 0);
    ck_assert_int_eq(list(path), OTHERS);
}
END_TEST

// Temporary files: of a process that is dead, and of one that is alive, which has a lock on it.
// Files of others in the way: nothing is kept, and theirs stay.
START_TEST(without_a_free_name_nothing_is_kept) {
    enum { NAMES = 100 };
    char path[400], name[450];
    put("a", "b", "before");
    ck_assert_int_eq(list(path), 1);
    ck_assert_int_eq(unlink(path), 0);
    for (int i = 0; i < NAMES; i++) {
        snprintf(name, sizeof name, "%s.%ld.%d", path, (long)getpid(), i);
        ck_assert_int_ge(close(open(name, O_WRONLY | O_CREAT | O_EXCL, 0600)), 0);
    }
    put("a", "b", "after");
    ck_assert(!holds("a", "b", ""));
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_eq(list(name), NAMES);
}
END_TEST

START_TEST(half_written_entries_are_removed) {
    char path[400], dead[100], alive[100], link[100], elsewhere[100];
    snprintf(dead, sizeof dead, "%s/0123456789abcdef.kernel.77.0", folder);
    snprintf(alive, sizeof alive, "%s/0123456789abcdef.kernel.78.0", folder);
    snprintf(link, sizeof link, "%s/0123456789abcdef.kernel.79.0", folder);
    snprintf(elsewhere, sizeof elsewhere, "%s.elsewhere", folder);
    ck_assert_int_eq(close(creat(dead, 0600)), 0);
    ck_assert_int_eq(close(creat(elsewhere, 0600)), 0);
    ck_assert_int_eq(symlink(elsewhere, link), 0);
    int file = creat(alive, 0600);
    ck_assert_int_eq(flock(file, LOCK_EX), 0);
    put("key", "", "data");
    ck_assert_int_ne(access(dead, F_OK), 0);
    ck_assert_int_eq(access(alive, F_OK), 0);
    ck_assert_int_eq(unlink(link), 0); // no link is followed
    ck_assert_int_eq(unlink(elsewhere), 0);
    close(file);
    kernel_cache_trim(cache, KERNEL_CACHE_BYTES);
    ck_assert_int_eq(list(path), 1);
    ck_assert(holds("key", "", "data"));
}
END_TEST

// While one process writes, another clears up all the time: it never takes what is alive.
START_TEST(clearing_up_disturbs_nobody) {
    enum { ROUNDS = 100 };
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    while (child == 0) kernel_cache_trim(cache, KERNEL_CACHE_BYTES);
    int found = 0;
    for (int i = 0; i < ROUNDS; i++) {
        char name[20];
        snprintf(name, sizeof name, "%d", i);
        put_sized(name);
        found += still_holds(name);
    }
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_int_eq(found, ROUNDS);
}
END_TEST

START_TEST(entries_of_others_are_not_used) {
    char path[400];
    if (geteuid() != 0) return; // who else could give a file away?
    put("key", "", "data");
    ck_assert_int_eq(list(path), 1);
    ck_assert_int_eq(chown(path, 12345, (gid_t)-1), 0);
    ck_assert(!holds("key", "", "data"));
    ck_assert_ptr_nonnull(strstr(kernel_cache_warning(cache), "it belongs to another user"));
}
END_TEST

START_TEST(entries_that_others_may_write_to_are_not_used) {
    char path[400];
    put("key", "", "data");
    ck_assert_int_eq(list(path), 1);
    ck_assert_int_eq(chmod(path, 0620), 0);
    ck_assert_str_eq(kernel_cache_warning(cache), "");
    ck_assert(!holds("key", "", "data"));
    ck_assert_ptr_nonnull(strstr(kernel_cache_warning(cache), folder));
    ck_assert_ptr_nonnull(strstr(kernel_cache_warning(cache), "other users may write to it"));
    put("key", "", "data");
    ck_assert(holds("key", "", "data"));
}
END_TEST

Suite *kernel_cache_suite(void) {
    Suite *suite = suite_create("kernel_cache");
    TCase *tests = tcase_create("kernel_cache");
    tcase_add_checked_fixture(tests, start, finish);
    tcase_set_timeout(tests, 300);
    tcase_add_test(tests, entries_are_found_by_the_whole_key);
    tcase_add_test(tests, entries_are_replaced);
    tcase_add_loop_test(tests, entries_come_in_parts, 1, 8);
    tcase_add_test(tests, damage_is_noticed);
    tcase_add_test(tests, wrong_sizes_are_noticed);
    tcase_add_test(tests, links_are_not_followed);
    tcase_add_test(tests, directories_of_others_are_not_used);
    tcase_add_test(tests, directories_are_made_private);
    tcase_add_test(tests, the_cache_of_the_user);
    tcase_add_test(tests, a_cache_may_keep_nothing);
    tcase_add_test(tests, processes_may_share_it);
    tcase_add_test(tests, those_used_longest_ago_go_first);
    tcase_add_test(tests, use_is_noted_once_a_day);
    tcase_add_test(tests, the_older_of_one_second_goes_first);
    tcase_add_test(tests, putting_keeps_within_the_bound);
    tcase_add_test(tests, only_entries_are_removed);
    tcase_add_test(tests, without_a_free_name_nothing_is_kept);
    tcase_add_test(tests, half_written_entries_are_removed);
    tcase_add_test(tests, clearing_up_disturbs_nobody);
    tcase_add_test(tests, entries_of_others_are_not_used);
    tcase_add_test(tests, entries_that_others_may_write_to_are_not_used);
    suite_add_tcase(suite, tests);
    return suite;
}
