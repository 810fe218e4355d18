// What a record may not be: each rule of program_verify on a record that is right but for one
// thing, and at the bound itself. What is added to a program is kept, and its names and text.
#include "test_core.h"
#include "backends/program.h"
#include "graph/graph.h"
#include "tests/allocations.h"

static brim_error err;
static program *made;
static program_record *r;
static kernel_spec *kernel;

static const byte_range first = {SPACE_DEVICE, 0, 64}, second = {SPACE_DEVICE, 64, 64},
                        third = {SPACE_DEVICE, 128, 64}, fourth = {SPACE_DEVICE, 192, 64},
                        host = {SPACE_HOST, 0, 64}, file = {SPACE_FILE, 0, 64};

static void begin(void) {
    err = (brim_error){0};
    program_create(&made, &err);
    ASSERT_FINE(err);
    made->device_bytes = made->host_bytes = made->file_bytes = 1000;
}

static void end(void) {
    program_free(made);
}

// ---- records that are right ---------------------------------------------------------------------

static void add(program_record record, byte_range from, byte_range to, byte_range other,
                byte_range workspace, int32_t accesses) {
    const record_access access[] = {{from, false}, {other, false}, {to, true}, {workspace, true}};
    made->records = made->kernels = 0;
    program_add_kernel(made, &(kernel_spec){"go", "go.k", "text", "", 1}, &err);
    kernel = &made->kernel[0];
    record.sections = SECTION_LAST;
    record.label = "x";
    record.access = access, record.accesses = accesses;
    program_add_record(made, &record, &err);
    ASSERT_FINE(err);
    r = &made->record[0];
}

static void launch(void) {
    static const kernel_argument argument[] = {
        {ARGUMENT_BUFFER, {.offset = 0}},  {ARGUMENT_BUFFER, {.offset = 191}},
        {ARGUMENT_BUFFER, {.offset = -1}}, {ARGUMENT_I64, {.i64 = 5000}},
        {ARGUMENT_I32, {.i32 = 6000}},     {ARGUMENT_F32, {.f32 = 1}}};
    add((program_record){.kind = RECORD_LAUNCH, .as.launch = {0, {1, 1, 1}, 6, argument}}, first,
        third, second, fourth, 3);
}

static void matmul(void) {
    add((program_record){.kind = RECORD_MATMUL,
                         .as.matmul = {{.m = 1, .n = 1, .k = 1, .batch = 1}, 0, 127, 128, 192, 64}},
        first, third, second, fourth, 4);
}

static void copy_between(queue_id queue, byte_range from, byte_range to) {
    add((program_record){.kind = RECORD_COPY, .queue = queue, .as.copy = {from, to, 0}}, from, to,
        from, fourth, 3);
}
static void copy_in(void) {
    copy_between(QUEUE_IN, host, first);
}
static void copy_out(void) {
    copy_between(QUEUE_OUT, first, host);
}
static void read_file(void) {
    copy_between(QUEUE_READ, file, host);
}
static void write_file(void) {
    copy_between(QUEUE_WRITE, host, file);
}

static void fill(void) {
    add((program_record){.kind = RECORD_FILL, .as.fill = {third, 1}}, first, third, second, fourth,
        3);
}

static void run(const host_argument *argument, int64_t from, int64_t count) {
    (void)argument, (void)from, (void)count;
}

static void update(void) {
    static const host_kernel of_host = {"update", 1, run};
    static const kernel_argument argument[] = {{ARGUMENT_BUFFER, {.offset = 63}},
                                               {ARGUMENT_I64, {.i64 = 5000}}};
    add((program_record){.kind = RECORD_HOST,
                         .queue = QUEUE_HOST,
                         .as.host = {&of_host, 2, argument}},
        host, host, host, host, 3);
}

static record_access *access_of(int i) {
    return (record_access *)&r->access[i];
}
static kernel_argument *launch_argument_of(int i) {
    return (kernel_argument *)&r->as.launch.argument[i];
}
static kernel_argument *host_argument_of(int i) {
    return (kernel_argument *)&r->as.host.argument[i];
}

// The record with that change is refused for that reason.
#define REFUSED(record, change, reason)                                                            \
    do {                                                                                           \
        record();                                                                                  \
        change;                                                                                    \
        program_verify(made, &err);                                                                \
        ck_assert_msg(strstr(err.text, "program record 0 (") == err.text, "%s", err.text);         \
        ASSERT_FAILS(err, BRIM_GRAPH, reason);                                                     \
    } while (0)

// It is as right as without the change.
#define FINE(record, change)                                                                       \
    do {                                                                                           \
        record();                                                                                  \
        change;                                                                                    \
        program_verify(made, &err);                                                                \
        ASSERT_FINE(err);                                                                          \
    } while (0)

// ---- rules --------------------------------------------------------------------------------------

START_TEST(launches) {
    static const char incomplete[] = "(launch \"x\"): its kernel is incomplete";
    static const char outside[] = "a buffer argument points outside the declared accesses";
    FINE(launch, );
    REFUSED(launch, r->as.launch.kernel = -1, "its kernel does not exist");
    REFUSED(launch, r->as.launch.kernel = 1, "its kernel does not exist");
    REFUSED(launch, kernel->name = NULL, incomplete);
    REFUSED(launch, kernel->file = NULL, incomplete);
    REFUSED(launch, kernel->source = NULL, incomplete);
    REFUSED(launch, kernel->defines = NULL, incomplete);
    REFUSED(launch, kernel->group = 0, incomplete);
    for (int i = 0; i < 3; i++) {
        REFUSED(launch, r->as.launch.grid[i] = 0, "its grid is empty");
        FINE(launch, r->as.launch.grid[i] = 2);
    }
    REFUSED(launch, launch_argument_of(1)->as.offset = 192, outside);
    REFUSED(launch, launch_argument_of(0)->as.offset = -2, outside);
    REFUSED(launch, launch_argument_of(2)->as.offset = 1000, outside);
    REFUSED(launch, access_of(0)->range = host, outside);
    FINE(launch, launch_argument_of(0)->as.offset = 63);
    FINE(launch, launch_argument_of(0)->as.offset = 64);
}
END_TEST

START_TEST(products) {
    static const char empty[] = "(matmul \"x\"): its product is empty";
    static const char operand[] = "an operand lies outside the declared accesses";
    static const char result[] = "its result lies outside the declared writes";
    static const char workspace[] = "its workspace lies outside the declared writes";
    FINE(matmul, );
    REFUSED(matmul, r->as.matmul.shape.m = 0, empty);
    REFUSED(matmul, r->as.matmul.shape.n = 0, empty);
    REFUSED(matmul, r->as.matmul.shape.k = 0, empty);
    REFUSED(matmul, r->as.matmul.shape.batch = 0, empty);
    REFUSED(matmul, r->as.matmul.a = 256, operand);
    REFUSED(matmul, r->as.matmul.b = -1, operand);
    REFUSED(matmul, r->as.matmul.c = 127, result);
    REFUSED(matmul, r->as.matmul.workspace = 191, workspace);
    REFUSED(matmul, r->as.matmul.workspace = 193, workspace);
    REFUSED(matmul, r->as.matmul.workspace_bytes = 65, workspace);
    REFUSED(matmul, r->as.matmul.workspace = 64, workspace);
    FINE(matmul, (r->as.matmul.workspace = 193, r->as.matmul.workspace_bytes = 63));
    FINE(matmul, (r->as.matmul.workspace = 900, r->as.matmul.workspace_bytes = 0));
}
END_TEST

START_TEST(copies) {
    static const char sides[] = "(copy \"x\"): its two sides differ in bytes";
    static const char source[] = "its source lies outside the declared accesses";
    static const char destination[] = "its destination lies outside the declared writes";
    FINE(copy_in, );
    FINE(copy_out, );
    FINE(read_file, );
    FINE(write_file, );
    REFUSED(copy_in, r->as.copy.to.bytes = 63, sides);
    REFUSED(copy_in, r->as.copy.from.bytes = 63, sides);
    REFUSED(copy_in, r->as.copy.from.bytes = r->as.copy.to.bytes = 0, sides);
    FINE(copy_in, r->as.copy.from.bytes = r->as.copy.to.bytes = 1);
    REFUSED(copy_in, r->as.copy.host_stride = -1, "its host stride is negative");
    FINE(copy_in, r->as.copy.host_stride = 1);
    REFUSED(read_file, r->as.copy.host_stride = 1, "a copy of the file has a host stride");
    REFUSED(write_file, r->as.copy.host_stride = 1, "a copy of the file has a host stride");
    REFUSED(copy_in, r->as.copy.from.offset = 1, source);
    REFUSED(copy_in, r->as.copy.to.offset = 1, destination);
    REFUSED(copy_in, access_of(2)->writes = false, destination);
    FINE(copy_in, r->queue = QUEUE_COMPUTE);
    FINE(copy_in, r->queue = QUEUE_OUT);
    REFUSED(copy_in, r->queue = QUEUE_HOST, "it is not on a queue of the device");
    REFUSED(read_file, r->queue = QUEUE_WRITE, "it reads the file, and is not on queue read");
    REFUSED(write_file, r->queue = QUEUE_IN, "it writes the file, and is not on queue write");
    REFUSED(copy_in, r->as.copy.to.space = SPACE_HOST, "it copies within the host");
    REFUSED(copy_out, r->as.copy.to.space = SPACE_FILE, "between the file and the device");
    REFUSED(copy_in, r->as.copy.from.space = SPACE_FILE, "between the file and the device");
}
END_TEST

START_TEST(fills) {
    static const char words[] = "(fill \"x\"): its bytes are no whole 32-bit words";
    FINE(fill, );
    REFUSED(fill, r->as.fill.range.space = SPACE_HOST, "it fills host memory");
    REFUSED(fill, (r->as.fill.range.offset = 130, r->as.fill.range.bytes = 4), words);
    REFUSED(fill, r->as.fill.range.bytes = 6, words);
    REFUSED(fill, r->as.fill.range.bytes = 0, words);
    FINE(fill, r->as.fill.range.bytes = 4);
    REFUSED(fill, r->as.fill.range.offset = 0, "its bytes lie outside the declared writes");
    REFUSED(fill, r->queue = DEVICE_QUEUES, "it is not on a queue of the device");
    FINE(fill, r->queue = QUEUE_OUT);
}
END_TEST

START_TEST(updates_on_the_host) {
    static const host_kernel nothing = {"nothing", 1, NULL}, before = {"before", -1, run},
                             behind = {"behind", 2, run}, buffer = {"buffer", 0, run};
    static const char number[] = "its kernel's number of elements is no argument";
    FINE(update, );
    REFUSED(update, r->as.host.kernel = NULL, "(host \"x\"): its kernel does not exist");
    REFUSED(update, r->as.host.kernel = &nothing, "its kernel does not exist");
    REFUSED(update, r->as.host.kernel = &before, number);
    REFUSED(update, r->as.host.kernel = &behind, number);
    REFUSED(update, r->as.host.kernel = &buffer, number);
    REFUSED(update, r->as.host.arguments = 1, number);
    for (int i = 0; i < 3; i++)
        REFUSED(update, access_of(i)->range.space = SPACE_DEVICE,
                "an access lies outside the host space");
    REFUSED(update, host_argument_of(0)->as.offset = 64,
            "a buffer argument points outside the declared accesses");
    FINE(update, host_argument_of(0)->as.offset = -1);
    REFUSED(update, r->queue = QUEUE_COMPUTE, "it is not on queue host");
    REFUSED(update, r->queue = QUEUE_READ, "it is not on queue host");
}
END_TEST

static void wait_for(int32_t awaited) {
    static int32_t record;
    record = awaited;
    r->wait = &record, r->waits = 1;
}

START_TEST(all_records) {
    static const char outside[] = "an access lies outside its space";
    static const struct {
        void (*record)(void);
        int access;
    } rows[] = {{launch, 1}, {copy_in, 0}, {copy_out, 2}, {read_file, 0}, {write_file, 2}};
    REFUSED(fill, r->queue = QUEUE_COUNT, "its queue does not exist");
    REFUSED(fill, r->queue = (queue_id)-1, "its queue does not exist");
    REFUSED(fill, r->kind = (record_kind)5, "its kind does not exist");
    REFUSED(fill, r->sections = 0, "it runs in no section");
    REFUSED(fill, r->sections = SECTION_ALL + 1, "it runs in no section");
    FINE(fill, r->sections = SECTION_ALL);
    REFUSED(fill, wait_for(-1), "it waits for a record that does not exist");
    REFUSED(fill, wait_for(1), "it waits for a record that does not exist");
    REFUSED(fill, wait_for(0), "it waits for a record of its own queue");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int a = rows[i].access;
        byte_range whole = {SPACE_DEVICE, 0, 1000};
        rows[i].record();
        whole.space = r->access[a].range.space;
        FINE(rows[i].record, access_of(a)->range = whole);
        REFUSED(rows[i].record, (access_of(a)->range = whole, access_of(a)->range.bytes = 1001),
                outside);
        REFUSED(rows[i].record, (access_of(a)->range = whole, access_of(a)->range.offset = 1),
                outside);
        REFUSED(rows[i].record, access_of(a)->range.offset = -1, outside);
        REFUSED(rows[i].record, access_of(a)->range.bytes = -1, outside);
        REFUSED(rows[i].record, access_of(a)->range.bytes = INT64_MAX, outside);
        REFUSED(rows[i].record, access_of(a)->range.space = SPACES, outside);
    }
    made->micro_batches = 0;
    program_verify(made, &err);
    ASSERT_FAILS(err, BRIM_GRAPH, "a program has no micro-batches");
}
END_TEST

// The host side of a copy moves with the micro-batch, its other side does not.
START_TEST(strides_reach_their_last_slot) {
    made->micro_batches = 4;
    FINE(copy_in, r->as.copy.host_stride = 312); // 936 .. 999
    REFUSED(copy_in, r->as.copy.host_stride = 313, "an access lies outside its space");
    FINE(copy_out, (r->as.copy.host_stride = 312, r->as.copy.from.offset = 0));
    made->device_bytes = 256;
    FINE(copy_in, r->as.copy.host_stride = 312);
}
END_TEST

// ---- what is kept -------------------------------------------------------------------------------

START_TEST(what_is_added_is_copied) {
    enum { MANY = 1000 };
    for (int32_t i = 0; i < MANY; i++) {
        char name[16], defines[16], label[16];
        snprintf(name, sizeof name, "kernel %d", i);
        snprintf(defines, sizeof defines, "-DN=%d", i);
        snprintf(label, sizeof label, "label %d", i);
        kernel_argument argument[] = {{ARGUMENT_I32, {.i32 = i}}, {ARGUMENT_I64, {.i64 = -i}}};
        record_access access = {{SPACE_HOST, i, 1}, i % 2};
        int32_t wait[] = {i + 1, i + 2};
        program_record one = {.kind = i % 2 ? RECORD_LAUNCH : RECORD_HOST,
                              .label = i ? label : NULL,
                              .accesses = 1,
                              .access = &access,
                              .waits = 2,
                              .wait = wait};
        if (i % 2)
            one.as.launch = (launch_record){i, {i, 2, 3}, 2, argument};
        else
            one.as.host = (host_record){NULL, 2, argument};
        ck_assert_int_eq(
            program_add_kernel(made, &(kernel_spec){name, "go.k", "text", defines, i}, &err), i);
        ck_assert_int_eq(program_add_record(made, &one, &err), i);
        memset(argument, 0, sizeof argument), memset(wait, 0, sizeof wait);
        memset(&access, 0, sizeof access), memset(name, 0, sizeof name);
        memset(label, 0, sizeof label), memset(defines, 0, sizeof defines);
    }
    ASSERT_FINE(err);
    for (int32_t i = 0; i < MANY; i++) {
        char name[16], defines[16], label[16];
        snprintf(name, sizeof name, "kernel %d", i);
        snprintf(defines, sizeof defines, "-DN=%d", i);
        snprintf(label, sizeof label, "label %d", i);
        const program_record *one = &made->record[i];
        const kernel_argument *argument = i % 2 ? one->as.launch.argument : one->as.host.argument;
        ck_assert_str_eq(made->kernel[i].name, name);
        ck_assert_str_eq(made->kernel[i].defines, defines);
        ck_assert_str_eq(made->kernel[i].file, "go.k");
        ck_assert_str_eq(made->kernel[i].source, "text");
        ck_assert_str_eq(one->label, i ? label : "");
        ck_assert(argument[0].as.i32 == i && argument[1].as.i64 == -i);
        ck_assert(one->access[0].range.offset == i && one->access[0].writes == i % 2);
        ck_assert(one->wait[0] == i + 1 && one->wait[1] == i + 2);
    }
    brim_fail(&err, BRIM_IO, "before");
    ck_assert_int_eq(program_add_record(made, &made->record[0], &err), -1);
    ck_assert_int_eq(program_add_kernel(made, &made->kernel[0], &err), -1);
    ck_assert(made->records == MANY && made->kernels == MANY);
}
END_TEST

// Where memory runs out, nothing is added.
START_TEST(what_has_no_room_is_not_added) {
    static const record_access access = {{SPACE_DEVICE, 0, 4}, true};
    static const kernel_argument argument = {ARGUMENT_I32, {.i32 = 1}};
    static const int32_t wait = 0;
    const kernel_spec spec = {"go", "go.k", "text", "", 1};
    const program_record one = {.kind = RECORD_LAUNCH,
                                .label = "x",
                                .accesses = 1,
                                .access = &access,
                                .waits = 1,
                                .wait = &wait,
                                .as.launch = {0, {1, 1, 1}, 1, &argument}};
    int failures = 0;
    for (int which = 0; which < 3; which++)
        for (long n = 1, made_it = 0; !made_it; n++) {
            program *p = NULL;
            if (which) program_create(&p, &err);
            allocations taken;
            allocations_begin(n);
            int32_t index = which == 0   ? program_create(&p, &err) == BRIM_OK ? 0 : -1
                            : which == 1 ? program_add_record(p, &one, &err)
                                         : program_add_kernel(p, &spec, &err);
            allocations_end(&taken);
            made_it = err.status == BRIM_OK;
            ck_assert_int_eq(index, made_it ? 0 : -1);
            if (which) ck_assert_int_eq(p->records + p->kernels, made_it);
            if (!which) ck_assert(!p == !made_it);
            if (!made_it) ASSERT_FAILS(err, BRIM_MEMORY, "");
            failures += !made_it;
            program_free(p);
        }
    ck_assert_int_ge(failures, 6);
}
END_TEST

START_TEST(names) {
    static const char *const kinds[] = {"launch", "matmul", "copy", "fill", "host", "unknown"};
    static const char *const queues[] = {"compute", "in",    "out",    "host",
                                         "read",    "write", "unknown"};
    static const char *const spaces[] = {"device", "host", "file", "unknown"};
    static const char *const sections[] = {"none",         "first", "middle",
                                           "first+middle", "last",  "first+last",
                                           "middle+last",  "all",   "unknown"};
    for (int i = 0; i < 6; i++) ck_assert_str_eq(record_kind_name((record_kind)i), kinds[i]);
    for (int i = 0; i < 7; i++) ck_assert_str_eq(queue_name((queue_id)i), queues[i]);
    for (int i = 0; i < 4; i++) ck_assert_str_eq(space_name((memory_space)i), spaces[i]);
    for (int i = 0; i < 9; i++) ck_assert_str_eq(sections_name((uint8_t)i), sections[i]);
    ck_assert_str_eq(record_kind_name((record_kind)-1), "unknown");
    ck_assert_str_eq(queue_name((queue_id)-1), "unknown");
    ck_assert_str_eq(space_name((memory_space)-1), "unknown");
}
END_TEST

#define ASSERT_TEXT(expected)                                                                      \
    do {                                                                                           \
        char *text = NULL;                                                                         \
        size_t size = 0;                                                                           \
        FILE *out = open_memstream(&text, &size);                                                  \
        program_print(made, out);                                                                  \
        fclose(out);                                                                               \
        ck_assert_str_eq(text, expected);                                                          \
        free(text);                                                                                \
    } while (0)

START_TEST(texts_of_records) {
    static const int32_t waits[] = {3, 1};
    matmul();
    made->kernels = 0, made->file_bytes = 0;
    r->as.matmul.shape = (matmul_shape){.in = BRIM_BF16,
                                        .out = BRIM_F32,
                                        .m = 2,
                                        .n = 3,
                                        .k = 4,
                                        .batch = 5,
                                        .transpose_a = true,
                                        .row_a = 6,
                                        .row_b = 7,
                                        .row_c = 8,
                                        .batch_a = 9,
                                        .batch_b = 10,
                                        .batch_c = 11};
    r->accesses = 0, r->wait = waits, r->waits = 2;
    ASSERT_TEXT(
        "program: 1 records, 0 kernels, device 1000 bytes, host 1000 bytes, 1 micro-batches\n"
        "0 last compute matmul bf16->f32 m 2 n 3 k 4 batch 5 a' @0 row 6 step 9 b @127 row "
        "7 step 10 c @128 row 8 step 11 workspace @192 64 wait 3,1 \"x\"\n");
    r->as.matmul.shape.transpose_a = false, r->as.matmul.shape.transpose_b = true;
    r->as.matmul.workspace_bytes = 0, r->waits = 1, r->kind = RECORD_MATMUL;
    ASSERT_TEXT(
        "program: 1 records, 0 kernels, device 1000 bytes, host 1000 bytes, 1 micro-batches\n"
        "0 last compute matmul bf16->f32 m 2 n 3 k 4 batch 5 a @0 row 6 step 9 b' @127 row "
        "7 step 10 c @128 row 8 step 11 wait 3 \"x\"\n");
    launch();
    made->kernels = 0, r->accesses = 0, r->as.launch.arguments = 0;
    for (int i = 0; i < 3; i++) r->as.launch.grid[i] = i + 5;
    ASSERT_TEXT(
        "program: 1 records, 0 kernels, device 1000 bytes, host 1000 bytes, 1 micro-batches\n"
        "0 last compute launch kernel 0 grid 5x6x7 ( ) \"x\"\n");
    copy_in();
    made->kernels = 0;
    ASSERT_TEXT(
        "program: 1 records, 0 kernels, device 1000 bytes, host 1000 bytes, 1 micro-batches\n"
        "0 last in copy host[0..64) -> device[0..64) r host[0..64) r host[0..64) w "
        "device[0..64) \"x\"\n");
    update();
    made->kernels = 0, r->as.host.kernel = NULL, r->accesses = 0;
    ASSERT_TEXT(
        "program: 1 records, 0 kernels, device 1000 bytes, host 1000 bytes, 1 micro-batches\n"
        "0 last host host unknown ( @63 5000l ) \"x\"\n");
    r->kind = (record_kind)5;
    ASSERT_TEXT(
        "program: 1 records, 0 kernels, device 1000 bytes, host 1000 bytes, 1 micro-batches\n"
        "0 last host unknown \"x\"\n");
}
END_TEST

Suite *program_records_suite(void) {
    Suite *suite = suite_create("program_records");
    TCase *tests = tcase_create("records");
    tcase_add_checked_fixture(tests, begin, end);
    tcase_add_test(tests, launches);
    tcase_add_test(tests, products);
    tcase_add_test(tests, copies);
    tcase_add_test(tests, fills);
    tcase_add_test(tests, updates_on_the_host);
    tcase_add_test(tests, all_records);
    tcase_add_test(tests, strides_reach_their_last_slot);
    tcase_add_test(tests, what_is_added_is_copied);
    tcase_add_test(tests, what_has_no_room_is_not_added);
    tcase_add_test(tests, names);
    tcase_add_test(tests, texts_of_records);
    suite_add_tcase(suite, tests);
    return suite;
}
