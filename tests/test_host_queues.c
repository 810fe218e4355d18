// What threads of ours do beside a device: the queues themselves, the file, and random programs
// over all queues and spaces, in orders that the waits allow.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "backends/host_records.h"
#include "graph/graph.h"
#include "tests/devices.h"
#include "tests/late_queues.h"
#include "tests/random_run.h"
#include "tests/skips.h"
#include "tests/test_core.h"
#ifdef BRIM_OPENCL_BUILT
#include "backends/opencl/device.h"
#endif

static brim_error err;

static void begin(void) {
    err = (brim_error){0};
    random_run_hold(QUEUE_COUNT, 1);
}

// ---- the queues ---------------------------------------------------------------------------------

// Tasks write their number here, in the order in which they run. Each kind of event is waited for,
// and released once.
static struct {
    int order[64], tasks;
    int waited, released;
} seen;

static void note(host_queues *h, const host_work *work, int32_t micro_batch, brim_error *task_err) {
    (void)h;
    seen.order[seen.tasks++] = work->record * 10 + micro_batch;
    if (work->what) brim_fail(task_err, BRIM_IO, "%s", (const char *)work->what);
}

static void await_event(void *device, void *event, brim_error *task_err) {
    (void)task_err;
    ck_assert_ptr_eq(device, &seen);
    usleep(1000);
    seen.waited += *(int *)event;
}

static void release_event(void *device, void *event) {
    (void)device;
    seen.released += *(int *)event;
}

static host_queues *open_queues(void) {
    const device_events events = {&seen, await_event, release_event, NULL};
    memset(&seen, 0, sizeof seen);
    host_queues *h = host_queues_create(&events, &err);
    for (int q = 0; q < QUEUE_COUNT; q++) host_queues_start(h, (queue_id)q, &err);
    ASSERT_FINE(err);
    return h;
}

// Each task waits for the one before, on another queue.
START_TEST(tickets_order_queues) {
    host_queues *h = open_queues();
    host_work work[60];
    int64_t ticket = 0;
    int one = 1;
    void *event[] = {&one, &one};
    queue_id before = QUEUE_HOST;
    for (int i = 0; i < 60; i++) {
        queue_id queue = (queue_id)(i * 5 % QUEUE_COUNT);
        work[i] = (host_work){.run = note, .record = i, .label = "note"};
        host_order order = {&work[i], i % 2, {0}, event, (i + 1) % 3};
        order.after[before] = ticket;
        ticket = host_queues_submit(h, queue, &order, &err);
        ck_assert_int_gt(ticket, 0);
        before = queue;
    }
    host_queues_await(h, before, ticket, &err);
    ck_assert(host_queues_done(h, before, ticket));
    ck_assert(!host_queues_done(h, before, ticket + 1));
    host_queues_drain(h, 0, QUEUE_COUNT, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(seen.tasks, 60);
    for (int i = 0; i < 60; i++) ck_assert_int_eq(seen.order[i], i * 10 + i % 2);
    ck_assert_int_eq(seen.waited, 60);
    ck_assert_int_eq(seen.released, 60);
    host_queues_free(h);
}
END_TEST

// What comes after it on any queue is dropped, nobody hangs, and the error is told again and again.
START_TEST(an_error_stops_the_queues) {
    host_queues *h = open_queues();
    int one = 1;
    void *event[] = {&one};
    host_work fine = {.run = note, .record = 1, .label = "fine"};
    host_work bad = {.run = note, .record = 2, .label = "write h.3", .what = "the disk is full"};
    host_work late = {.run = note, .record = 3, .label = "late"};
    host_order order = {&fine, 0, {0}, event, 1};
    host_queues_submit(h, QUEUE_HOST, &order, &err);
    order.work = &bad;
    order.after[QUEUE_HOST] = 1;
    int64_t ticket = host_queues_submit(h, QUEUE_WRITE, &order, &err);
    order.work = &late;
    order.after[QUEUE_HOST] = 0;
    order.after[QUEUE_WRITE] = ticket;
    ASSERT_FINE(err);
    int64_t last = host_queues_submit(h, QUEUE_READ, &order, &err);
    err = (brim_error){0};
    host_queues_await(h, QUEUE_READ, last, &err);
    ASSERT_FAILS(err, BRIM_IO, "record 2 (write h.3): the disk is full");
    ck_assert_int_gt(host_queues_submit(h, QUEUE_HOST, &order, &err), 1);
    ASSERT_FAILS(err, BRIM_IO, "the disk is full");
    host_queues_drain(h, 0, QUEUE_COUNT, &err);
    ASSERT_FAILS(err, BRIM_IO, "the disk is full");
    host_queues_check(h, &err);
    ASSERT_FAILS(err, BRIM_IO, "the disk is full");
    host_queues_free(h);
    ck_assert_int_eq(seen.tasks, 2);
    ck_assert_int_eq(seen.waited, 2);
    ck_assert_int_eq(seen.released, 4);
}
END_TEST

// ---- the file and host memory -------------------------------------------------------------------

static int files_in(const char *directory) {
    DIR *d = opendir(directory);
    int count = 0;
    for (struct dirent *e; (e = readdir(d));) count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

START_TEST(a_file_has_no_name) {
    host_file f;
    char data[100], back[100];
    memset(data, 7, sizeof data);
    host_file_open(&f, test_directory, 1 << 20, &err);
    ASSERT_FINE(err);
    struct stat status;
    ck_assert_int_eq(fstat(f.descriptor, &status), 0);
    ck_assert_int_eq(status.st_size, 1 << 20);
    ck_assert_int_eq(status.st_mode & 0777, 0600);
    ck_assert_int_eq(status.st_nlink, 0);
    ck_assert_int_eq(files_in(test_directory), 0);
    host_file_write(&f, (1 << 20) - 100, data, 100, &err);
    host_file_read(&f, (1 << 20) - 100, back, 100, &err);
    ASSERT_FINE(err);
    ck_assert_mem_eq(data, back, 100);
    host_file_write(&f, (1 << 20) - 99, data, 100, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "100 bytes at 1048477 are outside the file space of 1048576");
    ck_assert_int_eq(ftruncate(f.descriptor, 50), 0);
    host_file_read(&f, 0, back, 100, &err);
    ASSERT_FAILS(err, BRIM_IO, "it is shorter");
    host_file_close(&f);
    host_file_close(&f);
}
END_TEST

START_TEST(a_file_that_does_not_fit_is_named) {
    host_file f;
    host_file_open(&f, test_directory, (int64_t)1 << 62, &err);
    ASSERT_FAILS(err, BRIM_IO, "does not fit into");
    host_file_open(&f, "/no/such/directory", 4096, &err);
    ASSERT_FAILS(err, BRIM_IO, "\"/no/such/directory\": No such file or directory");
    host_file_open(&f, NULL, 4096, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "no directory is named");
    host_file_open(&f, NULL, 0, &err);
    ASSERT_FINE(err);
}
END_TEST

// ---- kernels of the host ------------------------------------------------------------------------

static void count_up(const host_argument *argument, int64_t first, int64_t count) {
    uint8_t *times = argument[0].buffer;
    for (int64_t i = first; i < first + count; i++) times[i]++;
}

// Threads share the elements: each is somebody's, once.
START_TEST(each_element_has_one_thread) {
    enum { ELEMENTS = 200007, BEHIND = 500, BYTES = ELEMENTS + BEHIND };
    static const host_kernel kernel = {"count", 1, count_up};
    static const record_access access = {{SPACE_HOST, 0, ELEMENTS}, true};
    const kernel_argument argument[] = {{ARGUMENT_BUFFER, {.offset = 0}},
                                        {ARGUMENT_I64, {.i64 = ELEMENTS}}};
    const char *name = device_under_test(_i);
    if (!name) return;
    const backend *api;
    backend_device *device;
    program *p;
    loaded_program *loaded;
    memory_request request = {.device_bytes = 64, .host_bytes = BYTES};
    backend_open(name, &(device_settings){.cache_dir = ""}, &api, &device, &err);
    api->reserve(device, &request, &err);
    program_create(&p, &err);
    p->host_bytes = BYTES;
    p->micro_batches = 1;
    program_add_record(p,
                       &(program_record){.kind = RECORD_HOST,
                                         .queue = QUEUE_HOST,
                                         .sections = SECTION_LAST,
                                         .node = -1,
                                         .accesses = 1,
                                         .access = &access,
                                         .as.host = {&kernel, 2, argument}},
                       &err);
    api->load(device, p, &loaded, &err);
    ASSERT_FINE(err);
    uint8_t *times = api->host_memory(device);
    memset(times, 0, BYTES);
    for (int i = 0; i < 3; i++) api->run(loaded, SECTION_LAST, 0, &err);
    api->finish(device, &err);
    ASSERT_FINE(err);
    for (int64_t i = 0; i < BYTES; i++) ASSERT_QUICKLY(times[i] == (i < ELEMENTS ? 3 : 0));
    api->unload(loaded);
    program_free(p);
    api->close(device);
}
END_TEST

// ---- random programs ----------------------------------------------------------------------------

static random_target open_target(const char *name, bool separate) {
    random_target t;
    device_settings settings = {
        .separate_queues = separate, .cache_dir = "", .before_task = random_run_before_task};
    memory_request request = {.file_directory = test_directory};
    request.device_bytes = request.host_bytes = request.file_bytes =
        RANDOM_MOST_UNITS * RANDOM_UNIT;
    backend_open(name, &settings, &t.api, &t.device, &err);
    ASSERT_FINE(err);
    t.api->reserve(t.device, &request, &err);
    ASSERT_FINE(err);
    return t;
}

static program *ordered(uint32_t seed) {
    random_program_size size = {40, 1 + (int32_t)(seed % 4), 16 + (int32_t)(seed % 48)};
    program *p = random_program(seed, size, &err);
    program_order(p, &err);
    program_verify(p, &err);
    ASSERT_FINE(err);
    return p;
}

static uint32_t seeds(void) {
    return getenv("BRIM_TEST_LONG") ? 1000 : 60;
}

static void run_one(const random_target *t, uint32_t seed) {
    program *p = ordered(seed);
    const char *difference = random_run(t, &p, 1, RANDOM_STEPS * p->micro_batches, seed, &err);
    ASSERT_FINE(err);
    ck_assert_msg(!*difference, "seed %u: %s", seed, difference);
    program_free(p);
}

START_TEST(random_programs_on_the_device) {
    const char *name = device_under_test(_i / 2);
    if (!name) return;
    random_target t = open_target(name, _i % 2);
    for (uint32_t seed = 1; seed <= seeds(); seed++) run_one(&t, seed);
    t.api->close(t.device);
}
END_TEST

START_TEST(programs_take_turns) {
    const char *name = device_under_test(_i / 2);
    if (!name) return;
    random_target t = open_target(name, _i % 2);
    for (uint32_t seed = 1; seed <= seeds() / 2; seed++) {
        random_program_size size = {25, 1 + (int32_t)(seed % 3), 24};
        program *p[3];
        for (uint32_t i = 0; i < 3; i++) {
            p[i] = random_program(seed + 1000 * i, size, &err);
            program_order(p[i], &err);
        }
        ASSERT_FINE(err);
        const char *difference =
            random_run(&t, p, 3, 3 * RANDOM_STEPS * p[0]->micro_batches, seed, &err);
        ASSERT_FINE(err);
        ck_assert_msg(!*difference, "seed %u: %s", seed, difference);
        for (int i = 0; i < 3; i++) program_free(p[i]);
    }
    t.api->close(t.device);
}
END_TEST

static int threads(void) {
    return files_in("/proc/self/task");
}

START_TEST(threads_end_with_the_device) {
    const char *name = device_under_test(_i);
    if (!name) return;
    int before = 0;
    for (int i = 0; i < 3; i++) { // the driver's own may stay from the first time on
        random_target t = open_target(name, true);
        run_one(&t, 5);
        t.api->close(t.device);
        if (i == 0) before = threads();
    }
    ck_assert_int_eq(threads(), before);
}
END_TEST

// Host tasks take time, too, when each record is timed.
START_TEST(tasks_are_profiled) {
    const char *name = device_under_test(_i);
    if (!name) return;
    random_target t = open_target(name, true);
    double seconds[40];
    int tasks = 0;
    program *p = ordered(4);
    loaded_program *loaded;
    t.api->load(t.device, p, &loaded, &err);
    ASSERT_FINE(err);
    if (t.api->profile) t.api->profile(loaded, SECTION_LAST, seconds, &err);
    ASSERT_FINE(err);
    for (int i = 0; t.api->profile && i < 40; i++) {
        bool runs = p->record[i].sections & SECTION_LAST;
        bool task = runs && p->record[i].queue >= DEVICE_QUEUES;
        tasks += task;
        ck_assert(seconds[i] >= 0 && (!task || seconds[i] > 0) && (runs || seconds[i] == 0));
    }
    ck_assert(!t.api->profile || tasks > 3);
    t.api->unload(loaded);
    t.api->close(t.device);
    program_free(p);
}
END_TEST

// ---- random programs in any order ---------------------------------------------------------------

#ifdef BRIM_OPENCL_BUILT

static random_target open_late(uint32_t seed) {
    random_target t = open_target("opencl:0", true);
    late_queues_begin(t.device);
    late_queues_at_random(seed);
    return t;
}

static void close_late(random_target *t) {
    t->api->close(t->device);
    late_queues_end();
}

START_TEST(random_programs_in_any_order) {
    if (!device_under_test(0)) return;
    random_target t = open_late(1);
    for (uint32_t seed = 1; seed <= 2 * seeds(); seed++) {
        late_queues_at_random(seed);
        random_run_hold((queue_id)(DEVICE_QUEUES + seed % 4), seed);
        run_one(&t, seed);
    }
    ck_assert_int_gt(late_queues_overtaken(), 1000);
    close_late(&t);
}
END_TEST

// One attempt to bring out that the awaited record is not waited for, by making its queue late: the
// device's queues can be held; beside late tasks, its real queues are early. Other attempts leave
// it to chance.
static const char *run_without(const random_target *late, const random_target *early, program *p,
                               queue_id awaited, int sections, uint32_t attempt) {
    bool device = awaited<DEVICE_QUEUES, chance = attempt> 0;
    random_run_hold(chance || device ? QUEUE_COUNT : awaited, attempt);
    if (device && !chance)
        late_queues_hold(awaited);
    else
        late_queues_at_random(attempt);
    return random_run(device || attempt % 2 ? late : early, &p, 1, sections, 1, &err);
}

static bool is_noticed(const random_target *late, const random_target *early, program *p,
                       queue_id awaited) {
    int most = RANDOM_STEPS * p->micro_batches;
    for (uint32_t attempt = 0; attempt < 8; attempt++)
        for (int sections = 1; sections <= most; sections++)
            if (*run_without(late, early, p, awaited, sections, attempt)) return true;
    return false;
}

// Without any one wait the verifier complains, and for most there is an order that leads to other
// bytes: not where they are written over unread, or were the same the step before.
START_TEST(a_missing_wait_is_noticed) {
    if (!device_under_test(0)) return;
    random_target late = open_late(1), early = open_target("opencl:0", true);
    int waits = 0, noticed = 0;
    for (uint32_t seed = 1; seed <= (getenv("BRIM_TEST_LONG") ? 40 : 3); seed++) {
        random_program_size size = {24, 1 + (int32_t)(seed % 3), 20};
        program *p = random_program(seed, size, &err);
        program_order(p, &err);
        ASSERT_FINE(err);
        for (int32_t i = 0; i < p->records; i++)
            for (int32_t w = 0; w < p->record[i].waits; w++) {
                queue_id queue = p->record[p->record[i].wait[w]].queue;
                int32_t awaited = take_wait(p, i, w);
                program_verify(p, &err);
                ASSERT_FAILS(err, BRIM_GRAPH, "does not wait for record");
                waits++;
                noticed += is_noticed(&late, &early, p, queue);
                ASSERT_FINE(err);
                put_wait(p, i, w, awaited);
            }
        program_free(p);
    }
    early.api->close(early.device);
    close_late(&late);
    ck_assert_int_gt(waits, 20);
    ck_assert_msg(noticed * 2 > waits, "%d of %d missing waits were noticed", noticed, waits);
}
END_TEST

// The disk is full from the second step on: one line, and nothing hangs.
START_TEST(a_full_disk_is_told) {
    if (!device_under_test(0)) return;
    random_target t = open_target("opencl:0", _i);
    program *p = ordered(3);
    loaded_program *loaded;
    t.api->load(t.device, p, &loaded, &err);
    t.api->run(loaded, SECTION_LAST, p->micro_batches - 1, &err);
    t.api->finish(t.device, &err);
    ASSERT_FINE(err);
    int full = open("/dev/full", O_RDWR);
    dup2(full, t.device->memory.spaces.file.descriptor);
    close(full);
    for (int i = 0; i < 3; i++) t.api->run(loaded, SECTION_LAST, p->micro_batches - 1, &err);
    err = (brim_error){0};
    t.api->finish(t.device, &err);
    ck_assert_ptr_nonnull(strstr(err.text, "writing"));
    ASSERT_FAILS(err, BRIM_IO, "No space left on device");
    t.api->run(loaded, SECTION_LAST, p->micro_batches - 1, &err);
    ASSERT_FAILS(err, BRIM_IO, "No space left on device");
    t.api->wait(t.device, &err);
    ASSERT_FAILS(err, BRIM_IO, "No space left on device");
    t.api->unload(loaded);
    t.api->close(t.device);
    program_free(p);
}
END_TEST

#endif

Suite *host_queues_suite(void) {
    Suite *suite = suite_create("host_queues");
    TCase *parts = tcase_create("parts"), *tests = tcase_create("programs"),
          *races = tcase_create("races");
    tcase_add_unchecked_fixture(parts, make_test_directory, remove_test_directory);
    tcase_add_checked_fixture(parts, begin, NULL);
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_add_checked_fixture(tests, begin, NULL);
    tcase_set_timeout(tests, 600);
    tcase_add_unchecked_fixture(races, make_test_directory, remove_test_directory);
    tcase_add_checked_fixture(races, begin, NULL);
    tcase_set_timeout(races, 600);
    tcase_set_tags(races, "races"); // made on purpose: tests/sanitize.sh leaves them out
    tcase_add_test(parts, tickets_order_queues);
    tcase_add_test(parts, an_error_stops_the_queues);
    tcase_add_test(parts, a_file_has_no_name);
    tcase_add_test(parts, a_file_that_does_not_fit_is_named);
    tcase_add_loop_test(parts, each_element_has_one_thread, 0, DEVICES_UNDER_TEST);
    tcase_add_loop_test(tests, random_programs_on_the_device, 0, 2 * DEVICES_UNDER_TEST);
    tcase_add_loop_test(tests, programs_take_turns, 0, 2 * DEVICES_UNDER_TEST);
    tcase_add_loop_test(tests, threads_end_with_the_device, 0, DEVICES_UNDER_TEST);
    tcase_add_loop_test(tests, tasks_are_profiled, 0, DEVICES_UNDER_TEST);
#ifdef BRIM_OPENCL_BUILT
    tcase_add_test(tests, random_programs_in_any_order);
    tcase_add_loop_test(tests, a_full_disk_is_told, 0, 2);
    tcase_add_test(races, a_missing_wait_is_noticed);
#endif
    suite_add_tcase(suite, parts);
    suite_add_tcase(suite, tests);
    suite_add_tcase(suite, races);
    return suite;
}
