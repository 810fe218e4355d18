// The OpenCL backend on devices that are unlike the one at hand: opencl_layer.c makes them of it.
#include <dirent.h>
#include <sys/wait.h>
#include "tests/backend_rig.h"
#ifdef BRIM_OPENCL_BUILT
#include "backends/opencl/driver.h"
#endif

// True if the first device has that name, behind a layer with these words.
static bool first_device_is(const char *name, const char *words) {
    if (!getenv("OPENCL_LAYERS")) setenv("OPENCL_LAYERS", BRIM_TEST_LAYER_FILE, 1);
    setenv("BRIM_TEST_LAYER", words, 1);
    device_traits traits;
    brim_error unfit = {0};
    if (!device_under_test(0)) return false;
    find_backend("opencl")->describe(0, &traits, &unfit);
    if (strcmp(traits.name, name) == 0) return true;
    skip(SKIP_no_opencl_layers);
    return false;
}

// True if the device at hand now has these peculiarities. Only in a process that has not used
// OpenCL yet.
static bool become(const char *words) {
    return first_device_is("a device behind a layer", words);
}

// Twice over two values and back to the host, from the staging area: copies, launches, chunks.
static void check_a_program(int32_t group) {
    enum { BYTES = sizeof(float) * N };
    int64_t far = prog->device_bytes - 4096;
    static const int32_t on_copy[] = {0}, on_compute[] = {2};
    add((program_record){.kind = RECORD_COPY,
                         .queue = QUEUE_IN,
                         .as.copy = {{SPACE_HOST, 0, BYTES}, {SPACE_DEVICE, 0, BYTES}, 4096}});
    add_axpb(group, QUEUE_COMPUTE, on_copy, 1, 0, -1, far, 3, 1);
    add_axpb(group, QUEUE_COMPUTE, NULL, 0, far, 0, 8192, 2, -1);
    add((program_record){
        .kind = RECORD_COPY,
        .queue = QUEUE_OUT,
        .wait = on_compute,
        .waits = 1,
        .as.copy = {{SPACE_DEVICE, 8192, BYTES}, {SPACE_HOST, 32768, BYTES}, 4096}});
    load();
    char *host = api->host_memory(device);
    float *in = (float *)host;
    for (int i = 0; i < 8 * 1024; i++) in[i] = (float)i;
    for (int m = 0; m < 8; m++) {
        api->run(loaded, SECTION_MIDDLE, m, &err);
        api->wait(device, &err); // the host may write the next input only then
        ASSERT_FINE(err);
    }
    const float *out = (const float *)(host + 32768);
    for (int m = 0; m < 8; m++)
        for (int i = 0; i < N; i++)
            ck_assert(out[m * 1024 + i] == 7.0f * (float)(m * 1024 + i) + 1);
}

START_TEST(a_gpu) {
    if (!become("gpu") || !open_with(0, (device_settings){0})) return;
    const device_traits *t = api->traits(device);
    ck_assert(!t->cpu && !t->exact_f32);
    ck_assert_int_eq(t->vec, 4);
    ck_assert_int_eq(t->group, 256);
    ck_assert_int_eq(t->free_bytes, -1);
    matmul_shape s = {.in = BRIM_BF16,
                      .out = BRIM_BF16,
                      .m = 3,
                      .n = 3,
                      .k = 3,
                      .batch = 1,
                      .row_a = 3,
                      .row_b = 3,
                      .row_c = 3};
    ck_assert(!api->matmul_native(device, &s)); // CLBlast has none, and there are no native kernels
    reserve(3 << 20, 65536);
    check_a_program(t->group);
}
END_TEST

#ifdef BRIM_OPENCL_BUILT

// By the driver itself.
static int64_t asked(const opencl_driver *cl, cl_device_id id, cl_device_info what, size_t bytes) {
    uint64_t value = 0;
    ck_assert_int_eq(cl->clGetDeviceInfo(id, what, bytes, &value, NULL), CL_SUCCESS);
    return (int64_t)value;
}

START_TEST(what_a_device_says) {
    static const struct {
        const char *words;
        bool cpu;
        int max_group, group, vec; // 0: whatever it has
        int64_t alignment;
    } rows[] = {
        {"gpu narrow", false, 32, 32, 4, 0},     {"gpu boundless", false, 4096, 256, 4, 0},
        {"gpu small", false, 64, 64, 4, 4096},   {"lean updated", true, 0, 1, 8, 0},
        {"fat boundless", true, 4096, 1, 16, 0}, {"updated narrow", true, 32, 1, 0, 0},
    };
    if (!become(rows[_i].words)) return;
    opencl_driver cl;
    cl_platform_id platform;
    cl_device_id id;
    device_traits t;
    char name[100], version[100], driver[256];
    if (!opencl_driver_open(&cl, &err)) return;
    cl.clGetPlatformIDs(1, &platform, NULL);
    cl.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &id, NULL);
    cl.clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof name, name, NULL);
    cl.clGetDeviceInfo(id, CL_DRIVER_VERSION, sizeof version, version, NULL);
    snprintf(driver, sizeof driver, "%.80s %.40s", name, version);
    opencl_backend.describe(0, &t, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(t.cpu, rows[_i].cpu);
    if (rows[_i].max_group) ck_assert_int_eq(t.max_group, rows[_i].max_group);
    ck_assert_int_eq(t.group, rows[_i].group);
    if (rows[_i].vec) ck_assert_int_eq(t.vec, rows[_i].vec);
    if (rows[_i].alignment) ck_assert_int_eq(t.alignment, rows[_i].alignment);
    ck_assert(t.alignment >= 256 && (t.alignment & (t.alignment - 1)) == 0);
    ck_assert_str_eq(t.name, "a device behind a layer");
    ck_assert_str_eq(t.driver, driver);
    ck_assert_str_eq(t.backend, "opencl");
    ck_assert_int_eq(t.free_bytes > 0, rows[_i].cpu);
    ck_assert_int_eq(t.local_bytes, asked(&cl, id, CL_DEVICE_LOCAL_MEM_SIZE, 8));
    ck_assert_int_eq(t.memory_bytes, asked(&cl, id, CL_DEVICE_GLOBAL_MEM_SIZE, 8));
    ck_assert_int_eq(t.compute_units, asked(&cl, id, CL_DEVICE_MAX_COMPUTE_UNITS, 4));
    int64_t chunk = asked(&cl, id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, 8);
    ck_assert(t.chunk_bytes <= chunk && chunk - t.chunk_bytes < t.alignment);
    ck_assert_int_eq(t.chunk_bytes % t.alignment, 0);
    ck_assert_int_eq(t.exact_f32, asked(&cl, id, CL_DEVICE_SINGLE_FP_CONFIG, 8) ==
                                      (asked(&cl, id, CL_DEVICE_SINGLE_FP_CONFIG, 8) |
                                       CL_FP_DENORM | CL_FP_INF_NAN | CL_FP_ROUND_TO_NEAREST |
                                       CL_FP_FMA | CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT));
    opencl_driver_close(&cl);
}
END_TEST

#endif

// What is asked for is taken, as far as the device goes; 0 leaves what it is.
START_TEST(settings_are_taken) {
    static const struct {
        const char *words;
        device_settings settings;
        bool cpu;
        int group, vec;
        int64_t chunk; // 0: the device's
    } rows[] = {
        {"fat boundless", {0}, true, 1, 16, 0},
        {"fat boundless", {.vec = 1}, true, 1, 1, 0},
        {"fat boundless", {.vec = 4, .group = 1}, true, 1, 4, 0},
        {"fat boundless", {.vec = 8}, true, 1, 8, 0},
        {"lean boundless", {.vec = 16}, true, 1, 16, 0},
        {"fat boundless", {.group = 2}, false, 2, 4, 0},
        {"fat boundless", {.group = 4096, .vec = 1}, false, 4096, 1, 0},
        {"fat boundless", {.chunk_bytes = 4096}, true, 1, 16, 4096},
        {"gpu small", {.chunk_bytes = 4096}, false, 64, 4, 4096},
        {"gpu small", {.chunk_bytes = 1 << 21}, false, 64, 4, 1 << 20},
        {"gpu small", {.chunk_bytes = 1 << 20}, false, 64, 4, 1 << 20},
    };
    if (!become(rows[_i].words) || !open_with(0, rows[_i].settings)) return;
    const device_traits *t = api->traits(device);
    device_traits found;
    api->describe(0, &found, &err);
    ck_assert_int_eq(t->cpu, rows[_i].cpu);
    ck_assert_int_eq(t->group, rows[_i].group);
    ck_assert_int_eq(t->vec, rows[_i].vec);
    ck_assert_int_eq(t->chunk_bytes, rows[_i].chunk ? rows[_i].chunk : found.chunk_bytes);
    ck_assert_int_eq(t->one_queue, strncmp(rows[_i].words, "gpu", 3) != 0);
}
END_TEST

// Three buffers with offsets, 16 bytes each, and 20 bytes of numbers.
START_TEST(arguments_of_some_bytes) {
    bool fit = _i == 0;
    if (!become(fit ? "gpu brief" : "gpu terse") || !open_with(0, (device_settings){0})) return;
    reserve(65536, 64);
    add_axpb(64, QUEUE_COMPUTE, NULL, 0, 0, -1, 8192, 1, 1);
    api->load(device, prog, &loaded, &err);
    if (fit)
        ASSERT_FINE(err);
    else
        ASSERT_FAILS(err, BRIM_UNSUPPORTED,
                     "its arguments take 68 bytes, a device behind a layer allows 67");
}
END_TEST

START_TEST(a_gpu_without_pinned_memory) {
    if (!become("gpu unpinned") || !open_with(0, (device_settings){0})) return;
    reserve(3 << 20, 65536);
    check_a_program(128);
}
END_TEST

START_TEST(small_limits) {
    if (!become("gpu small") || !open_with(0, (device_settings){0})) return;
    const device_traits *t = api->traits(device);
    ck_assert_int_eq(t->chunk_bytes, 1 << 20);
    ck_assert_int_eq(t->alignment, 4096);
    ck_assert_int_eq(t->group, 64);
    reserve((3 << 20) + 4096, 65536);
    check_a_program(t->group);
    api->unload(loaded);
    loaded = NULL;
    add_axpb(128, QUEUE_COMPUTE, NULL, 0, 0, -1, 4096, 1, 1);
    prog->record[4].label = "too wide";
    api->load(device, prog, &loaded, &err);
    ASSERT_FAILS(err, BRIM_UNSUPPORTED, "record 4 (too wide): kernel axpb wants groups of 128");
}
END_TEST

START_TEST(products_in_small_pieces) {
    if (!become("gpu small fragile") || !open_with(0, (device_settings){0})) return;
    matmul_shape s = {.in = BRIM_F32,
                      .out = BRIM_F32,
                      .m = 130,
                      .n = 70,
                      .k = 33,
                      .batch = 2,
                      .row_a = 33,
                      .row_b = 70,
                      .row_c = 70,
                      .batch_a = 130 * 33,
                      .batch_c = 130 * 70};
    if (!api->matmul_native(device, &s)) {
        skip(SKIP_no_clblast);
        return;
    }
    int64_t workspace = 0;
    api->matmul_workspace(device, &s, &workspace, &err);
    ASSERT_FINE(err);
    ck_assert(workspace < 1 << 20);
    reserve(4 << 20, 64);
    static float a[2 * 130 * 33], b[33 * 70], c[2 * 130 * 70];
    fill_floats(a, sizeof a / sizeof *a, 1);
    fill_floats(b, sizeof b / sizeof *b, 2);
    enum { AT_A = 100, AT_B = (1 << 20) + 4, AT_C = (2 << 20) + 8 };
    api->write(device, AT_A, a, sizeof a, &err);
    api->write(device, AT_B, b, sizeof b, &err);
    add((program_record){.kind = RECORD_MATMUL,
                         .as.matmul = {s, AT_A, AT_B, AT_C, 3 << 20, workspace}});
    load();
    run_and_wait(SECTION_LAST, 0);
    api->read(device, AT_C, c, sizeof c, &err);
    ASSERT_FINE(err);
    for (int batch = 0; batch < 2; batch++)
        for (int i = 0; i < 130; i++)
            for (int j = 0; j < 70; j++) {
                double sum = 0;
                for (int k = 0; k < 33; k++)
                    sum += (double)a[(batch * 130 + i) * 33 + k] * b[k * 70 + j];
                ck_assert(fabs(c[(batch * 130 + i) * 70 + j] - sum) <= 33 * 0x1p-20);
            }
}
END_TEST

START_TEST(memory_that_runs_out) {
    if (!become("gpu small full") || !open_with(0, (device_settings){0})) return;
    api->reserve(device, &(memory_request){5 << 20, 64}, &err);
    ck_assert_ptr_nonnull(strstr(err.text, "reserving 5242880 bytes on a device behind a layer"));
    ASSERT_FAILS(err, BRIM_MEMORY, "CL_MEM_OBJECT_ALLOCATION_FAILURE");
}
END_TEST

START_TEST(queues_that_run_late) {
    if (!become("slow") || !open_with(0, (device_settings){.separate_queues = true})) return;
    reserve(3 << 20, 65536);
    check_a_program(1);
}
END_TEST

// As waits_order_the_queues, but a queue that does not wait for another would certainly be too
// early.
START_TEST(late_queues_keep_their_order_over_runs) {
    if (!become("slow") || !open_with(0, (device_settings){.separate_queues = true})) return;
    enum { BYTES = sizeof(float) * N, RUNS = 12 };
    reserve(5 * 4096, 4096 * RUNS * 2);
    // Record 4 guards record 0 of the next run, which overwrites what record 2 reads; likewise 2
    // and 3.
    static const int32_t on_in[] = {1}, on_compute[] = {2};
    add((program_record){.kind = RECORD_FILL, .as.fill = {{SPACE_DEVICE, 16384, 4}, 0}});
    add((program_record){.kind = RECORD_COPY,
                         .queue = QUEUE_IN,
                         .wait = (int32_t[]){0},
                         .waits = 1,
                         .as.copy = {{SPACE_HOST, 0, BYTES}, {SPACE_DEVICE, 0, BYTES}, 4096}});
    add_axpb(1, QUEUE_COMPUTE, on_in, 1, 0, -1, 4096, 2, 1);
    add((program_record){
        .kind = RECORD_COPY,
        .queue = QUEUE_OUT,
        .wait = on_compute,
        .waits = 1,
        .as.copy = {{SPACE_DEVICE, 4096, BYTES}, {SPACE_HOST, 4096 * RUNS, BYTES}, 4096}});
    add((program_record){.kind = RECORD_FILL,
                         .wait = (int32_t[]){3},
                         .waits = 1,
                         .as.fill = {{SPACE_DEVICE, 16384, 4}, 1}});
    load();
    char *host = api->host_memory(device);
    float *in = (float *)host;
    for (int i = 0; i < 1024 * RUNS; i++) in[i] = (float)i;
    for (int r = 0; r < RUNS; r++) api->run(loaded, SECTION_LAST, r, &err);
    api->wait(device, &err);
    ASSERT_FINE(err);
    const float *out = (const float *)(host + 4096 * RUNS);
    for (int r = 0; r < RUNS; r++)
        for (int i = 0; i < N; i++)
            ck_assert_msg(out[r * 1024 + i] == 2.0f * (float)(r * 1024 + i) + 1, "run %d", r);
}
END_TEST

// Two programs take turns: each must wait for all of the other.
START_TEST(late_queues_keep_their_order_over_programs) {
    if (!become("slow") || !open_with(0, (device_settings){.separate_queues = true})) return;
    enum { BYTES = sizeof(float) * N, RUNS = 12 };
    reserve(3 * 4096, 4096 * RUNS * 2);
    add((program_record){.kind = RECORD_COPY,
                         .queue = QUEUE_IN,
                         .as.copy = {{SPACE_HOST, 0, BYTES}, {SPACE_DEVICE, 0, BYTES}, 4096}});
    add_axpb(1, QUEUE_COMPUTE, (int32_t[]){0}, 1, 0, -1, 4096, 2, 1);
    add((program_record){
        .kind = RECORD_COPY,
        .queue = QUEUE_OUT,
        .wait = (int32_t[]){1},
        .waits = 1,
        .as.copy = {{SPACE_DEVICE, 4096, BYTES}, {SPACE_HOST, 4096 * RUNS, BYTES}, 4096}});
    load();
    loaded_program *other = NULL;
    api->load(device, prog, &other, &err);
    ASSERT_FINE(err);
    float *in = api->host_memory(device);
    for (int i = 0; i < 1024 * RUNS; i++) in[i] = (float)i;
    for (int r = 0; r < RUNS; r++) api->run(r % 2 ? other : loaded, SECTION_LAST, r, &err);
    api->wait(device, &err);
    ASSERT_FINE(err);
    const float *out = in + 1024 * RUNS;
    for (int r = 0; r < RUNS; r++)
        for (int i = 0; i < N; i++)
            ck_assert_msg(out[r * 1024 + i] == 2.0f * (float)(r * 1024 + i) + 1, "run %d", r);
    api->unload(other);
}
END_TEST

static const char *name_of_device(int index) {
    static device_traits traits;
    find_backend("opencl")->describe(index, &traits, &err);
    ASSERT_FINE(err);
    return traits.name;
}

// 16 platforms are asked, and offer 5 devices each that are of use: the first 64 are taken, GPUs
// before other devices and those before CPUs, else in the driver's order.
START_TEST(a_crowd) {
    static const struct {
        int index;
        const char *name;
    } rows[] = {
        {0, "figure 02"},  {1, "figure 04"},  {2, "figure 02"},  {25, "figure 04"},
        {26, "figure 03"}, {38, "figure 03"}, {39, "figure 00"}, {40, "a device behind a layer"},
        {63, "figure 00"}};
    char why[300];
    if (!first_device_is("figure 02", "crowd")) return;
    ck_assert_int_eq(find_backend("opencl")->count(why, sizeof why), 64);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_str_eq(name_of_device(rows[i].index), rows[i].name);
    device_traits traits;
    find_backend("opencl")->describe(26, &traits, &err);
    ck_assert(!traits.cpu);
    find_backend("opencl")->describe(39, &traits, &err);
    ck_assert(traits.cpu);
    ASSERT_FINE(err);
    backend_open("opencl:64", NULL, &api, &device, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "device \"opencl:64\": there is no such device");
    find_backend("opencl")->describe(64, &traits, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "there is no device opencl:64: OpenCL offers 64");
    find_backend("opencl")->describe(-1, &traits, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "there is no device opencl:-1: OpenCL offers 64");
}
END_TEST

// The first that opens is the best one; of CPUs where a CPU is wanted. All are named where a name
// is wrong, and the first's reason is told where none opens.
START_TEST(the_best_that_opens) {
    static const char *const names[] = {"auto", "cpu", "", NULL};
    if (!first_device_is("figure 02", "crowd")) return;
    const device_settings settings = {.cache_dir = ""};
    for (int i = 0; i < 4; i++) {
        backend_open(names[i], &settings, &api, &device, &err);
        ASSERT_FINE(err);
        ck_assert_str_eq(api->traits(device)->name, "a device behind a layer");
        api->close(device);
        device = NULL;
    }
    backend_open("opencl:26", &settings, &api, &device, &err);
    ASSERT_FAILS(err, BRIM_DEVICE, "device opencl:26: OpenCL: clCreateContext failed with");
    backend_open("opencl:99", &settings, &api, &device, &err);
    ck_assert_ptr_nonnull(strstr(err.text, "opencl:0 (figure 02), opencl:1 (figure 04), "));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "device \"opencl:99\": there is no such device; there is: ");
}
END_TEST

START_TEST(none_that_opens) {
    if (!first_device_is("figure 02", "horde")) return;
    backend_open("auto", NULL, &api, &device, &err);
    ASSERT_FAILS(err, BRIM_DEVICE, "device opencl:0: OpenCL: clCreateContext failed with");
    backend_open("cpu", NULL, &api, &device, &err);
    ASSERT_FAILS(err, BRIM_DEVICE, "device opencl:38: OpenCL: clCreateContext failed with");
    ck_assert_ptr_null(device);
}
END_TEST

// A GPU is no CPU.
START_TEST(no_cpu) {
    if (!become("gpu")) return;
    backend_open("cpu", NULL, &api, &device, &err);
    ck_assert_ptr_nonnull(strstr(err.text, "opencl:0 (a device behind a layer)"));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "device \"cpu\": none was found; there is: ");
}
END_TEST

// Of 71 devices of one platform the first 64 are looked at; 13 of them are of no use.
START_TEST(a_horde) {
    char why[300];
    if (!first_device_is("figure 02", "horde")) return;
    ck_assert_int_eq(find_backend("opencl")->count(why, sizeof why), 51);
    ck_assert_str_eq(name_of_device(0), "figure 02");
    ck_assert_str_eq(name_of_device(24), "figure 62");
    ck_assert_str_eq(name_of_device(50), "figure 60");
}
END_TEST

static void run_with_cache(const char *folder) {
    device_settings settings = {.cache_dir = folder};
    backend_open("opencl:0", &settings, &api, &device, &err);
    program_create(&prog, &err);
    ASSERT_FINE(err);
    prog->micro_batches = 1;
    reserve(3 << 20, 65536);
    check_a_program(1);
}

START_TEST(binaries_that_are_refused) {
    char folder[] = "/tmp/brim-test-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(folder));
    if (become("forgetful")) {
        for (int i = 0; i < 2; i++) { // the second time the cache has an entry, of no use
            run_with_cache(folder);
            finish();
            start();
        }
    }
    char command[64];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

static int entries(const char *folder) {
    DIR *directory = opendir(folder);
    int count = 0;
    for (struct dirent *e; directory && (e = readdir(directory));)
        count += strstr(e->d_name, ".kernel") != NULL;
    if (directory) closedir(directory);
    return count;
}

// Runs the program in a process that knows the device by these words; how many entries the cache
// has then. -1: there is no such device.
static int entries_after(const char *words, const char *folder) {
    fflush(NULL);
    pid_t process = check_fork();
    if (process == 0) {
        bool there = become(words);
        if (there) run_with_cache(folder);
        _exit(there ? 0 : 77);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(process, &status, 0), process);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) return -1;
    ck_assert_int_eq(status, 0);
    return entries(folder);
}

// A driver is given no binary of another one.
START_TEST(each_driver_has_its_entries) {
    char folder[] = "/tmp/brim-test-XXXXXX", command[64];
    ck_assert_ptr_nonnull(mkdtemp(folder));
    int first = entries_after("slow", folder);
    if (first >= 0) {
        ck_assert_int_gt(first, 0);
        ck_assert_int_eq(entries_after("slow", folder), first);
        ck_assert_int_eq(entries_after("slow updated", folder), 2 * first);
    }
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

// What a kernel of that text, with those defines, writes.
static float written_by(const char *source, const char *defines, const char *folder) {
    float written = 0;
    const device_settings settings = {.cache_dir = folder};
    const kernel_argument to = buffer_at(0);
    backend_open("opencl:0", &settings, &api, &device, &err);
    program_create(&prog, &err);
    ASSERT_FINE(err);
    prog->micro_batches = 1;
    reserve(4096, 64);
    program_add_kernel(prog, &(kernel_spec){"go", "go.k", source, defines, 1}, &err);
    add((program_record){.kind = RECORD_LAUNCH, .as.launch = {0, {1, 1, 1}, 1, &to}});
    load();
    run_and_wait(SECTION_LAST, 0);
    api->read(device, 0, &written, sizeof written, &err);
    ASSERT_FINE(err);
    finish();
    start();
    return written;
}

// Nor a kernel the binary of another text, or of other defines.
START_TEST(each_text_has_its_entry) {
    static const char one[] = "KERNEL go(BUFFER(y)) { PTR(float, y)[0] = X + 1; }\n",
                      two[] = "KERNEL go(BUFFER(y)) { PTR(float, y)[0] = X + 2; }\n";
    char folder[] = "/tmp/brim-test-XXXXXX", command[64];
    if (!device_under_test(0)) return;
    ck_assert_ptr_nonnull(mkdtemp(folder));
    for (int i = 0; i < 2; i++) { // the second time by the cache
        ck_assert(written_by(one, "-DX=10 -DGROUP=1 -DVEC=8 -DBRIM_CPU=1", folder) == 11);
        ck_assert(written_by(two, "-DX=10 -DGROUP=1 -DVEC=8 -DBRIM_CPU=1", folder) == 12);
        ck_assert(written_by(one, "-DX=20 -DGROUP=1 -DVEC=8 -DBRIM_CPU=1", folder) == 21);
    }
    ck_assert_int_eq(entries(folder), 3);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

START_TEST(devices_that_cannot_be_used) {
    static const struct {
        const char *words, *reason;
    } rows[] = {
        {"old", "it offers less than OpenCL 1.2"},
        {"embedded", "it offers only OpenCL's embedded profile"},
        {"compilerless", "its driver has no compiler"},
        {"absent", "its driver says it is not available"},
    };
    if (!become(rows[_i].words)) return;
    device_traits traits;
    find_backend("opencl")->describe(0, &traits, &err);
    ck_assert_int_eq(strncmp(err.text, "device opencl:0: a device behind a layer cannot be", 50),
                     0);
    ASSERT_FAILS(err, BRIM_UNSUPPORTED, rows[_i].reason);
    err = (brim_error){0};
    backend_open("opencl:0", NULL, &api, &device, &err);
    ck_assert_ptr_null(device);
    ASSERT_FAILS(err, BRIM_UNSUPPORTED, rows[_i].reason);
}
END_TEST

Suite *opencl_layer_suite(void) {
    Suite *suite = suite_create("opencl_layer");
    TCase *tests = tcase_create("opencl_layer");
    tcase_add_checked_fixture(tests, start, finish);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_gpu);
#ifdef BRIM_OPENCL_BUILT
    tcase_add_loop_test(tests, what_a_device_says, 0, 6);
#endif
    tcase_add_loop_test(tests, settings_are_taken, 0, 11);
    tcase_add_loop_test(tests, arguments_of_some_bytes, 0, 2);
    tcase_add_test(tests, a_gpu_without_pinned_memory);
    tcase_add_test(tests, small_limits);
    tcase_add_test(tests, products_in_small_pieces);
    tcase_add_test(tests, memory_that_runs_out);
    tcase_add_test(tests, queues_that_run_late);
    tcase_add_test(tests, late_queues_keep_their_order_over_runs);
    tcase_add_test(tests, late_queues_keep_their_order_over_programs);
    tcase_add_test(tests, a_crowd);
    tcase_add_test(tests, a_horde);
    tcase_add_test(tests, the_best_that_opens);
    tcase_add_test(tests, none_that_opens);
    tcase_add_test(tests, no_cpu);
    tcase_add_test(tests, binaries_that_are_refused);
    tcase_add_test(tests, each_driver_has_its_entries);
    tcase_add_test(tests, each_text_has_its_entry);
    tcase_add_loop_test(tests, devices_that_cannot_be_used, 0, 4);
    suite_add_tcase(suite, tests);
    return suite;
}
