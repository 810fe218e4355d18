// Devices on paper: trainers plan and lower for them, and say that they cannot run.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <brim/brim.h>
#include "backends/paper.h"
#include "graph/graph.h"
#include "examples/presets.h"
#include "optim/trainer.h"
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

// ---- programs beside a training ----------------------------------------------------------------

enum { WIDE = 128 };

// Its first value is a parameter.
static brim_loss build_first(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length, (void)user;
    brim_value w = brim_parameter(g, "first", ((brim_init){BRIM_NORMAL, 1}), WIDE, WIDE);
    brim_value x = brim_gelu(brim_matmul(brim_input(g, "x", BRIM_F32, batch, WIDE), w));
    for (int i = 0; i < 3; i++) {
        char name[8];
        snprintf(name, sizeof name, "l%d", i);
        x = brim_gelu(brim_linear(x, name, WIDE));
    }
    brim_output(x, "y");
    return brim_mse(x, brim_input(g, "t", BRIM_F32, batch, WIDE));
}

// With the least device memory that is enough, variables are away; a program finds each where the
// training has it, at the same bytes, and puts what is its own behind them.
START_TEST(programs_find_variables_where_they_are) {
    const brim_rates rates = rates_of("rtx3060");
    brim_shortfall lacks = {0};
    brim_trainer_options o = {.batch = 2,
                              .device = "opencl",
                              .paper = &rates,
                              .shortfall = &lacks,
                              .precision = _i ? BRIM_PRECISION_BF16 : BRIM_PRECISION_F32,
                              .vram_bytes = rates.overhead_bytes + 4000};
    ck_assert_ptr_null(brim_trainer_create(build_first, NULL, &o, &err));
    ck_assert_int_gt(lacks.vram_missing, 0);
    o.vram_bytes = lacks.vram_bytes;
    err = (brim_error){0};
    brim_trainer *t = brim_trainer_create(build_first, NULL, &o, &err);
    brim_program *p = brim_trainer_program(t, build_first, NULL, 1, 0, &err);
    ASSERT_FINE(err);
    const compiled *training = &t->training, *beside = &p->compiled;
    ck_assert_int_eq(compiled_variable(training, "first"), 0);
    int shared = 0, away = 0;
    for (value_id v = 0; v < beside->graph->values; v++) {
        const graph_value *value = &beside->graph->value[v];
        const storage_place *here = &beside->plan.storage[v];
        if (here->offset < 0) continue;
        value_id there =
            role_is_variable(value->role) ? compiled_variable(training, value->name) : -1;
        if (there < 0) {
            ck_assert_int_ge(here->offset, training->plan.persistent_bytes[here->space]);
            continue;
        }
        const storage_place *place = &training->plan.storage[there];
        ck_assert(place->space == here->space && place->offset == here->offset);
        ck_assert_int_eq(place->bytes, here->bytes);
        shared++, away += here->space != SPACE_DEVICE;
    }
    ck_assert_int_ge(shared, 7); // a matrix, and three of them with a bias each
    ck_assert_int_ge(away, 4);
    ck_assert_int_le(beside->plan.peak_bytes[SPACE_DEVICE], t->target.budget[SPACE_DEVICE]);
    brim_trainer_free(t);
}
END_TEST

Suite *paper_suite(void) {
    Suite *s = suite_create("paper");
    TCase *tc = tcase_create("paper");
    tcase_add_loop_test(tc, plans_and_does_not_run, 0, 4);
    tcase_add_test(tc, memory_is_the_cards);
    tcase_add_test(tc, refuses_rates_and_devices);
    tcase_add_test(tc, every_way_to_run_is_refused);
    tcase_add_loop_test(tc, programs_find_variables_where_they_are, 0, 2);
    suite_add_tcase(s, tc);
    return s;
}
