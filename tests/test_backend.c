// Both backends on hand-made programs: memory, launches, copies, queues, errors.
#include <brim/device.h>
#include "tests/backend_rig.h"

// ---- launches -----------------------------------------------------------------------------------

static void check_launch(int index, device_settings settings, int32_t group) {
    if (!open_with(index, settings)) return;
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
    check_launch(_i, (device_settings){0}, 1);
}
END_TEST

START_TEST(launches_in_wide_groups) {
    check_launch(_i, (device_settings){.group = 64, .vec = 4}, 64);
}
END_TEST

START_TEST(groups_share_local_memory) {
    if (!open_with(_i, (device_settings){.group = 128, .vec = 1})) return;
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
    if (!open_with(_i, (device_settings){0})) return;
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
    if (!open_with(0, (device_settings){.chunk_bytes = 8192, .poison = true})) return;
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
    if (!open_with(0, (device_settings){.chunk_bytes = 8192})) return;
    reserve(3 * 8192, 64);
    add((program_record){
        .kind = RECORD_FILL, .label = "h.3.bias", .as.fill = {{SPACE_DEVICE, 8000, 400}, 0}});
    api->load(device, prog, &loaded, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "h.3.bias): 400 bytes at 8000 straddle chunks");
}
END_TEST

START_TEST(missing_memory_is_named) {
    if (!open_with(_i, (device_settings){0})) return;
    int64_t there = api->traits(device)->memory_bytes;
    api->reserve(device, &(memory_request){there + (1 << 20), 64}, &err);
    ASSERT_FAILS(err, BRIM_MEMORY, "bytes are missing");
    ck_assert_ptr_null(api->host_memory(device));
    err = (brim_error){0};
    reserve(4096, 64); // the device is still good
    api->reserve(device, &(memory_request){4096, 64}, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "already");
}
END_TEST

START_TEST(sizes_that_make_no_sense) {
    if (!open_with(_i, (device_settings){0})) return;
    api->reserve(device, &(memory_request){-1, 64}, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "cannot be reserved");
}
END_TEST

// Inputs of micro-batch i lie i strides further in the staging area, results likewise.
START_TEST(copies_move_with_the_micro_batch) {
    if (!open_with(_i, (device_settings){0})) return;
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
    ASSERT_FAILS(err, BRIM_ARGUMENT, "(test): micro-batch 5 is outside the host space");
}
END_TEST

// ---- queues -------------------------------------------------------------------------------------

// In: a number; compute: twice the number and one more, over and over; out: the result. All order
// comes from waits, over many runs without a wait on the host: the copy in must wait for the last
// reader of its target, too.
START_TEST(waits_order_the_queues) {
    if (!open_with(_i, (device_settings){.separate_queues = true})) return;
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
    if (!open_with(_i, (device_settings){0})) return;
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

// ---- errors -------------------------------------------------------------------------------------

START_TEST(a_kernel_that_does_not_compile) {
    if (!open_with(_i, (device_settings){0})) return;
    reserve(4096, 64);
    add_kernel("broken", "KERNEL broken(BUFFER(y))\n{\n    undeclared_thing = 1;\n}\n", 1);
    api->load(device, prog, &loaded, &err);
    ck_assert_ptr_nonnull(strstr(err.text, "undeclared_thing"));
    ck_assert_ptr_null(strchr(err.text, '\n'));
    ASSERT_FAILS(err, BRIM_DEVICE, "kernel broken (test.k) does not compile");
}
END_TEST

// Of a long log the first six lines are told.
START_TEST(a_kernel_with_many_mistakes) {
    if (!open_with(_i, (device_settings){0})) return;
    reserve(4096, 64);
    add_kernel("broken",
               "KERNEL broken(BUFFER(y))\n{\n    a1 = 1;\n    a2 = 1;\n    a3 = 1;\n"
               "    a4 = 1;\n    a5 = 1;\n    a6 = 1;\n    a7 = 1;\n}\n",
               1);
    api->load(device, prog, &loaded, &err);
    int separators = 0;
    for (const char *at = err.text; (at = strstr(at, " | ")); at++) separators++;
    ck_assert_msg(separators == 5, "%d: %s", separators, err.text);
    ASSERT_FAILS(err, BRIM_DEVICE, "a1");
}
END_TEST

START_TEST(errors_of_a_device_have_its_name) {
    if (!open_with(_i, (device_settings){0})) return;
    const char *name = api->traits(device)->name;
    brim_error of_device = {0}, of_caller = {0};
    brim_fail(&of_device, BRIM_DEVICE, "a call failed");
    brim_fail(&of_caller, BRIM_ARGUMENT, "a wrong offset");
    ck_assert_int_eq(device_named(api, device, &of_device), BRIM_DEVICE);
    ck_assert_int_eq(device_named(api, device, &of_caller), BRIM_ARGUMENT);
    ck_assert_int_eq(strncmp(of_device.text, name, strlen(name)), 0);
    ck_assert_str_eq(of_caller.text, "a wrong offset");
}
END_TEST

// A backend that notes which of its functions was called, and for which bytes.
static struct {
    const char *call;
    int64_t offset, bytes;
    char host[8];
    brim_status finished;
} noted;

#define NOTES(name, type)                                                                          \
    static brim_status note_##name(backend_device *d, int64_t offset, type data, int64_t bytes,    \
                                   brim_error *e) {                                                \
        (void)d, (void)data;                                                                       \
        noted.call = #name, noted.offset = offset, noted.bytes = bytes;                            \
        return e->status;                                                                          \
    }
NOTES(write, const void *)
NOTES(read, void *)
NOTES(write_file, const void *)
NOTES(read_file, void *)

static brim_status note_finish(backend_device *d, brim_error *e) {
    (void)d;
    noted.call = "finish";
    return noted.finished ? brim_fail(e, noted.finished, "lost") : e->status;
}
static void *host_of_notes(backend_device *d) {
    (void)d;
    return noted.host;
}
static const device_traits *traits_of_notes(const backend_device *d) {
    static const device_traits traits = {.name = "a card"};
    return (void)d, &traits;
}

static const backend notes = {.traits = traits_of_notes,
                              .write = note_write,
                              .read = note_read,
                              .write_file = note_write_file,
                              .read_file = note_read_file,
                              .finish = note_finish,
                              .host_memory = host_of_notes};

START_TEST(ranges_go_to_their_space) {
    static const struct {
        memory_space space;
        const char *write, *read;
    } rows[] = {{SPACE_DEVICE, "write", "read"}, {SPACE_FILE, "write_file", "read_file"}};
    char data[3] = "ab";
    for (int i = 0; i < 2; i++) {
        byte_range range = {rows[i].space, 40, 3};
        device_write_range(&notes, NULL, &range, data, &err);
        ck_assert_str_eq(noted.call, rows[i].write);
        ck_assert(noted.offset == 40 && noted.bytes == 3);
        device_read_range(&notes, NULL, &range, data, &err);
        ck_assert_str_eq(noted.call, rows[i].read);
        ck_assert(noted.offset == 40 && noted.bytes == 3);
    }
    // Host memory is touched when the device is done with it, and not where that failed, or
    // something before.
    byte_range range = {SPACE_HOST, 4, 3};
    device_write_range(&notes, NULL, &range, data, &err);
    ck_assert_str_eq(noted.call, "finish");
    ck_assert_mem_eq(noted.host, "\0\0\0\0ab\0\0", 8);
    memcpy(noted.host, "01234567", 8);
    noted.call = "";
    ck_assert_int_eq(device_read_range(&notes, NULL, &range, data, &err), BRIM_OK);
    ck_assert_str_eq(noted.call, "finish");
    ck_assert_mem_eq(data, "456", 3);
    noted.finished = BRIM_DEVICE;
    ck_assert_int_eq(device_write_range(&notes, NULL, &range, "xyz", &err), BRIM_DEVICE);
    ASSERT_FAILS(err, BRIM_DEVICE, "a card: lost");
    memcpy(noted.host, "89abcdef", 8);
    device_read_range(&notes, NULL, &range, data, &err);
    ck_assert_mem_eq(data, "456", 3);
    noted.call = "";
    device_write_range(&notes, NULL, &range, "xyz", &err);
    device_read_range(&notes, NULL, &range, data, &err);
    ck_assert_str_eq(noted.call, "");
    ck_assert_mem_eq(noted.host, "89abcdef", 8);
    ASSERT_FAILS(err, BRIM_DEVICE, "a card: lost");
}
END_TEST

START_TEST(wrong_arguments_are_found_when_loading) {
    if (!open_with(_i, (device_settings){0})) return;
    reserve(4096, 64);
    int32_t kernel = add_kernel("axpb", axpb, 1);
    kernel_argument one = buffer_at(0);
    add((program_record){
        .kind = RECORD_LAUNCH, .label = "lonely", .as.launch = {kernel, {1, 1, 1}, 1, &one}});
    api->load(device, prog, &loaded, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "record 0 (lonely): 2 arguments, the kernel takes 10");
}
END_TEST

START_TEST(a_kernel_that_is_not_in_its_text) {
    if (!open_with(0, (device_settings){0})) return;
    reserve(4096, 64);
    const kernel_argument to = buffer_at(0);
    add_kernel("absent", "KERNEL there(BUFFER(y)) { PTR(float, y)[0] = 1; }\n", 1);
    add((program_record){.kind = RECORD_LAUNCH, .as.launch = {0, {1, 1, 1}, 1, &to}});
    api->load(device, prog, &loaded, &err);
    ck_assert_ptr_nonnull(strstr(err.text, "absent"));
    ck_assert_ptr_nonnull(strstr(err.text, "test.k"));
    ck_assert_ptr_nonnull(strstr(err.text, "loading a program on "));
    ASSERT_FAILS(err, err.status, "");
}
END_TEST

// A record that a backend cannot take, and what it says of it.
typedef struct wrong_record {
    program_record record;
    const char *said;
} wrong_record;

static const kernel_argument far_away[] = {{ARGUMENT_BUFFER, {.offset = 0}},
                                           {ARGUMENT_BUFFER, {.offset = 1 << 20}},
                                           {ARGUMENT_BUFFER, {.offset = 0}}};
static const wrong_record wrong_records[] = {
    {{.kind = RECORD_FILL, .as.fill = {{SPACE_DEVICE, 1 << 20, 64}, 0}},
     "outside the device space"},
    {{.kind = RECORD_COPY, .as.copy = {{SPACE_HOST, 8000, 64}, {SPACE_DEVICE, 0, 64}, 0}},
     "outside the host space"},
    {{.kind = RECORD_COPY, .as.copy = {{SPACE_HOST, 0, 64}, {SPACE_HOST, 64, 64}, 0}},
     "within the host space"},
    {{.kind = RECORD_COPY, .as.copy = {{SPACE_HOST, 0, 64}, {SPACE_DEVICE, 64, 32}, 0}},
     "a copy of 64 bytes to 32 bytes"},
    {{.kind = RECORD_LAUNCH, .as.launch = {0, {1, 1, 1}, 2, far_away + 1}}, "argument 0: "},
    {{.kind = RECORD_LAUNCH, .as.launch = {0, {1, 1, 1}, 2, far_away}}, "argument 1: "},
    {{.kind = (record_kind)99}, "a record of unknown kind 99"},
    {{.kind = RECORD_MATMUL,
      .as.matmul =
          {.shape = {.m = 4, .n = 4, .k = 4, .batch = 1, .row_a = 4, .row_b = 4, .row_c = 4}}},
     "no library serves this"},
};
enum { WRONG_RECORDS = sizeof wrong_records / sizeof *wrong_records };

START_TEST(wrong_records_are_found_when_loading) {
    const wrong_record *w = &wrong_records[_i % WRONG_RECORDS];
    if (!open_with(_i / WRONG_RECORDS, (device_settings){.own_products = true})) return;
    reserve(4096, 4096);
    add_kernel("touch", "KERNEL touch(BUFFER(x), BUFFER(y)) { PTR(float, y)[0] = 1; }\n", 1);
    add(w->record);
    api->load(device, prog, &loaded, &err);
    ck_assert_ptr_nonnull(strstr(err.text, "record 0 (test)"));
    ASSERT_FAILS(err, err.status, w->said);
    ck_assert_ptr_null(loaded);
    char byte;
    api->read(device, 1 << 20, &byte, 1, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "outside the device space");
}
END_TEST

START_TEST(a_program_larger_than_memory_is_not_loaded) {
    if (!open_with(_i, (device_settings){0})) return;
    reserve(4096, 64);
    prog->device_bytes = 1 << 20;
    api->load(device, prog, &loaded, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "1048576 device");
}
END_TEST

START_TEST(devices_by_name) {
    const char *name = device_under_test(_i);
    if (!name) return;
    char backend_name[16], listed[32], next[32], why[300];
    snprintf(backend_name, sizeof backend_name, "%.*s", (int)strcspn(name, ":"), name);
    snprintf(listed, sizeof listed, "%s (", name);
    snprintf(next, sizeof next, "%s:%d", backend_name,
             find_backend(backend_name)->count(why, sizeof why));
    const char *const wrong[] = {"opencl:99", "cuda:99",    "vulkan",   "opencl:", "cuda:x",
                                 next,        "opencl:1:2", ":0",       "cuda:-1", "opencl:00000",
                                 "open",      "openclx",    "opencl:0x"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        err = (brim_error){0};
        backend_open(wrong[i], NULL, &api, &device, &err);
        ck_assert_ptr_nonnull(strstr(err.text, wrong[i]));
        ck_assert_ptr_nonnull(strstr(err.text, "; there is: "));
        ASSERT_FAILS(err, BRIM_ARGUMENT, listed);
        ck_assert_ptr_null(device);
    }
    char padded[32];
    snprintf(padded, sizeof padded, "%s:0000", backend_name);
    const char *const right[] = {backend_name, name, "auto", "", NULL, padded};
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

START_TEST(devices_are_listed) {
    brim_device_info *list = NULL;
    int rows = brim_device_list(&list, &err), opencl = 0, cuda = 0;
    ASSERT_FINE(err);
    for (int i = 0; i < rows; i++) {
        opencl += strcmp(list[i].backend, "opencl") == 0;
        cuda += strcmp(list[i].backend, "cuda") == 0;
        bool usable = list[i].problem[0] == '\0';
        ck_assert_int_eq(usable, list[i].name[0] != '\0');
        ck_assert_int_eq(usable, list[i].memory_bytes > 0);
        ck_assert_int_eq(usable, list[i].vector > 0);
        if (!usable) continue;
        char id[32];
        int index = strcmp(list[i].backend, "opencl") == 0 ? opencl - 1 : cuda - 1;
        snprintf(id, sizeof id, "%s:%d", list[i].backend, index);
        ck_assert_str_eq(list[i].id, id);
        device_traits t;
        find_backend(list[i].backend)->describe(index, &t, &err);
        ASSERT_FINE(err);
        ck_assert_str_eq(list[i].name, t.name);
        ck_assert_str_eq(list[i].driver, t.driver);
        ck_assert_str_eq(list[i].architecture, t.architecture);
        ck_assert(list[i].cpu == t.cpu && list[i].exact_f32 == t.exact_f32);
        ck_assert(list[i].vector == t.vec && list[i].group == t.group);
        ck_assert(list[i].compute_units == t.compute_units);
        ck_assert(list[i].memory_bytes == t.memory_bytes);
        backend_open(id, NULL, &api, &device, &err);
        ASSERT_FINE(err);
        ck_assert_str_eq(list[i].matmul, api->matmul_library(device));
        api->close(device);
        device = NULL;
    }
    free(list);
    ck_assert(opencl > 0 && cuda > 0); // with a device, or with the reason why there is none
}
END_TEST

START_TEST(settings_out_of_range) {
    const char *name = device_under_test(_i);
    if (!name) return;
    static const device_settings wrong[] = {
        {.vec = 3}, {.group = 48}, {.group = 1 << 19}, {.group = -1}, {.chunk_bytes = 100}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        err = (brim_error){0};
        backend_open(name, &wrong[i], &api, &device, &err);
        ASSERT_FAILS(err, BRIM_ARGUMENT, "expected");
        ck_assert_ptr_null(device);
    }
}
END_TEST

Suite *backend_suite(void) {
    Suite *suite = suite_create("backend");
    TCase *tests = tcase_create("backend");
    int devices = DEVICES_UNDER_TEST;
    tcase_add_checked_fixture(tests, start, finish);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, launches_in_groups_of_one, 0, devices);
    tcase_add_loop_test(tests, launches_in_wide_groups, 0, devices);
    tcase_add_loop_test(tests, groups_share_local_memory, 0, devices);
    tcase_add_loop_test(tests, only_the_section_asked_for_runs, 0, devices);
    tcase_add_test(tests, memory_in_chunks); // OpenCL's: CUDA has none
    tcase_add_test(tests, a_value_may_not_straddle_chunks);
    tcase_add_loop_test(tests, missing_memory_is_named, 0, devices);
    tcase_add_loop_test(tests, sizes_that_make_no_sense, 0, devices);
    tcase_add_loop_test(tests, copies_move_with_the_micro_batch, 0, devices);
    tcase_add_loop_test(tests, waits_order_the_queues, 0, devices);
    tcase_add_loop_test(tests, profile_tells_seconds, 0, devices);
    tcase_add_loop_test(tests, a_kernel_that_does_not_compile, 0, devices);
    tcase_add_loop_test(tests, a_kernel_with_many_mistakes, 0, devices);
    tcase_add_loop_test(tests, errors_of_a_device_have_its_name, 0, devices);
    tcase_add_test(tests, ranges_go_to_their_space);
    tcase_add_loop_test(tests, wrong_arguments_are_found_when_loading, 0, devices);
    tcase_add_test(tests, a_kernel_that_is_not_in_its_text); // OpenCL's words
    tcase_add_loop_test(tests, wrong_records_are_found_when_loading, 0, devices * WRONG_RECORDS);
    tcase_add_loop_test(tests, a_program_larger_than_memory_is_not_loaded, 0, devices);
    tcase_add_loop_test(tests, devices_by_name, 0, devices);
    tcase_add_test(tests, devices_are_listed);
    tcase_add_loop_test(tests, settings_out_of_range, 0, devices);
    suite_add_tcase(suite, tests);
    return suite;
}
