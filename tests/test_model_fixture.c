// Small models against PyTorch's own runs of them (tests/fixtures/make_model.py): logits, then loss
// and gradient norm of each of 20 AdamW steps with clipping, weight decay and two micro-batches.
#include <check.h>
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include "core/files.h"
#include "examples/model.h"
#include "tests/devices.h"

// Fewer steps where programs_train.sh goes on to the last one: on the CUDA stand-in they take long.
static const struct {
    const char *name;
    int steps;
} kinds[] = {{"gpt2", 20}, {"llama", 6}, {"llama3", 6}, {"qwen2", 6}, {"qwen3", 6}};
enum { KINDS = sizeof kinds / sizeof *kinds };

enum { BATCH = 3, SEQUENCE = 37, ACCUMULATE = 2, STEPS = 20, VOCABULARY = 211 };
static const double tolerance = 1e-4; // relative, as promised

static brim_error err;

static const char *fixture(const char *kind, const char *file) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/tests/fixtures/%s/%s", BRIM_SOURCE_DIR, kind, file);
    return path;
}

static void expect_fine(void) {
    ck_assert_msg(err.status == BRIM_OK, "%s", err.text);
}

static brim_loss build_logits(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length;
    brim_loss none = model_build_next(g, batch, SEQUENCE, user);
    return none;
}

static void expect_close(const char *what, int step, double found, double expected) {
    double off = fabs(found - expected) / fabs(expected);
    ck_assert_msg(off <= tolerance, "%s of step %d is %.8g; expected %.8g (off by %.2g)", what,
                  step, found, expected, off);
}

static brim_trainer *make_trainer(const char *kind, const char *device, model_config *config) {
    model_config_read(fixture(kind, "config.json"), config, &err);
    expect_fine();
    brim_trainer *t =
        brim_trainer_create(model_build, config,
                            &(brim_trainer_options){.batch = BATCH,
                                                    .length = SEQUENCE,
                                                    .accumulate = ACCUMULATE,
                                                    .device = device,
                                                    .optimizer = {.lr = 3e-3f,
                                                                  .beta1 = 0.9f,
                                                                  .beta2 = 0.95f,
                                                                  .eps = 1e-8f,
                                                                  .weight_decay = 0.1f,
                                                                  .clip = 1}},
                            &err);
    expect_fine();
    return t;
}

static void load(brim_trainer *t, const char *kind, const model_config *config) {
    brim_trainer_load_model(t, fixture(kind, "model.safetensors"), model_prefix(config), &err);
    expect_fine();
    ck_assert_int_eq(brim_trainer_describe(t).parameters, model_parameters(config));
}

static void check_logits(const char *kind, brim_program *next, const int32_t *tokens) {
    size_t bytes;
    char *file = file_read(fixture(kind, "logits.bin"), 1 << 20, &bytes, &err);
    expect_fine();
    const float *expected = (const float *)file;
    ck_assert_uint_eq(bytes, (size_t)BATCH * SEQUENCE * VOCABULARY * sizeof(float));
    for (int32_t row = 0; row < BATCH * SEQUENCE; row += 17) {
        int32_t last[BATCH] = {row, (row + 31) % (BATCH * SEQUENCE),
                               (row + 70) % (BATCH * SEQUENCE)};
        float logits[BATCH][VOCABULARY];
        brim_program_feed(next, "tokens", tokens, (size_t)BATCH * SEQUENCE * sizeof *tokens, &err);
        brim_program_feed(next, "last", last, sizeof last, &err);
        brim_program_run(next, NULL, NULL, &err);
        brim_program_read(next, "logits", logits[0], (size_t)BATCH * VOCABULARY, &err);
        expect_fine();
        for (int b = 0; b < BATCH; b++)
            for (int v = 0; v < VOCABULARY; v++) {
                float e = expected[last[b] * VOCABULARY + v];
                ck_assert_msg(fabsf(logits[b][v] - e) <= tolerance * fmaxf(1, fabsf(e)),
                              "logit %d of token %d: %g, expected %g", v, last[b], logits[b][v], e);
            }
    }
    free(file);
}

static cJSON *read_expected(const char *kind) {
    char *text = file_read(fixture(kind, "expected.json"), 1 << 20, NULL, &err);
    expect_fine();
    cJSON *json = cJSON_Parse(text);
    ck_assert_ptr_nonnull(json);
    free(text);
    return json;
}

START_TEST(trains_as_pytorch_does) {
    const char *device = device_under_test(_i / KINDS), *kind = kinds[_i % KINDS].name;
    if (!device) return;
    err = (brim_error){0};
    model_config config;
    brim_trainer *t = make_trainer(kind, device, &config);
    brim_program *next = brim_trainer_program(t, build_logits, &config, BATCH, SEQUENCE, &err);
    load(t, kind, &config);

    const char *files[] = {fixture("gpt2", "tokens.bin")};
    brim_dataset *data = brim_dataset_open(files, 1, &err);
    brim_loader loader;
    brim_loader_init(&loader,
                     &(brim_loader_options){
                         .data = data, .batch = BATCH, .sequence = SEQUENCE, .sequential = true},
                     &err);
    expect_fine();

    cJSON *expected = read_expected(kind), *steps = cJSON_GetObjectItem(expected, "steps");
    ck_assert_int_eq(cJSON_GetArraySize(steps), STEPS);
    int32_t tokens[ACCUMULATE][BATCH * SEQUENCE], targets[ACCUMULATE][BATCH * SEQUENCE];
    for (int i = 0; i < kinds[_i % KINDS].steps; i++) {
        for (int m = 0; m < ACCUMULATE; m++) brim_loader_next(&loader, tokens[m], targets[m], &err);
        if (i == 0) check_logits(kind, next, tokens[0]);
        brim_step_result r;
        brim_trainer_feed(t, "tokens", tokens, sizeof tokens, &err);
        brim_trainer_feed(t, "targets", targets, sizeof targets, &err);
        brim_trainer_step(t, &r, &err);
        expect_fine();
        const cJSON *step = cJSON_GetArrayItem(steps, i);
        expect_close("loss", i + 1, r.loss, cJSON_GetObjectItem(step, "loss")->valuedouble);
        expect_close("gradient norm", i + 1, r.grad_norm,
                     cJSON_GetObjectItem(step, "grad_norm")->valuedouble);
    }
    cJSON_Delete(expected);
    brim_dataset_close(data);
    brim_trainer_free(t);
}
END_TEST

Suite *model_fixture_suite(void) {
    Suite *suite = suite_create("model_fixture");
    TCase *tests = tcase_create("pytorch");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, trains_as_pytorch_does, 0, DEVICES_UNDER_TEST * KINDS);
    suite_add_tcase(suite, tests);
    return suite;
}
