// Command lines and the texts in them. The first byte says whose: train_gpt's, plan's, or texts
// that stand for numbers, sizes and name patterns. A line of the input is an argument.
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/number.h"
#include "core/units.h"
#include "examples/plan_options.h"
#include "examples/presets.h"
#include "examples/train_gpt_options.h"
#include "optim/training_graph.h"
#include "tests/fuzz/fuzz.h"

enum { MOST_ARGUMENTS = 24 };

// ---- command lines ------------------------------------------------------------------------------

static jmp_buf after_exit;

_Noreturn void fuzz_exit(int status);
// What the programs' sources call where getopt has said what is wrong (see CMakeLists.txt).
_Noreturn void fuzz_exit(int status) {
    FUZZ_CHECK(status == 1, "exit status %d", status);
    longjmp(after_exit, 1);
}

// argp ends the process by itself after these, in any abbreviation; --HANG sleeps.
static bool ends_process(const char *argument) {
    static const char *const options[] = {"--help", "--usage", "--version", "--HANG"};
    if (argument[0] == '-' && argument[1] != '-') return true; // -?, -V, and groups with them
    for (int i = 0; i < 4; i++) {
        size_t length = strcspn(argument, "=");
        if (length > 2 && strncmp(argument, options[i], length) == 0) return true;
    }
    return false;
}

static int read_arguments(const uint8_t *data, size_t size, char *argv[MOST_ARGUMENTS + 2]) {
    int argc = 0;
    argv[argc++] = strdup("program");
    while (size > 0 && argc <= MOST_ARGUMENTS) {
        char *argument = fuzz_line(&data, &size);
        if (ends_process(argument))
            free(argument);
        else
            argv[argc++] = argument;
    }
    argv[argc] = NULL;
    return argc;
}

// argp moves arguments about.
static void free_arguments(char *argv[MOST_ARGUMENTS + 2]) {
    for (int i = 0; argv[i]; i++) free(argv[i]);
}

// getopt's words about what it does not know go nowhere.
static FILE *silence(void) {
    static FILE *nowhere;
    FILE *said = stderr;
    if (!nowhere) nowhere = fopen("/dev/null", "w");
    FUZZ_CHECK(nowhere, "no /dev/null");
    stderr = nowhere;
    return said;
}

static void check_trainer_options(const train_options *o) {
    brim_error err = {0};
    brim_trainer_options given = {.batch = o->batch,
                                  .length = o->sequence,
                                  .accumulate = o->accumulate,
                                  .step_batch = o->step_batch,
                                  .ram_bytes = o->ram,
                                  .vram_bytes = o->vram.bytes,
                                  .disk_bytes = o->disk.bytes,
                                  .precision = (brim_precision)o->precision,
                                  .optimizer = {.lr = (float)o->lr,
                                                .beta1 = (float)o->beta1,
                                                .beta2 = (float)o->beta2,
                                                .eps = (float)o->eps,
                                                .weight_decay = (float)o->weight_decay,
                                                .clip = (float)o->clip,
                                                .states = (brim_states)o->states},
                                  .schedule = {.kind = (brim_schedule_kind)o->schedule,
                                               .warmup = o->warmup,
                                               .steps = o->steps,
                                               .min_lr = (float)o->min_lr}};
    brim_trainer_options all = training_options(&given, &err);
    if (fuzz_error(&err)) return;
    FUZZ_CHECK(all.accumulate >= 1 && all.batch >= (o->step_batch ? 0 : 1), "no micro-batch");
    for (int64_t step = 1; step < (int64_t)1 << 50; step = step * 3 + 1) {
        double lr = brim_schedule_lr(&all.schedule, all.optimizer.lr, step);
        FUZZ_CHECK(lr >= 0 && lr <= 1e6, "a learning rate of %g", lr);
    }
}

static void check_sizes(const model_config *sizes, int architecture) {
    brim_error err = {0};
    model_config c = *sizes;
    c.architecture = architecture < 0 ? MODEL_GPT2 : (model_architecture)architecture;
    if (!c.vocabulary) c.vocabulary = 256;
    c = model_config_complete(&c);
    model_config_check(&c, &err);
    if (!fuzz_error(&err)) FUZZ_CHECK(model_parameters(&c) > 0, "a model of no parameters");
}

static void check_training(int argc, char **argv) {
    brim_error err = {0};
    static train_options o;
    FILE *said = silence();
    bool left = setjmp(after_exit);
    if (!left) train_options_parse(argc, argv, &o, &err);
    stderr = said;
    free(o.files);
    if (left || fuzz_error(&err)) return;
    FUZZ_CHECK(o.file_count > 0 && o.out, "no data, or no folder");
    FUZZ_CHECK(o.step_batch || (o.batch >= 1 && o.accumulate >= 1), "no batch");
    FUZZ_CHECK(o.vram.share >= 0 && o.vram.share <= 1, "a share of %g", o.vram.share);
    check_sizes(&o.sizes, o.architecture);
    check_trainer_options(&o);
}

static void check_plan(int argc, char **argv) {
    brim_error err = {0};
    static plan_options o;
    FILE *said = silence();
    bool left = setjmp(after_exit);
    if (!left) plan_options_parse(argc, argv, &o, &err);
    stderr = said;
    if (left || fuzz_error(&err)) return;
    if (o.model) model_preset_find(o.model, &err);
    fuzz_error(&err);
    const gpu_preset *gpu = o.gpu ? gpu_preset_find(o.gpu, &err) : NULL;
    fuzz_error(&err);
    if (gpu) FUZZ_CHECK(gpu_preset_rates(gpu).memory_bytes > 0, "a card without memory");
    check_sizes(&o.sizes, o.architecture);
}

// ---- texts --------------------------------------------------------------------------------------

static void check_integer(const char *text) {
    brim_error err = {0};
    int64_t value, again;
    bool good = parse_i64(text, "a number", -1000, INT64_MAX, &value, &err);
    FUZZ_CHECK(good != fuzz_error(&err), "a number or an error");
    if (!good) return;
    char printed[32];
    FUZZ_CHECK(value >= -1000, "%lld is out of range", (long long)value);
    snprintf(printed, sizeof printed, "%lld", (long long)value);
    FUZZ_CHECK(parse_i64(printed, "", INT64_MIN, INT64_MAX, &again, &err) && again == value,
               "%s reads as another number", printed);
}

static void check_real(const char *text) {
    brim_error err = {0};
    double value;
    bool good = parse_f64(text, "a number", -1e308, 1e300, &value, &err);
    FUZZ_CHECK(good != fuzz_error(&err), "a number or an error");
    if (good) FUZZ_CHECK(value >= -1e308 && value <= 1e300, "%g is out of range", value);
}

static void check_size(const char *text) {
    brim_error err = {0};
    int64_t bytes;
    bool good = parse_bytes(text, "a size", &bytes, &err);
    FUZZ_CHECK(good != fuzz_error(&err), "a size or an error");
    if (!good) return;
    char shown[UNITS_TEXT], room[UNITS_TEXT];
    FUZZ_CHECK(bytes >= 0, "a size of %lld", (long long)bytes);
    FUZZ_CHECK(strlen(format_bytes(bytes, shown)) < UNITS_TEXT, "a long size");
    FUZZ_CHECK(brim_bytes_text(bytes, room, 4) && strlen(room) < 4, "a size beyond its room");
}

// All doubles and floats print as texts that read back to the same bits.
static void check_printed(double value) {
    char text[NUMBER_TEXT];
    double again;
    number_print(value, text);
    FUZZ_CHECK(strlen(text) < NUMBER_TEXT, "a long number");
    bool read = number_parse(text, &again);
    FUZZ_CHECK(read == (bool)isfinite(value), "%s is a number or none", text);
    if (read) FUZZ_CHECK(memcmp(&value, &again, sizeof value) == 0, "%s has other bits", text);
    float small = fabs(value) < 3e38 ? (float)value : 0;
    number_print_f32(small, text);
    FUZZ_CHECK(number_parse(text, &again) && (float)again == small, "%s is another float", text);
    char seconds[UNITS_TEXT], count[UNITS_TEXT], bytes[UNITS_TEXT];
    FUZZ_CHECK(strlen(format_seconds(value, seconds)) + 1 < UNITS_TEXT, "long seconds");
    FUZZ_CHECK(strlen(format_count(value, count)) + 1 < UNITS_TEXT, "a long count");
    int64_t whole;
    memcpy(&whole, &value, sizeof whole);
    FUZZ_CHECK(strlen(format_bytes(whole, bytes)) + 1 < UNITS_TEXT, "long bytes");
}

static void check_pattern(const char *pattern, const char *name, double decay) {
    brim_error err = {0};
    brim_parameter_group groups[] = {{.pattern = "*", .lr_scale = 0.5f},
                                     {.pattern = pattern,
                                      .frozen = true,
                                      .set_weight_decay = true,
                                      .weight_decay = (float)decay}};
    brim_trainer_options o =
        training_options(&(brim_trainer_options){.groups = groups, .group_count = 2}, &err);
    if (fuzz_error(&err)) return;
    parameter_rule rule = training_parameter_rule(&o, name, 2);
    FUZZ_CHECK(rule.frozen || rule.lr_scale == 0.5f, "no group has %s", name);
    FUZZ_CHECK(!rule.frozen || rule.decay >= 0, "a decay of %g", (double)rule.decay);
}

static void check_texts(const uint8_t *data, size_t size) {
    double number = 0;
    if (size < sizeof number) return;
    memcpy(&number, data, sizeof number);
    data += sizeof number, size -= sizeof number;
    char *text = fuzz_line(&data, &size), *name = fuzz_line(&data, &size);
    check_printed(number);
    check_integer(text);
    check_real(text);
    check_size(text);
    if (strlen(text) < 64 && fabs(number) < 1e30) check_pattern(text, name, number);
    free(text);
    free(name);
}

void fuzz_one(const uint8_t *data, size_t size) {
    if (size < 1) return;
    int kind = data[0] % 3;
    data++, size--;
    if (kind == 2) {
        check_texts(data, size);
        return;
    }
    char *argv[MOST_ARGUMENTS + 2];
    int argc = read_arguments(data, size, argv);
    if (kind == 0)
        check_training(argc, argv);
    else
        check_plan(argc, argv);
    free_arguments(argv);
}
