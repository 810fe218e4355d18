// Checks a device: every op against a double-precision reference, and short trainings. What it
// prints can be pasted into a bug report.
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "core/clock.h"
#include "core/units.h"
#include "examples/selftest_train.h"
#include "tests/op_check.h"

const char *argp_program_version = "selftest (Brim) 0.1.0";

static const char description[] =
    "Checks a device: every op, forward and backward, against a double-precision reference, then "
    "short trainings. What it prints can be pasted into a bug report.\v"
    "A number beside an op is the largest error found, as a part of what is allowed. The exit "
    "status is 0 where everything is right.";

typedef struct selftest_options {
    const char *device;
    device_settings settings;
    bool quick;
    brim_error err; // of the command line
} selftest_options;

enum { KEY_GROUP = 1000, KEY_VECTOR, KEY_OWN_PRODUCTS, KEY_QUICK };
static const struct argp_option option_table[] = {
    {"device", 'd', "D", 0,
     "cuda, cuda:1, opencl:0, cpu, ... (default: the best found; see devices)", 0},
    {"quick", KEY_QUICK, 0, 0, "f32 only", 0},
    {0, 0, 0, 0, "To see how a device does in the way that others work (ops only):", 1},
    {"group", KEY_GROUP, "N", 0, "work-items in a group: a power of two", 1},
    {"vector", KEY_VECTOR, "N", 0, "floats in a vector: 1, 4, 8 or 16", 1},
    {"own-products", KEY_OWN_PRODUCTS, 0, 0, "matrix products by Brim's own kernel", 1},
    {0},
};

static int32_t number(const char *text, const char *name, brim_error *err) {
    int64_t value = 0;
    parse_i64(text, name, 1, 1 << 20, &value, err);
    return (int32_t)value;
}

static error_t parse(int key, char *argument, struct argp_state *state) {
    selftest_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->err_stream = NULL; // a mistake gets one line: argp would add another
        break;
    case 'd':
        o->device = argument;
        break;
    case KEY_QUICK:
        o->quick = true;
        break;
    case KEY_GROUP:
        o->settings.group = number(argument, "--group", &o->err);
        break;
    case KEY_VECTOR:
        o->settings.vec = number(argument, "--vector", &o->err);
        break;
    case KEY_OWN_PRODUCTS:
        o->settings.own_products = true;
        break;
    case ARGP_KEY_ARG:
        brim_fail(&o->err, BRIM_ARGUMENT, "unexpected argument \"%s\" (see --help)", argument);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

// ---- what is tested -----------------------------------------------------------------------------

static void print_processor(void) {
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256], model[200] = "unknown processor";
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "model name : %199[^\n]", model) == 1) break;
    if (file) fclose(file);
    printf("processor  %s, %ld cores online\n", model, sysconf(_SC_NPROCESSORS_ONLN));
}

static void print_head(const harness *h) {
    struct utsname system;
    char memory[UNITS_TEXT];
    printf("%s self-test\n", "Brim 0.1.0");
    if (uname(&system) == 0)
        printf("system     %s %s %s\n", system.sysname, system.release, system.machine);
    print_processor();
    const device_traits *t = h->backend->traits(h->device);
    const char *library = h->backend->matmul_library(h->device);
    printf("device     %s: %s %s\n", t->backend, t->name, t->architecture);
    printf("driver     %s\n", t->driver);
    printf("memory     %s; largest piece ", format_bytes(t->memory_bytes, memory));
    printf("%s\n", t->chunk_bytes ? format_bytes(t->chunk_bytes, memory) : "unlimited");
    printf("kernels    vectors of %d, groups of %d (at most %d), %d compute units, %s\n", t->vec,
           t->group, t->max_group, t->compute_units,
           t->exact_f32 ? "exact f32" : "f32 that is not exact");
    printf("products   %s\n\n", library[0] ? library : "Brim's own kernel");
}

// ---- ops ----------------------------------------------------------------------------------------

enum { COMPARED_DTYPES = BRIM_I32 }; // f32, f16, bf16

static void show_progress(const char *op, int done) {
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[Kchecking %s (%d of %d)", op, done, OP_COUNT);
}

static void end_progress(void) {
    if (isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
}

// One line of the table; failures are told below it. Returns how many there were.
static int check_op(harness *h, op_id op, int dtypes, int *cases) {
    int failures = 0, ran = 0;
    static op_check_report reports[COMPARED_DTYPES];
    for (int dtype = 0; dtype < dtypes; dtype++) {
        op_check_report *r = &reports[dtype];
        *r = (op_check_report){0};
        op_check(h, op, (brim_dtype)dtype, r);
        failures += r->failures, ran += r->cases;
    }
    end_progress();
    printf("%-26s %5d", op_table[op].name, ran);
    for (int dtype = 0; dtype < dtypes; dtype++) {
        if (reports[dtype].failures)
            printf(" %8s", "FAILED");
        else if (reports[dtype].cases)
            printf(" %8.4f", reports[dtype].worst[op]);
        else
            printf(" %8s", "-");
    }
    putchar('\n');
    for (int dtype = 0; dtype < dtypes; dtype++) fputs(reports[dtype].text, stdout);
    fflush(stdout); // should the driver crash in the next one, this one is told
    *cases += ran;
    return failures;
}

static int check_ops(harness *h, bool quick, int *cases) {
    int dtypes = quick ? 1 : COMPARED_DTYPES, failures = 0;
    printf("%-26s %5s", "op", "cases");
    for (int dtype = 0; dtype < dtypes; dtype++) printf(" %8s", brim_dtype_name((brim_dtype)dtype));
    putchar('\n');
    for (int op = 0; op < OP_COUNT; op++) {
        show_progress(op_table[op].name, op);
        failures += check_op(h, (op_id)op, dtypes, cases);
    }
    return failures;
}

// ---- training -----------------------------------------------------------------------------------

static int check_training(const selftest_options *o) {
    static const struct {
        const char *name;
        brim_precision precision;
    } rows[] = {
        {"f32", BRIM_PRECISION_F32}, {"bf16", BRIM_PRECISION_BF16}, {"f16", BRIM_PRECISION_F16}};
    int failures = 0;
    for (int i = 0; i < (o->quick ? 1 : 3); i++) {
        selftest_training t;
        selftest_train(o->device, rows[i].precision, &t);
        printf("training %-5s loss %.4f to %.4f, %.1f ms a step, %s\n", rows[i].name, t.first_loss,
               t.last_loss, 1e3 * t.step_seconds,
               t.problem[0] ? "FAILED" : "the same bits each time");
        if (t.problem[0]) printf("%s\n", t.problem);
        fflush(stdout);
        failures += t.problem[0] != '\0';
    }
    return failures;
}

int main(int argc, char **argv) {
    static const struct argp parser = {option_table, parse, NULL, description, NULL, NULL, NULL};
    selftest_options o = {.device = "auto", .settings = {.poison = true}};
    if (argp_parse(&parser, argc, argv, 0, NULL, &o)) return 1; // getopt has printed why
    if (o.err.status) return brim_error_report(&o.err);
    brim_error err = {0};
    harness h;
    double start = clock_seconds();
    if (harness_open(&h, o.device, &o.settings, &err)) return brim_error_report(&err);
    print_head(&h);
    int cases = 0, failures = check_ops(&h, o.quick, &cases);
    harness_close(&h);
    putchar('\n');
    bool bent = o.settings.group || o.settings.vec || o.settings.own_products;
    int trainings = bent ? 0 : o.quick ? 1 : 3;
    int training_failures = bent ? 0 : check_training(&o);
    printf("\n%d op cases, %d failed; %d trainings, %d failed; %.0f s\n", cases, failures,
           trainings, training_failures, clock_seconds() - start);
    bool good = cases > 0 && failures == 0 && training_failures == 0;
    puts(good ? "SELF-TEST PASSED" : "SELF-TEST FAILED");
    return good ? 0 : 1;
}
