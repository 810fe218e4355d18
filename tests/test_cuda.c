// The CUDA backend under a trainer, on the CPU: what a step submits, any call that fails, devices
// and drivers of other kinds, and the same bits whatever the order.
#include <math.h>
#include <sys/wait.h>
#include <brim/brim.h>
#include "optim/trainer.h"
#include "tests/cuda_rig.h"

enum { IN = 6, WIDE = 20, OUT = 3, ROWS = 8, STEPS = 3, WEIGHTS = IN * WIDE };

static brim_loss build(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length, (void)user;
    brim_value x = brim_input(g, "x", BRIM_F32, batch, IN);
    brim_value label = brim_input(g, "label", BRIM_I32, batch);
    x = brim_layer_norm(brim_gelu(brim_linear(x, "in", WIDE)), "norm", 0);
    return brim_cross_entropy(brim_linear(brim_dropout(x, 0.1), "out", OUT), label, -100);
}

static const brim_trainer_options options = {
    .batch = ROWS / 2, .accumulate = 2, .device = "cuda:0", .optimizer = {.lr = 0.05f, .clip = 1}};

static void feed(brim_trainer *t, int step) {
    float x[ROWS][IN];
    int32_t label[ROWS];
    for (int r = 0; r < ROWS; r++) {
        for (int i = 0; i < IN; i++) x[r][i] = sinf((float)(step * 31 + r * 7 + i * 3));
        label[r] = (r + step) % OUT;
    }
    brim_trainer_feed(t, "x", x, sizeof x, &err);
    brim_trainer_feed(t, "label", label, sizeof label, &err);
}

static int64_t calls_before_closing;

// Whatever fails, sticks to err.
static void train(const brim_trainer_options *o, float weights[WEIGHTS]) {
    brim_trainer *t = brim_trainer_create(build, NULL, o, &err);
    for (int i = 0; i < STEPS && !err.status; i++) {
        feed(t, i);
        brim_trainer_step(t, NULL, &err);
    }
    if (t) brim_trainer_read(t, "in.weight", weights, WEIGHTS, &err);
    calls_before_closing = rig.calls("any");
    brim_trainer_free(t);
}

// ---- what a step submits ------------------------------------------------------------------------

typedef struct call_row {
    const char *name;
    bool work; // a record becomes one of these
    int64_t before;
} call_row;

// No allocation, no compilation, no wait but the one for the results.
static call_row calls_of_a_step[] = {
    {"cuLaunchKernel", true, 0},       {"cublasLtMatmul", true, 0},
    {"cuMemcpyHtoDAsync", true, 0},    {"cuMemcpyDtoHAsync", true, 0},
    {"cuMemcpyDtoDAsync", true, 0},    {"cuMemsetD32Async", true, 0},
    {"cuEventRecord", false, 0},       {"cuStreamWaitEvent", false, 0},
    {"cuStreamSynchronize", false, 0}, {"cuCtxGetCurrent", false, 0},
    {"cuCtxSetCurrent", false, 0},
};
enum { CALLS = sizeof calls_of_a_step / sizeof *calls_of_a_step };

static int64_t records_of_a_step(const brim_trainer *t) {
    const program *p = t->training.lowered.program;
    int64_t count = 0;
    for (int32_t i = 0; i < p->records; i++)
        count += (p->record[i].sections & SECTION_FIRST ? 1 : 0) +
                 (p->record[i].sections & SECTION_LAST ? 1 : 0);
    return count;
}

START_TEST(a_step_is_its_records) {
    if (!find_cuda_on_cpu("seed=1")) return;
    brim_trainer *t = brim_trainer_create(build, NULL, &options, &err);
    feed(t, 0);
    brim_trainer_step(t, NULL, &err);
    ASSERT_FINE(err);
    feed(t, 1);
    int64_t all = rig.calls("any"), known = 0, work = 0;
    for (int i = 0; i < CALLS; i++) calls_of_a_step[i].before = rig.calls(calls_of_a_step[i].name);
    brim_trainer_step(t, NULL, &err);
    ASSERT_FINE(err);
    for (int i = 0; i < CALLS; i++) {
        int64_t made = rig.calls(calls_of_a_step[i].name) - calls_of_a_step[i].before;
        known += made;
        work += calls_of_a_step[i].work ? made : 0;
        if (strcmp(calls_of_a_step[i].name, "cuStreamSynchronize") == 0)
            ck_assert_int_eq(made, DEVICE_QUEUES);
    }
    ck_assert_int_eq(rig.calls("any") - all, known); // no other call at all
    ck_assert_int_eq(work, records_of_a_step(t));
    ck_assert_int_gt(work, 20);
    brim_trainer_free(t);
    ck_assert_str_eq(rig.alive(), "");
}
END_TEST

// ---- the same bits ------------------------------------------------------------------------------

// Blocks and threads of kernels run in another order with each seed, and so do streams.
START_TEST(any_order_gives_the_same_bits) {
    if (!find_cuda_on_cpu("seed=1")) return;
    int seeds = getenv("BRIM_TEST_LONG") ? 200 : 20;
    float first[WEIGHTS], again[WEIGHTS];
    train(&options, first);
    ASSERT_FINE(err);
    for (int seed = 2; seed < seeds; seed++) {
        char words[40];
        snprintf(words, sizeof words, "seed=%d", seed);
        ck_assert_ptr_null(rig.configure(words));
        train(&options, again);
        ASSERT_FINE(err);
        ck_assert_msg(memcmp(first, again, sizeof first) == 0, "seed %d gives other bits", seed);
    }
}
END_TEST

// What a training takes of the device, all of it resident, and in its arena alone.
static int64_t device_bytes(int64_t *overhead) {
    brim_trainer *t = brim_trainer_create(build, NULL, &options, &err);
    brim_trainer_prepare(t, &err);
    ASSERT_FINE(err);
    int64_t bytes = brim_trainer_describe(t).device_bytes;
    *overhead = t->target.overhead_bytes;
    brim_trainer_free(t);
    return bytes;
}

// A step that streams from host memory, pinned and not, under budgets down to where none fits: then
// each copy passes through a buffer. The first piece that is pinned is the host space.
START_TEST(host_memory_need_not_be_pinned) {
    if (!find_cuda_on_cpu("seed=1")) return;
    float resident[WEIGHTS], streamed[WEIGHTS];
    train(&options, resident);
    int64_t overhead, bytes = device_bytes(&overhead);
    int plans = 0;
    for (int64_t percent = 100; percent > 0; percent -= 10) {
        brim_trainer_options less = options;
        less.vram_bytes = overhead + bytes * percent / 100;
        for (int pinned = 0; pinned < 2 && !failed(&err); pinned++) {
            ck_assert_ptr_null(rig.configure(pinned ? "seed=2" : "seed=2 fail=cuMemHostAlloc:1:2"));
            train(&less, streamed);
            if (failed(&err)) break;
            ck_assert(pinned || strcmp(rig.failed(), "cuMemHostAlloc") == 0);
            ck_assert_msg(memcmp(resident, streamed, sizeof resident) == 0,
                          "%d%% of the memory, pinned %d: other bits", (int)percent, pinned);
            plans++;
        }
    }
    ASSERT_FAILS(err, BRIM_MEMORY, "bytes of device memory are missing");
    ck_assert_int_ge(plans, 8);
    ck_assert_str_eq(rig.alive(), "");
}
END_TEST

// ---- failures -----------------------------------------------------------------------------------

// Trains with the n-th call failing, and looks at what is left. False where that call is one of
// closing, which goes on as far as it can: what could not be given back is left then.
static bool train_with_failure(int64_t n) {
    char words[60];
    float weights[WEIGHTS];
    snprintf(words, sizeof words, "fail=any:%lld:999", (long long)n);
    ck_assert_ptr_null(rig.configure(words));
    err = (brim_error){0};
    int64_t before = rig.calls("any");
    train(&options, weights);
    if (before + n > calls_before_closing) return false;
    const char *call = rig.failed();
    bool failed = err.status != BRIM_OK;
    ck_assert_msg(failed || has_another_way(call), "call %lld, %s, fails and nobody says so",
                  (long long)n, call);
    ck_assert_msg(!failed || !strchr(err.text, '\n'), "call %lld, %s: %s", (long long)n, call,
                  err.text);
    ck_assert_msg(!*rig.alive(), "call %lld, %s, fails (%s) and leaves %s", (long long)n, call,
                  err.text, rig.alive());
    return true;
}

// A failure that leaves the device usable leaves nothing behind, and is reported.
START_TEST(every_call_may_fail) {
    if (!find_cuda_on_cpu("seed=1")) return;
    float weights[WEIGHTS];
    train(&options, weights); // its kernels are in the cache then
    ASSERT_FINE(err);
    int64_t n = 1, step = getenv("BRIM_TEST_LONG") ? 1 : 3;
    while (train_with_failure(n)) n += step;
    ck_assert_int_gt(n, 300);
}
END_TEST

// A device that is lost: the error says so, and closing does not hang.
START_TEST(a_lost_device_is_named) {
    if (!find_cuda_on_cpu("seed=1")) return;
    static const char *const calls[] = {"cuLaunchKernel:7:700", "cuMemcpyHtoDAsync:2:719",
                                        "cuStreamSynchronize:9:702", "cuMemAlloc:1:214"};
    float weights[WEIGHTS];
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            char words[60];
            snprintf(words, sizeof words, "fail=%s", calls[i]);
            rig.configure(words);
            train(&options, weights);
            bool named = err.status == BRIM_DEVICE && strstr(err.text, "the device is lost");
            if (!named) fprintf(stderr, "%s: %s\n", calls[i], err.text);
            _exit(named ? 0 : 1);
        }
        int status;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_msg(status == 0, "%s", calls[i]);
    }
}
END_TEST

START_TEST(missing_memory_is_named) {
    if (!find_cuda_on_cpu("seed=1 memory=258M overhead=257M")) return;
    brim_trainer_options large = options;
    large.batch = 40000;
    brim_trainer *t = brim_trainer_create(build, NULL, &large, &err);
    brim_trainer_prepare(t, &err);
    ASSERT_FAILS(err, BRIM_MEMORY, "bytes of device memory are missing");
    brim_trainer_free(t);
    ck_assert_str_eq(rig.alive(), "");
}
END_TEST

// ---- other devices, other drivers ---------------------------------------------------------------

typedef struct kind_of_device {
    const char *settings, *device;
    const char *says;     // where it cannot be used: of the error
    const char *products; // what serves them
} kind_of_device;

static const kind_of_device kinds_of_device[] = {
    {"devices=2 capability=75", "cuda:1", NULL, "cuBLASLt 13"},
    {"devices=2", "cuda:2", "there is no such device; there is: cuda:0 (", NULL},
    {"devices=0", "cuda:0", "cuInit failed with CUDA_ERROR_NO_DEVICE", NULL},
    {"capability=121", "cuda:0", NULL, "cuBLASLt 13"},
    {"capability=130", "cuda:0", NULL, "cuBLASLt 13"},             // PTX of the newest before it
    {"capability=61 driver=12040", "cuda:0", NULL, "cuBLASLt 12"}, // NVRTC 12 knows it
    {"capability=86 driver=12040", "cuda:0", NULL, "cuBLASLt 12"}, // cannot load what 13 makes
    {"capability=20", "cuda:0", "libnvrtc.so.13 does not compile for sm_20; libnvrtc.so.12", NULL},
    {"fail=cublasLtCreate:1:1", "cuda:0", NULL, "cuBLASLt 12"}, // the next one will do
};

START_TEST(kinds_of_devices) {
    const kind_of_device *k = &kinds_of_device[_i];
    if (!find_cuda_on_cpu(k->settings)) return;
    const backend *api = NULL;
    backend_device *device = NULL;
    backend_open(k->device, NULL, &api, &device, &err);
    if (k->says) {
        ck_assert_msg(strstr(err.text, k->says), "%s", err.text);
        ck_assert_ptr_null(device);
        return;
    }
    ASSERT_FINE(err);
    const char *products = api->matmul_library(device);
    ck_assert_msg(strncmp(products, k->products, strlen(k->products)) == 0, "%s", products);
    api->close(device);
    ck_assert_str_eq(rig.alive(), "");
}
END_TEST

// An older NVRTC and a newer card: kernels are compiled to PTX, which runs.
START_TEST(trains_from_ptx) {
    if (!find_cuda_on_cpu("seed=1 capability=130")) return;
    float ptx[WEIGHTS], cubin[WEIGHTS];
    train(&options, ptx);
    ck_assert_ptr_null(rig.configure("capability=89"));
    train(&options, cubin);
    ASSERT_FINE(err);
    ck_assert_mem_eq(ptx, cubin, sizeof ptx);
}
END_TEST

static void no_rig(void) {}

Suite *cuda_suite(void) {
    Suite *suite = suite_create("cuda");
    TCase *tests = tcase_create("cuda");
    tcase_add_checked_fixture(tests, start, no_rig);
    tcase_set_timeout(tests, 600);
    tcase_add_test(tests, a_step_is_its_records);
    tcase_add_test(tests, any_order_gives_the_same_bits);
    tcase_add_test(tests, host_memory_need_not_be_pinned);
    tcase_add_test(tests, every_call_may_fail);
    tcase_add_test(tests, a_lost_device_is_named);
    tcase_add_test(tests, missing_memory_is_named);
    tcase_add_loop_test(tests, kinds_of_devices, 0,
                        sizeof kinds_of_device / sizeof *kinds_of_device);
    tcase_add_test(tests, trains_from_ptx);
    suite_add_tcase(suite, tests);
    return suite;
}
