// Whatever opens files gives its descriptors and its memory back, also after an error, and can do
// with any descriptor: a program without standard input gets number 0 from its first open.
#include <fcntl.h>
#include <sys/stat.h>
#include <cjson/cJSON.h>
#include <zlib.h>
#include <brim/data.h>
#include <brim/report.h>
#include "backends/host_file.h"
#include "backends/kernel_cache.h"
#include "core/files.h"
#include "core/journal.h"
#include "core/mapfile.h"
#include "core/safetensors.h"
#include "core/statefile.h"
#include "test_core.h"
#include "tests/allocations.h"
#include "tests/disk_watch.h"

// Check's own macros take and give back memory at every call.
#define NEED ASSERT_QUICKLY
#define REFUSED(expected, part)                                                                    \
    do {                                                                                           \
        NEED(err.status == (expected) && strstr(err.text, part));                                  \
        err = (brim_error){0};                                                                     \
    } while (0)

static brim_error err;

static const char *file_of(const char *name, const char *bytes, size_t size) {
    const char *path = test_path(name);
    FILE *file = fopen(path, "wb");
    NEED(file && fwrite(bytes, 1, size, file) == size && fclose(file) == 0);
    return path;
}

static void files_written(void) {
    file_writer *w = file_create(test_path("file"), &err);
    NEED(file_write(w, "texts", 5, &err) && file_rewrite(w, 0, "T", 1, &err));
    NEED(file_commit(w, &err));
    file_discard(file_create(test_path("file"), &err));
    NEED(!failed(&err));
    w = file_create(test_path("file"), &err);
    brim_fail(&err, BRIM_DEVICE, "elsewhere");
    NEED(!file_commit(w, &err));
    err = (brim_error){0};
    NEED(!file_create("/dev/null/nothing", &err));
    REFUSED(BRIM_IO, "cannot be created: Not a directory");
    NEED(!file_replace(test_directory, "x", 1, &err));
    REFUSED(BRIM_IO, "cannot be renamed");
}

static void files_read(void) {
    mapfile file;
    size_t size;
    char path[160];
    strcpy(path, file_of("read", "texts", 5));
    char *text = file_read(path, 5, &size, &err);
    NEED(strcmp(text, "texts") == 0);
    free(text);
    NEED(!file_read(path, 4, &size, &err));
    REFUSED(BRIM_FORMAT, "more than the 4 bytes");
    NEED(!file_read(test_directory, 4, &size, &err));
    REFUSED(BRIM_IO, "Is a directory");
    NEED(mapfile_open(&file, path, &err));
    NEED(memcmp(file.data, "texts", 5) == 0);
    mapfile_close(&file);
    NEED(!mapfile_open(&file, test_directory, &err));
    REFUSED(BRIM_IO, "is a directory");
}

static void put_in(const char *folder, const char *name) {
    char *path = path_join(folder, name, &err);
    NEED(file_replace(path, "x", 1, &err));
    free(path);
}

static void folders(void) {
    char path[160], inner[200], leftover[200];
    strcpy(path, test_path("folder"));
    for (int replace = 0; replace < 2; replace++) {
        folder_writer *f = folder_create(path, &err);
        put_in(folder_path(f), "file");
        snprintf(inner, sizeof inner, "%s/inner", folder_path(f));
        NEED(folder_make(inner, 0777, &err));
        NEED(folder_commit(f, replace, &err));
    }
    folder_writer *f = folder_create(path, &err);
    NEED(!folder_commit(f, false, &err));
    REFUSED(BRIM_IO, "exists already");
    folder_discard(folder_create(path, &err));
    NEED(!folder_create("/dev/null/nothing", &err));
    REFUSED(BRIM_IO, "cannot be made");
    snprintf(leftover, sizeof leftover, "%s/a.brim-tmp-01234567", path);
    NEED(folder_make(leftover, 0777, &err));
    put_in(path, "b.brim-tmp-01234567");
    folder_clean(path);
    NEED(access(leftover, F_OK) != 0);
    NEED(folder_remove(path, &err));
    NEED(access(path, F_OK) != 0);
    NEED(!failed(&err));
}

static void assert_mode(const char *path, unsigned mode) {
    struct stat status;
    NEED(stat(path, &status) == 0);
    NEED((status.st_mode & 0777) == mode);
}

static void locks(void) {
    char path[160], file[200];
    strcpy(path, test_path("locked"));
    snprintf(file, sizeof file, "%s/lock", path);
    brim_lock *lock = brim_folder_lock(path, &err);
    static bool was_refused; // that takes a second: not each time
    if (!was_refused) {
        NEED(!brim_folder_lock(path, &err));
        REFUSED(BRIM_IO, "in use by another run");
    }
    was_refused = true;
    NEED(!brim_folder_lock("/dev/null/nothing", &err));
    REFUSED(BRIM_IO, "/dev/null cannot be made");
    assert_mode(path, 0777);
    assert_mode(file, 0666);
    brim_folder_unlock(lock);
    NEED(access(path, F_OK) != 0);
}

static void journals(void) {
    char path[160], *text;
    strcpy(path, file_of("journal", "{\"step\": 7}\n", 12));
    brim_journal *journal = brim_journal_open(path, 3, &err);
    NEED(brim_journal_put(journal, &err, {"step", 4}));
    NEED(brim_journal_sync(journal, &err));
    brim_journal_close(journal);
    assert_mode(path, 0666);
    journal_column column = {.name = "step"};
    NEED(journal_read(path, &column, 1, &err));
    NEED(column.count == 1 && column.values[0] == 4);
    journal_column_free(&column);
    text = file_read(path, 100, NULL, &err);
    NEED(strcmp(text, "{\"step\": 4}\n") == 0);
    free(text);
    NEED(!brim_journal_open("/dev/null/nothing", 3, &err));
    REFUSED(BRIM_IO, "Not a directory");
    static const char *const bad[] = {"text\n", "[1]\n", "{} x\n"};
    for (int i = 0; i < 3; i++) {
        NEED(!brim_journal_open(file_of("journal", bad[i], strlen(bad[i])), 3, &err));
        REFUSED(BRIM_FORMAT, "line 1");
    }
}

static void states(void) {
    char path[160];
    strcpy(path, test_path("state"));
    state_writer *w = state_create(path, &err);
    state_put_i64(w, "n", 7, &err);
    NEED(state_commit(w, &err));
    state_discard(state_create(path, &err));
    state_reader *r = state_open(path, &err);
    NEED(state_i64(r, "n", &err) == 7);
    state_close(r);
    NEED(!failed(&err));
    static const struct {
        const char *bytes, *part;
        size_t size;
    } bad[] = {{"x", "1 bytes", 1},
               {"\2\0\0\0\0\0\0\0[]", "not a JSON object", 10},
               {"\3\0\0\0\0\0\0\0{}x", "not a JSON object", 11},
               {"\7\0\0\0\0\0\0\0{\"a\":3}", "it is not an object", 15},
               {"\2\0\0\0\0\0\0\0{}", "it has no checksum", 10}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        NEED(!state_open(file_of("state", bad[i].bytes, bad[i].size), &err));
        REFUSED(BRIM_FORMAT, bad[i].part);
    }
    w = state_create(path, &err);
    state_put_i64(w, "n", 7, &err);
    state_put_i64(w, "n", 7, &err);
    NEED(!state_commit(w, &err));
    REFUSED(BRIM_ARGUMENT, "was put twice");
}

static void data(void) {
    char path[160];
    strcpy(path, test_path("text.gz"));
    gzFile out = gzopen(path, "wb");
    NEED(gzwrite(out, "abc", 3) == 3);
    NEED(gzclose(out) == Z_OK);
    const char *packed = path, *empty = file_of("empty", "", 0);
    brim_dataset *set = brim_dataset_open(&packed, 1, &err);
    NEED(brim_dataset_count(set) == 3);
    brim_dataset_close(set);
    NEED(!brim_dataset_open(&empty, 1, &err));
    REFUSED(BRIM_FORMAT, "is empty");
}

static void kernels(void) {
    char path[160], open_to_all[160];
    strcpy(path, test_path("kernels"));
    kernel_cache *cache = kernel_cache_open(path, &err);
    NEED(!failed(&err));
    NEED(strcmp(kernel_cache_directory(cache), path) == 0);
    kernel_key key = {.part = {"source"}, .parts = 1}, other = {.part = {"other"}, .parts = 1};
    void *found;
    size_t bytes;
    NEED(!kernel_cache_get(cache, &other, &found, &bytes));
    kernel_cache_put(cache, &key, "code", 4);
    NEED(kernel_cache_get(cache, &key, &found, &bytes));
    NEED(bytes == 4 && memcmp(found, "code", 4) == 0);
    free(found);
    put_in(path, "0123456789abcdef.kernel.7.0"); // a leftover
    kernel_cache_trim(cache, 0);
    NEED(!kernel_cache_get(cache, &key, &found, &bytes));
    kernel_cache_close(cache);
    NEED(folder_remove(path, &err));
    NEED(!kernel_cache_open("/dev/null/nothing", &err));
    REFUSED(BRIM_IO, "/dev/null/nothing cannot be used: ");
    strcpy(open_to_all, test_path("open"));
    mkdir(open_to_all, 0777);
    NEED(chmod(open_to_all, 0777) == 0);
    NEED(!kernel_cache_open(open_to_all, &err));
    REFUSED(BRIM_IO, "other users");
}

// The file that needs no name has none, nor has one whose name was taken away.
static void disk_tier_of_names(void) {
    host_file file;
    char path[160];
    strcpy(path, test_path("names"));
    NEED(folder_make(path, 0777, &err));
    disk_has_names_only(true);
    host_file_open(&file, path, 1000, &err);
    NEED(rmdir(path) == 0); // it is empty
    NEED(!failed(&err));
    host_file_close(&file);
    host_file_open(&file, path, 1000, &err);
    disk_has_names_only(false);
    REFUSED(BRIM_IO, "No such file or directory");
}

static void disk_tier(void) {
    host_file file;
    char back[4];
    host_file_open(&file, test_directory, 1000, &err);
    host_file_write(&file, 996, "abcd", 4, &err);
    host_file_read(&file, 996, back, 4, &err);
    NEED(!failed(&err));
    NEED(memcmp(back, "abcd", 4) == 0);
    host_file_close(&file);
    host_file_open(&file, test_directory, INT64_MAX, &err);
    REFUSED(BRIM_IO, "does not fit into");
    NEED(file.descriptor == -1);
}

static const struct {
    const char *name;
    void (*run)(void);
} operations[] = {{"files written", files_written},
                  {"files read", files_read},
                  {"folders", folders},
                  {"locks", locks},
                  {"journals", journals},
                  {"states", states},
                  {"data", data},
                  {"kernels", kernels},
                  {"disk tier", disk_tier},
                  {"disk tier of names", disk_tier_of_names}};

static int lowest_free(void) {
    int descriptor = dup(STDERR_FILENO);
    ck_assert_int_ge(descriptor, 0);
    close(descriptor);
    return descriptor;
}

START_TEST(what_was_taken_is_given_back) { // _i: the operation
    int before = lowest_free();
    umask(0);
    cJSON_InitHooks(&(cJSON_Hooks){malloc, free});
    disk_watch_begin();
    allocations taken;
    allocations_begin(0);
    operations[_i].run();
    allocations_end(&taken);
    ck_assert_msg(taken.kept == 0, "%s keep memory: %ld", operations[_i].name, taken.kept);
    ck_assert_msg(disk_watch_inherited() == 0, "%s are for children, too", operations[_i].name);
    ck_assert_msg(lowest_free() == before, "%s keep a descriptor", operations[_i].name);
    for (int at = 0; at <= disk_opened(); at++) { // 0: the very first one, however it is opened
        close(STDIN_FILENO);
        if (at) ck_assert_int_eq(open("/dev/null", O_RDONLY), STDIN_FILENO);
        disk_number_0(at);
        operations[_i].run();
        ck_assert_msg(lowest_free() == STDIN_FILENO, "%s keep descriptor 0", operations[_i].name);
    }
}
END_TEST

Suite *core_descriptors_suite(void) {
    Suite *suite = suite_create("core/descriptors");
    TCase *tests = tcase_create("descriptors");
    tcase_set_timeout(tests, 300); // syncs wait for whatever else the disk does
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_add_loop_test(tests, what_was_taken_is_given_back, 0,
                        sizeof operations / sizeof *operations);
    suite_add_tcase(suite, tests);
    return suite;
}
