// Every op case on every device that is here, forward and backward, against the oracle; and that no
// table forgets an op.
//
// Most of the time goes into compiling kernels, on one core a process. So the work is done before
// the tests proper, as jobs (a setup and an op each) that as many processes as there are cores take
// from a list in shared memory; each test looks at what became of one job. A job whose process died
// is a failure.
#include <check.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "autograd/autograd.h"
#include "backends/lower.h"
#include "graph/pass_recompute.h"
#include "graph/passes.h"
#include "test_core.h"
#include "tests/devices.h"
#include "tests/op_check.h"
#include "tests/shared_modules.h"
#include "tests/skips.h"

// A device as it is, and as other devices are: the specialisations that GPUs use run on a CPU
// device, too. There the dtypes and the elementwise ops, whose kernels are generated, take turns.
typedef enum setup_scope { EVERYTHING, TURNS, PRODUCTS } setup_scope;
typedef struct setup {
    const char *name, *device;
    device_settings settings;
    setup_scope scope;
    uint32_t dtypes;
    skip_id skip; // where the device is not here
} setup;
enum { F32 = 1 << BRIM_F32, F16 = 1 << BRIM_F16, BF16 = 1 << BRIM_BF16, FLOATS = F32 | F16 | BF16 };

static const setup setups[] = {
    {"CUDA", "cuda:0", {.poison = true}, EVERYTHING, FLOATS, SKIP_no_cuda_device},
    {"OpenCL", "opencl:0", {.poison = true}, EVERYTHING, FLOATS, SKIP_no_opencl_device},
    {"OpenCL, own products",
     "opencl:0",
     {.poison = true, .own_products = true},
     PRODUCTS,
     FLOATS,
     SKIP_no_opencl_device},
    {"OpenCL, groups of 64, scalars",
     "opencl:0",
     {.poison = true, .vec = 1, .group = 64},
     TURNS,
     F32,
     SKIP_no_opencl_device},
    {"OpenCL, groups of 128, vectors of 4, own products",
     "opencl:0",
     {.poison = true, .vec = 4, .group = 128, .own_products = true},
     TURNS,
     BF16,
     SKIP_no_opencl_device},
    {"OpenCL, groups of 256, vectors of 4, own products",
     "opencl:0",
     {.poison = true, .vec = 4, .group = 256, .own_products = true},
     TURNS,
     F16,
     SKIP_no_opencl_device},
};
enum {
    SETUPS = sizeof setups / sizeof *setups,
    JOBS = SETUPS * OP_COUNT,
    MOST_WORKERS = 16,
    JOB_SECONDS = 600
};

static bool present(const setup *s) {
    char why[300];
    if (!device_wanted(s->device)) return false;
    for (const backend *const *b = backend_list; *b; b++)
        if (strncmp((*b)->name, s->device, strlen((*b)->name)) == 0)
            return (*b)->count(why, sizeof why) > 0;
    return false;
}

// The long form (./test.sh --long) leaves nothing out. The short one, which must end within minutes
// on two cores, leaves out groups of 128; ops take turns, from day to day, in what they cost most
// in: each has f32 every day, each 16-bit type one day in four (products every day), and groups of
// 64 one day, of 256 the next.
static bool long_form(void) {
    return getenv("BRIM_TEST_LONG") || getenv("BRIM_TEST_OPS");
}

static int turn_of(op_id op, int turns) {
    enum { DAY = 24 * 60 * 60 };
    return (int)(((int64_t)op + time(NULL) / DAY) % turns);
}

static bool takes_dtype(const setup *s, op_id op, int dtype) {
    if (!(s->dtypes >> dtype & 1)) return false;
    if (long_form() || s->scope != EVERYTHING || dtype == BRIM_F32) return true;
    return turn_of(op, 4) == (dtype == BRIM_F16 ? 0 : 2);
}

// BRIM_TEST_OPS=",softmax,sum,": these alone, and one that fails is enough, for tests/mutate.sh.
static const char *chosen_ops(void) {
    return getenv("BRIM_TEST_OPS");
}

static bool is_chosen(op_id op) {
    char name[64];
    snprintf(name, sizeof name, ",%s,", op_table[op].name);
    return !chosen_ops() || strstr(chosen_ops(), name);
}

static bool concerns(const setup *s, op_id op) {
    if (!is_chosen(op)) return false;
    if (s->settings.group == 128 && !long_form()) return false;
    if (s->scope == PRODUCTS) return op == OP_MATMUL;
    if (s->scope == EVERYTHING) return true;
    if (op_table[op].family != FAMILY_ELEMENTWISE || op == OP_FUSED)
        return long_form() || turn_of(op, 2) == (s->settings.group == 64);
    return (int)op % 3 == (int)(s - setups) % 3;
}

// Jobs --------------------------------------------------------------------------------------------

enum { JOB_WAITING, JOB_RUNNING, JOB_DONE, JOB_NO_DEVICE };
typedef struct job {
    atomic_int state;
    op_check_report report;
} job;
typedef struct job_list {
    atomic_int next;
    job of[JOBS];
} job_list;
static job_list *jobs;

static bool is_enough(const job *j) {
    return chosen_ops() && j->report.failures > 0;
}

static void run_job(job *j, harness *h, op_id op, const setup *s) {
    atomic_store(&j->state, JOB_RUNNING);
    alarm(JOB_SECONDS);
    for (int dtype = 0; dtype < BRIM_I32 && !is_enough(j); dtype++)
        if (takes_dtype(s, op, dtype)) op_check(h, op, (brim_dtype)dtype, &j->report);
    alarm(0);
    atomic_store(&j->state, JOB_DONE);
}

// A compiler mostly reads the dialect: generated kernels of a program are compiled together. Those
// that are as other devices would have them are not optimised in the short form: what they compute
// is the same.
typedef struct sharing_backend {
    backend shown;
    const backend *real;
} sharing_backend;
static sharing_backend sharing; // of this process

static brim_status load_sharing(backend_device *device, const program *p, loaded_program **out,
                                brim_error *err) {
    shared_modules_expect(p);
    return sharing.real->load(device, p, out, err);
}

static void open_sharing(harness *h, const setup *s, brim_error *err) {
    if (harness_open(h, s->device, &s->settings, err)) return;
    sharing.real = h->backend;
    sharing.shown = *h->backend;
    sharing.shown.load = load_sharing;
    h->backend = &sharing.shown;
    shared_modules_begin(s->scope == TURNS && !getenv("BRIM_TEST_LONG"));
}

static void close_sharing(harness *h) {
    shared_modules_end();
    harness_close(h);
}

// Takes jobs until there are none. Those of one setup come together, so that its device is opened
// once.
static void work(void) {
    harness h = {0};
    const setup *opened = NULL;
    for (int i; (i = atomic_fetch_add(&jobs->next, 1)) < JOBS;) {
        const setup *s = &setups[i / OP_COUNT];
        job *j = &jobs->of[i];
        if (!concerns(s, (op_id)(i % OP_COUNT))) {
            atomic_store(&j->state, JOB_DONE);
            continue;
        }
        brim_error err = {0};
        if (opened != s) {
            close_sharing(&h);
            opened = s;
            if (present(s)) open_sharing(&h, s, &err);
        }
        if (failed(&err)) snprintf(j->report.text, sizeof j->report.text, "%s", err.text);
        j->report.failures += failed(&err);
        if (h.device)
            run_job(j, &h, (op_id)(i % OP_COUNT), s);
        else
            atomic_store(&j->state, failed(&err) ? JOB_DONE : JOB_NO_DEVICE);
        if (is_enough(j)) atomic_store(&jobs->next, JOBS);
    }
    close_sharing(&h);
}

static pid_t start_worker(void) {
    fflush(NULL);
    pid_t worker = fork();
    if (worker == 0) {
        work();
        _exit(0);
    }
    return worker;
}

static void run_jobs(void) {
    void *memory =
        mmap(NULL, sizeof *jobs, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    jobs = memory;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int workers = cores < 1 ? 1 : cores > MOST_WORKERS ? MOST_WORKERS : (int)cores;
    pid_t worker[MOST_WORKERS];
    for (int i = 0; i < workers; i++) worker[i] = start_worker();
    for (int i = 0; i < workers; i++) {
        int status = 0;
        while (worker[i] > 0 && waitpid(worker[i], &status, 0) == worker[i]) {
            bool died = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
            if (!died || atomic_load(&jobs->next) >= JOBS) break;
            worker[i] = start_worker(); // the others' jobs are still to be done
        }
    }
}

static void forget_jobs(void) {
    if (jobs) munmap(jobs, sizeof *jobs);
    jobs = NULL;
}

START_TEST(cases) {
    const setup *s = &setups[_i / OP_COUNT];
    op_id op = (op_id)(_i % OP_COUNT);
    ck_assert_ptr_nonnull(jobs);
    const job *j = &jobs->of[_i];
    int state = atomic_load(&j->state);
    if (state == JOB_NO_DEVICE) {
        if (device_wanted(s->device)) skip(s->skip);
        return;
    }
    ck_assert_msg(state == JOB_DONE, "%s: the process that checked %s died or took more than %d s",
                  s->name, op_table[op].name, JOB_SECONDS);
    ck_assert_msg(j->report.failures == 0, "%s: %d of %d cases of %s fail\n%s", s->name,
                  j->report.failures, j->report.cases, op_table[op].name, j->report.text);
}
END_TEST

// Skipping everything is no success, and neither are cases that compare nothing.
START_TEST(something_was_checked) {
    ck_assert_ptr_nonnull(jobs);
    for (int i = 0; i < SETUPS && !chosen_ops(); i++) {
        if (!present(&setups[i]) || !concerns(&setups[i], OP_MATMUL)) continue;
        int checked = 0;
        int64_t elements = 0;
        for (int op = 0; op < OP_COUNT; op++) {
            checked += jobs->of[i * OP_COUNT + op].report.cases;
            elements += jobs->of[i * OP_COUNT + op].report.elements;
        }
        ck_assert_msg(checked > 50 && elements > 1000 * (int64_t)checked,
                      "%s: %d cases, %lld elements", setups[i].name, checked, (long long)elements);
    }
}
END_TEST

// Tables ------------------------------------------------------------------------------------------

// op.def, rules, oracle, kernels and cases know the same ops.
START_TEST(no_table_forgets_an_op) {
    bool cased[OP_COUNT][BRIM_DTYPE_COUNT] = {{false}};
    for (int i = 0; i < op_case_count; i++)
        for (int dtype = 0; dtype < BRIM_I32; dtype++)
            if ((op_cases[i].uses & OP_CASE_TEST) && op_cases[i].dtypes >> dtype & 1)
                cased[op_cases[i].op][dtype] = true;
    for (int op = 0; op < OP_COUNT; op++) {
        const char *name = op_table[op].name;
        ck_assert_msg((derivative_rules[op] != NULL) ==
                          (op_table[op].derivative == DERIVATIVE_RULE),
                      "%s: op.def and the derivative rules disagree", name);
        ck_assert_msg(oracle_rules[op] != NULL, "%s is not in the oracle", name);
        ck_assert_msg(kernel_table[op].lower != NULL, "%s has no row in the kernel table", name);
        // Updates work in f32; those that write a 16-bit copy have cases in its dtypes.
        bool updates = op_table[op].family == FAMILY_UPDATE;
        bool copies = op == OP_ADAMW_CAST || op == OP_ADAMW_Q8_CAST || op == OP_SGD_CAST;
        for (int dtype = 0; dtype < BRIM_I32; dtype++)
            ck_assert_msg(cased[op][dtype] || (updates && (dtype != BRIM_F32) != copies),
                          "%s has no case in %s", name, brim_dtype_name((brim_dtype)dtype));
    }
}
END_TEST

// Passes ------------------------------------------------------------------------------------------

static void replace(brim_graph **g, brim_graph *next) {
    brim_graph_free(*g);
    *g = next;
}

// What the oracle makes of a result, by its name; leaves are found by name, too.
static double *oracle_result(const brim_graph *g, const brim_graph *source,
                             const leaf_values *leaves, const char *name, int64_t *count,
                             brim_error *err) {
    oracle *o = oracle_create(g, err);
    ASSERT_FINE(*err);
    o->round = true;
    for (value_id v = 0; v < g->values; v++)
        for (value_id from = 0; g->value[v].role != ROLE_RESULT && from < source->values; from++)
            if (source->value[from].role == g->value[v].role &&
                strcmp(source->value[from].name, g->value[v].name) == 0)
                oracle_set(o, v, leaves->of[from], err);
    oracle_run(o, err);
    ASSERT_FINE(*err);
    double *copy = NULL;
    for (int32_t i = 0; i < g->results; i++) {
        const oracle_tensor *t = &o->value[g->result[i]];
        if (strcmp(g->value[g->result[i]].name, name) != 0) continue;
        *count = t->count;
        copy = malloc((size_t)t->count * sizeof *copy);
        memcpy(copy, t->data, (size_t)t->count * sizeof *copy);
    }
    oracle_free(o);
    return copy;
}

// All that can be is computed again in the backward pass.
static brim_graph *recompute_all(const brim_graph *g, brim_error *err) {
    bool *all = malloc((size_t)g->values * sizeof *all);
    memset(all, true, (size_t)g->values * sizeof *all);
    brim_graph *recomputed = pass_recompute(g, all, err);
    free(all);
    return recomputed;
}

static void check_passes(const op_case *c, brim_dtype dtype) {
    brim_error err = {0};
    brim_graph *g = brim_graph_create(&err);
    op_case_graph made;
    brim_value cotangent, loss, gradient[OP_CASE_LEAVES];
    op_case_build(c, g, dtype, &made);
    ASSERT_FINE(err);
    brim_output(made.result, "result");
    bool differentiable = op_table[c->op].derivative != DERIVATIVE_NONE;
    if (differentiable) op_case_differentiate(&made, &cotangent, &loss, gradient);
    g->phase = PHASE_BACKWARD; // of the copies that a value with two names takes
    for (int k = 0; differentiable && k < made.leaves; k++) {
        char name[16];
        snprintf(name, sizeof name, "d%d", k);
        if (gradient[k].id >= 0) brim_output(gradient[k], name);
    }
    leaf_values leaves = leaf_values_make(g, &made, 1, &err);
    brim_graph *passed = pass_prune(g, &err);
    if (!failed(&err)) replace(&passed, pass_densify(passed, &err));
    if (!failed(&err)) pass_sections(passed, 1, &err);
    if (!failed(&err)) replace(&passed, recompute_all(passed, &err));
    if (!failed(&err)) replace(&passed, pass_fuse(passed, true, 24, &err));
    ASSERT_FINE(err);
    for (int32_t i = 0; i < g->results; i++) {
        const char *name = g->value[g->result[i]].name;
        int64_t before, after = -1;
        double *x = oracle_result(g, g, &leaves, name, &before, &err);
        double *y = oracle_result(passed, g, &leaves, name, &after, &err);
        ck_assert_int_eq(before, after);
        for (int64_t k = 0; k < before; k++)
            ck_assert_msg(x[k] == y[k] || (isnan(x[k]) && isnan(y[k])),
                          "%s/%s %s: %s, element %lld: %.9g became %.9g", op_table[c->op].name,
                          c->name, brim_dtype_name(dtype), name, (long long)k, x[k], y[k]);
        free(x);
        free(y);
    }
    leaf_values_free(&leaves);
    brim_graph_free(passed);
    brim_graph_free(g);
}

// Pruned, made dense, recomputed and fused, a graph comes to the same bits in the oracle.
START_TEST(passes_keep_the_bits) {
    const op_case *c = &op_cases[_i];
    for (int dtype = 0; dtype < BRIM_I32 && (c->uses & OP_CASE_TEST); dtype++)
        if (c->dtypes >> dtype & 1) check_passes(c, (brim_dtype)dtype);
}
END_TEST

Suite *ops_suite(void) {
    Suite *suite = suite_create("ops");
    TCase *tables = tcase_create("tables");
    tcase_add_test(tables, no_table_forgets_an_op);
    suite_add_tcase(suite, tables);
    TCase *passes = tcase_create("passes");
    tcase_set_timeout(passes, 60);
    tcase_add_loop_test(passes, passes_keep_the_bits, 0, op_case_count);
    suite_add_tcase(suite, passes);
    TCase *devices = tcase_create("devices");
    tcase_add_unchecked_fixture(devices, run_jobs, forget_jobs);
    tcase_add_loop_test(devices, cases, 0, JOBS);
    tcase_add_test(devices, something_was_checked);
    suite_add_tcase(suite, devices);
    return suite;
}
