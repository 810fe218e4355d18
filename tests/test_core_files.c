#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <brim/report.h>
#include "core/files.h"
#include "core/lock.h"
#include "test_core.h"

static void assert_contents(const char *path, const char *expected) {
    size_t size;
    char *text = test_contents(path, &size);
    ck_assert_uint_eq(size, strlen(expected));
    ck_assert_str_eq(text, expected);
    free(text);
}

// Names in a folder that begin so.
static int entries(const char *folder, const char *beginning) {
    DIR *opened = opendir(folder);
    ck_assert_ptr_nonnull(opened);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(opened));) {
        if (entry->d_name[0] == '.') continue;
        count += strncmp(entry->d_name, beginning, strlen(beginning)) == 0;
    }
    closedir(opened);
    return count;
}

START_TEST(file_appears_whole) {
    brim_error err = {0};
    const char *path = test_path("whole");
    file_writer *w = file_create(path, &err);
    ASSERT_FINE(err);
    ck_assert(file_write(w, "Hello, ", 7, &err));
    ck_assert(file_write(w, "world", 5, &err));
    ck_assert(file_write(w, "", 0, &err));
    ck_assert_uint_eq(file_size(w), 12);
    ck_assert_str_eq(file_path(w), path);
    ck_assert(file_rewrite(w, 0, "h", 1, &err));
    ck_assert(file_rewrite(w, 10, "LD", 2, &err)); // to its end
    ck_assert(file_rewrite(w, 12, "", 0, &err));
    ck_assert(access(path, F_OK) != 0);
    ck_assert_int_eq(entries(test_directory, "whole.brim-tmp-"), 1);
    ck_assert(file_commit(w, &err));
    ASSERT_FINE(err);
    assert_contents(path, "hello, worLD");
    ck_assert_int_eq(entries(test_directory, "whole"), 1);
    struct stat status;
    ck_assert_int_eq(stat(path, &status), 0);
    mode_t mask = umask(0);
    umask(mask);
    ck_assert_uint_eq(status.st_mode & 0777, 0666 & ~mask);
}
END_TEST

START_TEST(failed_file_leaves_the_old_one) {
    brim_error err = {0};
    const char *path = test_file("kept", "old", 3);
    file_writer *w = file_create(path, &err);
    ck_assert(file_write(w, "new", 3, &err));
    brim_fail(&err, BRIM_DEVICE, "something else went wrong");
    ck_assert(!file_write(w, "more", 4, &err));
    ck_assert(!file_commit(w, &err));
    ASSERT_FAILS(err, BRIM_DEVICE, "something else");
    assert_contents(path, "old");

    w = file_create(path, &err);
    ck_assert(file_write(w, "new", 3, &err));
    file_discard(w);
    assert_contents(path, "old");

    w = file_create(path, &err);
    ck_assert(file_write(w, "new", 3, &err));
    ck_assert(!file_rewrite(w, 2, "xy", 2, &err));
    ck_assert(!file_commit(w, &err));
    ASSERT_FAILS(err, BRIM_IO, "not there yet");
    assert_contents(path, "old");
    ck_assert_int_eq(entries(test_directory, "kept"), 1);
}
END_TEST

// A limit on file sizes stands for a full disk: the system first takes a part, then nothing.
START_TEST(full_disk) {
    brim_error err = {0};
    const char *path = test_file("full", "old", 3);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit former, limit;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &former), 0);
    limit = former;
    limit.rlim_cur = 1000;
    file_writer *w = file_create(path, &err);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    static char data[3000];
    bool written = file_write(w, data, sizeof data, &err);
    bool committed = file_commit(w, &err);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &former), 0);
    ck_assert(!written && !committed);
    ck_assert_ptr_nonnull(strstr(err.text, "full.brim-tmp-"));
    ASSERT_FAILS(err, BRIM_IO, "cannot be written at byte 1000: File too large");
    assert_contents(path, "old");
    ck_assert_int_eq(entries(test_directory, "full"), 1);
}
END_TEST

START_TEST(places_where_no_file_can_be) {
    brim_error err = {0};
    ck_assert_ptr_null(file_create("/nonexistent/file", &err));
    ASSERT_FAILS(err, BRIM_IO, "No such file or directory");
    ck_assert(!file_replace("/nonexistent/file", "x", 1, &err));
    ASSERT_FAILS(err, BRIM_IO, "/nonexistent/file.brim-tmp-");
    const char *folder = test_path("folder");
    ck_assert_int_eq(mkdir(folder, 0777), 0);
    ck_assert(!file_replace(folder, "x", 1, &err));
    ASSERT_FAILS(err, BRIM_IO, "cannot be renamed");
    ck_assert_int_eq(entries(test_directory, "folder"), 1);
    brim_fail(&err, BRIM_SHAPE, "earlier");
    ck_assert_ptr_null(file_create(test_path("never"), &err));
    ck_assert_int_eq(entries(test_directory, "never"), 0);
    file_discard(NULL);
}
END_TEST

START_TEST(small_files) {
    brim_error err = {0};
    size_t size;
    const char *path = test_path("small");
    ck_assert(file_replace(path, "first", 5, &err));
    ck_assert(file_replace(path, "a\0b", 3, &err));
    char *text = file_read(path, 3, &size, &err);
    ASSERT_FINE(err);
    ck_assert_uint_eq(size, 3);
    ck_assert_mem_eq(text, "a\0b", 4);
    free(text);
    ck_assert_ptr_null(file_read(path, 2, &size, &err));
    ASSERT_FAILS(err, BRIM_FORMAT, "more than the 2 bytes");
    text = file_read(test_file("empty", "", 0), 0, &size, &err);
    ck_assert_str_eq(text, "");
    free(text);
    ck_assert_ptr_null(file_read("/nonexistent", 9, NULL, &err));
    ASSERT_FAILS(err, BRIM_IO, "/nonexistent cannot be opened");
    ck_assert_ptr_null(file_read(test_directory, 9, NULL, &err));
    ASSERT_FAILS(err, BRIM_IO, "Is a directory");
    ck_assert_ptr_null(file_read("/dev/zero", 100000, NULL, &err)); // endless
    ASSERT_FAILS(err, BRIM_FORMAT, "more than the 100000 bytes");
}
END_TEST

static void make_in(const char *folder, const char *name, const char *text) {
    brim_error err = {0};
    char *path = path_join(folder, name, &err);
    ck_assert(file_replace(path, text, strlen(text), &err));
    free(path);
}

static void assert_in(const char *folder, const char *name, const char *text) {
    brim_error err = {0};
    char *path = path_join(folder, name, &err);
    assert_contents(path, text);
    free(path);
}

START_TEST(folder_appears_whole) {
    brim_error err = {0};
    char path[160];
    strcpy(path, test_path("step-1"));
    folder_writer *f = folder_create(path, &err);
    ASSERT_FINE(err);
    make_in(folder_path(f), "model", "weights");
    char *inner = path_join(folder_path(f), "inner", &err);
    ck_assert(folder_make(inner, 0777, &err));
    make_in(inner, "state", "numbers");
    ck_assert(access(path, F_OK) != 0);
    ck_assert(folder_commit(f, false, &err));
    ASSERT_FINE(err);
    assert_in(path, "model", "weights");
    assert_in(path, "inner/state", "numbers");
    ck_assert_int_eq(entries(test_directory, "step-1"), 1);
    free(inner);
}
END_TEST

START_TEST(folder_replaces_only_when_told) {
    brim_error err = {0};
    char path[160];
    strcpy(path, test_path("step-2"));
    folder_writer *f = folder_create(path, &err);
    make_in(folder_path(f), "model", "old");
    make_in(folder_path(f), "only-old", "x");
    ck_assert(folder_commit(f, false, &err));

    f = folder_create(path, &err);
    make_in(folder_path(f), "model", "new");
    ck_assert(!folder_commit(f, false, &err));
    ASSERT_FAILS(err, BRIM_IO, "step-2 exists already");
    assert_in(path, "model", "old");

    f = folder_create(path, &err);
    make_in(folder_path(f), "model", "new");
    brim_fail(&err, BRIM_DEVICE, "something else");
    ck_assert(!folder_commit(f, true, &err));
    ASSERT_FAILS(err, BRIM_DEVICE, "something else");
    assert_in(path, "model", "old");
    ck_assert_int_eq(entries(test_directory, "step-2"), 1);

    f = folder_create(path, &err);
    make_in(folder_path(f), "model", "new");
    ck_assert(folder_commit(f, true, &err));
    ASSERT_FINE(err);
    assert_in(path, "model", "new");
    ck_assert_int_eq(entries(path, ""), 1);
    ck_assert_int_eq(entries(test_directory, "step-2"), 1);

    f = folder_create(path, &err);
    folder_discard(f);
    ck_assert_int_eq(entries(test_directory, "step-2"), 1);
    ck_assert_ptr_null(folder_create("/nonexistent/step", &err));
    ASSERT_FAILS(err, BRIM_IO, "/nonexistent/step.brim-tmp-");
}
END_TEST

// A process that has begun a file and a folder in a folder, and waits to be killed.
static pid_t start_writer(const char *folder) {
    int ready[2];
    ck_assert_int_eq(pipe(ready), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        brim_error err = {0};
        char *file = path_join(folder, "file", &err), *step = path_join(folder, "step", &err);
        file_write(file_create(file, &err), "half", 4, &err);
        make_in(folder_path(folder_create(step, &err)), "model", "half");
        if (err.status || write(ready[1], "", 1) != 1) _exit(1);
        for (;;) pause();
    }
    char byte;
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return child;
}

static void kill_writer(pid_t child) {
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
}

START_TEST(leftovers_of_the_dead_are_removed) {
    brim_error err = {0};
    char folder[160];
    strcpy(folder, test_path("clean"));
    ck_assert(folder_make(folder, 0777, &err));
    pid_t dead = start_writer(folder), alive = start_writer(folder);
    ck_assert_int_eq(entries(folder, ""), 4);
    folder_clean(folder);
    ck_assert_int_eq(entries(folder, ""), 4);
    kill_writer(dead);
    folder_clean(folder);
    ck_assert_int_eq(entries(folder, "file.brim-tmp-"), 1);
    ck_assert_int_eq(entries(folder, "step.brim-tmp-"), 1);
    kill_writer(alive);
    folder_clean(folder);
    ck_assert_int_eq(entries(folder, ""), 0);
    folder_clean("/nonexistent");
}
END_TEST

START_TEST(nothing_else_is_removed) {
    static const char *const others[] = {"a.tmp-0123abcd", "a.brim-tmp-0123abc",
                                         "a.brim-tmp-0123abcg", "a.brim-tmp-0123abcd.txt",
                                         "step-3"};
    enum { OTHERS = sizeof others / sizeof *others };
    brim_error err = {0};
    char folder[160], link[200];
    strcpy(folder, test_path("others"));
    ck_assert(folder_make(folder, 0777, &err));
    for (int i = 0; i < OTHERS; i++) make_in(folder, others[i], "x");
    snprintf(link, sizeof link, "%s/link.brim-tmp-01234567", folder);
    ck_assert_int_eq(symlink(test_directory, link), 0);
    folder_clean(folder);
    for (int i = 0; i < OTHERS; i++) assert_in(folder, others[i], "x");
    ck_assert_int_eq(access(link, F_OK), 0);
}
END_TEST

// Killed between two renames, a process leaves its only good checkpoint under another name.
START_TEST(what_was_moved_aside_comes_back) {
    brim_error err = {0};
    char folder[160], old[200];
    strcpy(folder, test_path("aside"));
    snprintf(old, sizeof old, "%s/step-1.brim-old-0123abcd", folder);
    ck_assert(folder_make(old, 0777, &err));
    make_in(old, "model", "good");
    folder_clean(folder);
    snprintf(old, sizeof old, "%s/step-1", folder);
    assert_in(old, "model", "good");
    snprintf(old, sizeof old, "%s/step-1.brim-old-0123abcd", folder);
    ck_assert(folder_make(old, 0777, &err));
    make_in(old, "model", "replaced");
    folder_clean(folder);
    ck_assert_int_eq(entries(folder, ""), 1);
    snprintf(old, sizeof old, "%s/step-1", folder);
    assert_in(old, "model", "good");
}
END_TEST

// While one process writes, another clears up all the time: it never takes what is alive.
START_TEST(clearing_up_disturbs_nobody) {
    enum { ROUNDS = 30 };
    brim_error err = {0};
    char folder[160], file[200], step[200];
    strcpy(folder, test_path("disturbed"));
    ck_assert(folder_make(folder, 0777, &err));
    snprintf(file, sizeof file, "%s/file", folder);
    snprintf(step, sizeof step, "%s/step", folder);
    pid_t cleaner = fork();
    ck_assert_int_ge(cleaner, 0);
    while (cleaner == 0) folder_clean(folder);
    for (int i = 0; i < ROUNDS && !err.status; i++) {
        file_replace(file, "x", 1, &err);
        folder_writer *f = folder_create(step, &err);
        if (f) make_in(folder_path(f), "model", "x");
        folder_commit(f, true, &err);
    }
    kill_writer(cleaner);
    ASSERT_FINE(err);
    folder_clean(folder);
    ck_assert_int_eq(entries(folder, ""), 2);
}
END_TEST

START_TEST(one_lock_a_folder) {
    brim_error err = {0};
    char folder[160], pid[40], text[40];
    strcpy(folder, test_path("locked"));
    snprintf(text, sizeof text, "%ld\n", (long)getpid());
    brim_lock *lock = brim_folder_lock(folder, &err);
    ASSERT_FINE(err);
    ck_assert_ptr_null(brim_folder_lock(folder, &err));
    snprintf(pid, sizeof pid, "another run, process %ld;", (long)getpid());
    ASSERT_FAILS(err, BRIM_IO, pid);
    assert_in(folder, "lock", text); // who was refused leaves it alone
    make_in(folder, "file", "x");
    brim_folder_unlock(lock);
    ck_assert_int_eq(entries(folder, ""), 1);
    make_in(folder, "lock", "12345\n"); // of a killed process
    make_in(folder, "file.brim-tmp-0123abcd", "what it was writing");
    lock = brim_folder_lock(folder, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(entries(folder, "file.brim-tmp-"), 0);
    brim_folder_unlock(lock);
    brim_folder_unlock(NULL);
    strcpy(folder, test_path("empty-folder"));
    brim_folder_unlock(brim_folder_lock(folder, &err));
    ASSERT_FINE(err);
    ck_assert_int_ne(access(folder, F_OK), 0);
    ck_assert_ptr_null(brim_folder_lock("/proc/self", &err));
    ASSERT_FAILS(err, BRIM_IO, "/proc/self cannot be written to");
}
END_TEST

// A run that was killed may keep its lock for a moment.
START_TEST(a_lock_is_waited_for) {
    brim_error err = {0};
    char folder[160];
    int ready[2];
    strcpy(folder, test_path("waited-for"));
    ck_assert_int_eq(pipe(ready), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        brim_folder_lock(folder, &err);
        if (err.status || write(ready[1], "", 1) != 1) _exit(1);
        nanosleep(&(struct timespec){.tv_nsec = 200 * 1000 * 1000}, NULL);
        _exit(0);
    }
    char byte;
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    brim_lock *lock = brim_folder_lock(folder, &err);
    ASSERT_FINE(err);
    brim_folder_unlock(lock);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
}
END_TEST

// In the moment between its lock and its number a run has none, and a lock is no link elsewhere.
START_TEST(locks_without_a_number) {
    brim_error err = {0};
    char folder[160], path[200];
    strcpy(folder, test_path("numberless"));
    ck_assert(folder_make(folder, 0777, &err));
    snprintf(path, sizeof path, "%s/lock", folder);
    int other = open(path, O_RDWR | O_CREAT, 0666);
    ck_assert_int_eq(lock_try(other), LOCK_TAKEN);
    static const char text[] = "no number, and longer than any that a process could have";
    ck_assert_int_eq(write(other, text, sizeof text - 1), sizeof text - 1);
    ck_assert_ptr_null(brim_folder_lock(folder, &err));
    ASSERT_FAILS(err, BRIM_IO, "numberless is in use by another run; expected a folder");
    close(other);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(symlink(test_file("elsewhere", "text", 4), path), 0);
    ck_assert_ptr_null(brim_folder_lock(folder, &err));
    ASSERT_FAILS(err, BRIM_IO, "numberless cannot be written to: ");
    assert_contents(test_path("elsewhere"), "text");
}
END_TEST

// Of a descriptor and a path: are they one file, and whose is its lock?
START_TEST(locks_are_of_named_files) {
    char path[160], other[160], link[160];
    strcpy(path, test_file("named", "x", 1));
    strcpy(other, test_file("other", "x", 1));
    strcpy(link, test_path("link-to-named"));
    ck_assert_int_eq(symlink(path, link), 0);
    int file = open(path, O_RDWR), again = open(path, O_RDWR);
    ck_assert(lock_names(file, AT_FDCWD, path));
    ck_assert(!lock_names(file, AT_FDCWD, other) && !lock_names(file, AT_FDCWD, link));
    ck_assert(!lock_names(file, AT_FDCWD, "/nonexistent") && !lock_names(-1, AT_FDCWD, path));
    ck_assert(!lock_new(file, AT_FDCWD, other) && !lock_leftover(file, AT_FDCWD, other));
    ck_assert(lock_new(file, AT_FDCWD, path) && lock_leftover(file, AT_FDCWD, path));
    ck_assert_int_eq(lock_try(again), LOCK_HELD);
    ck_assert(!lock_new(again, AT_FDCWD, path) && !lock_leftover(again, AT_FDCWD, path));
    ck_assert_int_eq(lock_try(-1), LOCK_UNAVAILABLE);
    close(file);
    ck_assert(lock_new(again, AT_FDCWD, path));
    close(again);
}
END_TEST

START_TEST(folders_made_and_removed) {
    brim_error err = {0};
    char path[160], deep[200];
    strcpy(path, test_path("made"));
    snprintf(deep, sizeof deep, "%s/a//b/c/", path);
    ck_assert(folder_make(deep, 0777, &err));
    ck_assert(folder_make(deep, 0777, &err));
    ASSERT_FINE(err);
    make_in(deep, "file", "x");
    snprintf(deep, sizeof deep, "%s/a/b/c/file/d", path);
    ck_assert(!folder_make(deep, 0777, &err));
    ASSERT_FAILS(err, BRIM_IO, "c/file cannot be made: something else has that name");

    // A link out of the folder is removed; what it names stays.
    const char *outside = test_file("outside", "x", 1);
    snprintf(deep, sizeof deep, "%s/link", path);
    ck_assert_int_eq(symlink(test_directory, deep), 0);
    ck_assert(folder_remove(path, &err));
    ASSERT_FINE(err);
    ck_assert(access(path, F_OK) != 0);
    assert_contents(outside, "x");
    ck_assert(folder_remove(path, &err));
    ck_assert(!folder_remove("/dev/null/nothing", &err));
    ASSERT_FAILS(err, BRIM_IO, "/dev/null/nothing cannot be removed: Not a directory");
    ck_assert(!folder_remove("/proc/self/status", &err));
    ASSERT_FAILS(err, BRIM_IO, "/proc/self/status cannot be removed: ");
    ck_assert(!folder_sync(path, &err));
    ASSERT_FAILS(err, BRIM_IO, "cannot be synced");
}
END_TEST

Suite *core_files_suite(void) {
    Suite *suite = suite_create("core/files");
    TCase *tests = tcase_create("files");
    tcase_set_timeout(tests, 300); // syncs wait for whatever else the disk does
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_add_test(tests, file_appears_whole);
    tcase_add_test(tests, failed_file_leaves_the_old_one);
    tcase_add_test(tests, full_disk);
    tcase_add_test(tests, places_where_no_file_can_be);
    tcase_add_test(tests, small_files);
    tcase_add_test(tests, folder_appears_whole);
    tcase_add_test(tests, folder_replaces_only_when_told);
    tcase_add_test(tests, leftovers_of_the_dead_are_removed);
    tcase_add_test(tests, nothing_else_is_removed);
    tcase_add_test(tests, what_was_moved_aside_comes_back);
    tcase_add_test(tests, clearing_up_disturbs_nobody);
    tcase_add_test(tests, one_lock_a_folder);
    tcase_add_test(tests, a_lock_is_waited_for);
    tcase_add_test(tests, locks_without_a_number);
    tcase_add_test(tests, locks_are_of_named_files);
    tcase_add_test(tests, folders_made_and_removed);
    suite_add_tcase(suite, tests);
    return suite;
}
