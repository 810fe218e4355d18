// Records that threads of ours run: which are refused and why, what their functions are given, and
// for whom they wait. No device is needed.
#include <dirent.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include "backends/host_records.h"
#include "graph/graph.h"
#include "tests/allocations.h"
#include "tests/test_core.h"

enum { HOST_BYTES = 1000, PIECE = 65536 };

static brim_error err;
static program *made;
static host_records records;
static host_queues *queues;
static char host[HOST_BYTES];
static host_spaces spaces;
static int released;

static void release_event(void *device, void *event) {
    (void)device;
    released += *(int *)event;
}
static void await_event(void *device, void *event, brim_error *task_err) {
    (void)device, (void)event, (void)task_err;
}

static void begin(void) {
    const device_events events = {NULL, await_event, release_event, NULL};
    err = (brim_error){0};
    program_create(&made, &err);
    queues = host_queues_create(&events, &err);
    spaces = (host_spaces){host, HOST_BYTES, {-1, 0, NULL}};
    host_file_open(&spaces.file, test_directory, 1000, &err);
    ASSERT_FINE(err);
    records = (host_records){0};
    released = 0;
}

static void end(void) {
    host_queues_free(queues);
    host_records_free(&records);
    host_file_close(&spaces.file);
    program_free(made);
}

// ---- what functions are given -------------------------------------------------------------------

static struct {
    void *buffer, *none;
    int32_t i32;
    float f32;
} given;
static atomic_int times[3 * PIECE];

static void count_up(const host_argument *argument, int64_t first, int64_t count) {
    if (first == 0) { // one of the threads
        given.buffer = argument[0].buffer, given.none = argument[1].buffer;
        given.i32 = argument[2].i32, given.f32 = argument[4].f32;
    }
    for (int64_t i = first; i < first + count; i++) atomic_fetch_add(&times[i], 1);
}

static const host_kernel counting = {"count", 3, count_up};

// A kernel of the host on its queue, with so many elements.
static program_record update(const host_kernel *kernel, kernel_argument argument[5],
                             int64_t elements) {
    argument[0] = (kernel_argument){ARGUMENT_BUFFER, {.offset = 24}};
    argument[1] = (kernel_argument){ARGUMENT_BUFFER, {.offset = -1}};
    argument[2] = (kernel_argument){ARGUMENT_I32, {.i32 = -7}};
    argument[3] = (kernel_argument){ARGUMENT_I64, {.i64 = elements}};
    argument[4] = (kernel_argument){ARGUMENT_F32, {.f32 = 0.5f}};
    return (program_record){
        .kind = RECORD_HOST, .queue = QUEUE_HOST, .label = "h.1", .as.host = {kernel, 5, argument}};
}

static program_record copy(queue_id queue, byte_range from, byte_range to) {
    return (program_record){
        .kind = RECORD_COPY, .queue = queue, .label = "w.2", .as.copy = {from, to, 0}};
}

static byte_range in_host(int64_t offset, int64_t bytes) {
    return (byte_range){SPACE_HOST, offset, bytes};
}
static byte_range in_file(int64_t offset, int64_t bytes) {
    return (byte_range){SPACE_FILE, offset, bytes};
}

START_TEST(each_element_is_done_once) {
    static const int64_t sizes[] = {0, 1, PIECE, PIECE + 1, 2 * PIECE + 3};
    for (int s = 0; s < 5; s++) {
        kernel_argument argument[5];
        program_record r = update(&counting, argument, sizes[s]);
        made->records = 0;
        memset(times, 0, sizeof times);
        program_add_record(made, &r, &err);
        host_records_load(&records, queues, made, &spaces, &err);
        host_records_run(&records, 0, 0, &err);
        ASSERT_FINE(err);
        for (int64_t i = 0; i < 3 * PIECE; i++) ASSERT_QUICKLY(times[i] == (i < sizes[s]));
        brim_fail(&err, BRIM_IO, "before");
        host_records_run(&records, 0, 0, &err);
        ASSERT_FAILS(err, BRIM_IO, "before");
        ck_assert_int_eq(times[0], sizes[s] > 0);
        host_records_free(&records);
    }
    ck_assert_ptr_eq(given.buffer, host + 24);
    ck_assert_ptr_null(given.none);
    ck_assert(given.i32 == -7 && given.f32 == 0.5f);
}
END_TEST

START_TEST(bytes_of_the_file) {
    const program_record write = copy(QUEUE_WRITE, in_host(100, 50), in_file(950, 50)),
                         read = copy(QUEUE_READ, in_file(960, 40), in_host(0, 40)),
                         device = {.kind = RECORD_FILL};
    program_add_record(made, &write, &err);
    program_add_record(made, &device, &err);
    program_add_record(made, &read, &err);
    host_records_load(&records, queues, made, &spaces, &err);
    ASSERT_FINE(err);
    ck_assert(is_task(&records, 0) && !is_task(&records, 1) && is_task(&records, 2));
    ck_assert_int_eq(records.tasks, 2);
    for (int i = 0; i < HOST_BYTES; i++) host[i] = (char)(i % 97);
    host_records_run(&records, 0, 0, &err);
    host_records_run(&records, 2, 0, &err);
    ASSERT_FINE(err);
    for (int i = 0; i < 40; i++) ck_assert_int_eq(host[i], (110 + i) % 97);
    ck_assert_int_eq(host[40], 40);
    // What runs on a queue is timed from then on.
    const int64_t after[QUEUE_COUNT] = {0};
    stall_log log = {0};
    for (int timed = 0; timed < 2; timed++) {
        if (timed) host_records_time(&records);
        host_records_submit(&records, 0, 0, after, NULL, 0, &err);
        host_queues_await(queues, QUEUE_WRITE, timed + 1, &err);
        host_records_take_log(&records, &log, 0);
        ASSERT_FINE(err);
        ck_assert_uint_eq(log.spans, (size_t)timed);
    }
    ck_assert(log.span[0].queue == QUEUE_WRITE && !log.span[0].waits);
    stall_log_free(&log);
    spaces.file.bytes = 999;
    host_records_run(&records, 0, 0, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "record 0 (w.2): 50 bytes at 950 are outside the file space");
}
END_TEST

// ---- what is refused ----------------------------------------------------------------------------

static void load_one(const program_record *r) {
    made->records = 0;
    program_add_record(made, &(program_record){.kind = RECORD_FILL}, &err);
    program_add_record(made, r, &err);
    host_records_load(&records, queues, made, &spaces, &err);
}

#define REFUSED(record, reason)                                                                    \
    do {                                                                                           \
        load_one(record);                                                                          \
        ASSERT_FAILS(err, BRIM_ARGUMENT, reason);                                                  \
        host_records_free(&records);                                                               \
    } while (0)
#define TAKEN(record)                                                                              \
    do {                                                                                           \
        load_one(record);                                                                          \
        ASSERT_FINE(err);                                                                          \
        host_records_free(&records);                                                               \
    } while (0)

START_TEST(wrong_kernels) {
    static const char number[] = "record 1 (h.1): a host kernel without a number of elements";
    static const host_kernel before = {"before", -1, count_up}, behind = {"behind", 5, count_up},
                             whole = {"whole", 2, count_up}, last = {"last", 4, count_up};
    const host_kernel *const wrong[] = {NULL, &before, &behind, &whole, &last};
    kernel_argument argument[5];
    program_record r;
    for (int i = 0; i < 5; i++) {
        r = update(wrong[i], argument, 9);
        REFUSED(&r, number);
    }
    r = update(NULL, argument, 9);
    argument[1] = argument[0] = argument[3]; // wherever a number would be looked for
    REFUSED(&r, number);
    r = update(&counting, argument, (int64_t)INT32_MAX * PIECE);
    REFUSED(&r, number);
    argument[3].as.i64--;
    TAKEN(&r);
    argument[0].as.offset = HOST_BYTES;
    TAKEN(&r);
    argument[0].as.offset++;
    REFUSED(&r, "record 1 (h.1): argument 0: a buffer at 1001 is outside the host space");
    r.label = NULL;
    REFUSED(&r, "record 1 (): argument 0: a buffer at 1001");
    r.queue = QUEUE_READ;
    REFUSED(&r, "queue read does nothing but copies between file and host");
    argument[1] = argument[0], argument[0].as.offset = 0, r.queue = QUEUE_HOST;
    REFUSED(&r, "argument 1: a buffer at 1001");
}
END_TEST

START_TEST(wrong_copies) {
    static const char other[] = "does nothing but copies between file and host";
    static const struct {
        queue_id queue;
        byte_range from, to;
        const char *reason;
    } rows[] = {
        {QUEUE_READ, {SPACE_FILE, 0, 64}, {SPACE_HOST, 936, 64}, NULL},
        {QUEUE_WRITE, {SPACE_HOST, 936, 64}, {SPACE_FILE, 0, 64}, NULL},
        {QUEUE_READ, {SPACE_FILE, 0, 64}, {SPACE_HOST, 0, 0}, other},
        {QUEUE_READ, {SPACE_HOST, 0, 64}, {SPACE_FILE, 0, 64}, other},
        {QUEUE_WRITE, {SPACE_FILE, 0, 64}, {SPACE_HOST, 0, 64}, other},
        {QUEUE_READ, {SPACE_FILE, 0, 64}, {SPACE_DEVICE, 0, 64}, other},
        {QUEUE_READ, {SPACE_DEVICE, 0, 64}, {SPACE_HOST, 0, 64}, other},
        {QUEUE_HOST, {SPACE_DEVICE, 0, 64}, {SPACE_HOST, 0, 64}, other},
        {QUEUE_READ, {SPACE_FILE, 0, 64}, {SPACE_HOST, -1, 64}, "64 bytes at -1 are outside"},
        {QUEUE_READ, {SPACE_FILE, 0, -1}, {SPACE_HOST, 0, -1}, "-1 bytes at 0 are outside"},
        {QUEUE_READ,
         {SPACE_FILE, 0, 64},
         {SPACE_HOST, 937, 64},
         "64 bytes at 937 are outside the host space of 1000"},
        {QUEUE_WRITE, {SPACE_HOST, 937, 64}, {SPACE_FILE, 0, 64}, "64 bytes at 937 are outside"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        program_record r = copy(rows[i].queue, rows[i].from, rows[i].to);
        if (rows[i].reason)
            REFUSED(&r, rows[i].reason);
        else
            TAKEN(&r);
    }
    program_record r = copy(QUEUE_READ, in_file(0, 8), in_host(0, 8));
    r.kind = RECORD_FILL;
    REFUSED(&r, "record 1 (w.2): queue read does nothing but copies");
}
END_TEST

// ---- tickets ------------------------------------------------------------------------------------

// Of each queue the latest of the runs that are waited for, whatever the order of the list.
START_TEST(the_latest_tickets_are_awaited) {
    static const int32_t waits[] = {2, 0, 1, 4, 3};
    const program_record read = copy(QUEUE_READ, in_file(0, 8), in_host(0, 8)),
                         write = copy(QUEUE_WRITE, in_host(8, 8), in_file(8, 8));
    program_record last = write;
    last.wait = waits, last.waits = 5;
    const program_record *const all[] = {
        &read, &read, &read, &write, &(program_record){RECORD_FILL}, &last};
    int64_t after[QUEUE_COUNT], nothing[QUEUE_COUNT] = {0};
    for (int i = 0; i < 6; i++) program_add_record(made, all[i], &err);
    host_records_load(&records, queues, made, &spaces, &err);
    host_records_awaited(&records, 5, after);
    ck_assert_mem_eq(after, nothing, sizeof after);
    int one = 1;
    void *event[] = {&one, &one};
    for (int i = 0; i < 4; i++)
        host_records_submit(&records, i, 0, nothing, event, i == 3 ? 2 : 0, &err);
    host_records_submit(&records, 0, 0, nothing, NULL, 0, &err);
    ASSERT_FINE(err);
    host_records_awaited(&records, 5, after);
    for (int q = 0; q < QUEUE_COUNT; q++)
        ck_assert_int_eq(after[q], q == QUEUE_READ ? 4 : q == QUEUE_WRITE ? 1 : 0);
    host_queues_await(queues, QUEUE_READ, 4, &err);
    host_queues_await(queues, QUEUE_WRITE, 1, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(released, 2);
}
END_TEST

// Where there is no room for a task, its events are released all the same, and there is no ticket.
START_TEST(a_task_without_room) {
    enum { EVENTS = 3 };
    int values[EVENTS + 1] = {1, 10, 100, 1000};
    void *event[EVENTS + 1] = {&values[0], &values[1], &values[2], &values[3]};
    const host_work work = {.label = "none"};
    const host_order order = {&work, 0, {0}, event, EVENTS};
    allocations taken;
    allocations_begin(1);
    int64_t ticket = host_queues_submit(queues, QUEUE_READ, &order, &err);
    allocations_end(&taken);
    ck_assert_int_eq(ticket, 0);
    ck_assert_int_eq(released, 111);
    ASSERT_FAILS(err, BRIM_MEMORY, "");
}
END_TEST

// ---- threads ------------------------------------------------------------------------------------

START_TEST(as_many_threads_as_cores) {
    int cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    ck_assert_int_eq(worker_pool_cores(1), 1);
    ck_assert_int_eq(worker_pool_cores(INT_MAX), cores);
    ck_assert_int_eq(worker_pool_cores(cores), cores);
    ck_assert_int_eq(worker_pool_cores(cores + 1), cores);
}
END_TEST

static int threads_now(void) {
    DIR *d = opendir("/proc/self/task");
    int count = 0;
    for (struct dirent *e; (e = readdir(d));) count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

// The caller is one of a pool's threads.
START_TEST(as_many_threads_as_were_asked_for) {
    static const int threads[][2] = {{-1, 0}, {0, 0}, {1, 0}, {2, 1}, {5, 4}};
    int before = threads_now();
    for (int i = 0; i < 5; i++) {
        worker_pool *pool = worker_pool_create(threads[i][0], &err);
        ASSERT_FINE(err);
        ck_assert_int_eq(threads_now(), before + threads[i][1]);
        worker_pool_free(pool);
        for (int n = 0; n < 5000 && threads_now() > before; n++) usleep(1000); // on their way out
        ck_assert_int_eq(threads_now(), before);
    }
    worker_pool_free(NULL);
}
END_TEST

// Sanitizers are there; they take memory as they like.
extern void __asan_init(void) __attribute__((weak));
extern void __tsan_init(void) __attribute__((weak));

// With room for the stack of one thread and a half, the second cannot start; the first one ends.
START_TEST(a_thread_that_cannot_start) {
    if (__asan_init || __tsan_init) return;
    pthread_attr_t attributes;
    struct rlimit before, tight;
    size_t stack;
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    ck_assert_int_eq(fscanf(f, "%ld", &pages), 1);
    fclose(f);
    int threads = threads_now();
    pthread_getattr_default_np(&attributes);
    pthread_attr_getstacksize(&attributes, &stack);
    getrlimit(RLIMIT_AS, &before);
    tight = before;
    tight.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + stack + stack / 2;
    setrlimit(RLIMIT_AS, &tight);
    worker_pool *pool = worker_pool_create(5, &err);
    setrlimit(RLIMIT_AS, &before);
    ck_assert_ptr_null(pool);
    ASSERT_FAILS(err, BRIM_MEMORY, "cannot start thread 2 of 4: Resource temporarily unavailable");
    for (int n = 0; n < 5000 && threads_now() > threads; n++) usleep(1000);
    ck_assert_int_eq(threads_now(), threads);
}
END_TEST

Suite *host_records_suite(void) {
    Suite *suite = suite_create("host_records");
    TCase *tests = tcase_create("host_records");
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_add_checked_fixture(tests, begin, end);
    tcase_add_test(tests, each_element_is_done_once);
    tcase_add_test(tests, bytes_of_the_file);
    tcase_add_test(tests, wrong_kernels);
    tcase_add_test(tests, wrong_copies);
    tcase_add_test(tests, the_latest_tickets_are_awaited);
    tcase_add_test(tests, a_task_without_room);
    tcase_add_test(tests, as_many_threads_as_cores);
    tcase_add_test(tests, as_many_threads_as_were_asked_for);
    tcase_add_test(tests, a_thread_that_cannot_start);
    suite_add_tcase(suite, tests);
    return suite;
}
