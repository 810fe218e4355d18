// A checkpoint of which anything was changed: it is refused, in one line, and the trainer that was
// told so goes on with a sound one.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <sys/stat.h>
#include <brim/brim.h>
#include "core/files.h"
#include "core/half.h"
#include "core/statefile.h"
#include "tests/devices.h"
#include "tests/disk_watch.h"
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

static brim_trainer_options options(void) {
    return (brim_trainer_options){.device = any_device_under_test(), .seed = 5};
}

static brim_trainer *make_trainer(void) {
    brim_trainer_options o = options();
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

START_TEST(attachments_have_a_largest_size) {
    if (!any_device_under_test()) return;
    enum { LARGEST = 64 << 20 };
    brim_trainer *t = make_trainer();
    char *text = malloc(LARGEST + 2);
    ck_assert_ptr_nonnull(text);
    memset(text, 'x', LARGEST + 1);
    text[LARGEST + 1] = '\0';
    brim_trainer_attach(t, "large", text, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "cannot hold a file named \"large\"");
    text[LARGEST] = '\0';
    brim_trainer_attach(t, "large", text, &err);
    ASSERT_FINE(err);
    free(text);
    brim_trainer_free(t);
}
END_TEST

// ---- what the state says
// --------------------------------------------------------------------------

// Writes a training state anew with one number changed, as its checksum demands.
static void change_number(const char *path, const char *name, int64_t number, double real) {
    state_reader *r = state_open(path, &err);
    ASSERT_FINE(err);
    state_writer *w = state_create(path, &err);
    const safetensors *file = state_tensors(r);
    const char *key;
    for (size_t i = 0; (key = state_name_at(r, i)); i++) {
        bool changed = strcmp(key, name) == 0;
        char kind = safetensors_metadata(file, key)[0];
        if (kind == 'i') state_put_i64(w, key, changed ? number : state_i64(r, key, &err), &err);
        if (kind == 'f') state_put_f64(w, key, changed ? real : state_f64(r, key, &err), &err);
        if (kind == 't') state_put_text(w, key, state_text(r, key, &err), &err);
    }
    const safetensors_tensor *t;
    for (size_t i = 0; (t = safetensors_at(file, i)); i++)
        state_declare(w, t->name, t->dtype, t->dims, t->shape, &err);
    for (size_t i = 0; (t = safetensors_at(file, i)); i++)
        state_write(w, t->name, t->data, t->bytes, &err);
    state_commit(w, &err);
    state_close(r);
    ASSERT_FINE(err);
}

// A checksum says that nothing was damaged, not that the numbers make sense.
START_TEST(resume_looks_at_numbers) {
    static const struct {
        const char *name, *text;
        int64_t number;
        double real;
    } wrong[] = {
        {"steps", "1 updates in -1 steps", -1, 0},
        {"steps", "1 updates in 0 steps", 0, 0},
        {"steps", "1 updates in 9223372036854775807 steps", INT64_MAX, 0},
        {"updates", "-5 updates in 1 steps", -5, 0},
        {"updates", "2 updates in 1 steps", 2, 0},
        {"loss_scale", "a loss scale of nan", 0, NAN},
        {"loss_scale", "a loss scale of inf", 0, INFINITY},
        {"loss_scale", "a loss scale of 0", 0, 0},
        {"loss_scale", "a loss scale of -2", 0, -2},
        {"loss_scale_good_steps", "for -1 of 1 steps", -1, 0},
        {"loss_scale_good_steps", "for 2 of 1 steps", 2, 0},
        {"steps", "1 updates in 9007199254740993 steps", ((int64_t)1 << 53) + 1, 0},
        {"version", "has version 3; this library reads 2", 3, 0},
    };
    if (!any_device_under_test()) return;
    brim_trainer *t = make_trainer();
    take_step(t, 1);
    char path[512];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        brim_trainer_save(t, test_path("numbers"), &err);
        brim_checkpoint_file(path, sizeof path, test_path("numbers"), "training_state.safetensors",
                             &err);
        change_number(path, wrong[i].name, wrong[i].number, wrong[i].real);
        brim_trainer_resume(t, test_path("numbers"), &err);
        ASSERT_FAILS(err, BRIM_FORMAT, wrong[i].text);
        ck_assert_int_eq(brim_trainer_describe(t).steps, 1);
    }
    brim_trainer_free(t);
}
END_TEST

// The same numbers, as far as they go.
START_TEST(resume_takes_the_last_number_that_makes_sense) {
    static const struct {
        const char *name;
        int64_t number;
        double real;
    } right[] = {
        {"steps", (int64_t)1 << 53, 0},
        {"updates", 0, 0},
        {"loss_scale", 0, 0x1p-1022},
        {"loss_scale_good_steps", 1, 0},
    };
    if (!any_device_under_test()) return;
    char path[512];
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        brim_trainer *t = make_trainer();
        take_step(t, 1);
        brim_trainer_save(t, test_path("numbers"), &err);
        brim_checkpoint_file(path, sizeof path, test_path("numbers"), "training_state.safetensors",
                             &err);
        change_number(path, right[i].name, right[i].number, right[i].real);
        brim_trainer_resume(t, test_path("numbers"), &err);
        ASSERT_FINE(err);
        ck_assert_int_eq(brim_trainer_describe(t).steps, i == 0 ? right[0].number : 1);
        brim_trainer_free(t);
    }
}
END_TEST

// A checkpoint is of one kind of training.
START_TEST(resume_looks_at_options) {
    if (!any_device_under_test()) return;
    brim_trainer *t = make_trainer();
    brim_trainer_save(t, test_path("options"), &err);
    brim_trainer_free(t);
    ASSERT_FINE(err);
    static const char *const texts[] = {"was saved by optimizer adamw; this trainer's is sgd",
                                        "optimizer states in f32; this trainer's are q8",
                                        "was saved with seed 5; this trainer's is 12345"};
    for (int i = 0; i < 3; i++) {
        brim_trainer_options other = options();
        if (i == 0) other.optimizer.kind = BRIM_SGD;
        if (i == 1) other.optimizer.states = BRIM_STATES_Q8;
        if (i == 2) other.seed = 12345;
        t = brim_trainer_create(build, NULL, &other, &err);
        ASSERT_FINE(err);
        brim_trainer_resume(t, test_path("options"), &err);
        ASSERT_FAILS(err, BRIM_ARGUMENT, texts[i]);
        brim_trainer_free(t);
    }
}
END_TEST

// ---- which folder -------------------------------------------------------------------------------

// A folder of a run with these checkpoints, and with that text in `latest`; NULL: without.
static const char *run_with(const char *const names[], const char *latest, size_t size) {
    static char folder[100], path[200];
    snprintf(folder, sizeof folder, "%s/run-XXXXXX", test_directory);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    for (; *names; names++) {
        snprintf(path, sizeof path, "%s/%s", folder, *names);
        ck_assert_int_eq(mkdir(path, 0777), 0);
    }
    snprintf(path, sizeof path, "%s/latest", folder);
    if (latest) write_bytes(path, latest, size);
    return folder;
}

START_TEST(the_newest_checkpoint_is_found) {
    static const struct {
        const char *names[5], *latest, *expected; // "": an error
        size_t size;                              // of latest; 0: as its text
    } cases[] = {
        {{"step-1", "step-2"}, "step-1\n", "step-1", 0},
        {{"step-1", "step-2"}, "step-1", "step-1", 0},
        {{"step-1"}, "step-1 \n", "", 0},
        {{"step-1"}, "step-1\n\n", "", 0},
        {{"step-1"}, "step-1\nx", "", 0},
        {{"step-1"}, "step-1", "", 7}, // with a NUL behind it
        {{"step-1"}, "../step-1\n", "", 0},
        {{"step-1"}, "step-\n", "", 0},
        {{"step-1"}, "\n", "", 0},
        {{"step-9", "step-10", "step-11x", "step-"}, NULL, "step-10", 0},
        {{"step-0"}, NULL, "step-0", 0},
        {{"step-7.brim-tmp-01234567", "other", "xstep-3"}, NULL, "", 0},
        {{NULL}, NULL, "", 0},
    };
    int free_descriptor = dup(0);
    close(free_descriptor);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *latest = cases[i].latest;
        size_t size = cases[i].size ? cases[i].size : latest ? strlen(latest) : 0;
        const char *folder = run_with(cases[i].names, latest, size);
        char path[300] = "", expected[300];
        brim_status status = brim_checkpoint_file(path, sizeof path, folder, "file", &err);
        if (*cases[i].expected) {
            ASSERT_FINE(err);
            snprintf(expected, sizeof expected, "%s/%s/file", folder, cases[i].expected);
            ck_assert_str_eq(path, expected);
        } else {
            ck_assert_int_eq(status, err.status);
            ASSERT_FAILS(err, latest ? BRIM_FORMAT : BRIM_IO, latest ? "name of a checkpoint" : "");
        }
    }
    const char *unlisted = run_with((const char *[]){"step-3", NULL}, NULL, 0);
    char none[300];
    disk_lists_nothing(true); // what was not read may be newer
    brim_checkpoint_file(none, sizeof none, unlisted, "file", &err);
    disk_lists_nothing(false);
    ASSERT_FAILS(err, BRIM_IO, "latest cannot be opened");
    ck_assert_int_eq(dup(0), free_descriptor);
    char longest[300];
    memset(longest, '0', sizeof longest);
    memcpy(longest, "step-", 5);
    const char *folder = run_with((const char *[]){NULL}, longest, 257);
    brim_checkpoint_file(longest, sizeof longest, folder, "file", &err);
    ASSERT_FAILS(err, BRIM_FORMAT, "more than the 256 bytes");
    folder = run_with((const char *[]){NULL}, longest, 256);
    char path[500];
    brim_checkpoint_file(path, sizeof path, folder, "file", &err);
    ASSERT_FINE(err);
}
END_TEST

// The folder of a checkpoint itself, and paths that just fit.
START_TEST(paths_have_room_or_are_refused) {
    const char *folder = run_with((const char *[]){NULL}, NULL, 0);
    char path[4200], expected[300];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    write_bytes(path, "", 0);
    snprintf(expected, sizeof expected, "%s/file", folder);
    size_t length = strlen(expected);
    ck_assert_int_eq(brim_checkpoint_file(path, length + 1, folder, "file", &err), BRIM_OK);
    ck_assert_str_eq(path, expected);
    brim_checkpoint_file(path, length, folder, "file", &err);
    snprintf(expected, sizeof expected, "is longer than %zu bytes", length);
    ASSERT_FAILS(err, BRIM_ARGUMENT, expected);

    char file[4200];
    memset(file, 'x', sizeof file);
    for (int more = 0; more < 2; more++) { // 4095 characters, and a NUL
        file[4095 - strlen(folder) - 1 + (size_t)more] = '\0';
        brim_checkpoint_file(path, sizeof path, folder, file, &err);
        if (more) ASSERT_FAILS(err, BRIM_ARGUMENT, "is longer than 4096 bytes");
        ASSERT_FINE(err);
        ck_assert_uint_eq(strlen(path), 4095);
        file[4095 - strlen(folder) - 1] = 'x';
    }
}
END_TEST

START_TEST(micro_batches_are_read) {
    const char *folder = run_with((const char *[]){NULL}, NULL, 0);
    static const int64_t numbers[] = {1, 7, 0, -3};
    for (int i = 0; i < 5; i++) {
        char path[300];
        int64_t batch = 99;
        snprintf(path, sizeof path, "%s/model.safetensors", folder);
        write_bytes(path, "", 0);
        snprintf(path, sizeof path, "%s/training_state.safetensors", folder);
        state_writer *w = state_create(path, &err);
        if (i < 4) state_put_i64(w, "micro_batch", numbers[i], &err);
        ck_assert(state_commit(w, &err));
        brim_checkpoint_micro_batch(folder, &batch, &err);
        if (i < 2) ASSERT_FINE(err);
        ck_assert_int_eq(batch, i < 2 ? numbers[i] : 99);
        if (i == 2) ASSERT_FAILS(err, BRIM_FORMAT, "micro_batch is 0; expected at least 1");
        if (i == 3) ASSERT_FAILS(err, BRIM_FORMAT, "micro_batch is -3; expected at least 1");
        if (i == 4) ASSERT_FAILS(err, BRIM_FORMAT, "the value micro_batch is missing");
    }
}
END_TEST

// ---- models of others ---------------------------------------------------------------------------

// Names with and without the prefix, in the file and in the model, and another type of numbers.
START_TEST(models_are_loaded_by_name) {
    if (!any_device_under_test()) return;
    static const struct {
        const char *name, *prefix;
        bool found;
    } cases[] = {{"out.weight", NULL, true},    {"out.weight", "p.", true},
                 {"p.out.weight", "p.", true},  {"weight", "out.", true},
                 {"p.out.weight", NULL, false}, {"ut.weight", "x", false},
                 {"p.out.weight", "q.", false}};
    brim_trainer *t = make_trainer();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint16_t halves[WEIGHTS];
        float weights[WEIGHTS], read[WEIGHTS];
        for (int k = 0; k < WEIGHTS; k++) {
            weights[k] = (float)(k + 1) / 4 + (float)i;
            halves[k] = f16_from_f32(weights[k]);
        }
        const char *path = test_path("other.safetensors");
        file_writer *out = file_create(path, &err);
        const safetensors_entry entries[] = {{cases[i].name, BRIM_F16, 2, {OUT, IN}},
                                             {"out.bias", BRIM_F32, 1, {OUT}}};
        safetensors_writer *w = safetensors_begin(out, entries, 2, NULL, 0, &err);
        safetensors_write(w, cases[i].name, halves, sizeof halves, &err);
        safetensors_write(w, "out.bias", weights, OUT * sizeof *weights, &err);
        safetensors_end(w, &err);
        ck_assert(file_commit(out, &err));
        brim_trainer_load_model(t, path, cases[i].prefix, &err);
        if (!cases[i].found) {
            ASSERT_FAILS(err, BRIM_FORMAT, "tensor out.weight is missing");
            continue;
        }
        brim_trainer_read(t, "out.weight", read, WEIGHTS, &err);
        ASSERT_FINE(err);
        ck_assert_mem_eq(read, weights, sizeof read);
    }
    brim_trainer_free(t);
}
END_TEST

// A run's folder has the mode that the user's mask leaves of 0777.
START_TEST(folders_are_for_whom_the_user_says) {
    if (!any_device_under_test()) return;
    brim_trainer *t = make_trainer();
    struct stat status;
    umask(0027);
    brim_trainer_save(t, test_path("masked"), &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(stat(test_path("masked"), &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0750);
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
    tcase_add_test(tests, attachments_have_a_largest_size);
    tcase_add_test(tests, resume_looks_at_numbers);
    tcase_add_test(tests, resume_takes_the_last_number_that_makes_sense);
    tcase_add_test(tests, resume_looks_at_options);
    tcase_add_test(tests, the_newest_checkpoint_is_found);
    tcase_add_test(tests, paths_have_room_or_are_refused);
    tcase_add_test(tests, micro_batches_are_read);
    tcase_add_test(tests, models_are_loaded_by_name);
    tcase_add_test(tests, folders_are_for_whom_the_user_says);
    tcase_add_test(tests, a_refused_checkpoint_costs_nothing);
    suite_add_tcase(s, tests);
    return s;
}
