// Hand-made programs on a device, for tests of its backend. Each file that includes this has its
// own.
//
//   1. start and finish as a checked fixture
//   2. if (!open_with(index, (device_settings){0})) return;      device_under_test(index) is not
//   here
//   3. reserve(device_bytes, host_bytes); add(record) ...; load(); run_and_wait(section,
//   micro_batch);
#ifndef BRIM_TESTS_BACKEND_RIG_H
#define BRIM_TESTS_BACKEND_RIG_H

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/backend.h"
#include "core/philox.h"
#include "graph/graph.h"
#include "tests/devices.h"
#include "tests/driver_calls.h"
#include "tests/skips.h"
#include "tests/test_core.h"

static const backend *api;
static backend_device *device;
static program *prog;
static loaded_program *loaded;
static brim_error err;

static inline bool open_with(int index, device_settings settings) {
    const char *name = device_under_test(index);
    if (!name) return false;
    settings.cache_dir = "";
    backend_open(name, &settings, &api, &device, &err);
    program_create(&prog, &err);
    ASSERT_FINE(err);
    prog->micro_batches = 1;
    return true;
}

// The backend of that name; NULL in a build without it.
static inline const backend *find_backend(const char *name) {
    for (const backend *const *b = backend_list; *b; b++)
        if (strcmp((*b)->name, name) == 0) return *b;
    return NULL;
}

static inline void start(void) {
    err = (brim_error){0};
    device = NULL, prog = NULL, loaded = NULL;
}

static inline void finish(void) {
    if (loaded) api->unload(loaded);
    if (device) api->close(device);
    program_free(prog);
#ifdef BRIM_OPENCL_BUILT
    ck_assert_msg(!*driver_calls_left(), "not released: %s", driver_calls_left());
#endif
}

static inline void reserve(int64_t device_bytes, int64_t host_bytes) {
    prog->device_bytes = device_bytes, prog->host_bytes = host_bytes;
    memory_request request = {.device_bytes = device_bytes, .host_bytes = host_bytes};
    api->reserve(device, &request, &err);
    ASSERT_FINE(err);
}

static inline void load(void) {
    api->load(device, prog, &loaded, &err);
    ASSERT_FINE(err);
}

static inline void run_and_wait(uint8_t section, int32_t micro_batch) {
    api->run(loaded, section, micro_batch, &err);
    api->wait(device, &err);
    ASSERT_FINE(err);
}

static inline kernel_argument buffer_at(int64_t offset) {
    return (kernel_argument){ARGUMENT_BUFFER, {.offset = offset}};
}
static inline kernel_argument i32_of(int32_t x) {
    return (kernel_argument){ARGUMENT_I32, {.i32 = x}};
}
static inline kernel_argument i64_of(int64_t x) {
    return (kernel_argument){ARGUMENT_I64, {.i64 = x}};
}
static inline kernel_argument f32_of(float x) {
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

static inline int32_t add_kernel(const char *name, const char *source, int32_t group) {
    char defines[100];
    const device_traits *t = api->traits(device);
    snprintf(defines, sizeof defines, "-DGROUP=%d -DVEC=%d -DBRIM_CPU=%d", group, t->vec, t->cpu);
    kernel_spec spec = {name, "test.k", source, defines, group};
    return program_add_kernel(prog, &spec, &err);
}

// A record that declares no access declares all memory.
static inline void add(program_record record) {
    const record_access all[] = {{{SPACE_DEVICE, 0, prog->device_bytes}, true},
                                 {{SPACE_HOST, 0, prog->host_bytes}, true}};
    if (!record.sections) record.sections = SECTION_ALL;
    if (!record.access) record.access = all, record.accesses = 2;
    record.node = -1;
    if (!record.label) record.label = "test";
    program_add_record(prog, &record, &err);
    ASSERT_FINE(err);
}

enum { N = 1000, WIDTH = 250 };

static inline void add_axpb(int32_t group, queue_id queue, const int32_t *wait, int32_t waits,
                            int64_t x, int64_t z, int64_t y, float a, int32_t b) {
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

static inline void fill_floats(float *x, size_t count, uint64_t stream) {
    philox_fill_uniform(x, 0, count, 7, stream, -1, 1);
}

#endif
