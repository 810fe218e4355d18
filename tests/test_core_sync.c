// What a loss of power would leave: everything that has a name is on the disk (tests/disk_watch.h).
// And a system that reads and writes less than it was asked for.
#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <brim/report.h>
#include "backends/host_file.h"
#include "core/files.h"
#include "core/statefile.h"
#include "test_core.h"
#include "tests/disk_watch.h"

#define ASSERT_ON_DISK(expected)                                                                   \
    do {                                                                                           \
        int renames;                                                                               \
        const char *missing = disk_watch_end(&renames);                                            \
        ck_assert_msg(!missing, "%s", missing);                                                    \
        ck_assert_int_eq(renames, expected);                                                       \
    } while (0)

START_TEST(a_file_is_synced_before_it_has_its_name) {
    brim_error err = {0};
    const char *path = test_path("synced");
    disk_watch_begin();
    file_writer *w = file_create(path, &err);
    file_write(w, "first ", 6, &err);
    file_write(w, "second", 6, &err);
    file_rewrite(w, 0, "FIRST", 5, &err);
    file_commit(w, &err);
    ASSERT_FINE(err);
    ASSERT_ON_DISK(1);
    disk_watch_begin();
    file_replace(path, "another", 7, &err);
    ASSERT_FINE(err);
    ASSERT_ON_DISK(1);
}
END_TEST

static void put_in(const folder_writer *f, const char *name, const char *text) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder_path(f), name);
    FILE *file = fopen(path, "w"); // not synced
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    ck_assert_int_eq(fclose(file), 0);
}

static void make_folder(const char *path, bool replace, const char *inner, brim_error *err) {
    char file[300];
    folder_writer *f = folder_create(path, err);
    ASSERT_FINE(*err);
    put_in(f, "stranger", "not synced by whoever wrote it");
    snprintf(file, sizeof file, "%s/%s", folder_path(f), inner);
    ck_assert(folder_make(file, 0777, err));
    snprintf(file, sizeof file, "%s/deep", inner);
    put_in(f, file, "in a folder within");
    snprintf(file, sizeof file, "%s/own", folder_path(f));
    ck_assert(file_replace(file, "x", 1, err));
    ck_assert(folder_commit(f, replace, err));
}

START_TEST(a_folder_is_synced_before_it_has_its_name) {
    brim_error err = {0};
    char path[200];
    strcpy(path, test_path("folder"));
    disk_watch_begin();
    make_folder(path, false, "inner", &err);
    ASSERT_ON_DISK(2); // the folder, and a file in it
    disk_watch_begin();
    make_folder(path, true, "other", &err);
    ASSERT_ON_DISK(2);
}
END_TEST

START_TEST(a_state_is_synced_before_it_has_its_name) {
    brim_error err = {0};
    disk_watch_begin();
    state_writer *w = state_create(test_path("state"), &err);
    state_put_i64(w, "steps", 7, &err);
    ck_assert(state_commit(w, &err));
    ASSERT_FINE(err);
    ASSERT_ON_DISK(1);
}
END_TEST

// ---- less at once -------------------------------------------------------------------------------

enum { BYTES = 1000 };

static void fill(char data[BYTES]) {
    for (int i = 0; i < BYTES; i++) data[i] = (char)(i * 37 + i / 256);
}

START_TEST(files_come_in_parts) { // of _i bytes
    brim_error err = {0};
    char data[BYTES], path[200];
    size_t size;
    fill(data);
    strcpy(path, test_path("parts"));
    disk_most_at_once((size_t)_i);
    file_writer *w = file_create(path, &err);
    file_write(w, data, BYTES, &err);
    ck_assert_uint_eq(file_size(w), BYTES);
    file_rewrite(w, 100, data + 500, 100, &err);
    file_commit(w, &err);
    char *text = file_read(path, BYTES, &size, &err);
    disk_most_at_once(0);
    ASSERT_FINE(err);
    memcpy(data + 100, data + 500, 100);
    ck_assert_uint_eq(size, BYTES);
    ck_assert_mem_eq(text, data, BYTES);
    free(text);
}
END_TEST

// Calls that do nothing, without an error, end what waits for them.
START_TEST(a_disk_at_its_end) {
    brim_error err = {0};
    char data[BYTES] = {0};
    file_writer *w = file_create(test_path("at-end"), &err);
    file_write(w, data, 10, &err);
    brim_journal *journal = brim_journal_open(test_path("journal"), 0, &err);
    host_file file;
    host_file_open(&file, test_directory, BYTES, &err);
    ASSERT_FINE(err);
    disk_is_at_its_end(true);
    ck_assert(!file_write(w, data, 5, &err));
    ASSERT_FAILS(err, BRIM_IO, "cannot be written at byte 10: the system takes no more");
    ck_assert(!file_rewrite(w, 3, data, 2, &err));
    ASSERT_FAILS(err, BRIM_IO, "the system takes no more");
    ck_assert(!brim_journal_put(journal, &err, {"step", 1}));
    ASSERT_FAILS(err, BRIM_IO, "journal cannot be written: the system takes no more");
    host_file_write(&file, 600, data, 300, &err);
    ASSERT_FAILS(err, BRIM_IO, "writing 300 bytes at 600 of the file in");
    host_file_read(&file, 500, data, 200, &err);
    ASSERT_FAILS(err, BRIM_IO, "reading 200 bytes at 500 of the file in");
    disk_is_at_its_end(false);
    file_discard(w);
    brim_journal_close(journal);
    host_file_close(&file);
}
END_TEST

// A folder that cannot be listed is not taken for an empty one.
START_TEST(folders_that_cannot_be_listed) {
    brim_error err = {0};
    char path[200];
    strcpy(path, test_path("unlisted"));
    ck_assert(folder_make(path, 0777, &err));
    folder_writer *f = folder_create(test_path("new"), &err);
    disk_lists_nothing(true);
    ck_assert(!folder_remove(path, &err));
    ASSERT_FAILS(err, BRIM_IO, "unlisted cannot be read: Input/output error");
    ck_assert(!folder_commit(f, false, &err));
    disk_lists_nothing(false);
    ASSERT_FAILS(err, BRIM_IO, "cannot be read: Input/output error");
    ck_assert_int_ne(access(test_path("new"), F_OK), 0);
    ck_assert(folder_remove(path, &err));
}
END_TEST

// The file space of the disk tier: to its last byte, and not beyond.
START_TEST(the_disk_tier_has_bounds) {
    static const int64_t inside[][2] = {{0, 0}, {0, 1}, {0, BYTES}, {BYTES - 1, 1}, {BYTES, 0}};
    static const int64_t outside[][2] = {
        {0, BYTES + 1}, {BYTES, 1}, {1, BYTES},     {BYTES + 1, 0},
        {-1, 1},        {0, -1},    {1, INT64_MAX}, {INT64_MAX, 1},
    };
    brim_error err = {0};
    char data[BYTES], back[BYTES], text[100];
    fill(data);
    host_file file;
    host_file_open(&file, test_directory, BYTES, &err);
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
        int64_t at = inside[i][0], bytes = inside[i][1];
        ck_assert_int_eq(host_file_write(&file, at, data + at, bytes, &err), BRIM_OK);
        memset(back, 0, BYTES);
        ck_assert_int_eq(host_file_read(&file, at, back, bytes, &err), BRIM_OK);
        ASSERT_FINE(err);
        ck_assert_mem_eq(back, data + at, (size_t)bytes);
    }
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        snprintf(text, sizeof text, "%lld bytes at %lld are outside the file space of 1000",
                 (long long)outside[i][1], (long long)outside[i][0]);
        host_file_write(&file, outside[i][0], data, outside[i][1], &err);
        ASSERT_FAILS(err, BRIM_ARGUMENT, text);
        host_file_read(&file, outside[i][0], back, outside[i][1], &err);
        ASSERT_FAILS(err, BRIM_ARGUMENT, text);
    }
    brim_fail(&err, BRIM_DEVICE, "earlier");
    ck_assert_int_eq(host_file_write(&file, 0, data, 1, &err), BRIM_DEVICE);
    host_file_close(&file);
}
END_TEST

START_TEST(where_the_disk_tier_can_be) {
    brim_error err = {0};
    host_file file;
    ck_assert_int_eq(host_file_open(&file, NULL, 0, &err), BRIM_OK); // none is needed
    ck_assert_int_eq(file.descriptor, -1);
    host_file_close(&file);
    static const char *const none[] = {NULL, ""};
    for (int i = 0; i < 2; i++) {
        host_file_open(&file, none[i], 700, &err);
        ASSERT_FAILS(err, BRIM_ARGUMENT, "a file of 700 bytes is wanted and no directory is named");
    }
    host_file_open(&file, "/nonexistent", 700, &err);
    ASSERT_FAILS(err, BRIM_IO, "no file can be made in \"/nonexistent\": No such file");
    host_file_open(&file, test_directory, INT64_MAX, &err);
    struct statvfs disk;
    ck_assert_int_eq(statvfs(test_directory, &disk), 0);
    double there = (double)disk.f_bavail * (double)disk.f_frsize, said = 0;
    const char *where = strstr(err.text, "where ");
    ck_assert_ptr_nonnull(strstr(err.text, test_directory));
    ck_assert(where && sscanf(where, "where %lf bytes are free", &said) == 1);
    ck_assert(said > there / 2 && said < there * 2); // others write to it, too
    ASSERT_FAILS(err, BRIM_IO, "a file of 9223372036854775807 bytes does not fit into");
    brim_fail(&err, BRIM_DEVICE, "earlier");
    ck_assert_int_eq(host_file_open(&file, test_directory, 700, &err), BRIM_DEVICE);
    ck_assert_int_eq(file.descriptor, -1);
}
END_TEST

START_TEST(the_disk_tier_comes_in_parts) { // of _i bytes
    brim_error err = {0};
    char data[BYTES], back[BYTES] = {0};
    fill(data);
    host_file file;
    host_file_open(&file, test_directory, 3 * BYTES, &err);
    disk_most_at_once((size_t)_i);
    host_file_write(&file, BYTES, data, BYTES, &err);
    host_file_read(&file, BYTES, back, BYTES, &err);
    disk_most_at_once(0);
    ASSERT_FINE(err);
    ck_assert_mem_eq(back, data, BYTES);
    host_file_close(&file);
}
END_TEST

static int entries(const char *directory) {
    struct dirent **list;
    int count = scandir(directory, &list, NULL, NULL);
    for (int i = 0; i < count; i++) free(list[i]);
    if (count >= 0) free(list);
    return count;
}

START_TEST(the_disk_tier_has_no_name) { // _i: the file system has only files with names
    brim_error err = {0};
    char data[BYTES], back[BYTES] = {0};
    fill(data);
    int before = entries(test_directory);
    host_file file;
    disk_has_names_only(_i);
    host_file_open(&file, test_directory, BYTES, &err);
    disk_has_names_only(false);
    struct stat status;
    ck_assert_int_eq(fstat(file.descriptor, &status), 0);
    ck_assert_int_eq(status.st_size, BYTES);
    ck_assert_int_ge(status.st_blocks * 512, BYTES); // the disk has room for all of it
    host_file_write(&file, 0, data, BYTES, &err);
    host_file_read(&file, 0, back, BYTES, &err);
    ASSERT_FINE(err);
    ck_assert_mem_eq(back, data, BYTES);
    ck_assert_int_eq(status.st_mode & 0777, 0600);
    ck_assert_int_eq(status.st_nlink, 0);
    ck_assert_int_eq(entries(test_directory), before);
    int descriptor = file.descriptor;
    host_file_close(&file);
    ck_assert_int_eq(fcntl(descriptor, F_GETFD), -1);
    host_file_close(&file); // nothing is left to close
}
END_TEST

Suite *core_sync_suite(void) {
    Suite *suite = suite_create("core/sync");
    TCase *tests = tcase_create("sync");
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_add_test(tests, a_file_is_synced_before_it_has_its_name);
    tcase_add_test(tests, a_folder_is_synced_before_it_has_its_name);
    tcase_add_test(tests, a_state_is_synced_before_it_has_its_name);
    tcase_add_loop_test(tests, files_come_in_parts, 1, 8);
    tcase_add_test(tests, a_disk_at_its_end);
    tcase_add_test(tests, folders_that_cannot_be_listed);
    tcase_add_test(tests, the_disk_tier_has_bounds);
    tcase_add_test(tests, where_the_disk_tier_can_be);
    tcase_add_loop_test(tests, the_disk_tier_comes_in_parts, 1, 8);
    tcase_add_loop_test(tests, the_disk_tier_has_no_name, 0, 2);
    suite_add_tcase(suite, tests);
    return suite;
}
