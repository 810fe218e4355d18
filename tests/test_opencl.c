// The OpenCL backend on hand-made programs: memory, launches, matrix products, copies, queues,
// errors.
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/backend.h"
#include "core/half.h"
#include "core/philox.h"
#include "graph/graph.h"
#include "tests/devices.h"
#include "tests/skips.h"
#include "tests/test_core.h"

static const backend *api;
static backend_device *device;
static program *prog;
static loaded_program *loaded;
static brim_error err;

static bool open_with(device_settings settings) {
    const char *name = device_under_test(0);
    if (!name) return false;
    settings.cache_dir = "";
    backend_open(name, &settings, &api, &device, &err);
    program_create(&prog, &err);
    ASSERT_FINE(err);
    prog->micro_batches = 1;
    return true;
}

static void start(void) {
    err = (brim_error){0};
    device = NULL, prog = NULL, loaded = NULL;
}

static void finish(void) {
    if (loaded) api->unload(loaded);
    if (device) api->close(device);
    program_free(prog);
}

static void reserve(int64_t device_bytes, int64_t host_bytes) {
    prog->device_bytes = device_bytes, prog->host_bytes = host_bytes;
    api->reserve(device, device_bytes, host_bytes, &err);
    ASSERT_FINE(err);
}

static void load(void) {
    api->load(device, prog, &loaded, &err);
    ASSERT_FINE(err);
}

static void run_and_wait(uint8_t section, int32_t micro_batch) {
    api->run(loaded, section, micro_batch, &err);
    api->wait(device, &err);
    ASSERT_FINE(err);
}

// ---- programs -----------------------------------------------------------------------------------

static kernel_argument buffer_at(int64_t offset) {
    return (kernel_argument){ARGUMENT_BUFFER, {.offset = offset}};
}
static kernel_argument i32_of(int32_t x) {
    return (kernel_argument){ARGUMENT_I32, {.i32 = x}};
}
static kernel_argument i64_of(int64_t x) {
    return (kernel_argument){ARGUMENT_I64, {.i64 = x}};
}
static kernel_argument f32_of(float x) {
    return (kernel_argument){ARGUMENT_F32, {.f32 = x}};
}

// y[i] = a x[i] + b (+ z[i] if there is a z), for i below n; one work-item an element, rows of
// `width` in dimension 1.
static const char axpb[] =
    "KERNEL axpb(CONST_BUFFER(x), CONST_BUFFER(z), BUFFER(y), float a, int_t b, long_t n, int_t "
    "width)\n"
    "{\n"
    "    long_t i = (long_t)group_id(1) * width + group_id(0) * GROUP + local_id();\n"
    "    if (group_id(0) * GROUP + local_id() >= width || i >= n) return;\n"
    "    float v = s_fma(a, PTR(const float, x)[i], (float)b);\n"
    "    if (z_base) v += PTR(const float, z)[i];\n"
    "    PTR(float, y)[i] = v;\n"
    "}\n";

// y[g] = sum of the GROUP elements of group g, by the group's tree.
static const char group_sums[] =
    "KERNEL group_sums(CONST_BUFFER(x), BUFFER(y))\n"
    "{\n"
    "    LOCAL float scratch[GROUP];\n"
    "    int_t g = group_id(0);\n"
    "    float sum = group_sum(PTR(const float, x)[g * GROUP + local_id()], scratch);\n"
    "    if (local_id() == 0) PTR(float, y)[g] = sum;\n"
    "}\n";

static int32_t add_kernel(const char *name, const char *source, int32_t group) {
    char defines[100];
    const device_traits *t = api->traits(device);
    snprintf(defines, sizeof defines, "-DGROUP=%d -DVEC=%d -DBRIM_CPU=%d", group, t->vec, t->cpu);
    kernel_spec spec = {name, "test_opencl.c", source, defines, group};
    return program_add_kernel(prog, &spec, &err);
}

static void add(program_record record) {
    if (!record.sections) record.sections = SECTION_ALL;
    record.node = -1;
    if (!record.label) record.label = "test";
    program_add_record(prog, &record, &err);
    ASSERT_FINE(err);
}

enum { N = 1000, WIDTH = 250 };

static void add_axpb(int32_t group, queue_id queue, const int32_t *wait, int32_t waits, int64_t x,
                     int64_t z, int64_t y, float a, int32_t b) {
    int32_t kernel = add_kernel("axpb", axpb, group);
    kernel_argument arguments[] = {buffer_at(x), buffer_at(z), buffer_at(y), f32_of(a),
                                   i32_of(b),    i64_of(N),    i32_of(WIDTH)};
    add((program_record){.kind = RECORD_LAUNCH,
                         .queue = queue,
                         .wait = wait,
                         .waits = waits,
                         .as.launch = {kernel,
                                       {(WIDTH + group - 1) / group, N / WIDTH, 1},
                                       sizeof arguments / sizeof *arguments,
                                       arguments}});
}

static void fill_floats(float *x, size_t count, uint64_t stream) {
    philox_fill_uniform(x, count, 7, stream, -1, 1);
}

// ---- launches -----------------------------------------------------------------------------------

static void check_launch(device_settings settings, int32_t group) {
    if (!open_with(settings)) return;
    reserve(4 * 4096, 64);
    float x[N], z[N], y[N];
    fill_floats(x, N, 1);
    fill_floats(z, N, 2);
    api->write(device, 4, x, sizeof x, &err);
    api->write(device, 4100, z, sizeof z, &err);
    add_axpb(group, QUEUE_COMPUTE, NULL, 0, 4, -1, 8200, 1.5f, -3);
    add_axpb(group, QUEUE_COMPUTE, NULL, 0, 8200, 4100, 12300, 0.25f, 1);
    load();
    run_and_wait(SECTION_FIRST, 0);
    api->read(device, 12300, y, sizeof y, &err);
    ASSERT_FINE(err);
    for (int i = 0; i < N; i++) {
        float expected = fmaf(0.25f, fmaf(1.5f, x[i], -3), 1) + z[i];
        ck_assert_msg(y[i] == expected, "element %d: %g, expected %g", i, y[i], expected);
    }
}

START_TEST(launches_in_groups_of_one) {
    check_launch((device_settings){0}, 1);
}
END_TEST

START_TEST(launches_in_wide_groups) {
    check_launch((device_settings){.group = 64, .vec = 4}, 64);
}
END_TEST

START_TEST(groups_share_local_memory) {
    if (!open_with((device_settings){.group = 128, .vec = 1})) return;
    ck_assert(!api->traits(device)->cpu); // it works as a GPU does
    reserve(8192, 64);
    float x[1024], y[8];
    for (int i = 0; i < 1024; i++) x[i] = (float)(i % 128 + i / 128);
    api->write(device, 256, x, sizeof x, &err);
    int32_t kernel = add_kernel("group_sums", group_sums, 128);
    kernel_argument arguments[] = {buffer_at(256), buffer_at(6144)};
    add((program_record){.kind = RECORD_LAUNCH, .as.launch = {kernel, {8, 1, 1}, 2, arguments}});
    load();
    run_and_wait(SECTION_LAST, 0);
    api->read(device, 6144, y, sizeof y, &err);
    ASSERT_FINE(err);
    for (int g = 0; g < 8; g++) ck_assert(y[g] == 127 * 64 + 128 * g);
}
END_TEST

START_TEST(only_the_section_asked_for_runs) {
    if (!open_with((device_settings){0})) return;
    reserve(4096, 64);
    for (int i = 0; i < 3; i++)
        add((program_record){.kind = RECORD_FILL,
                             .sections = (uint8_t)(1 << i),
                             .as.fill = {{SPACE_DEVICE, 512 + 4 * i, 4}, 0x11111111u * (i + 1)}});
    load();
    uint32_t words[3];
    run_and_wait(SECTION_MIDDLE, 0);
    api->read(device, 512, words, sizeof words, &err);
    ck_assert_uint_eq(words[0], 0);
    ck_assert_uint_eq(words[1], 0x22222222);
    ck_assert_uint_eq(words[2], 0);
    run_and_wait(SECTION_LAST, 0);
    api->read(device, 512, words, sizeof words, &err);
    ASSERT_FINE(err);
    ck_assert_uint_eq(words[0], 0);
    ck_assert_uint_eq(words[2], 0x33333333);
}
END_TEST

// ---- memory -------------------------------------------------------------------------------------

START_TEST(memory_in_chunks) {
    if (!open_with((device_settings){.chunk_bytes = 8192, .poison = true})) return;
    ck_assert_int_eq(api->traits(device)->chunk_bytes, 8192);
    reserve(5 * 8192 + 1024, 64);
    static char bytes[4 * 8192], back[4 * 8192];
    api->read(device, 0, back, sizeof back, &err);
    ASSERT_FINE(err);
    float poison;
    memcpy(&poison, back + 4096, sizeof poison);
    ck_assert(isnan(poison));
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)(i * 7 % 251);
    api->write(device, 5000, bytes, sizeof bytes, &err); // touches five chunks
    api->read(device, 5000, back, sizeof back, &err);
    ASSERT_FINE(err);
    ck_assert_mem_eq(bytes, back, sizeof back);
    // From one chunk to another within the device.
    add((program_record){
        .kind = RECORD_COPY,
        .as.copy = {{SPACE_DEVICE, 8192, 1000}, {SPACE_DEVICE, 5 * 8192, 1000}, 0}});
    load();
    run_and_wait(SECTION_FIRST, 0);
    api->read(device, 5 * 8192, back, 1000, &err);
    ASSERT_FINE(err);
    ck_assert_mem_eq(back, bytes + 8192 - 5000, 1000);
    api->read(device, 5 * 8192, back, 2048, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "outside the device space");
}
END_TEST

START_TEST(a_value_may_not_straddle_chunks) {
    if (!open_with((device_settings){.chunk_bytes = 8192})) return;
    reserve(3 * 8192, 64);
    add((program_record){
        .kind = RECORD_FILL, .label = "h.3.bias", .as.fill = {{SPACE_DEVICE, 8000, 400}, 0}});
    api->load(device, prog, &loaded, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "h.3.bias): 400 bytes at 8000 straddle chunks");
}
END_TEST

START_TEST(missing_memory_is_named) {
    if (!open_with((device_settings){0})) return;
    int64_t there = api->traits(device)->memory_bytes;
    api->reserve(device, there + (1 << 20), 64, &err);
    ASSERT_FAILS(err, BRIM_MEMORY, "bytes are missing");
    ck_assert_ptr_null(api->host_memory(device));
    err = (brim_error){0};
    reserve(4096, 64); // the device is still good
    api->reserve(device, 4096, 64, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "already");
}
END_TEST

// Inputs of micro-batch i lie i strides further in the staging area, results likewise.
START_TEST(copies_move_with_the_micro_batch) {
    if (!open_with((device_settings){0})) return;
    enum { BATCHES = 4, BYTES = sizeof(float) * N };
    reserve(3 * 4096, 4096 * BATCHES * 2);
    add((program_record){.kind = RECORD_COPY,
                         .as.copy = {{SPACE_HOST, 16, BYTES}, {SPACE_DEVICE, 0, BYTES}, 4096}});
    add_axpb(1, QUEUE_COMPUTE, NULL, 0, 0, -1, 4096, 2, 1);
    add((program_record){
        .kind = RECORD_COPY,
        .as.copy = {{SPACE_DEVICE, 4096, BYTES}, {SPACE_HOST, 4096 * BATCHES, BYTES}, 4096}});
    load();
    char *host = api->host_memory(device);
    float *in = (float *)(host + 16);
    for (int b = 0; b < BATCHES; b++)
        for (int i = 0; i < N; i++) in[b * 1024 + i] = (float)(b * 10000 + i);
    for (int b = 0; b < BATCHES; b++) api->run(loaded, SECTION_MIDDLE, b, &err);
    api->wait(device, &err);
    ASSERT_FINE(err);
    const float *out = (const float *)(host + 4096 * BATCHES);
    for (int b = 0; b < BATCHES; b++)
        for (int i = 0; i < N; i++)
            ck_assert(out[b * 1024 + i] == 2.0f * (float)(b * 10000 + i) + 1);
    api->run(loaded, SECTION_MIDDLE, BATCHES + 1, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "micro-batch 5 is outside the staging area");
}
END_TEST

// ---- queues -------------------------------------------------------------------------------------

// In: a number; compute: twice the number and one more, over and over; out: the result. All order
// comes from waits, over many runs without a wait on the host: the copy in must wait for the last
// reader of its target, too.
START_TEST(waits_order_the_queues) {
    if (!open_with((device_settings){.separate_queues = true})) return;
    enum { BYTES = sizeof(float) * N, RUNS = 50 };
    reserve(3 * 4096, 4096 * RUNS * 2);
    static const int32_t on_copy[] = {0}, on_compute[] = {1};
    add((program_record){.kind = RECORD_COPY,
                         .queue = QUEUE_IN,
                         .as.copy = {{SPACE_HOST, 0, BYTES}, {SPACE_DEVICE, 0, BYTES}, 4096}});
    add_axpb(1, QUEUE_COMPUTE, on_copy, 1, 0, -1, 4096, 2, 1);
    add((program_record){
        .kind = RECORD_COPY,
        .queue = QUEUE_OUT,
        .wait = on_compute,
        .waits = 1,
        .as.copy = {{SPACE_DEVICE, 4096, BYTES}, {SPACE_HOST, 4096 * RUNS, BYTES}, 4096}});
    load();
    loaded_program *other = NULL;
    api->load(device, prog, &other, &err);
    ASSERT_FINE(err);
    char *host = api->host_memory(device);
    float *in = (float *)host;
    for (int i = 0; i < 1024 * RUNS; i++) in[i] = (float)i;
    // Two loads of the program take turns: each must wait for all of the other.
    for (int r = 0; r < RUNS; r++) api->run(r % 2 ? other : loaded, SECTION_LAST, r, &err);
    api->wait(device, &err);
    ASSERT_FINE(err);
    const float *out = (const float *)(host + 4096 * RUNS);
    for (int r = 0; r < RUNS; r++)
        for (int i = 0; i < N; i++)
            ck_assert_msg(out[r * 1024 + i] == 2.0f * (float)(r * 1024 + i) + 1, "run %d", r);
    api->unload(other);
}
END_TEST

START_TEST(profile_tells_seconds) {
    if (!open_with((device_settings){0})) return;
    reserve(64 << 20, 64);
    add((program_record){.kind = RECORD_FILL, .as.fill = {{SPACE_DEVICE, 0, 32 << 20}, 1}});
    add((program_record){.kind = RECORD_FILL,
                         .sections = SECTION_LAST,
                         .as.fill = {{SPACE_DEVICE, 0, 32 << 20}, 2}});
    load();
    double seconds[2] = {-1, -1};
    ck_assert_ptr_nonnull(api->profile);
    api->profile(loaded, SECTION_FIRST, seconds, &err);
    ASSERT_FINE(err);
    ck_assert(seconds[0] > 0 && seconds[0] < 10);
    ck_assert(seconds[1] == 0);
    uint32_t word;
    api->read(device, 4096, &word, sizeof word, &err);
    ck_assert_uint_eq(word, 1);
}
END_TEST

// ---- matrix products ----------------------------------------------------------------------------

static void store_element(brim_dtype dtype, void *array, int64_t i, float x) {
    if (dtype == BRIM_F32)
        ((float *)array)[i] = x;
    else
        ((uint16_t *)array)[i] = dtype == BRIM_F16 ? f16_from_f32(x) : bf16_from_f32(x);
}

static double element(brim_dtype dtype, const void *array, int64_t i) {
    if (dtype == BRIM_F32) return ((const float *)array)[i];
    uint16_t bits = ((const uint16_t *)array)[i];
    return dtype == BRIM_F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

// Compares C with the product in double. The error of a sum of k f32 products is at most k u sum |a
// b|, and in practice far less; a 16-bit result has half a unit in the last place on top.
static void check_product(const matmul_shape *s, const void *a, const void *b, const void *c) {
    double u = s->out == BRIM_F32 ? 0 : s->out == BRIM_F16 ? 0x1p-11 : 0x1p-8;
    for (int64_t batch = 0; batch < s->batch; batch++)
        for (int64_t i = 0; i < s->m; i++)
            for (int64_t j = 0; j < s->n; j++) {
                double sum = 0, magnitude = 0;
                for (int64_t k = 0; k < s->k; k++) {
                    int64_t at_a =
                        batch * s->batch_a + (s->transpose_a ? k * s->row_a + i : i * s->row_a + k);
                    int64_t at_b =
                        batch * s->batch_b + (s->transpose_b ? j * s->row_b + k : k * s->row_b + j);
                    double x = element(s->in, a, at_a) * element(s->in, b, at_b);
                    sum += x, magnitude += fabs(x);
                }
                double got = element(s->out, c, batch * s->batch_c + i * s->row_c + j);
                double tolerance =
                    8 * 0x1p-24 * magnitude + u * fabs(sum) + (s->out == BRIM_F16 ? 0x1p-25 : 0);
                ck_assert_msg(fabs(got - sum) <= tolerance,
                              "[%d][%d][%d]: %.9g, expected %.9g +- %.2g", (int)batch, (int)i,
                              (int)j, got, sum, tolerance);
            }
}

enum {
    SPACE = 1 << 20,
    AT_A = 256,
    AT_B = SPACE + 4,
    AT_C = 2 * SPACE + 4,
    AT_WORKSPACE = 3 * SPACE
};

static void run_product(const matmul_shape *s) {
    static char a[SPACE], b[SPACE], c[SPACE];
    int64_t elements = (SPACE - 512) / (int64_t)brim_dtype_bytes(s->in);
    float *values = malloc(sizeof *values * (size_t)elements);
    ck_assert_ptr_nonnull(values);
    for (int operand = 0; operand < 2; operand++) {
        fill_floats(values, (size_t)elements, (uint64_t)operand);
        for (int64_t i = 0; i < elements; i++) store_element(s->in, operand ? b : a, i, values[i]);
    }
    free(values);
    memset(c, 0x7f, sizeof c); // NaN in f32; guards around C
    api->write(device, AT_A, a, SPACE - 512, &err);
    api->write(device, AT_B, b, SPACE - 512, &err);
    api->write(device, AT_C - 4, c, SPACE - 512, &err);
    run_and_wait(SECTION_LAST, 0);
    api->read(device, AT_C - 4, c, SPACE - 512, &err);
    ASSERT_FINE(err);
    check_product(s, a, b, c + 4);
    int64_t end = (s->batch - 1) * s->batch_c + (s->m - 1) * s->row_c + s->n;
    const char *after = c + 4 + end * (int64_t)brim_dtype_bytes(s->out);
    for (int i = 0; i < 16; i++) ck_assert_int_eq(after[i], 0x7f);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(c[i], 0x7f);
    if (s->row_c > s->n) ck_assert_int_eq(c[4 + s->n * (int64_t)brim_dtype_bytes(s->out)], 0x7f);
}

static void check_matmul(device_settings settings, matmul_shape s) {
    if (!open_with(settings)) return;
    if (!api->matmul_native(device, &s)) {
        skip(settings.clblast ? SKIP_no_clblast : SKIP_no_native_kernels);
        return;
    }
    int64_t workspace = -1;
    api->matmul_workspace(device, &s, &workspace, &err);
    ASSERT_FINE(err);
    ck_assert(workspace >= 0);
    reserve(AT_WORKSPACE + workspace, 64);
    add((program_record){.kind = RECORD_MATMUL,
                         .as.matmul = {s, AT_A, AT_B, AT_C, AT_WORKSPACE, workspace}});
    load();
    run_product(&s);
}

// m n k, batch; strides are a little more than needed, so that none of them may be mistaken for an
// extent.
static matmul_shape dense(brim_dtype in, brim_dtype out, int64_t m, int64_t n, int64_t k,
                          int transposed) {
    matmul_shape s = {.in = in,
                      .out = out,
                      .m = m,
                      .n = n,
                      .k = k,
                      .batch = 1,
                      .transpose_a = transposed & 1,
                      .transpose_b = transposed & 2};
    s.row_a = (s.transpose_a ? m : k) + 3;
    s.row_b = (s.transpose_b ? k : n) + 5;
    s.row_c = n + 2;
    return s;
}

static const brim_dtype product_dtypes[][2] = {
    {BRIM_F32, BRIM_F32}, {BRIM_BF16, BRIM_BF16}, {BRIM_BF16, BRIM_F32},
    {BRIM_F16, BRIM_F16}, {BRIM_F16, BRIM_F32},
};

START_TEST(native_products) { // _i: dtypes * 4 transpositions
    check_matmul((device_settings){0},
                 dense(product_dtypes[_i / 4][0], product_dtypes[_i / 4][1], 61, 83, 97, _i % 4));
}
END_TEST

START_TEST(native_products_in_slices) {
    check_matmul((device_settings){0}, dense(product_dtypes[_i / 4][0], product_dtypes[_i / 4][1],
                                             _i & 1 ? 70 : 331, _i & 1 ? 331 : 70, 300, _i % 4));
}
END_TEST

static matmul_shape batched(int broadcast) {
    matmul_shape s = dense(BRIM_F32, BRIM_F32, 17, 33, 29, broadcast);
    s.batch = 6;
    s.batch_a = broadcast == 1 ? 0 : 17 * 29 + 100 + 17 * 3 + 29 * 3;
    s.batch_b = broadcast == 2 ? 0 : 33 * 29 + 300 + 33 * 3;
    s.batch_c = 17 * 35 + 1;
    return s;
}

START_TEST(native_products_in_batches) {
    matmul_shape s = batched(_i % 3);
    if (_i >= 3) s.in = s.out = BRIM_BF16;
    check_matmul((device_settings){0}, s);
}
END_TEST

START_TEST(clblast_products) {
    check_matmul((device_settings){.no_native = true, .clblast = true},
                 dense(BRIM_F32, BRIM_F32, 61, 83, 97, _i % 4));
}
END_TEST

START_TEST(clblast_products_that_need_workspace) {
    check_matmul((device_settings){.no_native = true, .clblast = true},
                 dense(BRIM_F32, BRIM_F32, 331, 333, 70, _i % 4));
}
END_TEST

START_TEST(clblast_products_in_batches) {
    check_matmul((device_settings){.no_native = true, .clblast = true}, batched(_i % 3));
}
END_TEST

START_TEST(a_product_of_nothing_is_zero) {
    if (!open_with((device_settings){0})) return;
    matmul_shape s = dense(BRIM_F32, BRIM_F32, 5, 7, 0, 0);
    if (!api->matmul_native(device, &s)) {
        skip(SKIP_no_native_kernels);
        return;
    }
    reserve(AT_WORKSPACE, 64);
    add((program_record){.kind = RECORD_MATMUL,
                         .as.matmul = {s, AT_A, AT_B, AT_C, AT_WORKSPACE, 0}});
    load();
    run_product(&s);
}
END_TEST

START_TEST(libraries_can_be_declined) {
    if (!open_with((device_settings){.no_native = true})) return;
    matmul_shape s = dense(BRIM_F32, BRIM_F32, 5, 7, 3, 0);
    if (api->traits(device)->cpu) {
        ck_assert(!api->matmul_native(device, &s));
        ck_assert_str_eq(api->matmul_library(device), "");
    }
    reserve(AT_WORKSPACE, 64);
    add((program_record){
        .kind = RECORD_MATMUL,
        .as.matmul = {dense(BRIM_I32, BRIM_I32, 5, 7, 3, 0), AT_A, AT_B, AT_C, 0, 0}});
    api->load(device, prog, &loaded, &err);
    ASSERT_FAILS(err, BRIM_UNSUPPORTED, "no library serves this matrix product");
}
END_TEST

// ---- errors -------------------------------------------------------------------------------------

START_TEST(a_kernel_that_does_not_compile) {
    if (!open_with((device_settings){0})) return;
    reserve(4096, 64);
    add_kernel("broken", "KERNEL broken(BUFFER(y))\n{\n    undeclared_thing = 1;\n}\n", 1);
    api->load(device, prog, &loaded, &err);
    ck_assert_ptr_nonnull(strstr(err.text, "undeclared_thing"));
    ck_assert_ptr_null(strchr(err.text, '\n'));
    ASSERT_FAILS(err, BRIM_DEVICE, "kernel broken (test_opencl.c) does not compile");
}
END_TEST

START_TEST(wrong_arguments_are_found_when_loading) {
    if (!open_with((device_settings){0})) return;
    reserve(4096, 64);
    int32_t kernel = add_kernel("axpb", axpb, 1);
    kernel_argument one = buffer_at(0);
    add((program_record){
        .kind = RECORD_LAUNCH, .label = "lonely", .as.launch = {kernel, {1, 1, 1}, 1, &one}});
    api->load(device, prog, &loaded, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "record 0 (lonely): 2 arguments, the kernel takes 10");
}
END_TEST

START_TEST(a_program_larger_than_memory_is_not_loaded) {
    if (!open_with((device_settings){0})) return;
    reserve(4096, 64);
    prog->device_bytes = 1 << 20;
    api->load(device, prog, &loaded, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "1048576 device");
}
END_TEST

START_TEST(devices_by_name) {
    if (!device_under_test(0)) return;
    static const char *const wrong[] = {"opencl:99",  "vulkan", "opencl:",  "opencl:x",
                                        "opencl:1:2", ":0",     "opencl:-1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        err = (brim_error){0};
        backend_open(wrong[i], NULL, &api, &device, &err);
        ck_assert_ptr_nonnull(strstr(err.text, wrong[i]));
        ck_assert_ptr_nonnull(strstr(err.text, "; there is: "));
        ASSERT_FAILS(err, BRIM_ARGUMENT, "opencl:0 (");
        ck_assert_ptr_null(device);
    }
    static const char *const right[] = {"opencl", "opencl:0", "auto", "", NULL};
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        err = (brim_error){0};
        backend_open(right[i], NULL, &api, &device, &err);
        ASSERT_FINE(err);
        ck_assert(api->traits(device)->name[0] != '\0');
        api->close(device);
        device = NULL;
    }
}
END_TEST

START_TEST(settings_out_of_range) {
    if (!device_under_test(0)) return;
    static const device_settings wrong[] = {
        {.vec = 3}, {.group = 48}, {.group = 1 << 19}, {.group = -1}, {.chunk_bytes = 100}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        err = (brim_error){0};
        opencl_backend.open(0, &wrong[i], &device, &err);
        ASSERT_FAILS(err, BRIM_ARGUMENT, "expected");
        ck_assert_ptr_null(device);
    }
}
END_TEST

Suite *opencl_suite(void) {
    Suite *suite = suite_create("opencl");
    TCase *tests = tcase_create("opencl");
    tcase_add_checked_fixture(tests, start, finish);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, launches_in_groups_of_one);
    tcase_add_test(tests, launches_in_wide_groups);
    tcase_add_test(tests, groups_share_local_memory);
    tcase_add_test(tests, only_the_section_asked_for_runs);
    tcase_add_test(tests, memory_in_chunks);
    tcase_add_test(tests, a_value_may_not_straddle_chunks);
    tcase_add_test(tests, missing_memory_is_named);
    tcase_add_test(tests, copies_move_with_the_micro_batch);
    tcase_add_test(tests, waits_order_the_queues);
    tcase_add_test(tests, profile_tells_seconds);
    tcase_add_loop_test(tests, native_products, 0, 20);
    tcase_add_loop_test(tests, native_products_in_slices, 0, 20);
    tcase_add_loop_test(tests, native_products_in_batches, 0, 6);
    tcase_add_loop_test(tests, clblast_products, 0, 4);
    tcase_add_loop_test(tests, clblast_products_that_need_workspace, 0, 4);
    tcase_add_loop_test(tests, clblast_products_in_batches, 0, 3);
    tcase_add_test(tests, a_product_of_nothing_is_zero);
    tcase_add_test(tests, libraries_can_be_declined);
    tcase_add_test(tests, a_kernel_that_does_not_compile);
    tcase_add_test(tests, wrong_arguments_are_found_when_loading);
    tcase_add_test(tests, a_program_larger_than_memory_is_not_loaded);
    tcase_add_test(tests, devices_by_name);
    tcase_add_test(tests, settings_out_of_range);
    suite_add_tcase(suite, tests);
    return suite;
}
