// Random models under random budgets: a plan keeps to its budget, and gives the bits that the same
// model gives with everything on the device.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <brim/brim.h>
#include "core/philox.h"
#include "examples/model.h"
#include "optim/trainer.h"
#include "optim/training_graph.h"
#include "tests/devices.h"
#include "tests/some_rates.h"
#include "tests/test_core.h"

enum { STEPS = 5, MOST_TENSORS = 200 };

static brim_error err;

// A model and how it is trained, from a seed.
typedef struct trial {
    uint64_t seed;
    model_config model;
    int64_t batch, length, accumulate;
    int64_t step_batch; // where batch and accumulate are 0: chosen by the planner
    brim_precision precision;
    brim_optimizer optimizer;
    bool frozen; // some of it
} trial;

// Bytes for the arena, in main memory and on disk; 0: no limit, but for the disk: none.
typedef struct budget {
    int64_t vram, ram, disk;
} budget;

static int64_t overhead; // what the device takes beside the arena

static int64_t draw(const trial *t, int what, int64_t low, int64_t high) {
    uint64_t x = philox_at(t->seed, 77, (uint64_t)what).v[0];
    return low + (int64_t)(x % (uint64_t)(high - low + 1));
}

// States as 8-bit blocks are those of tensors that are large enough: the table, and most often the
// products.
static void use_blocks(trial *t) {
    t->optimizer.kind = BRIM_ADAMW;
    t->optimizer.states = BRIM_STATES_Q8;
    t->model.vocabulary += 512;
    t->model.width = t->model.heads * 24;
}

static bool on_cuda(void) {
    const char *device = any_device_under_test();
    return device && strncmp(device, "cuda", 4) == 0;
}

static trial random_trial(uint64_t seed) {
    trial t = {.seed = seed};
    int64_t heads = draw(&t, 0, 1, 4), size = 8 * draw(&t, 1, 1, 3);
    t.model = (model_config){.architecture = draw(&t, 2, 0, 1) ? MODEL_LLAMA : MODEL_GPT2,
                             .vocabulary = draw(&t, 3, 20, 200),
                             .width = heads * size,
                             .heads = heads,
                             .layers = draw(&t, 4, 1, 5),
                             .dropout = draw(&t, 5, 0, 1) ? 0.1 : 0,
                             .norm_eps = 1e-5,
                             .kv_heads = heads % 2 ? heads : heads / 2,
                             .ffn = 8 * draw(&t, 6, 2, 12),
                             .rotary_base = 10000,
                             .tied = draw(&t, 7, 0, 1)};
    t.length = draw(&t, 8, 5, on_cuda() ? 20 : 40); // on the CPU, CUDA is slow
    t.model.positions = t.length;
    t.batch = draw(&t, 9, 1, on_cuda() ? 2 : 4);
    t.accumulate = draw(&t, 10, 1, 4);
    t.precision = (brim_precision)draw(&t, 11, 0, 2);
    t.optimizer = (brim_optimizer){.kind = draw(&t, 12, 0, 3) ? BRIM_ADAMW : BRIM_SGD,
                                   .lr = 1e-2f,
                                   .momentum = 0.9f,
                                   .weight_decay = 0.1f,
                                   .clip = draw(&t, 13, 0, 1) ? 1 : 0};
    t.frozen = draw(&t, 14, 0, 3) == 0;
    if (t.optimizer.kind == BRIM_ADAMW && draw(&t, 15, 0, 2) == 0) use_blocks(&t);
    return t;
}

static brim_shortfall lacks; // of the last trainer that did not fit

static brim_trainer *make_trainer(trial *t, const budget *b) {
    static const brim_parameter_group still = {.pattern = "*.0.*", .frozen = true};
    brim_trainer_options options = {.batch = t->batch,
                                    .length = t->length,
                                    .accumulate = t->accumulate,
                                    .step_batch = t->step_batch,
                                    .device = any_device_under_test(),
                                    .precision = t->precision,
                                    .seed = t->seed,
                                    .optimizer = t->optimizer,
                                    .rates = &some_rates,
                                    .groups = &still,
                                    .group_count = t->frozen,
                                    .shortfall = &lacks,
                                    .vram_bytes = b->vram ? b->vram + overhead : 0,
                                    .ram_bytes = b->ram,
                                    .disk = b->disk ? "/tmp" : NULL,
                                    .disk_bytes = b->disk};
    err = (brim_error){0};
    lacks = (brim_shortfall){0};
    return brim_trainer_create(model_build, &t->model, &options, &err);
}

// ---- what training gives ------------------------------------------------------------------------

typedef struct outcome {
    double loss[STEPS], norm[STEPS];
    float *tensor[MOST_TENSORS]; // parameters, and their states
    size_t bytes[MOST_TENSORS];
    int tensors;
    double streaming, waited; // seconds of all steps
    brim_trainer_info info;
    plan_choice choice;
} outcome;

static void feed(brim_trainer *trainer, const trial *t, int step) {
    size_t count = (size_t)(t->accumulate * t->batch * t->length);
    int32_t *tokens = malloc(count * sizeof *tokens);
    for (size_t i = 0; i < count; i++)
        tokens[i] = (int32_t)(philox_at(t->seed, (uint64_t)step + 1, i).v[0] %
                              (uint64_t)t->model.vocabulary);
    brim_trainer_feed(trainer, "tokens", tokens, count * sizeof *tokens, &err);
    brim_trainer_feed(trainer, "targets", tokens, count * sizeof *tokens, &err);
    free(tokens);
}

static void keep_tensor(brim_trainer *trainer, const char *name, int64_t elements, outcome *out) {
    ck_assert_int_lt(out->tensors, MOST_TENSORS);
    size_t count = (size_t)elements;
    out->bytes[out->tensors] = count * sizeof(float);
    out->tensor[out->tensors] = malloc(count * sizeof(float));
    brim_trainer_read(trainer, name, out->tensor[out->tensors++], count, &err);
    ASSERT_FINE(err);
}

// m, or of codes, which cannot be read, what can: their scales.
static void keep_state(brim_trainer *trainer, const brim_tensor_info *info, outcome *out) {
    char name[300];
    optimizer_layout layout = optimizer_states(&trainer->options.optimizer, info->elements);
    bool blocks = layout.state[0].form == STATE_CODES;
    snprintf(name, sizeof name, "%s/%s", info->name, layout.state[blocks].suffix);
    keep_tensor(trainer, name, blocks ? state_blocks(info->elements) : info->elements, out);
}

static void keep_tensors(brim_trainer *trainer, outcome *out) {
    for (int i = 0; i < brim_trainer_tensor_count(trainer); i++) {
        brim_tensor_info info;
        brim_trainer_tensor_info(trainer, i, &info);
        keep_tensor(trainer, info.name, info.elements, out);
        if (!info.frozen) keep_state(trainer, &info, out);
    }
}

static void keep_stalls(const brim_step_result *r, outcome *out) {
    ck_assert(0 <= r->hidden_seconds && r->hidden_seconds <= r->streaming_seconds);
    ck_assert(r->streaming_seconds <= r->seconds);
    ck_assert(0 <= r->waited_seconds && r->waited_seconds <= r->seconds);
    ck_assert((r->waited_for != NULL) == (r->waited_seconds > 0));
    out->streaming += r->streaming_seconds;
    out->waited += r->waited_seconds;
}

static outcome train(trial *t, const budget *b) {
    brim_trainer *trainer = make_trainer(t, b);
    ck_assert_msg(trainer, "seed %d: %s", (int)t->seed, err.text);
    outcome out = {0};
    overhead = trainer->target.overhead_bytes;
    for (int step = 0; step < STEPS; step++) {
        brim_step_result r = {0};
        feed(trainer, t, step);
        brim_trainer_step(trainer, &r, &err);
        ck_assert_msg(!err.status, "seed %d: %s", (int)t->seed, err.text);
        out.loss[step] = r.loss, out.norm[step] = r.grad_norm;
        keep_stalls(&r, &out);
    }
    keep_tensors(trainer, &out);
    out.info = brim_trainer_describe(trainer);
    out.choice = trainer->training.choice;
    brim_trainer_free(trainer);
    return out;
}

static void forget(outcome *o) {
    for (int i = 0; i < o->tensors; i++) free(o->tensor[i]);
}

static void expect_same(const outcome *a, const outcome *b, const trial *t) {
    ck_assert_msg(!memcmp(a->loss, b->loss, sizeof a->loss), "seed %d: losses differ",
                  (int)t->seed);
    ck_assert_msg(!memcmp(a->norm, b->norm, sizeof a->norm), "seed %d: norms differ", (int)t->seed);
    ck_assert_int_eq(a->tensors, b->tensors);
    for (int i = 0; i < a->tensors; i++)
        ck_assert_msg(!memcmp(a->tensor[i], b->tensor[i], a->bytes[i]),
                      "seed %d: tensor %d differs", (int)t->seed, i);
}

// ---- budgets ------------------------------------------------------------------------------------

static bool fits(trial *t, int64_t vram, int64_t disk) {
    brim_trainer *trainer = make_trainer(t, &(budget){vram, 0, disk});
    bool made = trainer != NULL;
    if (!made) ck_assert_msg(err.status == BRIM_MEMORY, "seed %d: %s", (int)t->seed, err.text);
    brim_trainer_free(trainer);
    return made;
}

// The least budget of device memory, up to a hundredth.
static int64_t least_budget(trial *t, int64_t most, int64_t disk) {
    int64_t low = 1, high = most;
    while (high - low > most / 100) {
        int64_t middle = low + (high - low) / 2;
        if (fits(t, middle, disk))
            high = middle;
        else
            low = middle;
    }
    return high;
}

static void expect_within(const outcome *o, const budget *b) {
    ck_assert_int_le(o->info.device_bytes, b->vram);
    if (b->ram) ck_assert_int_le(o->info.host_bytes, b->ram + b->ram / 50 + (64 << 20));
    ck_assert_int_le(o->info.file_bytes, b->disk);
}

static int moved, updated_on_host, streamed, offloaded, filed, recomputed;

static void try_budget(trial *t, const outcome *whole, const budget *b) {
    outcome fitted = train(t, b);
    expect_within(&fitted, b);
    expect_same(whole, &fitted, t);
    const homes_choice *c = &fitted.choice.homes;
    moved++;
    updated_on_host += c->hosted > 0 && !c->device_updates;
    streamed += c->streamed > 0;
    offloaded += c->offloaded > 0;
    filed += c->filed > 0;
    recomputed += fitted.info.recomputed > 0;
    bool copies = c->hosted || c->streamed || c->offloaded;
    bool streamed_some = fitted.streaming > 0;
    bool may_idle = t->frozen && !streamed_some; // a frozen master that left is not missed
    ck_assert_msg(streamed_some == copies || (copies && may_idle), "seed %d: %g s", (int)t->seed,
                  fitted.streaming);
    forget(&fitted);
}

static void try_trial(trial *t, int budgets) {
    outcome whole = train(t, &(budget){0});
    ck_assert(isfinite(whole.loss[0]) && whole.norm[0] > 0);
    // Inputs and results alone.
    ck_assert_int_eq(whole.info.host_bytes, whole.info.staging_bytes);
    ck_assert(whole.streaming == 0 && whole.waited == 0);
    int64_t most = whole.info.device_bytes, least = least_budget(t, most, 0);
    ck_assert_msg((double)least < 0.9 * (double)most, "seed %d: %lld of %lld bytes", (int)t->seed,
                  (long long)least, (long long)most);
    for (int i = 0; i < budgets; i++) {
        int64_t vram = least + (most - 1 - least) * i / (budgets > 1 ? budgets - 1 : 1);
        try_budget(t, &whole, &(budget){.vram = vram});
    }
    forget(&whole);
}

// NVIDIA's driver keeps 2 MiB of a process's first training (seen on an H200), which is more than
// the budgets here are apart: that one comes before what is measured.
static void train_once(void) {
    if (!on_cuda()) return;
    trial t = random_trial(3);
    t.batch = t.accumulate = 1;
    outcome first = train(&t, &(budget){0});
    forget(&first);
}

// How many models, and plans of each. CUDA on the CPU is slow: there, the last models, which are
// small, have many plans (at least 20 in all, and 300 in the long form), each in another order of
// streams.
enum { PARTS = 5 };
typedef struct amount {
    int parts, seeds, budgets;
} amount;

static amount amount_to_try(void) {
    if (!any_device_under_test()) return (amount){0};
    if (getenv("BRIM_TEST_LONG"))
        return on_cuda() ? (amount){PARTS, 6, 12} : (amount){PARTS, 20, 3};
    return on_cuda() ? (amount){2, 1, 10} : (amount){PARTS, 2, 3};
}

START_TEST(every_plan_gives_the_same_bits) {
    amount a = amount_to_try();
    if (_i < PARTS - a.parts) return;
    train_once();
    for (int i = 0; i < a.seeds; i++) {
        trial t = random_trial((uint64_t)(1 + _i * 1000 + i));
        try_trial(&t, a.budgets);
    }
    ck_assert_int_ge(moved, a.seeds * a.budgets);
    ck_assert_int_gt(updated_on_host + streamed + offloaded + recomputed, 0);
}
END_TEST

// Beside 8-bit states, and with a single micro-batch, gradients are bf16 on their way.
START_TEST(nor_do_plans_change_halved_gradients) {
    if (!any_device_under_test()) return;
    train_once();
    bool is_long = getenv("BRIM_TEST_LONG");
    int seeds = is_long ? on_cuda() ? 3 : 20 : on_cuda() ? 1 : 2;
    for (int i = 0; i < seeds; i++) {
        trial t = random_trial((uint64_t)(700 + i));
        use_blocks(&t);
        t.precision = BRIM_PRECISION_BF16;
        t.accumulate = 1;
        try_trial(&t, 3);
    }
    ck_assert_int_gt(updated_on_host, 0);
}
END_TEST

// Where main memory is short too, masters and states go to disk.
START_TEST(a_file_holds_what_the_host_cannot) {
    if (!any_device_under_test()) return;
    train_once();
    int seeds = getenv("BRIM_TEST_LONG") ? 20 : 1;
    for (int i = 0; i < seeds; i++) {
        trial t = random_trial((uint64_t)(500 + i));
        outcome whole = train(&t, &(budget){0});
        int64_t least = least_budget(&t, whole.info.device_bytes, 0);
        budget b = {.vram = least};
        outcome hosted = train(&t, &b);
        expect_same(&whole, &hosted, &t);
        b.ram = hosted.info.host_bytes * 3 / 4;
        b.disk = 64 << 20;
        brim_trainer *trainer = make_trainer(&t, &b);
        if (trainer)
            try_budget(&t, &whole, &b);
        else
            ck_assert_msg(err.status == BRIM_MEMORY, "%s", err.text);
        brim_trainer_free(trainer);
        forget(&whole);
        forget(&hosted);
    }
    ck_assert_int_gt(filed, 0);
}
END_TEST

// A checkpoint says nothing of the plan: what one budget has saved, another goes on with.
START_TEST(a_run_goes_on_under_another_budget) {
    if (!any_device_under_test()) return;
    train_once();
    trial t = random_trial(3001);
    outcome whole = train(&t, &(budget){0}), parts = {0};
    budget least = {.vram = least_budget(&t, whole.info.device_bytes, 0)};
    char dir[] = "/tmp/brim-budgets-XXXXXX", command[64];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    const budget budgets[STEPS] = {least, {0}, least, {.vram = whole.info.device_bytes / 2}, {0}};
    for (int step = 0; step < STEPS; step++) {
        brim_trainer *trainer = make_trainer(&t, &budgets[step]);
        ck_assert_msg(trainer, "%s", err.text);
        brim_step_result r = {0};
        if (step) brim_trainer_resume(trainer, dir, &err);
        feed(trainer, &t, step);
        brim_trainer_step(trainer, &r, &err);
        brim_trainer_save(trainer, dir, &err);
        ASSERT_FINE(err);
        parts.loss[step] = r.loss, parts.norm[step] = r.grad_norm;
        if (step == STEPS - 1) keep_tensors(trainer, &parts);
        brim_trainer_free(trainer);
    }
    expect_same(&whole, &parts, &t);
    snprintf(command, sizeof command, "rm -r %s", dir);
    ck_assert_int_eq(system(command), 0);
    forget(&whole);
    forget(&parts);
}
END_TEST

START_TEST(what_cannot_fit_is_said) {
    if (!any_device_under_test()) return;
    train_once();
    trial t = random_trial(3);
    outcome whole = train(&t, &(budget){0});
    forget(&whole);
    ck_assert_ptr_null(make_trainer(&t, &(budget){.vram = 1000}));
    char text[sizeof err.text], *nearest;
    memcpy(text, err.text, sizeof text);
    ASSERT_FAILS(err, BRIM_MEMORY, "bytes of device memory are missing");
    // The budget that the error names works.
    ck_assert_ptr_nonnull(nearest = strstr(text, "the nearest budget that works"));
    long long vram = 0;
    ck_assert_int_eq(sscanf(strchr(nearest, '('), "(%lld bytes", &vram), 1);
    ck_assert_int_eq(lacks.vram_bytes, vram);
    ck_assert_int_gt(lacks.vram_missing, 0);
    ck_assert_int_eq(lacks.ram_missing, 0);
    ck_assert_int_eq(lacks.disk_missing, 0);
    ck_assert(fits(&t, vram - overhead, 0));
    ck_assert_ptr_null(make_trainer(&t, &(budget){.vram = vram - overhead, .ram = 4096}));
    ASSERT_FAILS(err, BRIM_MEMORY, "bytes of main memory are missing");
    ck_assert_int_eq(lacks.vram_missing, 0);
    ck_assert_int_gt(lacks.ram_missing, 0);
}
END_TEST

static void find_overhead(trial *t) {
    brim_trainer *trainer = make_trainer(t, &(budget){0});
    ASSERT_FINE(err);
    overhead = trainer->target.overhead_bytes;
    brim_trainer_free(trainer);
}

static int64_t missing_bytes(trial *t, const budget *b) {
    ck_assert_ptr_null(make_trainer(t, b));
    ASSERT_FAILS(err, BRIM_MEMORY, "missing");
    return lacks.vram_missing + lacks.ram_missing + lacks.disk_missing;
}

// Where the size of a micro-batch is open, the error is that of the size which comes closest: with
// halved gradients, that is not the smallest.
START_TEST(the_nearest_size_is_said) {
    if (!any_device_under_test()) return;
    train_once();
    enum { SIZES = 3, STEP = 4 };
    trial t = random_trial(700);
    use_blocks(&t);
    t.precision = BRIM_PRECISION_BF16;
    find_overhead(&t);
    budget b = {.vram = 1000};
    int64_t vram = 0, missing[SIZES];
    for (int i = 0; i < 2 * SIZES; i++) { // device memory that is enough; then main memory alone
        t.batch = (int64_t)1 << i % SIZES;
        t.accumulate = STEP / t.batch;
        missing[i % SIZES] = missing_bytes(&t, &b);
        if (lacks.vram_bytes > vram) vram = lacks.vram_bytes;
        if (i == SIZES - 1) b = (budget){.vram = vram - overhead, .ram = 4096};
    }
    ck_assert_int_lt(missing[2], missing[0]);
    ck_assert_int_lt(missing[2], missing[1]);
    t.batch = t.accumulate = 0;
    t.step_batch = STEP;
    ck_assert_int_eq(missing_bytes(&t, &b), missing[2]);
}
END_TEST

Suite *budgets_suite(void) {
    Suite *suite = suite_create("budgets");
    TCase *tests = tcase_create("budgets");
    tcase_set_timeout(tests, 600);
    tcase_add_loop_test(tests, every_plan_gives_the_same_bits, 0, PARTS);
    tcase_add_test(tests, nor_do_plans_change_halved_gradients);
    tcase_add_test(tests, a_file_holds_what_the_host_cannot);
    tcase_add_test(tests, a_run_goes_on_under_another_budget);
    suite_add_tcase(suite, tests);
    TCase *refusals = tcase_create("refusals");
    tcase_set_timeout(refusals, 300);
    tcase_add_test(refusals, what_cannot_fit_is_said);
    tcase_add_test(refusals, the_nearest_size_is_said);
    suite_add_tcase(suite, refusals);
    return suite;
}
