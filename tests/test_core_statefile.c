#include <float.h>
#include <math.h>
#include "core/philox.h"
#include "core/statefile.h"
#include "test_core.h"

static const int64_t matrix[] = {2, 3}, empty[] = {0, 3};
static const float first[6] = {1, 2, 3, 4, 5, 6};
static const int32_t counter = -7;
static const double numbers[] = {0.1, -0.0, 1e-320, DBL_MAX, -1.0 / 3};

// A state with every kind of thing in it.
static void write_state(const char *path) {
    brim_error err = {0};
    state_writer *w = state_create(path, &err);
    state_put_i64(w, "step", INT64_MIN, &err);
    state_put_i64(w, "position", INT64_MAX, &err);
    for (int i = 0; i < 5; i++) {
        state_put_f64(w, (const char *[]){"n0", "n1", "n2", "n3", "n4"}[i], numbers[i], &err);
    }
    state_put_f64(w, "nan", NAN, &err);
    state_put_text(w, "algorithm", "a \"quoted\"\nname", &err);
    state_put_text(w, "brim.checksum:", "\"brim.checksum\":\"0123456789012345\"", &err);
    state_declare(w, "w/m", BRIM_F32, 2, matrix, &err);
    state_declare(w, "none", BRIM_F32, 2, empty, &err);
    state_declare(w, "counter", BRIM_I32, 0, NULL, &err);
    state_write(w, "w/m", first, 4, &err);
    state_write(w, "w/m", first + 1, 20, &err);
    state_write(w, "counter", &counter, 4, &err);
    ck_assert(state_commit(w, &err));
    ASSERT_FINE(err);
}

START_TEST(reads_what_was_written) {
    brim_error err = {0};
    const char *path = test_path("state.safetensors");
    write_state(path);
    state_reader *r = state_open(path, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(state_i64(r, "step", &err), INT64_MIN);
    ck_assert_int_eq(state_i64(r, "position", &err), INT64_MAX);
    for (int i = 0; i < 5; i++) {
        double value = state_f64(r, (const char *[]){"n0", "n1", "n2", "n3", "n4"}[i], &err);
        ck_assert_mem_eq(&value, &numbers[i], sizeof value);
    }
    ck_assert(isnan(state_f64(r, "nan", &err)));
    ck_assert_str_eq(state_text(r, "algorithm", &err), "a \"quoted\"\nname");
    ck_assert_mem_eq(state_tensor(r, "w/m", BRIM_F32, 2, matrix, &err), first, sizeof first);
    ck_assert_mem_eq(state_tensor(r, "counter", BRIM_I32, 0, NULL, &err), &counter, 4);
    ck_assert_ptr_nonnull(state_tensor(r, "none", BRIM_F32, 2, empty, &err));
    ASSERT_FINE(err);
    ck_assert_str_eq(state_name_at(r, 0), "step");
    ck_assert_str_eq(state_name_at(r, 9), "brim.checksum:");
    ck_assert_ptr_null(state_name_at(r, 10));
    ck_assert_uint_eq(safetensors_count(state_tensors(r)), 3);
    state_close(r);
    state_close(NULL);
}
END_TEST

START_TEST(refuses_what_is_not_there) {
    brim_error err = {0};
    const char *path = test_path("state.safetensors");
    write_state(path);
    state_reader *r = state_open(path, &err);
    ck_assert_int_eq(state_i64(r, "other", &err), 0);
    ASSERT_FAILS(err, BRIM_FORMAT, "state.safetensors: the value other is missing");
    ck_assert_int_eq(state_i64(r, "n0", &err), 0);
    ASSERT_FAILS(err, BRIM_FORMAT, "expected one of kind i64");
    ck_assert(state_f64(r, "step", &err) == 0);
    ASSERT_FAILS(err, BRIM_FORMAT,
                 "the value step is \"i64 -9223372036854775808\", expected one of kind f64");
    ck_assert_str_eq(state_text(r, "step", &err), "");
    ASSERT_FAILS(err, BRIM_FORMAT, "expected one of kind text");
    ck_assert_ptr_null(state_tensor(r, "w/v", BRIM_F32, 2, matrix, &err));
    ASSERT_FAILS(err, BRIM_FORMAT, "tensor w/v is missing");
    ck_assert_ptr_null(state_tensor(r, "w/m", BRIM_F32, 2, empty, &err));
    ASSERT_FAILS(err, BRIM_FORMAT, "tensor w/m has shape [2, 3], expected [0, 3]");
    ck_assert_ptr_null(state_tensor(r, "w/m", BRIM_I32, 2, matrix, &err));
    ASSERT_FAILS(err, BRIM_FORMAT, "tensor w/m has type f32, expected i32");
    state_close(r);
}
END_TEST

// Each byte of the file in turn: whatever bit flips, the file is refused.
START_TEST(notices_every_damaged_byte) {
    char path[160];
    strcpy(path, test_path("state.safetensors"));
    write_state(path);
    size_t size;
    char *good = test_contents(path, &size);
    for (size_t i = 0; i < size; i++) {
        good[i] ^= (char)(1 << philox_at(3, 0, i).v[0] % 8);
        brim_error err = {0};
        state_reader *r = state_open(test_file("damaged", good, size), &err);
        ck_assert_msg(!r, "a flipped bit in byte %zu went unnoticed", i);
        ck_assert_int_eq(err.status, BRIM_FORMAT);
        good[i] ^= (char)(1 << philox_at(3, 0, i).v[0] % 8);
    }
    for (size_t cut = 0; cut < size; cut++) {
        brim_error err = {0};
        state_reader *r = state_open(test_file("damaged", good, cut), &err);
        ck_assert_msg(!r && err.status == BRIM_FORMAT, "the first %zu bytes were read", cut);
    }
    brim_error err = {0};
    state_reader *r = state_open(test_file("damaged", good, size), &err);
    ASSERT_FINE(err);
    state_close(r);
    free(good);
}
END_TEST

START_TEST(says_what_is_damaged) {
    brim_error err = {0};
    char path[160];
    strcpy(path, test_path("state.safetensors"));
    write_state(path);
    size_t size;
    char *text = test_contents(path, &size);
    text[size - 6] ^= 1;
    ck_assert_ptr_null(state_open(test_file("damaged", text, size), &err));
    ASSERT_FAILS(err, BRIM_FORMAT, "damaged is damaged: its checksum is ");
    free(text);

    file_writer *out = file_create(path, &err); // a plain safetensors file
    safetensors_end(safetensors_begin(out, NULL, 0, NULL, 0, &err), &err);
    ck_assert(file_commit(out, &err));
    ck_assert_ptr_null(state_open(path, &err));
    ASSERT_FAILS(err, BRIM_FORMAT, "is no file of training state");
    ck_assert_ptr_null(state_open("/nonexistent", &err));
    ASSERT_FAILS(err, BRIM_IO, "/nonexistent cannot be opened");
}
END_TEST

START_TEST(writing_in_the_wrong_order) {
    static const char *const parts[] = {
        "step was put twice",
        "late was put after the first tensor",
        "tensor late of 2 dimensions was declared after the first",
        "tensor w ends after 0 of its 24 bytes",
        "two tensors have the name w",
        "of 7 dimensions was declared and cannot be written",
        "tensor w has a shape that cannot be written",
        "brim.checksum was put twice",
    };
    for (int i = 0; i < 8; i++) {
        brim_error err = {0};
        const char *path = test_file("kept", "old", 3);
        state_writer *w = state_create(path, &err);
        state_put_i64(w, "step", 1, &err);
        if (i == 0) state_put_f64(w, "step", 1, &err);
        if (i == 5) state_declare(w, "v", BRIM_F32, 7, matrix, &err);
        if (i == 7) state_put_text(w, "brim.checksum", "", &err);
        state_declare(w, "w", BRIM_F32, 2, i == 6 ? (int64_t[]){-1, 3} : matrix, &err);
        if (i == 4) state_declare(w, "w", BRIM_F32, 2, matrix, &err);
        if (i != 3) state_write(w, "w", first, 24, &err);
        if (i == 1) state_put_i64(w, "late", 1, &err);
        if (i == 2) state_declare(w, "late", BRIM_F32, 2, matrix, &err);
        ck_assert(!state_commit(w, &err));
        ASSERT_FAILS(err, BRIM_ARGUMENT, parts[i]);
        char *text = test_contents(test_path("kept"), NULL);
        ck_assert_str_eq(text, "old");
        free(text);
    }
}
END_TEST

START_TEST(discarding) {
    brim_error err = {0};
    state_writer *w = state_create(test_path("discarded"), &err);
    state_declare(w, "w", BRIM_F32, 2, matrix, &err);
    state_write(w, "w", first, 8, &err);
    ASSERT_FINE(err);
    state_discard(w);
    state_discard(NULL);
    ck_assert(access(test_path("discarded"), F_OK) != 0);
    w = state_create("/nonexistent/state", &err);
    ck_assert_ptr_null(w);
    state_put_i64(w, "step", 1, &err);
    state_declare(w, "w", BRIM_F32, 2, matrix, &err);
    state_write(w, "w", first, 24, &err);
    ck_assert(!state_commit(w, &err));
    ASSERT_FAILS(err, BRIM_IO, "/nonexistent/state");
}
END_TEST

Suite *core_statefile_suite(void) {
    Suite *suite = suite_create("core/statefile");
    TCase *tests = tcase_create("statefile");
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, reads_what_was_written);
    tcase_add_test(tests, refuses_what_is_not_there);
    tcase_add_test(tests, notices_every_damaged_byte);
    tcase_add_test(tests, says_what_is_damaged);
    tcase_add_test(tests, writing_in_the_wrong_order);
    tcase_add_test(tests, discarding);
    suite_add_tcase(suite, tests);
    return suite;
}
