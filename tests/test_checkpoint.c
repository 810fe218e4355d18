// A checkpoint of which anything was changed: it is refused, in one line, and the trainer that was
// told so goes on with a sound one.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <brim/brim.h>
#include "core/files.h"
#include "tests/devices.h"
#include "tests/test_core.h"

enum { IN = 3, OUT = 2, WEIGHTS = IN * OUT };

static brim_error err;

static brim_loss build(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length, (void)user;
    brim_value x = brim_input(g, "x", BRIM_F32, batch, IN);
    return brim_mse(brim_linear(x, "out", OUT), brim_input(g, "y", BRIM_F32, batch, OUT));
}

static void take_step(brim_trainer *t, float scale) {
    float x[IN] = {scale, 0.5f, -scale}, y[OUT] = {1, scale};
    brim_trainer_feed(t, "x", x, sizeof x, &err);
    brim_trainer_feed(t, "y", y, sizeof y, &err);
    brim_trainer_step(t, NULL, &err);
    ASSERT_FINE(err);
}

static const char config[] = "{\"sizes\": [3, 2]}\n";

static brim_trainer *make_trainer(void) {
    brim_trainer_options o = {.device = any_device_under_test(), .seed = 5};
    brim_trainer *t = brim_trainer_create(build, NULL, &o, &err);
    brim_trainer_attach(t, "config.json", config, &err);
    brim_trainer_note(t, "position", 77, &err);
    ASSERT_FINE(err);
    return t;
}

// The folder of a run that has saved its steps 1 and 2.
static const char *saved_run(brim_trainer *t) {
    const char *folder = test_path("run");
    for (int i = 0; i < 2; i++) {
        take_step(t, (float)(i + 1));
        brim_trainer_save(t, folder, &err);
    }
    ASSERT_FINE(err);
    return folder;
}

static void write_bytes(const char *path, const char *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

static void expect_refused(brim_trainer *t, const char *folder, const char *what, size_t at) {
    err = (brim_error){0};
    brim_trainer_resume(t, folder, &err);
    ck_assert_msg(err.status != BRIM_OK, "%s, byte %zu: nobody noticed", what, at);
    ck_assert_msg(err.text[0] && !strchr(err.text, '\n'), "%s, byte %zu: %s", what, at, err.text);
    err = (brim_error){0};
}

static const char *const files[] = {"model.safetensors", "training_state.safetensors",
                                    "config.json"};

START_TEST(every_changed_byte_is_noticed) {
    if (!any_device_under_test()) return;
    brim_trainer *t = make_trainer();
    const char *folder = saved_run(t);
    char path[4096];
    size_t size;
    snprintf(path, sizeof path, "%s/step-2/%s", folder, files[_i]);
    char *bytes = file_read(path, 1 << 20, &size, &err);
    ASSERT_FINE(err);
    for (size_t at = 0; at < size; at++) {
        char before = bytes[at];
        bytes[at] = (char)(before ^ (1 << at % 8));
        write_bytes(path, bytes, size);
        expect_refused(t, folder, files[_i], at);
        bytes[at] = before;
    }
    write_bytes(path, bytes, size);
    free(bytes);
    brim_trainer_resume(t, folder, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(brim_trainer_noted(t, "position", 0), 77);
    brim_trainer_free(t);
}
END_TEST

START_TEST(every_cut_is_noticed) {
    if (!any_device_under_test()) return;
    brim_trainer *t = make_trainer();
    const char *folder = saved_run(t);
    char path[4096];
    size_t size;
    snprintf(path, sizeof path, "%s/step-2/%s", folder, files[_i]);
    char *bytes = file_read(path, 1 << 20, &size, &err);
    ASSERT_FINE(err);
    for (size_t keep = 0; keep < size; keep += 1 + size / 50) {
        write_bytes(path, bytes, keep);
        expect_refused(t, folder, files[_i], keep);
    }
    remove(path);
    expect_refused(t, folder, files[_i], 0);
    free(bytes);
    brim_trainer_free(t);
}
END_TEST

// What `latest` says is a checkpoint of this folder, or an error: changed, it may name an older
// one, which is as sound.
START_TEST(latest_names_a_checkpoint_or_nothing) {
    if (!any_device_under_test()) return;
    brim_trainer *t = make_trainer();
    const char *folder = saved_run(t);
    char path[4096];
    snprintf(path, sizeof path, "%s/latest", folder);
    static const char sound[] = "step-2\n";
    for (size_t at = 0; at < sizeof sound - 1; at++)
        for (int value = 0; value < 256; value++) {
            char text[sizeof sound];
            memcpy(text, sound, sizeof sound);
            text[at] = (char)value;
            write_bytes(path, text, sizeof sound - 1);
            if (strcmp(text, sound) == 0 || strcmp(text, "step-1\n") == 0) continue;
            expect_refused(t, folder, "latest", at);
        }
    brim_trainer_free(t);
}
END_TEST

// A name in the state leads to no file outside of its checkpoint.
START_TEST(names_lead_nowhere_else) {
    if (!any_device_under_test()) return;
    static const char *const names[] = {"../config.json",   "/etc/passwd", ".hidden", "", "a/b",
                                        "model.safetensors"};
    brim_trainer *t = make_trainer();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        brim_trainer_attach(t, names[i], config, &err);
        ASSERT_FAILS(err, BRIM_ARGUMENT, "cannot hold a file named");
    }
    brim_trainer_free(t);
}
END_TEST

START_TEST(a_refused_checkpoint_costs_nothing) {
    if (!any_device_under_test()) return;
    brim_trainer *t = make_trainer();
    const char *folder = saved_run(t);
    float saved[WEIGHTS], resumed[WEIGHTS];
    brim_trainer_read(t, "out.weight", saved, WEIGHTS, &err);
    char path[4096];
    snprintf(path, sizeof path, "%s/step-2/config.json", folder);
    write_bytes(path, "{}", 2);
    expect_refused(t, folder, "config.json", 0);
    write_bytes(path, config, sizeof config - 1);
    take_step(t, 3);
    brim_trainer_resume(t, folder, &err);
    brim_trainer_read(t, "out.weight", resumed, WEIGHTS, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(memcmp(saved, resumed, sizeof saved), 0);
    ck_assert_int_eq(brim_trainer_describe(t).steps, 2);
    brim_trainer_free(t);
}
END_TEST

Suite *checkpoint_suite(void) {
    Suite *s = suite_create("checkpoint");
    TCase *tests = tcase_create("checkpoint");
    tcase_set_timeout(tests, 120);
    int count = (int)(sizeof files / sizeof *files);
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_add_loop_test(tests, every_changed_byte_is_noticed, 0, count);
    tcase_add_loop_test(tests, every_cut_is_noticed, 0, count);
    tcase_add_test(tests, latest_names_a_checkpoint_or_nothing);
    tcase_add_test(tests, names_lead_nowhere_else);
    tcase_add_test(tests, a_refused_checkpoint_costs_nothing);
    suite_add_tcase(s, tests);
    return s;
}
