// Options of a training: defaults, ranges, how a step is cut, and what they say of each parameter.
#include <math.h>
#include <stddef.h>
#include "optim/training_graph.h"
#include "tests/test_core.h"

static brim_error err;

START_TEST(defaults_are_filled_in) {
    brim_trainer_options o = training_options(NULL, &err);
    ASSERT_FINE(err);
    ck_assert(o.batch == 1 && o.accumulate == 1 && o.step_batch == 0);
    ck_assert(o.optimizer.lr == 1e-3f && o.optimizer.beta1 == 0.9f && o.optimizer.beta2 == 0.999f);
    ck_assert(o.optimizer.eps == 1e-8f && o.optimizer.momentum == 0);
    brim_trainer_options given = {.optimizer = {.kind = BRIM_SGD, .beta1 = 0.5f, .beta2 = 0.25f}};
    o = training_options(&given, &err);
    ASSERT_FINE(err);
    ck_assert(o.optimizer.lr == 1e-2f && o.optimizer.beta1 == 0.5f && o.optimizer.beta2 == 0.25f);
    given.optimizer.lr = 2, given.optimizer.eps = 0.125f;
    o = training_options(&given, &err);
    ASSERT_FINE(err);
    ck_assert(o.optimizer.lr == 2 && o.optimizer.eps == 0.125f);
}
END_TEST

// What is given of a step, and how it is cut; a text where that makes no sense.
START_TEST(steps_are_cut) {
    static const struct {
        int64_t batch, accumulate, step_batch, cut_batch, cut_accumulate;
        const char *refused;
    } rows[] = {{0, 0, 0, 1, 1, NULL},
                {3, 0, 0, 3, 1, NULL},
                {0, 4, 0, 1, 4, NULL},
                {3, 4, 0, 3, 4, NULL},
                {0, 0, 12, 0, 1, NULL}, // the planner chooses
                {3, 0, 12, 3, 4, NULL},
                {0, 3, 12, 4, 3, NULL},
                {3, 4, 12, 3, 4, NULL},
                {1, 0, 1, 1, 1, NULL},
                {3, 5, 12, 0, 0, "options.step_batch is 12, with batch 3 and accumulate 5"},
                {5, 0, 12, 0, 0, "options.step_batch is 12, with batch 5 and accumulate 0"},
                {0, 5, 12, 0, 0, "options.step_batch is 12, with batch 0 and accumulate 5"},
                {0, 0, -1, 0, 0, "options.step_batch is -1, with batch 0 and accumulate 0"},
                {-2, 0, 0, 0, 0, "options.batch is -2; expected 1 to 1.09951e+12"},
                {-2, 0, 12, 0, 0, "options.batch is -2; expected 0 to 1.09951e+12"},
                {0, -2, 0, 0, 0, "options.accumulate is -2; expected 1 to "},
                {-3, -4, 12, 0, 0, "options.batch is -3; expected 0 to "}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        brim_trainer_options o = {.batch = rows[i].batch,
                                  .accumulate = rows[i].accumulate,
                                  .step_batch = rows[i].step_batch};
        o = training_options(&o, &err);
        if (rows[i].refused) {
            ASSERT_FAILS(err, BRIM_ARGUMENT, rows[i].refused);
            continue;
        }
        ASSERT_FINE(err);
        ck_assert_int_eq(o.batch, rows[i].cut_batch);
        ck_assert_int_eq(o.accumulate, rows[i].cut_accumulate);
    }
}
END_TEST

typedef enum number_kind { WHOLE, CHOICE, REAL } number_kind;
#define FIELD(name, kind) #name, offsetof(brim_trainer_options, name), kind

static void set(brim_trainer_options *o, size_t offset, number_kind kind, double value) {
    void *field = (char *)o + offset;
    if (kind == WHOLE) *(int64_t *)field = (int64_t)value;
    if (kind == CHOICE) *(int *)field = (int)value;
    if (kind == REAL) *(float *)field = (float)value;
}

// The last number that is taken at each end, and the first that is not.
START_TEST(numbers_have_ranges) {
    static const struct {
        const char *name;
        size_t offset;
        number_kind kind;
        double below, low, high, above;
    } rows[] = {
        {FIELD(batch, WHOLE), -1, 1, 1ll << 40, (1ll << 40) + 1},
        {FIELD(step_batch, WHOLE), -1, 0, 1ll << 40, (1ll << 40) + 1},
        {FIELD(length, WHOLE), -1, 0, 1ll << 40, (1ll << 40) + 1},
        {FIELD(accumulate, WHOLE), -1, 1, 1 << 20, (1 << 20) + 1},
        {FIELD(vram_bytes, WHOLE), -1, 0, 1ll << 52, (1ll << 52) + 1},
        {FIELD(ram_bytes, WHOLE), -1, 0, 1ll << 52, (1ll << 52) + 1},
        {FIELD(disk_bytes, WHOLE), -1, 0, 1ll << 52, (1ll << 52) + 1},
        {FIELD(precision, CHOICE), -1, 0, 2, 3},
        {FIELD(on_nan, CHOICE), -1, 0, 1, 2},
        {FIELD(optimizer.kind, CHOICE), -1, 0, 1, 2},
        {FIELD(optimizer.states, CHOICE), -1, 0, 1, 2},
        {FIELD(optimizer.lr, REAL), -1e-6, 1e-30, 1e6, 1.001e6},
        {FIELD(optimizer.beta1, REAL), -1e-6, 1e-30, 0.9999999, 1},
        {FIELD(optimizer.beta2, REAL), -1e-6, 1e-30, 0.9999999, 1},
        {FIELD(optimizer.eps, REAL), -1e-6, 1e-30, 1, 1.0001},
        {FIELD(optimizer.momentum, REAL), -1e-6, 0, 0.9999999, 1},
        {FIELD(optimizer.weight_decay, REAL), -1e-6, 0, 1e6, 1.001e6},
        {FIELD(optimizer.clip, REAL), -1e-6, 0, 9.99e29, 1.001e30},
        {FIELD(schedule.kind, CHOICE), -1, 0, 2, 3},
        {FIELD(schedule.warmup, WHOLE), -1, 0, 1ll << 40, (1ll << 40) + 1},
        {FIELD(schedule.steps, WHOLE), -1, 0, 1ll << 40, (1ll << 40) + 1},
        {FIELD(schedule.min_lr, REAL), -1e-6, 0, 1e6, 1.001e6},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const double values[] = {rows[i].below, rows[i].low, rows[i].high, rows[i].above, NAN};
        for (int k = 0; k < 5; k++) {
            if (k == 4 && rows[i].kind != REAL) continue;
            brim_trainer_options o = {0};
            set(&o, rows[i].offset, rows[i].kind, values[k]);
            training_options(&o, &err);
            bool taken = k == 1 || k == 2;
            ck_assert_msg((err.status == BRIM_OK) == taken, "%s of %.9g: %s", rows[i].name,
                          values[k], err.text);
            char said[64];
            snprintf(said, sizeof said, "options.%s is ", rows[i].name);
            if (!taken) ASSERT_FAILS(err, BRIM_ARGUMENT, said);
        }
    }
    // States in 8 bits are AdamW's.
    brim_trainer_options sgd = {.optimizer = {.kind = BRIM_SGD, .states = BRIM_STATES_Q8}};
    training_options(&sgd, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "options.optimizer.states is 1; expected 0 to 0");
}
END_TEST

START_TEST(groups_are_checked) {
    static const struct {
        brim_parameter_group group;
        const char *refused;
    } rows[] = {
        {{.pattern = "*"}, NULL},
        {{.pattern = "*", .lr_scale = 3, .weight_decay = 2}, NULL},
        {{.lr_scale = 1}, "options.groups[1].pattern is NULL"},
        {{.pattern = "a", .lr_scale = -1}, "options.groups[1] (\"a\"): lr_scale -1 and "},
        {{.pattern = "a", .lr_scale = INFINITY}, "lr_scale inf and weight_decay 0;"},
        {{.pattern = "a", .weight_decay = -2}, "lr_scale 0 and weight_decay -2; expected 0 or"},
        {{.pattern = "a", .weight_decay = NAN}, "weight_decay nan"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const brim_parameter_group groups[] = {{.pattern = "first"}, rows[i].group};
        training_options(&(brim_trainer_options){.groups = groups, .group_count = 2}, &err);
        if (rows[i].refused)
            ASSERT_FAILS(err, BRIM_ARGUMENT, rows[i].refused);
        else
            ASSERT_FINE(err);
    }
    const brim_parameter_group one = {.pattern = "*"};
    training_options(&(brim_trainer_options){.groups = &one, .group_count = -1}, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "options.group_count is -1, but options.groups is set");
    training_options(&(brim_trainer_options){.group_count = 1}, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "options.group_count is 1, but options.groups is NULL");
    training_options(&(brim_trainer_options){.groups = &one}, &err);
    ASSERT_FINE(err);
}
END_TEST

// The last group that matches counts; without one, matrices decay.
START_TEST(parameters_have_rules) {
    const brim_parameter_group groups[] = {
        {.pattern = "h.*", .lr_scale = 3},
        {.pattern = "*.bias", .frozen = true, .set_weight_decay = true, .weight_decay = 5},
        {.pattern = "h.1.*", .weight_decay = 7}, // which is not set
        {.pattern = "tail", .set_weight_decay = true}};
    const brim_trainer_options o = {
        .groups = groups, .group_count = 4, .optimizer = {.weight_decay = 0.5f}};
    static const struct {
        const char *name;
        int rank;
        parameter_rule rule;
    } rows[] = {{"other", 2, {false, 1, 0.5f}}, {"other", 1, {false, 1, 0}},
                {"other", 3, {false, 1, 0.5f}}, {"h.0.weight", 2, {false, 3, 0.5f}},
                {"h.0.gain", 1, {false, 3, 0}}, {"h.0.bias", 1, {true, 1, 5}},
                {"h.1.bias", 1, {false, 1, 0}}, {"h.1.weight", 2, {false, 1, 0.5f}},
                {"tail", 2, {false, 1, 0}}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        parameter_rule r = training_parameter_rule(&o, rows[i].name, rows[i].rank),
                       e = rows[i].rule;
        ck_assert_msg(r.frozen == e.frozen && r.lr_scale == e.lr_scale && r.decay == e.decay,
                      "row %d: frozen %d, lr_scale %g, decay %g", (int)i, r.frozen, r.lr_scale,
                      r.decay);
    }
}
END_TEST

START_TEST(optimizers_have_states) {
    static const struct {
        brim_optimizer optimizer;
        int64_t elements;
        op_id op;
        const char *suffixes;
    } rows[] = {
        {{.kind = BRIM_ADAMW}, 1 << 20, OP_ADAMW, "m v"},
        {{.kind = BRIM_SGD}, 1 << 20, OP_SGD, "m"},
        {{.kind = BRIM_ADAMW, .states = BRIM_STATES_Q8}, 4095, OP_ADAMW, "m v"},
        {{.kind = BRIM_ADAMW, .states = BRIM_STATES_Q8},
         4096,
         OP_ADAMW_Q8,
         "m.codes m.scales v.codes v.scales"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        optimizer_layout l = optimizer_states(&rows[i].optimizer, rows[i].elements);
        char suffixes[100] = "";
        ck_assert_int_eq(l.op, rows[i].op);
        for (int k = 0; k < l.states; k++) {
            snprintf(suffixes + strlen(suffixes), sizeof suffixes - strlen(suffixes), "%s%s",
                     k ? " " : "", l.state[k].suffix);
            ck_assert((l.state[k].form == STATE_CODES) ==
                      (strstr(l.state[k].suffix, "codes") != NULL));
            ck_assert((l.state[k].form == STATE_SCALES) ==
                      (strstr(l.state[k].suffix, "scales") != NULL));
        }
        ck_assert_str_eq(suffixes, rows[i].suffixes);
    }
}
END_TEST

Suite *training_options_suite(void) {
    Suite *s = suite_create("training_options");
    TCase *tests = tcase_create("training_options");
    tcase_add_test(tests, defaults_are_filled_in);
    tcase_add_test(tests, steps_are_cut);
    tcase_add_test(tests, numbers_have_ranges);
    tcase_add_test(tests, groups_are_checked);
    tcase_add_test(tests, parameters_have_rules);
    tcase_add_test(tests, optimizers_have_states);
    suite_add_tcase(s, tests);
    return s;
}
