// Budgets are kept to the byte: what a device loses by the driver's own count, how far the process
// grows, and that nothing is taken after the first step.
#include <dlfcn.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <brim/brim.h>
#include "core/philox.h"
#include "examples/model.h"
#include "optim/trainer.h"
#include "tests/devices.h"
#include "tests/skips.h"
#include "tests/test_core.h"
#ifdef BRIM_OPENCL_BUILT
#include "backends/opencl/device.h"
#endif

static brim_error err;

static void begin(void) {
    err = (brim_error){0};
}

// ---- trainings ----------------------------------------------------------------------------------

typedef struct trial {
    model_config model;
    brim_trainer_options options;
} trial;

static int64_t draw(uint64_t seed, uint64_t what, int64_t low, int64_t high) {
    uint64_t x = philox_at(seed, 78, what).v[0];
    return low + (int64_t)(x % (uint64_t)(high - low + 1));
}

static trial random_trial(uint64_t seed, const char *device) {
    int64_t heads = draw(seed, 0, 1, 4);
    trial t = {.model = {.architecture = draw(seed, 1, 0, 1) ? MODEL_LLAMA : MODEL_GPT2,
                         .vocabulary = draw(seed, 2, 20, 300),
                         .positions = draw(seed, 3, 5, 40),
                         .width = heads * 8 * draw(seed, 4, 1, 4),
                         .layers = draw(seed, 5, 1, 5),
                         .heads = heads,
                         .ffn = 8 * draw(seed, 6, 2, 20),
                         .rotary_base = 10000,
                         .norm_eps = 1e-5,
                         .tied = draw(seed, 7, 0, 1)}};
    t.options = (brim_trainer_options){.batch = draw(seed, 8, 1, 4),
                                       .length = t.model.positions,
                                       .accumulate = draw(seed, 9, 1, 3),
                                       .device = device,
                                       .precision = (brim_precision)draw(seed, 10, 0, 2),
                                       .optimizer = {.clip = draw(seed, 11, 0, 1)}};
    return t;
}

static brim_trainer *create(trial *t) {
    return brim_trainer_create(model_build, &t->model, &t->options, &err);
}

// The least budget above the one asked for that works: the error names it.
static brim_trainer *create_within(trial *t) {
    brim_trainer *trainer = create(t);
    if (trainer) return trainer;
    const char *nearest = strstr(err.text, "the nearest budget that works is ");
    ck_assert_msg(err.status == BRIM_MEMORY && nearest, "%s", err.text);
    long long bytes = 0;
    ck_assert_int_eq(sscanf(strchr(nearest, '('), "(%lld bytes", &bytes), 1);
    ck_assert_int_gt(bytes, t->options.vram_bytes);
    t->options.vram_bytes = bytes;
    begin();
    trainer = create(t);
    ASSERT_FINE(err);
    return trainer;
}

static void step(brim_trainer *trainer, const trial *t) {
    size_t count = (size_t)(t->options.accumulate * t->options.batch * t->options.length);
    int32_t *tokens = malloc(count * sizeof *tokens);
    for (size_t i = 0; i < count; i++) tokens[i] = (int32_t)((int64_t)i * 7 % t->model.vocabulary);
    brim_trainer_feed(trainer, "tokens", tokens, count * sizeof *tokens, &err);
    brim_trainer_feed(trainer, "targets", tokens, count * sizeof *tokens, &err);
    brim_trainer_step(trainer, NULL, &err);
    free(tokens);
    ASSERT_FINE(err);
}

// Bytes for everything on the device, what the driver takes included; and beside it, alone.
static int64_t whole_bytes(const trial *t, int64_t *overhead) {
    trial whole = *t;
    whole.options.vram_bytes = whole.options.ram_bytes = 0;
    brim_trainer *trainer = create(&whole);
    ASSERT_FINE(err);
    brim_trainer_info info = brim_trainer_describe(trainer);
    brim_trainer_free(trainer);
    *overhead = info.overhead_bytes;
    return info.device_bytes + info.overhead_bytes;
}

// A budget between nothing and everything.
static void draw_budget(trial *t, uint64_t seed) {
    int64_t overhead, whole = whole_bytes(t, &overhead);
    t->options.vram_bytes = overhead + (whole - overhead) * draw(seed, 12, 20, 100) / 100;
}

static int seeds(int few, int many) {
    return getenv("BRIM_TEST_LONG") ? many : few;
}

// ---- by CUDA's count ----------------------------------------------------------------------------

static struct {
    const char *(*configure)(const char *words);
    int64_t (*calls)(const char *call);
    int64_t (*most_taken)(void);
} stand_in;

static void *find(void *file, const char *name) {
    void *found = file ? dlsym(file, name) : NULL;
    if (!found) stand_in.configure = NULL;
    return found;
}

// False, and the case is skipped, where libcuda is none or NVIDIA's, or another backend is under
// test.
static bool find_stand_in(void) {
    if (!device_under_test(1)) return false;
    void *file = dlopen("libcuda.so.1", RTLD_NOW);
    *(void **)&stand_in.configure = find(file, "cuda_on_cpu_configure");
    *(void **)&stand_in.calls = find(file, "cuda_on_cpu_calls");
    *(void **)&stand_in.most_taken = find(file, "cuda_on_cpu_most_taken");
    if (!stand_in.configure) skip(SKIP_no_cuda_on_cpu);
    return stand_in.configure != NULL;
}

static void set_overhead(int64_t mebibytes) {
    char words[100];
    snprintf(words, sizeof words, "check=0 memory=4G overhead=%lldM", (long long)mebibytes);
    ck_assert_ptr_null(stand_in.configure(words));
}

static int64_t takings(void) {
    return stand_in.calls("cuMemAlloc") + stand_in.calls("cuMemHostAlloc") +
           stand_in.calls("cuModuleLoadData");
}

START_TEST(the_device_loses_no_more_than_its_budget) {
    if (!find_stand_in()) return;
    for (int i = 0; i < seeds(2, 40); i++) {
        uint64_t seed = (uint64_t)(1000 * _i + i);
        trial t = random_trial(seed, "cuda:0");
        int64_t context = draw(seed, 13, 0, 700);
        set_overhead(context);
        draw_budget(&t, seed);
        set_overhead(context); // what was taken until now is forgotten
        brim_trainer *trainer = create_within(&t);
        step(trainer, &t);
        int64_t first = takings();
        step(trainer, &t);
        step(trainer, &t);
        ck_assert_int_eq(takings(), first);
        int64_t most = stand_in.most_taken();
        ck_assert_msg(most <= t.options.vram_bytes, "seed %d: %lld of %lld bytes", (int)seed,
                      (long long)most, (long long)t.options.vram_bytes);
        ck_assert_int_ge(most, (context << 20) + brim_trainer_describe(trainer).device_bytes);
        brim_trainer_free(trainer);
    }
}
END_TEST

// Rates are kept by driver, and nobody has measured this one.
START_TEST(measuring_keeps_to_the_budget) {
    if (!find_stand_in()) return;
    trial t = random_trial(8, "cuda:0");
    set_overhead(200);
    draw_budget(&t, 8);
    char words[100];
    snprintf(words, sizeof words, "check=0 driver=%lld", 13000 + 10 * ((long long)time(NULL) % 90));
    ck_assert_ptr_null(stand_in.configure(words));
    brim_trainer *trainer = create_within(&t);
    ck_assert(trainer->training.choice.level > 0 || trainer->training.choice.homes.hosted > 0);
    ck_assert_int_le(stand_in.most_taken(), t.options.vram_bytes);
    brim_trainer_free(trainer);
}
END_TEST

// A driver may fail below what it told.
START_TEST(memory_that_was_told_and_is_not_given) {
    if (!find_stand_in()) return;
    trial t = random_trial(7, "cuda:0");
    set_overhead(200);
    draw_budget(&t, 7);
    ck_assert_ptr_null(stand_in.configure("fail=cuMemAlloc:1:2"));
    brim_trainer *trainer = create_within(&t);
    brim_trainer_prepare(trainer, &err);
    ASSERT_FAILS(err, BRIM_MEMORY, "reserving ");
    brim_trainer_prepare(trainer, &err);
    ASSERT_FINE(err);
    step(trainer, &t);
    brim_trainer_free(trainer);
}
END_TEST

// ---- by OpenCL's calls, and the system's count --------------------------------------------------

#ifdef BRIM_OPENCL_BUILT

static struct {
    __typeof__(&clCreateBuffer) call;
    int64_t calls, bytes;
} buffers;

static cl_mem CL_API_CALL create_buffer(cl_context context, cl_mem_flags flags, size_t size,
                                        void *host, cl_int *status) {
    buffers.calls++;
    if (!(flags & CL_MEM_ALLOC_HOST_PTR)) buffers.bytes += (int64_t)size;
    return buffers.call(context, flags, size, host, status);
}

static void count_buffers(brim_trainer *trainer) {
    opencl_driver *cl = &trainer->target.device->cl;
    buffers.call = cl->clCreateBuffer;
    buffers.calls = buffers.bytes = 0;
    cl->clCreateBuffer = create_buffer;
}

START_TEST(buffers_are_no_more_than_the_budget) {
    if (!device_under_test(0)) return;
    for (int i = 0; i < seeds(6, 60); i++) {
        uint64_t seed = (uint64_t)(1000 * _i + i);
        trial t = random_trial(seed, "opencl:0");
        draw_budget(&t, seed);
        brim_trainer *trainer = create_within(&t);
        count_buffers(trainer);
        step(trainer, &t);
        int64_t first = buffers.calls;
        step(trainer, &t);
        step(trainer, &t);
        ck_assert_int_eq(buffers.calls, first);
        ck_assert_msg(buffers.bytes <= t.options.vram_bytes, "seed %d: %lld of %lld bytes",
                      (int)seed, (long long)buffers.bytes, (long long)t.options.vram_bytes);
        ck_assert_int_ge(buffers.bytes, brim_trainer_describe(trainer).device_bytes);
        brim_trainer_free(trainer);
    }
}
END_TEST

// Bytes of this process in main memory: "VmRSS:", or the most since it was forgotten, "VmHWM:".
static int64_t process_bytes(const char *field) {
    char line[200];
    long long kib = 0;
    FILE *in = fopen("/proc/self/status", "r");
    ck_assert_ptr_nonnull(in);
    while (fgets(line, sizeof line, in))
        if (strncmp(line, field, strlen(field)) == 0) sscanf(line + strlen(field), "%lld", &kib);
    fclose(in);
    ck_assert_int_gt(kib, 0);
    return (int64_t)kib << 10;
}

static void forget_most(void) {
    FILE *out = fopen("/proc/self/clear_refs", "w"); // see proc(5)
    ck_assert_ptr_nonnull(out);
    fputs("5", out);
    fclose(out);
}

// The driver compiles kernels in this process: what its compiler keeps is there before.
static void compile_kernels(trial *t) {
    brim_trainer *trainer = create(t);
    ASSERT_FINE(err);
    step(trainer, t);
    brim_trainer_free(trainer);
    malloc_trim(0);
}

START_TEST(the_process_grows_by_what_the_plan_says) {
    enum { STEPS = 20, NOISE = 4 << 20 };
    const char *device = device_under_test(0);
    if (!device) return;
    trial t = {
        .model = {.architecture = MODEL_GPT2,
                  .vocabulary = 1000,
                  .positions = 32,
                  .width = 512,
                  .layers = 6,
                  .heads = 8,
                  .norm_eps = 1e-5},
        .options = {
            .batch = 1, .accumulate = 1, .length = 32, .device = device, .vram_bytes = 48 << 20}};
    compile_kernels(&t);
    brim_trainer *trainer = create(&t);
    ASSERT_FINE(err);
    if (!trainer->target.device->traits.cpu) return brim_trainer_free(trainer);
    int64_t before = process_bytes("VmRSS:"), first = 0, last = 0;
    forget_most();
    for (int i = 0; i < STEPS; i++) {
        step(trainer, &t);
        last = process_bytes("VmRSS:");
        if (i == 0) first = last;
    }
    brim_trainer_info info = brim_trainer_describe(trainer);
    int64_t slack = info.host_bytes / 50 + (64 << 20);
    int64_t now = last - before - info.device_bytes;
    int64_t most = process_bytes("VmHWM:") - before - info.device_bytes;
    ck_assert_int_gt(info.host_bytes, 250 << 20);
    ck_assert_int_le(last - first, NOISE);
    ck_assert_msg(most <= info.host_bytes + slack && now >= info.host_bytes - slack,
                  "planned %lld bytes of main memory, most %lld, now %lld",
                  (long long)info.host_bytes, (long long)most, (long long)now);
    brim_trainer_free(trainer);
}
END_TEST

#endif

Suite *budget_exact_suite(void) {
    Suite *suite = suite_create("budget_exact");
    TCase *tests = tcase_create("budget_exact");
    tcase_set_timeout(tests, 600);
    tcase_add_checked_fixture(tests, begin, NULL);
    tcase_add_loop_test(tests, the_device_loses_no_more_than_its_budget, 0, 5);
    tcase_add_test(tests, measuring_keeps_to_the_budget);
    tcase_add_test(tests, memory_that_was_told_and_is_not_given);
#ifdef BRIM_OPENCL_BUILT
    tcase_add_loop_test(tests, buffers_are_no_more_than_the_budget, 0, 5);
#endif
    suite_add_tcase(suite, tests);
#ifdef BRIM_OPENCL_BUILT
    // A sanitizer's own memory is no part of a plan: tests/sanitize.sh leaves this out.
    TCase *process = tcase_create("process");
    tcase_set_timeout(process, 600);
    tcase_set_tags(process, "process_size");
    tcase_add_checked_fixture(process, begin, NULL);
    tcase_add_test(process, the_process_grows_by_what_the_plan_says);
    suite_add_tcase(suite, process);
#endif
    return suite;
}
