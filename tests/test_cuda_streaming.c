// The CUDA backend where a step streams, on the CPU: any call that fails, and a device that is lost
// while copies are under way. Weights and states have their homes in main memory or on disk, and
// updates run there.
#include <math.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <brim/brim.h>
#include "core/files.h"
#include "core/philox.h"
#include "optim/trainer.h"
#include "tests/cuda_rig.h"
#include "tests/some_rates.h"

enum { IN = 6, WIDE = 20, OUT = 3, ROWS = 8, BLOCKS = 3, STEPS = 3, WEIGHTS = WIDE * WIDE };
enum {
    LONGEST = 60
}; // seconds of a whole run, on a machine that has other work; a hang takes more

static brim_loss build(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length, (void)user;
    brim_value x = brim_input(g, "x", BRIM_F32, batch, IN);
    brim_value label = brim_input(g, "label", BRIM_I32, batch);
    x = brim_linear(x, "in", WIDE);
    for (int i = 0; i < BLOCKS; i++) {
        brim_scope_push(g, "h.%d", i);
        x = brim_layer_norm(brim_gelu(brim_linear(x, "up", WIDE)), "norm", 0);
        brim_scope_pop(g);
    }
    return brim_cross_entropy(brim_linear(x, "out", OUT), label, -100);
}

// ---- plans --------------------------------------------------------------------------------------

typedef struct plan_kind {
    const char *settings;
    bool disk;
} plan_kind;

// With the least memory that there is a plan for: everything streams. Without pinned memory each
// copy passes through a buffer.
static const plan_kind kinds[] = {{"", false}, {"", true}, {"pinned_from=1M", false}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static brim_trainer_options options_of(const plan_kind *k) {
    brim_shortfall lacks = {0};
    brim_trainer_options o = {.batch = ROWS / 2,
                              .accumulate = 2,
                              .device = "cuda:0",
                              .rates = &some_rates,
                              .optimizer = {.lr = 0.05f, .clip = 1}};
    brim_trainer *whole = brim_trainer_create(build, NULL, &o, &err);
    ASSERT_FINE(err);
    o.vram_bytes = brim_trainer_describe(whole).overhead_bytes + 1;
    brim_trainer_free(whole);
    o.disk = k->disk ? "/tmp" : NULL;
    o.disk_bytes = k->disk ? 1 << 20 : 0;
    o.shortfall = &lacks;
    brim_error missing = {0};
    ck_assert_ptr_null(brim_trainer_create(build, NULL, &o, &missing));
    ck_assert_msg(lacks.vram_bytes > 0, "%s", missing.text);
    o.shortfall = NULL;
    o.vram_bytes = lacks.vram_bytes;
    if (k->disk) o.ram_bytes = lacks.ram_bytes / 2; // the rest goes there
    return o;
}

// What the plan is to have, so that its calls are made at all.
static void expect_streaming(const brim_trainer *t, const plan_kind *k) {
    const program *p = t->training.lowered.program;
    int records[QUEUE_COUNT] = {0};
    for (int32_t i = 0; i < p->records; i++) records[p->record[i].queue]++;
    ck_assert_int_gt(records[QUEUE_IN], 5);
    ck_assert_int_gt(records[QUEUE_OUT], 5);
    ck_assert_int_gt(records[QUEUE_HOST], 5);
    ck_assert(!k->disk || (records[QUEUE_READ] > 2 && records[QUEUE_WRITE] > 2));
}

// ---- a training ---------------------------------------------------------------------------------

static void feed(brim_trainer *t, int64_t step) {
    float x[ROWS][IN];
    int32_t label[ROWS];
    for (int r = 0; r < ROWS; r++) {
        for (int i = 0; i < IN; i++) x[r][i] = sinf((float)(step * 31 + r * 7 + i * 3));
        label[r] = (int32_t)((r + step) % OUT);
    }
    brim_trainer_feed(t, "x", x, sizeof x, &err);
    brim_trainer_feed(t, "label", label, sizeof label, &err);
}

static int64_t calls_before_closing;

// To the last step, from a folder's checkpoint where there is one, and saved there after each step.
// Whatever fails, sticks to err.
static void train(const brim_trainer_options *o, const char *folder, float weights[WEIGHTS]) {
    char latest[80];
    brim_trainer *t = brim_trainer_create(build, NULL, o, &err);
    snprintf(latest, sizeof latest, "%s/latest", folder ? folder : "");
    if (folder && access(latest, F_OK) == 0) brim_trainer_resume(t, folder, &err);
    for (int64_t i = t ? brim_trainer_describe(t).steps : 0; i < STEPS && !err.status; i++) {
        feed(t, i);
        brim_trainer_step(t, NULL, &err);
        if (folder) brim_trainer_save(t, folder, &err);
    }
    if (t) brim_trainer_read(t, "h.1.up.weight", weights, WEIGHTS, &err);
    calls_before_closing = rig.calls("any");
    brim_trainer_free(t);
}

// What a training without failures was, in memory that processes share.
static struct {
    brim_trainer_options options;
    int64_t calls; // with its kernels in the cache, and but for closing
    float weights[WEIGHTS];
    float after[WEIGHTS]; // a failure
    char failed[60];      // the call
} * all;

static void configure(const plan_kind *k, const char *words) {
    char settings[100];
    snprintf(settings, sizeof settings, "seed=1 %s %s", k->settings, words);
    ck_assert_ptr_null(rig.configure(settings));
}

static void prepare(const plan_kind *k) {
    configure(k, "");
    all->options = options_of(k);
    train(&all->options, NULL, all->weights);
    ASSERT_FINE(err);
    brim_trainer *t = brim_trainer_create(build, NULL, &all->options, &err);
    brim_trainer_prepare(t, &err);
    ASSERT_FINE(err);
    expect_streaming(t, k);
    brim_trainer_free(t);
    int64_t before = rig.calls("any");
    train(&all->options, NULL, all->weights);
    ASSERT_FINE(err);
    all->calls = calls_before_closing - before;
}

static void start_shared(void) {
    start();
    all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(all, MAP_FAILED);
}

static void finish_shared(void) {
    munmap(all, sizeof *all);
}

// ---- any call may fail --------------------------------------------------------------------------

// Results need not be the same where products are made in another way.
static bool is_of_products(const char *call) {
    return strncmp(call, "cublasLt", 8) == 0;
}

static void train_with_failure(const plan_kind *k, int64_t n) {
    char words[60];
    float weights[WEIGHTS];
    snprintf(words, sizeof words, "fail=any:%lld:999", (long long)n);
    configure(k, words);
    err = (brim_error){0};
    int64_t before = rig.calls("any");
    alarm(LONGEST);
    train(&all->options, NULL, weights);
    alarm(0);
    const char *call = rig.failed();
    bool failed = err.status != BRIM_OK;
    // How often threads ask for events differs from run to run: the last calls may be of closing,
    // which goes as far as it goes.
    bool closing = n > calls_before_closing - before;
    ck_assert_msg(failed || has_another_way(call) || !*call || closing,
                  "call %lld, %s, fails and nobody says so", (long long)n, call);
    ck_assert_msg(!failed || !strchr(err.text, '\n'), "call %lld, %s: %s", (long long)n, call,
                  err.text);
    ck_assert_msg(!*rig.alive() || closing, "call %lld, %s, fails (%s) and leaves %s", (long long)n,
                  call, err.text, rig.alive());
    ck_assert_msg(failed || is_of_products(call) || !memcmp(weights, all->weights, sizeof weights),
                  "call %lld, %s, fails and leaves other results", (long long)n, call);
}

START_TEST(every_call_may_fail) {
    if (!find_cuda_on_cpu("seed=1")) return;
    const plan_kind *k = &kinds[_i];
    prepare(k);
    ck_assert_int_gt(all->calls, 300);
    int64_t step = getenv("BRIM_TEST_LONG") ? 1 : all->calls / 100;
    for (int64_t n = 1 + _i; n <= all->calls; n += step) train_with_failure(k, n);
}
END_TEST

// ---- a device that is lost ----------------------------------------------------------------------

// A process that has lost its device, or was forked from one that has used it, is of no use.
static int in_child(void (*run)(const plan_kind *k, const char *folder), const plan_kind *k,
                    const char *folder) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(LONGEST);
        run(k, folder);
        _exit(err.status);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status), "a child ended by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

static int64_t lost_at;
static int lost_by;

static void lose_device(const plan_kind *k, const char *folder) {
    char words[60];
    snprintf(words, sizeof words, "fail=any:%lld:%d", (long long)lost_at, lost_by);
    configure(k, words);
    train(&all->options, folder, all->after);
    const char *call = rig.failed();
    snprintf(all->failed, sizeof all->failed, "%s", call);
    if (!err.status) return;
    // A library's call that fails loses no device; and where one cannot be asked, none is found.
    bool none = strncmp(call, "cu", 2) != 0 || strncmp(call, "cublas", 6) == 0 ||
                strcmp(call, "cuInit") == 0 || strncmp(call, "cuDevice", 8) == 0;
    if (none) err.status = BRIM_DEVICE;
    if (none || strstr(err.text, "the device is lost")) return;
    fprintf(stderr, "call %lld, %s: %s\n", (long long)lost_at, call, err.text);
    err.status = BRIM_CANCELLED;
}

static void go_on(const plan_kind *k, const char *folder) {
    configure(k, "");
    train(&all->options, folder, all->after);
    if (err.status) fprintf(stderr, "after call %lld: %s\n", (long long)lost_at, err.text);
}

static void undisturbed(const plan_kind *k, const char *folder) {
    (void)folder;
    prepare(k);
}

// At any call, most of them in a step: the last checkpoint is whole, and leads to the same bits.
START_TEST(a_lost_device_costs_no_checkpoint) {
    if (!find_cuda_on_cpu("seed=1")) return;
    static const int statuses[] = {700, 719, 702, 214};
    const plan_kind *k = &kinds[_i];
    int times = getenv("BRIM_TEST_LONG") ? 200 : 6, lost = 0;
    ck_assert_int_eq(in_child(undisturbed, k, NULL), BRIM_OK);
    for (int i = 0; i < times; i++) {
        char folder[] = "/tmp/brim-test-XXXXXX";
        ck_assert_ptr_nonnull(mkdtemp(folder));
        // Reading what is saved are calls more than in the run that was counted.
        lost_at = (int64_t)(philox_at(77, (uint64_t)_i, (uint64_t)i).v[0] % all->calls) + 1;
        lost_by = statuses[i % 4];
        int status = in_child(lose_device, k, folder);
        ck_assert_msg(status == BRIM_OK || status == BRIM_DEVICE || status == BRIM_MEMORY,
                      "call %lld, %s: status %d", (long long)lost_at, all->failed, status);
        lost += status != BRIM_OK;
        ck_assert_int_eq(in_child(go_on, k, folder), BRIM_OK);
        ck_assert_msg(is_of_products(all->failed) ||
                          !memcmp(all->after, all->weights, sizeof all->weights),
                      "call %lld, %s: other weights in the end", (long long)lost_at, all->failed);
        folder_remove(folder, &err);
        ASSERT_FINE(err);
    }
    ck_assert_int_gt(lost, times / 2);
}
END_TEST

Suite *cuda_streaming_suite(void) {
    Suite *suite = suite_create("cuda_streaming");
    TCase *calls = tcase_create("calls");
    tcase_add_checked_fixture(calls, start_shared, finish_shared);
    tcase_set_timeout(calls, 3600);
    tcase_add_loop_test(calls, every_call_may_fail, 0, KINDS);
    suite_add_tcase(suite, calls);
    TCase *lost = tcase_create("lost");
    tcase_add_checked_fixture(lost, start_shared, finish_shared);
    tcase_set_timeout(lost, 3600);
    tcase_add_loop_test(lost, a_lost_device_costs_no_checkpoint, 0, KINDS);
    suite_add_tcase(suite, lost);
    return suite;
}
