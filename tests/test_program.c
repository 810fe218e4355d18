// The flat program: its text, and the proof that no wait is missing.
#include "test_core.h"
#include "backends/program.h"
#include "graph/graph.h"

static brim_error err;
static program *made;

static void open_program(void) {
    err = (brim_error){0};
    program_create(&made, &err);
    ASSERT_FINE(err);
    made->device_bytes = 1000;
    made->host_bytes = 1000;
    made->file_bytes = 1000;
}

static void close_program(void) {
    program_free(made);
}

static byte_range device(int64_t offset, int64_t bytes) {
    return (byte_range){SPACE_DEVICE, offset, bytes};
}
static byte_range host(int64_t offset, int64_t bytes) {
    return (byte_range){SPACE_HOST, offset, bytes};
}
static byte_range file(int64_t offset, int64_t bytes) {
    return (byte_range){SPACE_FILE, offset, bytes};
}

// A copy on a queue, in sections, after `wait` (-1: none).
static int add_copy(queue_id queue, uint8_t sections, byte_range from, byte_range to, int32_t wait,
                    int64_t host_stride) {
    record_access access[] = {{from, false}, {to, true}};
    program_record r = {.kind = RECORD_COPY,
                        .queue = queue,
                        .sections = sections,
                        .node = -1,
                        .label = "move",
                        .accesses = 2,
                        .access = access,
                        .waits = wait >= 0,
                        .wait = &wait};
    r.as.copy = (copy_record){from, to, host_stride};
    return program_add_record(made, &r, &err);
}

static int add_fill(queue_id queue, uint8_t sections, byte_range range, int32_t wait) {
    record_access access = {range, true};
    program_record r = {.kind = RECORD_FILL,
                        .queue = queue,
                        .sections = sections,
                        .node = -1,
                        .label = "clear",
                        .accesses = 1,
                        .access = &access,
                        .waits = wait >= 0,
                        .wait = &wait};
    r.as.fill = (fill_record){range, 0};
    return program_add_record(made, &r, &err);
}

#define ASSERT_PROVED()                                                                            \
    do {                                                                                           \
        program_verify(made, &err);                                                                \
        ASSERT_FINE(err);                                                                          \
    } while (0)

#define ASSERT_REFUSED(part)                                                                       \
    do {                                                                                           \
        program_verify(made, &err);                                                                \
        ASSERT_FAILS(err, BRIM_GRAPH, part);                                                       \
    } while (0)

// ---- order --------------------------------------------------------------------------------------

START_TEST(an_empty_program_is_proved) {
    ASSERT_PROVED();
}
END_TEST

START_TEST(one_queue_needs_no_wait) {
    add_fill(QUEUE_COMPUTE, SECTION_ALL, device(0, 64), -1);
    add_copy(QUEUE_COMPUTE, SECTION_ALL, device(0, 64), device(64, 64), -1, 0);
    add_fill(QUEUE_COMPUTE, SECTION_ALL, device(0, 128), -1);
    made->micro_batches = 4;
    ASSERT_PROVED();
}
END_TEST

START_TEST(a_reader_on_another_queue_must_wait) {
    add_fill(QUEUE_COMPUTE, SECTION_LAST, device(0, 64), -1);
    add_copy(QUEUE_OUT, SECTION_LAST, device(32, 64), host(0, 64), -1, 0);
    ASSERT_REFUSED("device bytes 32 to 63");
    ASSERT_REFUSED("record 1 (copy \"move\", queue out, section last) does not wait for record 0");
}
END_TEST

START_TEST(bytes_side_by_side_are_independent) {
    add_fill(QUEUE_COMPUTE, SECTION_LAST, device(0, 64), -1);
    add_copy(QUEUE_OUT, SECTION_LAST, device(64, 64), host(0, 64), -1, 0);
    add_fill(QUEUE_IN, SECTION_LAST, device(128, 4), -1);
    ASSERT_PROVED();
}
END_TEST

START_TEST(two_readers_need_no_order) {
    add_copy(QUEUE_COMPUTE, SECTION_LAST, device(0, 64), device(100, 64), -1, 0);
    add_copy(QUEUE_OUT, SECTION_LAST, device(0, 64), host(0, 64), -1, 0);
    ASSERT_PROVED();
}
END_TEST

// The reader waits; but the next step's fill does not wait for the reader.
START_TEST(the_next_step_must_wait_too) {
    int fill = add_fill(QUEUE_COMPUTE, SECTION_LAST, device(0, 64), -1);
    int out = add_copy(QUEUE_OUT, SECTION_LAST, device(0, 64), host(0, 64), fill, 0);
    ASSERT_REFUSED(
        "record 0 (fill \"clear\", queue compute, section last) does not wait for record 1");
    // A later record of the fill's queue waits for the reader: with it, everything after.
    add_fill(QUEUE_COMPUTE, SECTION_LAST, device(500, 4), out);
    ASSERT_PROVED();
}
END_TEST

START_TEST(waits_are_transitive) {
    int a = add_fill(QUEUE_IN, SECTION_LAST, device(0, 64), -1);
    int b = add_fill(QUEUE_COMPUTE, SECTION_LAST, device(64, 64), a);
    int c = add_copy(QUEUE_OUT, SECTION_LAST, device(0, 128), host(0, 128), b, 0);
    add_fill(QUEUE_IN, SECTION_LAST, device(500, 4), c);
    add_fill(QUEUE_COMPUTE, SECTION_LAST, device(504, 4), c);
    ASSERT_PROVED();
}
END_TEST

// What stands later in the list has its latest run in the step before.
START_TEST(a_later_record_can_be_waited_for) {
    int fetch = add_copy(QUEUE_READ, SECTION_LAST, file(0, 64), host(0, 64), -1, 0);
    add_copy(QUEUE_WRITE, SECTION_LAST, host(0, 64), file(0, 64), fetch, 0);
    ASSERT_REFUSED("record 0 (copy \"move\", queue read, section last) does not wait for record 1");
    made->records = 0;
    add_copy(QUEUE_READ, SECTION_LAST, file(0, 64), host(0, 64), 1, 0);
    add_copy(QUEUE_WRITE, SECTION_LAST, host(0, 64), file(0, 64), fetch, 0);
    ASSERT_PROVED();
}
END_TEST

// A wait for the queue's earlier record says nothing about a later one.
START_TEST(a_wait_for_too_early_a_record_is_found) {
    int a = add_fill(QUEUE_IN, SECTION_LAST, device(500, 4), -1);
    add_fill(QUEUE_IN, SECTION_LAST, device(0, 64), -1);
    add_copy(QUEUE_OUT, SECTION_LAST, device(0, 64), host(0, 64), a, 0);
    ASSERT_REFUSED("record 2 (copy \"move\", queue out, section last) does not wait for record 1");
}
END_TEST

// FIRST fetches, MIDDLE uses: the second MIDDLE run is as far from the fetch as the first.
START_TEST(sections_are_run_in_their_order) {
    made->micro_batches = 3;
    add_copy(QUEUE_IN, SECTION_FIRST, host(0, 64), device(0, 64), -1, 0);
    add_copy(QUEUE_COMPUTE, SECTION_MIDDLE, device(0, 64), device(64, 64), -1, 0);
    ASSERT_REFUSED(
        "record 1 (copy \"move\", queue compute, section middle) does not wait for record 0");
}
END_TEST

START_TEST(a_wait_reaches_back_to_an_earlier_section) {
    made->micro_batches = 3;
    int fetch = add_copy(QUEUE_IN, SECTION_FIRST, host(0, 64), device(0, 64), -1, 0);
    int use = add_copy(QUEUE_COMPUTE, SECTION_MIDDLE, device(0, 64), device(64, 64), fetch, 0);
    add_fill(QUEUE_IN, SECTION_LAST, device(500, 4), use);
    ASSERT_PROVED();
}
END_TEST

// Each micro-batch overwrites what the one before reads on another queue.
START_TEST(repeated_sections_meet_themselves) {
    made->micro_batches = 4;
    int fetch = add_copy(QUEUE_IN, SECTION_ALL, host(0, 64), device(0, 64), -1, 64);
    add_copy(QUEUE_COMPUTE, SECTION_ALL, device(0, 64), device(64, 64), fetch, 0);
    ASSERT_REFUSED("record 0 (copy \"move\", queue in, section middle) does not wait for record 1");
}
END_TEST

// Slots of the staging area differ by micro-batch, so results of one may leave while the next
// enters.
START_TEST(staging_slots_are_told_apart) {
    made->micro_batches = 4;
    add_copy(QUEUE_IN, SECTION_ALL, host(0, 64), device(0, 64), -1, 128);
    add_copy(QUEUE_OUT, SECTION_ALL, device(128, 64), host(64, 64), -1, 128);
    ASSERT_PROVED();
    add_copy(QUEUE_OUT, SECTION_ALL, device(256, 4), host(0, 4), -1, 128);
    ASSERT_REFUSED("host bytes 0 to 3");
}
END_TEST

// ---- each record alone --------------------------------------------------------------------------

START_TEST(accesses_must_lie_in_their_space) {
    add_fill(QUEUE_COMPUTE, SECTION_LAST, device(996, 8), -1);
    ASSERT_REFUSED("outside its space");
}
END_TEST

START_TEST(every_slot_must_lie_in_the_staging_area) {
    add_copy(QUEUE_COMPUTE, SECTION_ALL, host(0, 100), device(0, 100), -1, 300);
    made->micro_batches = 4;
    ASSERT_PROVED(); // 900 .. 999
    made->micro_batches = 5;
    ASSERT_REFUSED("outside its space");
}
END_TEST

static int add_launch(int64_t offset, byte_range range, bool writes) {
    kernel_spec spec = {"go", "go.k", "text", "-DGROUP=64", 64};
    kernel_argument argument[] = {{ARGUMENT_BUFFER, {.offset = offset}},
                                  {ARGUMENT_BUFFER, {.offset = -1}},
                                  {ARGUMENT_I32, {.i32 = -7}},
                                  {ARGUMENT_I64, {.i64 = 1ll << 40}},
                                  {ARGUMENT_F32, {.f32 = 0.1f}}};
    record_access access = {range, writes};
    int kernel = program_add_kernel(made, &spec, &err);
    program_record r = {.kind = RECORD_LAUNCH,
                        .sections = SECTION_LAST,
                        .node = 3,
                        .label = "h.0 gelu",
                        .accesses = 1,
                        .access = &access};
    r.as.launch = (launch_record){kernel, {2, 1, 1}, 5, argument};
    return program_add_record(made, &r, &err);
}

START_TEST(buffers_must_be_declared) {
    add_launch(96, device(32, 64), true);
    ASSERT_REFUSED("a buffer argument points outside the declared accesses");
    made->records = 0;
    add_launch(95, device(32, 64), true);
    ASSERT_PROVED();
}
END_TEST

static void add_nothing(const host_argument *argument, int64_t first, int64_t count) {
    (void)argument, (void)first, (void)count;
}

static const host_kernel add_kernel = {"add", 2, add_nothing};

// A host kernel at the range's first byte.
static int add_host(queue_id queue, byte_range range) {
    kernel_argument argument[] = {{ARGUMENT_BUFFER, {.offset = range.offset}},
                                  {ARGUMENT_BUFFER, {.offset = -1}},
                                  {ARGUMENT_I64, {.i64 = range.bytes / 4}}};
    record_access access = {range, true};
    program_record r = {.kind = RECORD_HOST,
                        .queue = queue,
                        .sections = SECTION_LAST,
                        .node = -1,
                        .label = "update",
                        .accesses = 1,
                        .access = &access};
    r.as.host = (host_record){&add_kernel, 3, argument};
    return program_add_record(made, &r, &err);
}

START_TEST(host_kernels_are_checked) {
    add_host(QUEUE_HOST, host(128, 64));
    ASSERT_PROVED();
    add_host(QUEUE_COMPUTE, host(128, 64));
    ASSERT_REFUSED("is not on queue host");
    made->records = 0;
    add_host(QUEUE_HOST, device(128, 64));
    ASSERT_REFUSED("an access lies outside the host space");
    made->records = 0;
    int update = add_host(QUEUE_HOST, host(128, 64));
    made->record[update].as.host.argument = &(kernel_argument){ARGUMENT_BUFFER, {.offset = 64}};
    made->record[update].as.host.arguments = 1;
    ASSERT_REFUSED("its kernel's number of elements is no argument");
    made->records = 0;
    update = add_host(QUEUE_HOST, host(128, 64));
    ((kernel_argument *)made->record[update].as.host.argument)[0].as.offset = 127;
    ASSERT_REFUSED("a buffer argument points outside the declared accesses");
    made->record[update].as.host.kernel = NULL;
    ASSERT_REFUSED("its kernel does not exist");
}
END_TEST

START_TEST(copies_belong_to_a_queue) {
    static const struct {
        queue_id queue;
        memory_space from, to;
        const char *refusal;
    } cases[] = {{QUEUE_READ, SPACE_FILE, SPACE_HOST, NULL},
                 {QUEUE_WRITE, SPACE_HOST, SPACE_FILE, NULL},
                 {QUEUE_WRITE, SPACE_FILE, SPACE_HOST, "is not on queue read"},
                 {QUEUE_READ, SPACE_HOST, SPACE_FILE, "is not on queue write"},
                 {QUEUE_READ, SPACE_DEVICE, SPACE_HOST, "is not on a queue of the device"},
                 {QUEUE_HOST, SPACE_HOST, SPACE_DEVICE, "is not on a queue of the device"},
                 {QUEUE_READ, SPACE_FILE, SPACE_DEVICE, "between the file and the device"},
                 {QUEUE_WRITE, SPACE_FILE, SPACE_FILE, "between the file and the device"},
                 {QUEUE_HOST, SPACE_HOST, SPACE_HOST, "within the host"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        made->records = 0;
        add_copy(cases[i].queue, SECTION_LAST, (byte_range){cases[i].from, 0, 64},
                 (byte_range){cases[i].to, 128, 64}, -1, 0);
        program_verify(made, &err);
        if (cases[i].refusal)
            ASSERT_FAILS(err, BRIM_GRAPH, cases[i].refusal);
        else
            ASSERT_FINE(err);
    }
    made->records = 0;
    add_copy(QUEUE_READ, SECTION_LAST, file(0, 64), host(0, 64), -1, 64);
    ASSERT_REFUSED("a copy of the file has a host stride");
    made->records = 0;
    add_copy(QUEUE_READ, SECTION_LAST, file(960, 64), host(0, 64), -1, 0);
    ASSERT_REFUSED("an access lies outside its space");
    made->records = 0;
    add_fill(QUEUE_WRITE, SECTION_LAST, device(0, 64), -1);
    ASSERT_REFUSED("is not on a queue of the device");
}
END_TEST

START_TEST(results_must_be_declared_as_written) {
    record_access access[] = {
        {device(0, 16), false}, {device(16, 16), false}, {device(32, 16), false}};
    program_record r = {.kind = RECORD_MATMUL,
                        .sections = SECTION_LAST,
                        .node = -1,
                        .label = "product",
                        .accesses = 3,
                        .access = access};
    r.as.matmul =
        (matmul_record){.shape = {.m = 2, .n = 2, .k = 2, .batch = 1}, .a = 0, .b = 16, .c = 32};
    program_add_record(made, &r, &err);
    ASSERT_REFUSED("record 0 (matmul \"product\"): its result lies outside the declared writes");
    access[2].writes = true;
    made->records = 0;
    program_add_record(made, &r, &err);
    ASSERT_PROVED();
}
END_TEST

START_TEST(malformed_records_are_refused) {
    add_fill(QUEUE_COMPUTE, SECTION_LAST, device(2, 4), -1);
    ASSERT_REFUSED("no whole 32-bit words");
    made->records = 0;
    add_fill(QUEUE_COMPUTE, 0, device(0, 4), -1);
    ASSERT_REFUSED("runs in no section");
    made->records = 0;
    add_fill(QUEUE_COMPUTE, SECTION_LAST, device(0, 4), 0);
    ASSERT_REFUSED("waits for a record of its own queue");
    made->records = 0;
    add_fill(QUEUE_COMPUTE, SECTION_LAST, device(0, 4), 1);
    ASSERT_REFUSED("waits for a record that does not exist");
    made->records = 0;
    add_copy(QUEUE_COMPUTE, SECTION_LAST, device(0, 4), device(8, 8), -1, 0);
    ASSERT_REFUSED("its two sides differ in bytes");
    made->records = 0;
    int launch = add_launch(0, device(0, 4), false);
    made->record[launch].as.launch.kernel = made->kernels;
    ASSERT_REFUSED("its kernel does not exist");
}
END_TEST

START_TEST(nothing_is_added_after_an_error) {
    int records = made->records, kernels = made->kernels;
    program_record record = {.kind = RECORD_FILL, .label = "late"};
    kernel_spec kernel = {
        .name = "late", .file = "late.k", .source = "", .defines = "", .group = 1};
    brim_fail(&err, BRIM_IO, "earlier");
    ck_assert_int_eq(program_add_record(made, &record, &err), -1);
    ck_assert_int_eq(program_add_kernel(made, &kernel, &err), -1);
    ck_assert_int_eq(made->records, records);
    ck_assert_int_eq(made->kernels, kernels);
    ASSERT_FAILS(err, BRIM_IO, "earlier");
}
END_TEST

// ---- text ---------------------------------------------------------------------------------------

START_TEST(the_text_is_stable) {
    char *text = NULL;
    size_t size = 0;
    made->micro_batches = 2;
    int fetch = add_copy(QUEUE_IN, SECTION_ALL, host(0, 64), device(0, 64), -1, 128);
    add_launch(0, device(0, 64), true);
    add_fill(QUEUE_COMPUTE, SECTION_FIRST, device(64, 8), fetch);
    add_host(QUEUE_HOST, host(128, 64));
    FILE *out = open_memstream(&text, &size);
    program_print(made, out);
    fclose(out);
    ck_assert_str_eq(
        text, "program: 4 records, 1 kernels, device 1000 bytes, host 1000 bytes, file 1000 bytes, "
              "2 micro-batches\n"
              "kernel 0 go of go.k, groups of 64, -DGROUP=64\n"
              "0 all in copy host[0..64) -> device[0..64) step 128 r host[0..64) w device[0..64) "
              "\"move\"\n"
              "1 last compute launch kernel 0 grid 2x1x1 ( @0 null -7 1099511627776l 0.1f ) "
              "w device[0..64) \"h.0 gelu\"\n"
              "2 first compute fill device[64..72) = 0x00000000 wait 0 w device[64..72) \"clear\"\n"
              "3 last host host add ( @128 null 16l ) w host[128..192) \"update\"\n");
    free(text);
}
END_TEST

Suite *program_suite(void) {
    Suite *suite = suite_create("program");
    TCase *order = tcase_create("order"), *alone = tcase_create("records"),
          *text = tcase_create("text");
    tcase_add_checked_fixture(order, open_program, close_program);
    tcase_add_checked_fixture(alone, open_program, close_program);
    tcase_add_checked_fixture(text, open_program, close_program);
    tcase_add_test(order, an_empty_program_is_proved);
    tcase_add_test(order, one_queue_needs_no_wait);
    tcase_add_test(order, a_reader_on_another_queue_must_wait);
    tcase_add_test(order, bytes_side_by_side_are_independent);
    tcase_add_test(order, two_readers_need_no_order);
    tcase_add_test(order, the_next_step_must_wait_too);
    tcase_add_test(order, waits_are_transitive);
    tcase_add_test(order, a_later_record_can_be_waited_for);
    tcase_add_test(order, a_wait_for_too_early_a_record_is_found);
    tcase_add_test(order, sections_are_run_in_their_order);
    tcase_add_test(order, a_wait_reaches_back_to_an_earlier_section);
    tcase_add_test(order, repeated_sections_meet_themselves);
    tcase_add_test(order, staging_slots_are_told_apart);
    tcase_add_test(alone, accesses_must_lie_in_their_space);
    tcase_add_test(alone, every_slot_must_lie_in_the_staging_area);
    tcase_add_test(alone, buffers_must_be_declared);
    tcase_add_test(alone, host_kernels_are_checked);
    tcase_add_test(alone, copies_belong_to_a_queue);
    tcase_add_test(alone, results_must_be_declared_as_written);
    tcase_add_test(alone, malformed_records_are_refused);
    tcase_add_test(alone, nothing_is_added_after_an_error);
    tcase_add_test(text, the_text_is_stable);
    suite_add_tcase(suite, order);
    suite_add_tcase(suite, alone);
    suite_add_tcase(suite, text);
    return suite;
}
