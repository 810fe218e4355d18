// Devices on paper: trainers plan and lower for them, and say that they cannot run.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <brim/brim.h>
#include "backends/paper.h"
#include "graph/graph.h"
#include "examples/presets.h"
#include "tests/test_core.h"

static brim_error err;
static model_config config = {.architecture = MODEL_LLAMA,
                              .vocabulary = 512,
                              .positions = 64,
                              .width = 64,
                              .layers = 2,
                              .heads = 4,
                              .kv_heads = 2,
                              .ffn = 192,
                              .norm_eps = 1e-5,
                              .rotary_base = 1e4};

static brim_trainer *make_trainer(const brim_rates *rates, const char *device,
                                  brim_precision precision, int64_t batch) {
    err = (brim_error){0};
    return brim_trainer_create(
        model_build, &config,
        &(brim_trainer_options){
            .batch = batch, .length = 64, .precision = precision, .device = device, .paper = rates},
        &err);
}

static brim_rates rates_of(const char *gpu) {
    err = (brim_error){0};
    brim_rates r = gpu_preset_rates(gpu_preset_find(gpu, &err));
    ASSERT_FINE(err);
    return r;
}

static char *printed(const brim_trainer *t) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    brim_trainer_print(t, out);
    fclose(out);
    return text;
}

static const char *const drivers[] = {"cuda", "opencl"};

START_TEST(plans_and_does_not_run) {
    brim_rates rates = rates_of("rtx3060");
    brim_trainer *t =
        make_trainer(&rates, drivers[_i / 2], _i % 2 ? BRIM_PRECISION_BF16 : BRIM_PRECISION_F32, 4);
    ASSERT_FINE(err);
    rates = (brim_rates){0}; // it was copied
    brim_trainer_info info = brim_trainer_describe(t);
    ck_assert_str_eq(info.device, "GeForce RTX 3060 12 GB");
    ck_assert_str_eq(info.backend, drivers[_i / 2]);
    ck_assert_int_eq(info.parameters, model_parameters(&config));
    ck_assert_int_gt(info.device_bytes, info.persistent_bytes);
    brim_step_result r;
    for (int again = 0; again < 2; again++) {
        err = (brim_error){0};
        brim_trainer_step(t, &r, &err);
        ck_assert_int_eq(err.status, BRIM_UNSUPPORTED);
        ck_assert_str_eq(err.text, "GeForce RTX 3060 12 GB is a device on paper: steps can be "
                                   "planned for it, not run");
    }
    char *text = printed(t); // the program is there: it has been lowered, and proved
    ck_assert_msg(strstr(text, "matmul"), "%s", text);
    free(text);
    ck_assert_int_gt(brim_trainer_describe(t).records, 0);
    brim_trainer_free(t);
}
END_TEST

// What a card lacks is found as on a real one.
START_TEST(memory_is_the_cards) {
    brim_rates rates = rates_of("rtx2060");
    brim_trainer *t = make_trainer(&rates, NULL, BRIM_PRECISION_F32, 4);
    ASSERT_FINE(err);
    int64_t needed = brim_trainer_describe(t).device_bytes;
    brim_trainer_free(t);
    rates.memory_bytes = rates.overhead_bytes + needed / 4;
    t = make_trainer(&rates, NULL, BRIM_PRECISION_F32, 4);
    if (t) brim_trainer_prepare(t, &err);
    ck_assert_int_eq(err.status, BRIM_MEMORY);
    brim_trainer_free(t);
}
END_TEST

START_TEST(refuses_rates_and_devices) {
    const brim_rates good = rates_of("rtx4090");
    brim_rates rates = good;
    ck_assert_ptr_null(make_trainer(&rates, "opencl:0", BRIM_PRECISION_F32, 1));
    ck_assert_msg(strstr(err.text, "device \"opencl:0\": a device on paper is \"cuda\" or"), "%s",
                  err.text);
    rates.memory = -1;
    ck_assert_ptr_null(make_trainer(&rates, NULL, BRIM_PRECISION_F32, 1));
    ck_assert_str_eq(err.text, "rates.memory is -1; expected more than 0");
    rates = good;
    rates.overhead_bytes = rates.memory_bytes;
    ck_assert_ptr_null(make_trainer(&rates, NULL, BRIM_PRECISION_F32, 1));
    ck_assert_msg(strstr(err.text, "rates.overhead_bytes is 25769803776; expected less"), "%s",
                  err.text);
}
END_TEST

// A backend's slots that are not to be used say so themselves.
START_TEST(every_way_to_run_is_refused) {
    brim_rates rates = rates_of("arcb580");
    const backend *b;
    backend_device *d;
    char why[128];
    float x = 0;
    paper_open(&rates, false, &b, &d, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(b->count(why, sizeof why), 0);
#define REFUSED(call)                                                                              \
    do {                                                                                           \
        err = (brim_error){0};                                                                     \
        ck_assert_int_eq((call), BRIM_UNSUPPORTED);                                                \
    } while (0)
    REFUSED(b->write(d, 0, &x, sizeof x, &err));
    REFUSED(b->read(d, 0, &x, sizeof x, &err));
    REFUSED(b->load(d, NULL, &(loaded_program *){0}, &err));
    REFUSED(b->run(NULL, SECTION_LAST, 0, &err));
    REFUSED(b->open(0, NULL, &(backend_device *){0}, &err));
#undef REFUSED
    b->close(d);
}
END_TEST

Suite *paper_suite(void) {
    Suite *s = suite_create("paper");
    TCase *tc = tcase_create("paper");
    tcase_add_loop_test(tc, plans_and_does_not_run, 0, 4);
    tcase_add_test(tc, memory_is_the_cards);
    tcase_add_test(tc, refuses_rates_and_devices);
    tcase_add_test(tc, every_way_to_run_is_refused);
    suite_add_tcase(s, tc);
    return s;
}
