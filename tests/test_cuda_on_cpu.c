// CUDA on the CPU is as strict as a driver, or stricter, and its streams run in any order that they
// may: what tests of the CUDA backend rest on.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/cuda_rig.h"

// ---- calls that are refused ---------------------------------------------------------------------

START_TEST(handles_are_told_apart) {
    if (!open_rig("seed=1")) return;
    CUevent event;
    CU(event_create(&event, CU_EVENT_DISABLE_TIMING));
    ASSERT_REFUSED(stream_synchronize((CUstream)event), CUDA_ERROR_INVALID_HANDLE, "is no stream");
    ASSERT_REFUSED(stream_synchronize((CUstream)(uintptr_t)12345), CUDA_ERROR_INVALID_HANDLE,
                   "is no stream");
    CU(event_destroy(event));
    ASSERT_REFUSED(event_record(event, rig.stream[0]), CUDA_ERROR_INVALID_HANDLE, "was destroyed");
    ASSERT_REFUSED(ctx_set_current((CUcontext)rig.stream[0]), CUDA_ERROR_INVALID_CONTEXT,
                   "is no context");
}
END_TEST

START_TEST(contexts_are_told_apart) {
    if (!open_rig("seed=1 devices=2")) return;
    CUcontext other;
    CUstream stream;
    CUdeviceptr memory;
    CU(device_primary_ctx_retain(&other, 1));
    CU(ctx_set_current(other));
    CU(stream_create(&stream, CU_STREAM_NON_BLOCKING));
    ASSERT_REFUSED(stream_synchronize(rig.stream[0]), CUDA_ERROR_INVALID_HANDLE,
                   "of another context");
    CU(ctx_set_current(NULL));
    ASSERT_REFUSED(mem_alloc(&memory, 100), CUDA_ERROR_INVALID_CONTEXT, "no context is current");
    ASSERT_REFUSED(device_primary_ctx_release(1), CUDA_ERROR_INVALID_CONTEXT,
                   "released with 1 stream in it");
    CU(ctx_set_current(rig.context));
    CUdevice device;
    ASSERT_REFUSED(device_get(&device, 2), CUDA_ERROR_INVALID_DEVICE, "no device 2 of 2");
}
END_TEST

START_TEST(memory_is_checked) {
    if (!open_rig("seed=1 memory=1G overhead=256M")) return;
    size_t left, total;
    CUdeviceptr memory;
    CU(mem_get_info(&left, &total));
    ck_assert_uint_eq(total, (size_t)1 << 30);
    ck_assert_uint_eq(left, ((size_t)768 << 20) - ((size_t)2 << 20)); // the rig's, as a whole unit
    ck_assert_int_eq(rig.cu.mem_alloc(&memory, left + 1), CUDA_ERROR_OUT_OF_MEMORY);
    ASSERT_REFUSED(mem_alloc(&memory, 0), CUDA_ERROR_INVALID_VALUE, "0 bytes");
    CU(mem_alloc(&memory, left));
    CU(mem_free(memory));
    ASSERT_REFUSED(mem_free(memory), CUDA_ERROR_INVALID_VALUE, "was freed before");
    ASSERT_REFUSED(mem_free(rig.space + 256), CUDA_ERROR_INVALID_VALUE, "no allocation");
    CU(memset_d32_async(rig.space, 1, 4, rig.stream[0]));
    ASSERT_REFUSED(mem_free(rig.space), CUDA_ERROR_INVALID_VALUE, "work that may use it is queued");
}
END_TEST

START_TEST(copies_are_checked) {
    if (!open_rig("seed=1")) return;
    static float plain[64];
    CUstream s = rig.stream[0];
    ASSERT_REFUSED(memcpy_htod_async(rig.space, plain, 64, s), CUDA_ERROR_INVALID_VALUE, "source");
    ASSERT_REFUSED(memcpy_dtoh_async(plain, rig.space, 64, s), CUDA_ERROR_INVALID_VALUE,
                   "one pinned allocation");
    ASSERT_REFUSED(memcpy_dtoh_async(rig.pinned, rig.space + SPACE_BYTES - 32, 64, s),
                   CUDA_ERROR_INVALID_VALUE, "one allocation of device memory");
    ASSERT_REFUSED(memcpy_dtod_async(rig.space + 32, rig.space, 64, s), CUDA_ERROR_INVALID_VALUE,
                   "overlap");
    ASSERT_REFUSED(memset_d32_async(rig.space + 2, 0, 4, s), CUDA_ERROR_INVALID_VALUE,
                   "no multiple of 4");
    ASSERT_REFUSED(memset_d32_async(rig.space, 0, SPACE_FLOATS + 1, s), CUDA_ERROR_INVALID_VALUE,
                   "not all in one allocation");
}
END_TEST

static const char fill_text[] = "KERNEL fill(BUFFER(y), float x, int_t skip)\n"
                                "{\n"
                                "    int_t i = group_id(0) * GROUP + local_id();\n"
                                "    PTR(float, y)[i + skip] = x;\n"
                                "}\n";

typedef struct fill_arguments {
    CUdeviceptr base;
    int64_t offset;
    float x;
    int32_t skip;
    void *list[5];
} fill_arguments;

static void **fill_with(fill_arguments *a, int64_t offset, float x, int32_t skip) {
    *a = (fill_arguments){rig.space, offset, x, skip, {NULL}};
    void *list[] = {&a->base, &a->offset, &a->x, &a->skip, NULL};
    memcpy(a->list, list, sizeof list);
    return a->list;
}

START_TEST(launches_are_checked) {
    if (!open_rig("seed=1")) return;
    CUfunction fill = compile("fill", fill_text, 64), none;
    CUstream s = rig.stream[0];
    fill_arguments a;
    void **list = fill_with(&a, 0, 1, 0), *short_list[] = {&a.base, &a.offset, &a.x, NULL};
    ASSERT_REFUSED(launch_kernel(fill, 1, 1, 1, 65, 1, 1, 0, s, list, NULL),
                   CUDA_ERROR_INVALID_VALUE, "65 threads a block, 1 to 64 are possible");
    ASSERT_REFUSED(launch_kernel(fill, 1, 0, 1, 64, 1, 1, 0, s, list, NULL),
                   CUDA_ERROR_INVALID_VALUE, "a grid of 1 x 0 x 1");
    ASSERT_REFUSED(launch_kernel(fill, 1, 1, 1, 64, 1, 1, 1 << 20, s, list, NULL),
                   CUDA_ERROR_INVALID_VALUE, "bytes of shared memory");
    ASSERT_REFUSED(launch_kernel(fill, 1, 1, 1, 64, 1, 1, 0, s, short_list, NULL),
                   CUDA_ERROR_INVALID_VALUE, "parameter 3 of 4 is not given");
    ASSERT_REFUSED(module_get_function(&none, rig.module[0], "empty"), CUDA_ERROR_NOT_FOUND,
                   "no kernel empty");
    ck_assert_int_eq(rig.cu.module_load_data(&rig.module[1], "no image, but long enough to be one: "
                                                             "the header of an ELF file has 64 "
                                                             "bytes"),
                     CUDA_ERROR_INVALID_IMAGE);
    CU(module_unload(rig.module[0]));
    ASSERT_REFUSED(launch_kernel(fill, 1, 1, 1, 64, 1, 1, 0, s, list, NULL),
                   CUDA_ERROR_INVALID_HANDLE, "was destroyed");
    rig.modules = 0;
}
END_TEST

START_TEST(what_nvrtc_refuses_is_refused) {
    if (!open_rig("seed=1")) return;
    static const struct {
        const char *source, *said;
    } wrong[] = {{"KERNEL k(BUFFER(y))\n{\n    nothing = 1;\n}\n", "nothing"},
                 {"KERNEL k(BUFFER(y))\n{\n    LOCAL float x[20000];\n    x[local_id()] = 1;\n    "
                  "BARRIER();\n"
                  "    PTR(float, y)[0] = x[1];\n}\n",
                  "does not compile"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cuda_image image;
        kernel_spec spec = {"k", "test.k", wrong[i].source,
                            "-DGROUP=64 -DVEC=4 -DBRIM_CPU=0 -DALIGNED=1", 64};
        ck_assert(!cuda_compile(&rig.nvrtc, &spec, false, &image, &err));
        ck_assert_msg(strstr(err.text, wrong[i].said), "%s", err.text);
        err = (brim_error){0};
    }
}
END_TEST

// ---- kernels that go astray ---------------------------------------------------------------------

typedef struct astray {
    const char *text, *said;
} astray;

#define KERNEL_K(body) "KERNEL k(BUFFER(y))\n{\n    float *p = PTR(float, y);\n" body "}\n"
static const astray astrays[] = {
    {KERNEL_K("    p[local_id() + 16321] = 1;\n"), "writes 4 bytes"},
    {KERNEL_K("    p[0] = p[local_id() - 1];\n"), "reads 4 bytes"},
    {KERNEL_K("    p[0] = *(const float *)local_id();\n"), "reads 4 bytes"},
    {KERNEL_K("    *(float4 *)(p + local_id()) = *(const float4 *)p;\n"), "not aligned"},
    {KERNEL_K("    LOCAL float x[64];\n    x[local_id() + 1] = 1;\n    BARRIER();\n"
              "    p[local_id()] = x[local_id()];\n"),
     "index outside its array"},
    {KERNEL_K("    if (local_id() < 32) BARRIER();\n    p[local_id()] = 1;\n"),
     "does not come to the barrier at test.k:4"},
    {KERNEL_K("    if (local_id() < 32) BARRIER();\n    else { p[1] = 2;\n    BARRIER(); }\n"),
     "does not come to the barrier at test.k:"},
    {KERNEL_K("    if (local_id() < 7)\n    p[0] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);\n"),
     "does not come to the exchange between lanes at test.k:5"},
};

START_TEST(astray_kernels_are_stopped) {
    const astray *a = &astrays[_i];
    if (!open_rig("seed=1")) return;
    CUfunction k = compile("k", a->text, 64);
    int64_t offset = 0;
    void *list[] = {&rig.space, &offset};
    CU(launch_kernel(k, 2, 1, 1, 64, 1, 1, 0, rig.stream[0], list, NULL));
    char said[2000];
    listener l = listen_to_stderr();
    CUresult status = rig.cu.stream_synchronize(rig.stream[0]);
    heard(l, said, sizeof said);
    ck_assert_int_ne(status, CUDA_SUCCESS);
    ck_assert_msg(strstr(said, a->said) && strstr(said, "kernel k, block (") &&
                      strstr(said, "thread "),
                  "%s", said);
    // The device is lost: nothing goes on.
    CUdeviceptr more;
    ck_assert_int_eq(rig.cu.mem_alloc(&more, 100), status);
}
END_TEST

// Each thread's access is held against what the work declares, not against memory only.
START_TEST(undeclared_accesses_are_found) {
    if (!open_rig("seed=1")) return;
    CUfunction fill = compile("fill", fill_text, 64);
    const uintptr_t begin = (uintptr_t)rig.space + 512;
    cuda_on_cpu_range range = {begin, begin + 64 * 4, true};
    static const uint8_t sizes[] = {8, 8, 4, 4};
    cuda_on_cpu_work work[2] = {{WORK_LAUNCH, "h.0.bias", "fill", &range, 1, sizes, 4}};
    work[1] = work[0];
    fill_arguments a;
    rig.expect(work, 2);
    CU(launch_kernel(fill, 1, 1, 1, 64, 1, 1, 0, rig.stream[0], fill_with(&a, 512, 1, 0), NULL));
    CU(launch_kernel(fill, 1, 1, 1, 64, 1, 1, 0, rig.stream[0], fill_with(&a, 512, 1, 1), NULL));
    ck_assert(rig.expected());
    ASSERT_REFUSED(stream_synchronize(rig.stream[0]), CUDA_ERROR_ILLEGAL_ADDRESS,
                   "kernel fill (h.0.bias), block (0, 0, 0), thread 63 writes 4 bytes");
}
END_TEST

START_TEST(unexpected_work_is_found) {
    if (!open_rig("seed=1")) return;
    CUfunction fill = compile("fill", fill_text, 64);
    cuda_on_cpu_range range = {rig.space, rig.space + 4096, true};
    static const uint8_t sizes[] = {8, 8, 4, 4}, wrong_sizes[] = {8, 8, 8, 4};
    cuda_on_cpu_work launch_work = {WORK_LAUNCH, "first", "fill", &range, 1, sizes, 4};
    cuda_on_cpu_work fill_work = {WORK_FILL, "second", NULL, &range, 1, NULL, 0};
    fill_arguments a;
    void **list = fill_with(&a, 0, 1, 0);
    rig.expect(&fill_work, 1);
    ASSERT_REFUSED(launch_kernel(fill, 1, 1, 1, 64, 1, 1, 0, rig.stream[0], list, NULL),
                   CUDA_ERROR_INVALID_VALUE, "a launch fill came where fill");
    ck_assert(!rig.expected());
    launch_work.argument_bytes = wrong_sizes;
    rig.expect(&launch_work, 1);
    ASSERT_REFUSED(launch_kernel(fill, 1, 1, 1, 64, 1, 1, 0, rig.stream[0], list, NULL),
                   CUDA_ERROR_INVALID_VALUE, "takes 4 bytes as argument 2, 8 are given");
    ck_assert(!rig.expected());
    rig.expect(&fill_work, 1);
    ck_assert(!rig.expected()); // it never came
}
END_TEST

// The host has no right to device memory, while the device works on it or not.
START_TEST(the_host_cannot_touch_device_memory) {
    if (!open_rig("seed=1")) {
        raise(SIGSEGV); // as is expected where the case runs
        return;
    }
    signal(SIGSEGV, SIG_DFL); // a sanitizer would end the process in its own way
    *(volatile float *)(uintptr_t)rig.space = 1;
}
END_TEST

START_TEST(a_fork_has_no_driver) {
    if (!open_rig("seed=1")) return;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int count;
        freopen("/dev/null", "w", stderr);
        _exit(rig.cu.device_get_count(&count) == CUDA_ERROR_NOT_INITIALIZED &&
                      rig.cu.init(0) == CUDA_ERROR_NOT_INITIALIZED
                  ? 0
                  : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

// ---- order --------------------------------------------------------------------------------------

enum { SEEDS = 40 };

static void reseed(int seed) {
    char text[40];
    snprintf(text, sizeof text, "seed=%d", seed);
    ck_assert_ptr_null(rig.configure(text));
}

// One stream writes 1, another 2; the second may be told to wait for the first.
static float race(CUevent event) {
    CU(memset_d32_async(rig.space, 0x3f800000, 1, rig.stream[0]));
    if (event) {
        CU(event_record(event, rig.stream[0]));
        CU(stream_wait_event(rig.stream[1], event, CU_EVENT_WAIT_DEFAULT));
    }
    CU(memset_d32_async(rig.space, 0x40000000, 1, rig.stream[1]));
    CU(stream_synchronize(rig.stream[0]));
    CU(stream_synchronize(rig.stream[1]));
    return *read_space();
}

START_TEST(only_events_order_streams) {
    if (!open_rig("seed=1")) return;
    CUevent event;
    CU(event_create(&event, CU_EVENT_DISABLE_TIMING));
    int ones = 0, twos = 0;
    for (int seed = 0; seed < SEEDS; seed++) {
        reseed(seed);
        float left = race(NULL);
        ones += left == 1, twos += left == 2;
        ck_assert(race(event) == 2);
    }
    ck_assert_int_eq(ones + twos, SEEDS);
    ck_assert_msg(ones > SEEDS / 8 && twos > SEEDS / 8, "%d and %d", ones, twos);
    CU(event_destroy(event));
}
END_TEST

// Times are of events that were made for it, when both are over.
START_TEST(times_are_of_past_events) {
    if (!open_rig("seed=1")) return;
    CUevent event[2], plain;
    float milliseconds = -1;
    for (int i = 0; i < 2; i++) CU(event_create(&event[i], CU_EVENT_DEFAULT));
    CU(event_create(&plain, CU_EVENT_DISABLE_TIMING));
    CU(event_record(plain, rig.stream[0]));
    CU(event_record(event[0], rig.stream[0]));
    ASSERT_REFUSED(event_elapsed_time(&milliseconds, event[0], event[1]), CUDA_ERROR_INVALID_HANDLE,
                   "never recorded");
    ASSERT_REFUSED(event_elapsed_time(&milliseconds, event[0], plain), CUDA_ERROR_INVALID_HANDLE,
                   "without timing");
    CU(stream_synchronize(rig.stream[0]));
    usleep(1000);
    CU(event_record(event[1], rig.stream[0]));
    ck_assert_int_eq(rig.cu.event_elapsed_time(&milliseconds, event[0], event[1]),
                     CUDA_ERROR_NOT_READY);
    ck_assert(milliseconds == -1);
    CU(event_synchronize(event[1]));
    CU(event_elapsed_time(&milliseconds, event[0], event[1]));
    ck_assert(milliseconds >= 1);
    CU(event_destroy(event[0]));
    ASSERT_REFUSED(event_elapsed_time(&milliseconds, event[0], event[1]), CUDA_ERROR_INVALID_HANDLE,
                   "was destroyed");
    CU(event_destroy(event[1]));
    CU(event_destroy(plain));
}
END_TEST

// A wait is for the record that was the latest when it was submitted.
START_TEST(a_wait_is_for_the_latest_record) {
    if (!open_rig("seed=1")) return;
    CUevent event;
    CU(event_create(&event, CU_EVENT_DISABLE_TIMING));
    for (int seed = 0; seed < SEEDS; seed++) {
        reseed(seed);
        // Never recorded, or recorded later: nothing is waited for.
        CU(event_record(event, rig.stream[2]));
        CU(stream_wait_event(rig.stream[1], event, CU_EVENT_WAIT_DEFAULT));
        CU(memset_d32_async(rig.space, 1, 1, rig.stream[0]));
        CU(event_record(event, rig.stream[0]));
        CU(stream_synchronize(rig.stream[1])); // may not need stream 0
    }
    for (int i = 0; i < STREAMS; i++) CU(stream_synchronize(rig.stream[i]));
    CU(event_destroy(event));
}
END_TEST

// Copies touch the host's bytes when they run: what the host writes too early or reads too soon
// shows.
START_TEST(copies_are_late) {
    if (!open_rig("seed=1")) return;
    rig.pinned[0] = 5;
    CU(memcpy_htod_async(rig.space, rig.pinned, 4, rig.stream[0]));
    rig.pinned[0] = 6;
    CU(stream_synchronize(rig.stream[0]));
    rig.pinned[1] = -1;
    CU(memcpy_dtoh_async(rig.pinned + 1, rig.space, 4, rig.stream[0]));
    ck_assert(rig.pinned[1] == -1);
    CU(stream_synchronize(rig.stream[0]));
    ck_assert(rig.pinned[1] == 6);
}
END_TEST

// Fresh memory holds NaN, and arguments are copied when a kernel is launched.
START_TEST(memory_is_fresh_and_arguments_are_copies) {
    if (!open_rig("seed=1")) return;
    CUfunction fill = compile("fill", fill_text, 64);
    const float *found = read_space();
    for (int i = 0; i < SPACE_FLOATS; i++) ck_assert(found[i] != found[i]);
    fill_arguments a;
    CU(launch_kernel(fill, 2, 1, 1, 64, 1, 1, 0, rig.stream[0], fill_with(&a, 0, 3, 0), NULL));
    memset(&a, 0xff, sizeof a);
    found = read_space();
    for (int i = 0; i < 128; i++) ck_assert(found[i] == 3);
    ck_assert(found[128] != found[128]);
}
END_TEST

// ---- threads ------------------------------------------------------------------------------------

// Without its barrier a sum is wrong in some order of threads, with it in none.
static int wrong_sums(CUfunction f) {
    int64_t offset = 0;
    void *list[] = {&rig.space, &offset};
    int wrong = 0;
    for (int seed = 0; seed < SEEDS; seed++) {
        reseed(seed);
        CU(launch_kernel(f, 3, 1, 1, 64, 1, 1, 0, rig.stream[0], list, NULL));
        const float *found = read_space();
        bool right = true;
        for (int block = 0; block < 3; block++) right &= found[block] == 64 * 63 / 2;
        wrong += !right;
    }
    return wrong;
}

#define SUM_TEXT(name, barrier)                                                                    \
    "KERNEL " name                                                                                 \
    "(BUFFER(y))\n{\n    LOCAL float x[GROUP];\n    x[local_id()] = (float)local_id();\n"          \
    "    " barrier "\n    if (local_id() != 5) return;\n    float sum = 0;\n"                      \
    "    for (int_t i = 0; i < GROUP; i++) sum += x[i];\n    PTR(float, y)[group_id(0)] = "        \
    "sum;\n}\n"

START_TEST(barriers_order_threads) {
    if (!open_rig("seed=1")) return;
    ck_assert_int_eq(wrong_sums(compile("right", SUM_TEXT("right", "BARRIER();"), 64)), 0);
    ck_assert_int_eq(wrong_sums(compile("wrong", SUM_TEXT("wrong", ""), 64)), SEEDS);
}
END_TEST

static const char lanes_text[] =
    "KERNEL lanes(BUFFER(y))\n{\n"
    "    float *p = PTR(float, y);\n    int_t i = local_id();\n    float x = (float)i;\n"
    "    for (int_t m = 16; m > 0; m /= 2) x += __shfl_xor_sync(0xffffffffu, x, m);\n"
    "    p[i] = x;\n"
    "    p[i + 64] = __shfl_down_sync(0xffffffffu, (float)i, 3);\n"
    "    p[i + 128] = __shfl_up_sync(0xffffffffu, (float)i, 2);\n"
    "    p[i + 192] = __shfl_sync(0xffffffffu, (float)i, 7);\n"
    "    p[i + 256] = (float)__popc(__ballot_sync(0xffffffffu, i % 3 == 0));\n"
    "    p[i + 320] = __any_sync(0xffffffffu, i == 40) ? 1.0f : 0.0f;\n"
    "    p[i + 384] = __all_sync(0xffffffffu, i >= 32) ? 1.0f : 0.0f;\n}\n";

START_TEST(lanes_exchange_values) {
    if (!open_rig("seed=1")) return;
    CUfunction f = compile("lanes", lanes_text, 64);
    int64_t offset = 0;
    void *list[] = {&rig.space, &offset};
    for (int seed = 0; seed < SEEDS / 4; seed++) {
        reseed(seed);
        CU(launch_kernel(f, 1, 1, 1, 64, 1, 1, 0, rig.stream[0], list, NULL));
        const float *p = read_space();
        for (int i = 0; i < 64; i++) {
            int lane = i % 32, first = i - lane;
            ck_assert(p[i] == (float)(32 * first + 31 * 16));
            ck_assert(p[i + 64] == (float)(lane + 3 < 32 ? i + 3 : i));
            ck_assert(p[i + 128] == (float)(lane >= 2 ? i - 2 : i));
            ck_assert(p[i + 192] == (float)(first + 7));
            ck_assert(p[i + 256] == 11);
            ck_assert(p[i + 320] == (first ? 1 : 0));
            ck_assert(p[i + 384] == (first ? 1 : 0));
        }
    }
}
END_TEST

// ---- failures on demand -------------------------------------------------------------------------

START_TEST(calls_fail_on_demand) {
    if (!open_rig("seed=1")) return;
    CUdeviceptr a, b;
    ck_assert_ptr_null(rig.configure("fail=cuMemAlloc:2:2"));
    CU(mem_alloc(&a, 100));
    ck_assert_int_eq(rig.cu.mem_alloc(&b, 100), CUDA_ERROR_OUT_OF_MEMORY);
    CU(mem_alloc(&b, 100)); // once
    CU(mem_free(a));
    CU(mem_free(b));
    ck_assert_int_eq(rig.calls("cuMemAlloc"), 4);
    ck_assert_ptr_null(rig.configure("fail=any:1"));
    ck_assert_int_eq(rig.cu.ctx_get_current(&rig.context), CUDA_ERROR_UNKNOWN);
    ck_assert_ptr_null(rig.configure("fail=cuStreamSynchronize:1:719"));
    ck_assert_int_eq(rig.cu.stream_synchronize(rig.stream[0]), CUDA_ERROR_LAUNCH_FAILED);
    ck_assert_int_eq(rig.cu.mem_alloc(&a, 100), CUDA_ERROR_LAUNCH_FAILED); // lost
}
END_TEST

START_TEST(settings_are_checked) {
    if (!find_cuda_on_cpu("seed=1")) return;
    static const char *const wrong[] = {"sed=1",       "seed",          "seed=x",  "devices=17",
                                        "memory=5T",   "order=random ", "fail=:1", "fail=a:0",
                                        "order=later", "check=2"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *problem = rig.configure(wrong[i]);
        if (strcmp(wrong[i], "order=random ") == 0)
            ck_assert_ptr_null(problem);
        else
            ck_assert_msg(problem && strstr(problem, "is no setting"), "%s: %s", wrong[i], problem);
    }
}
END_TEST

Suite *cuda_on_cpu_suite(void) {
    Suite *suite = suite_create("cuda_on_cpu");
    TCase *tests = tcase_create("cuda_on_cpu");
    tcase_add_checked_fixture(tests, start, finish);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, handles_are_told_apart);
    tcase_add_test(tests, contexts_are_told_apart);
    tcase_add_test(tests, memory_is_checked);
    tcase_add_test(tests, copies_are_checked);
    tcase_add_test(tests, launches_are_checked);
    tcase_add_test(tests, what_nvrtc_refuses_is_refused);
    tcase_add_loop_test(tests, astray_kernels_are_stopped, 0, sizeof astrays / sizeof *astrays);
    tcase_add_test(tests, undeclared_accesses_are_found);
    tcase_add_test(tests, unexpected_work_is_found);
    tcase_add_test_raise_signal(tests, the_host_cannot_touch_device_memory, SIGSEGV);
    tcase_add_test(tests, a_fork_has_no_driver);
    tcase_add_test(tests, only_events_order_streams);
    tcase_add_test(tests, times_are_of_past_events);
    tcase_add_test(tests, a_wait_is_for_the_latest_record);
    tcase_add_test(tests, copies_are_late);
    tcase_add_test(tests, memory_is_fresh_and_arguments_are_copies);
    tcase_add_test(tests, barriers_order_threads);
    tcase_add_test(tests, lanes_exchange_values);
    tcase_add_test(tests, calls_fail_on_demand);
    tcase_add_test(tests, settings_are_checked);
    suite_add_tcase(suite, tests);
    return suite;
}
