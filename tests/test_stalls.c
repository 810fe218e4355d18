// What a step waited for: the sums over spans, and what devices tell of programs.
#include <math.h>
#include <unistd.h>
#include "graph/graph.h"
#include "tests/devices.h"
#include "tests/random_run.h"
#include "tests/test_core.h"
#ifdef BRIM_OPENCL_BUILT
#include "backends/opencl/program.h"
#endif

static brim_error err;

static void begin(void) {
    err = (brim_error){0};
    random_run_hold(QUEUE_COUNT, 1);
}

// ---- sums ---------------------------------------------------------------------------------------

static run_stalls sum(stall_log *log) {
    run_stalls out;
    stall_log_sum(log, &out, &err);
    ASSERT_FINE(err);
    ck_assert_uint_eq(log->spans, 0);
    return out;
}

// A span that had no room is told by whoever sums, also where the log passed through another.
START_TEST(an_error_is_taken_along) {
    stall_log log = {0}, from = {0};
    run_stalls out;
    stall_log_work(&from, QUEUE_READ, 5, 6);
    brim_fail(&from.error, BRIM_MEMORY, "no room");
    stall_log_take(&log, &from, 1);
    ck_assert_int_eq(stall_log_sum(&log, &out, &err), BRIM_MEMORY);
    ASSERT_FAILS(err, BRIM_MEMORY, "no room");
    stall_log_free(&log);
    stall_log_free(&from);
}
END_TEST

// Quarters are exact.
START_TEST(spans_are_summed) {
    stall_log log = {0};
    stall_log_work(&log, QUEUE_COMPUTE, 0, 10);
    stall_log_wait(&log, QUEUE_IN, 2, 3.5);
    stall_log_wait(&log, QUEUE_HOST, 3.5, 4);
    stall_log_work(&log, QUEUE_IN, 1, 3.5); // 1 hidden, 1.5 not
    stall_log_work(&log, QUEUE_IN, 6, 7);
    stall_log_work(&log, QUEUE_OUT, 6.5, 8);   // half a second beside the other
    stall_log_work(&log, QUEUE_OUT, 9, 10.25); // and a quarter after the last kernel
    stall_log_work(&log, QUEUE_READ, -1, 2);
    stall_log_work(&log, QUEUE_HOST, 11, 12);
    run_stalls s = sum(&log);
    ck_assert(s.seconds == 10.25 && s.streaming == 5.75 && s.hidden == 4);
    const double busy[QUEUE_COUNT] = {8, 3.5, 2.75, 1, 2, 0};
    const double waited[QUEUE_COUNT] = {0, 1.5, 0.25, 0.5, 0, 0};
    for (int q = 0; q < QUEUE_COUNT; q++)
        ck_assert_msg(s.busy[q] == busy[q] && s.waited[q] == waited[q], "queue %s: %g, %g",
                      queue_name((queue_id)q), s.busy[q], s.waited[q]);
    stall_log_free(&log);
}
END_TEST

START_TEST(nothing_comes_to_nothing) {
    stall_log log = {0};
    const run_stalls none = {0};
    run_stalls s = sum(&log);
    ck_assert_mem_eq(&s, &none, sizeof none);
    stall_log_work(&log, QUEUE_COMPUTE, 3, 3);
    stall_log_wait(&log, QUEUE_IN, 3, 2);
    s = sum(&log);
    ck_assert_mem_eq(&s, &none, sizeof none);
    stall_log_free(&log);
}
END_TEST

START_TEST(spans_of_another_clock) {
    stall_log log = {0}, other = {0};
    stall_log_work(&other, QUEUE_WRITE, 101, 103);
    stall_log_take(&log, &other, 100);
    ck_assert_uint_eq(other.spans, 0);
    ck_assert(log.span[0].begin == 1 && log.span[0].end == 3);
    ck_assert(sum(&log).busy[QUEUE_WRITE] == 2);
    stall_log_free(&log);
    stall_log_free(&other);
}
END_TEST

// ---- devices ------------------------------------------------------------------------------------

enum { BYTES = RANDOM_MOST_UNITS * RANDOM_UNIT, SLOW_MICROSECONDS = 200000 };

static queue_id slow;

static void before_task(queue_id queue) {
    if (queue == slow) usleep(SLOW_MICROSECONDS);
}

static random_target open_target(const char *name, bool separate) {
    random_target t;
    device_settings settings = {
        .separate_queues = separate, .cache_dir = "", .before_task = before_task};
    memory_request request = {BYTES, BYTES, BYTES, test_directory};
    slow = QUEUE_COUNT;
    backend_open(name, &settings, &t.api, &t.device, &err);
    ASSERT_FINE(err);
    t.api->reserve(t.device, &request, &err);
    ASSERT_FINE(err);
    return t;
}

static double total_wait(const run_stalls *s) {
    double all = 0;
    for (int q = 0; q < QUEUE_COUNT; q++) all += s->waited[q];
    return all;
}

static void expect_sense(const run_stalls *s) {
    ck_assert(s->seconds >= 0 && s->hidden >= 0);
    ck_assert(s->hidden <= s->streaming && s->streaming <= s->seconds * 1.001);
    for (int q = 0; q < QUEUE_COUNT; q++) ck_assert(s->busy[q] >= 0 && s->waited[q] >= 0);
    ck_assert(s->waited[QUEUE_COMPUTE] == 0);
    ck_assert(s->busy[QUEUE_IN] <= s->streaming && s->busy[QUEUE_OUT] <= s->streaming);
    ck_assert(s->hidden <= s->busy[QUEUE_COMPUTE]);
    double all = s->busy[QUEUE_COMPUTE] + total_wait(s);
    ck_assert_msg(fabs(all - s->seconds) <= 1e-6 * s->seconds, "%g, %g", all, s->seconds);
}

static void run_step(const random_target *t, loaded_program *loaded, const program *p,
                     run_stalls *out) {
    for (int32_t m = 0; m < p->micro_batches; m++)
        t->api->run(loaded, micro_batch_section(p, m), m, &err);
    t->api->wait(t->device, &err);
    t->api->stalls(loaded, out, &err);
    ASSERT_FINE(err);
}

static loaded_program *load(const random_target *t, program *p) {
    const run_stalls none = {0};
    run_stalls first;
    loaded_program *loaded;
    program_order(p, &err);
    t->api->load(t->device, p, &loaded, &err);
    ASSERT_FINE(err);
    t->api->stalls(loaded, &first, &err);
    ASSERT_FINE(err);
    ck_assert_mem_eq(&first, &none, sizeof none);
    return loaded;
}

// By device; with one queue, and with a queue for each.
START_TEST(sums_make_sense) {
    const char *name = device_under_test(_i / 2);
    if (!name) return;
    random_target t = open_target(name, _i % 2);
    bool one_queue = t.api->traits(t.device)->one_queue;
    for (uint32_t seed = 1; seed <= 20; seed++) {
        random_program_size size = {40, 1 + (int32_t)(seed % 4), RANDOM_MOST_UNITS};
        program *p = random_program(seed, size, &err);
        loaded_program *loaded = load(&t, p);
        for (int step = 0; step < 3; step++) {
            run_stalls s;
            run_step(&t, loaded, p, &s);
            expect_sense(&s);
            ck_assert(s.seconds > 0 && s.streaming > 0 && s.busy[QUEUE_COMPUTE] > 0);
            ck_assert(!one_queue || (s.hidden == 0 && total_wait(&s) >= s.streaming));
        }
        t.api->unload(loaded);
        program_free(p);
    }
    t.api->close(t.device);
}
END_TEST

// Another program between two steps, and a look now and then only.
START_TEST(programs_are_measured_apart) {
    const char *name = device_under_test(_i / 2);
    if (!name) return;
    random_target t = open_target(name, _i % 2);
    random_program_size size = {30, 2, RANDOM_MOST_UNITS};
    program *p[2] = {random_program(3, size, &err), random_program(4, size, &err)};
    loaded_program *measured = load(&t, p[0]), *other;
    program_order(p[1], &err);
    t.api->load(t.device, p[1], &other, &err);
    run_stalls s;
    for (int i = 0; i < 3; i++) {
        t.api->run(measured, SECTION_FIRST, 0, &err);
        t.api->run(other, SECTION_FIRST, 0, &err);
        t.api->run(measured, SECTION_LAST, 1, &err);
        t.api->run(other, SECTION_LAST, 1, &err);
        run_step(&t, measured, p[0], &s);
        expect_sense(&s);
    }
    t.api->unload(other);
    t.api->unload(measured);
    t.api->close(t.device);
    for (int i = 0; i < 2; i++) program_free(p[i]);
}
END_TEST

static const byte_range device_bytes = {SPACE_DEVICE, 0, BYTES / 2};
static const byte_range device_rest = {SPACE_DEVICE, BYTES / 2, BYTES / 2};
static const byte_range host_bytes = {SPACE_HOST, 0, BYTES / 2};
static const byte_range file_bytes = {SPACE_FILE, 0, BYTES / 2};

static void add_copy(program *p, queue_id queue, byte_range from, byte_range to) {
    const record_access access[] = {{from, false}, {to, true}};
    program_add_record(p,
                       &(program_record){.kind = RECORD_COPY,
                                         .queue = queue,
                                         .sections = SECTION_LAST,
                                         .node = -1,
                                         .label = "copy",
                                         .accesses = 2,
                                         .access = access,
                                         .as.copy = {from, to, 0}},
                       &err);
}

static void doze(const host_argument *argument, int64_t first, int64_t count) {
    (void)argument, (void)first, (void)count;
    usleep(SLOW_MICROSECONDS);
}

static void add_doze(program *p) {
    static const host_kernel kernel = {"doze", 0, doze};
    const kernel_argument count = {ARGUMENT_I64, {.i64 = 1}};
    const record_access access = {host_bytes, true};
    program_add_record(p,
                       &(program_record){.kind = RECORD_HOST,
                                         .queue = QUEUE_HOST,
                                         .sections = SECTION_LAST,
                                         .node = -1,
                                         .label = "doze",
                                         .accesses = 1,
                                         .access = &access,
                                         .as.host = {&kernel, 1, &count}},
                       &err);
}

static program *empty_program(void) {
    program *p;
    program_create(&p, &err);
    ASSERT_FINE(err);
    p->device_bytes = p->host_bytes = p->file_bytes = BYTES;
    p->micro_batches = 1;
    return p;
}

START_TEST(what_does_not_stream_gives_zeros) {
    const char *name = device_under_test(_i);
    if (!name) return;
    random_target t = open_target(name, true);
    program *p = empty_program();
    add_copy(p, QUEUE_COMPUTE, device_bytes, device_rest);
    loaded_program *loaded = load(&t, p);
    const run_stalls none = {0};
    run_stalls s;
    for (int i = 0; i < 2; i++) {
        run_step(&t, loaded, p, &s);
        ck_assert_mem_eq(&s, &none, sizeof none);
    }
    t.api->unload(loaded);
    t.api->close(t.device);
    program_free(p);
}
END_TEST

// Host memory is filled by a slow thread of ours, a copy brings it to the device, and a record
// there needs it: nearly all of the step is a wait for that thread. CUDA on the CPU does not work
// before somebody waits for it, so that it stands still for nobody.
START_TEST(a_slow_queue_is_named) {
    const char *name = device_under_test(0);
    if (!name) return;
    queue_id queue = _i / 2 ? QUEUE_HOST : QUEUE_READ;
    random_target t = open_target(name, _i % 2);
    program *p = empty_program();
    if (queue == QUEUE_HOST)
        add_doze(p);
    else
        add_copy(p, QUEUE_READ, file_bytes, host_bytes);
    add_copy(p, QUEUE_IN, host_bytes, device_bytes);
    add_copy(p, QUEUE_COMPUTE, device_bytes, device_rest);
    loaded_program *loaded = load(&t, p);
    if (queue == QUEUE_READ) slow = queue;
    for (int i = 0; i < 3; i++) {
        run_stalls s;
        run_step(&t, loaded, p, &s);
        expect_sense(&s);
        ck_assert_msg(s.waited[queue] > 0.25e-6 * SLOW_MICROSECONDS, "%g s", s.waited[queue]);
        ck_assert(s.waited[queue] > 0.5 * s.seconds);
        ck_assert(queue == QUEUE_READ || s.busy[queue] > 0.9e-6 * SLOW_MICROSECONDS);
    }
    t.api->unload(loaded);
    t.api->close(t.device);
    program_free(p);
}
END_TEST

#ifdef BRIM_OPENCL_BUILT

// An event's handle is its place here: when its command began and ended, in ns of the device's
// clock.
typedef struct moments {
    cl_ulong start, end;
} moments;
enum { MOMENTS = 7 };
static const moments times[MOMENTS] = {{0, 1000},    {1500, 3000}, {0, 2000}, {0, 3000},
                                       {4500, 6000}, {0, 5000},    {0, 6500}};
static int asked, answered, released; // answered: how many questions

static cl_int CL_API_CALL tell_moment(cl_event event, cl_profiling_info which, size_t size,
                                      void *value, size_t *size_ret) {
    const moments *m = (const moments *)(void *)event;
    ck_assert_uint_eq(size, sizeof m->end);
    ck_assert_ptr_null(size_ret);
    if (asked++ == answered) return CL_PROFILING_INFO_NOT_AVAILABLE;
    memcpy(value, which == CL_PROFILING_COMMAND_START ? &m->start : &m->end, size);
    return CL_SUCCESS;
}

static cl_int CL_API_CALL count_release(cl_event event) {
    ck_assert((const moments *)(void *)event >= times);
    released++;
    return CL_SUCCESS;
}

// What these events come to. Answers to so many questions are there.
static run_stalls stalls_of_events(bool separate, int answers) {
    static const queue_id queues[MOMENTS] = {QUEUE_COMPUTE, QUEUE_IN,      QUEUE_COMPUTE, QUEUE_IN,
                                             QUEUE_OUT,     QUEUE_COMPUTE, QUEUE_WRITE};
    static backend_device d;
    run_stalls out;
    loaded_program l = {.device = &d, .timing = {.on = true, .begun = 20}};
    d.separate_queues = separate;
    d.cl.clGetEventProfilingInfo = tell_moment;
    d.cl.clReleaseEvent = count_release;
    asked = released = 0, answered = answers;
    l.timing.event = calloc(MOMENTS, sizeof *l.timing.event);
    for (int i = 0; i < MOMENTS; i++)
        l.timing.event[i] = (timed_event){(cl_event)(void *)&times[i], queues[i], i != 1 && i != 4};
    l.timing.events = MOMENTS;
    l.host.queues = host_queues_create(&(device_events){0}, &err);
    // A task of the file, by our clock, from 2000 to 4000 ns after the first event.
    stall_log_work(&l.host.log, QUEUE_READ, 20 + 2000e-9, 20 + 4000e-9);
    opencl_stalls(&l, &out, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(released, MOMENTS);
    ck_assert_uint_eq(l.timing.events, 0);
    ck_assert(l.timing.on == (out.seconds > 0));
    host_queues_free(l.host.queues);
    stall_log_free(&l.host.log);
    opencl_timing_free(&l);
    return out;
}

static bool is_near(double seconds, double ns) {
    return fabs(seconds - ns * 1e-9) < 1e-12;
}

// Kernels run to 2000, stand still for a copy to 3000, run to 5000, and stand still for our thread
// to 6500; copies in from 1500 to 3000 and out from 4500 to 6000.
START_TEST(events_tell_what_was_waited_for) {
    run_stalls s = stalls_of_events(true, 100);
    ck_assert_int_eq(asked, 9);
    ck_assert(is_near(s.seconds, 5500) && is_near(s.streaming, 3000) && is_near(s.hidden, 1000));
    ck_assert(is_near(s.busy[QUEUE_COMPUTE], 3000) && is_near(s.busy[QUEUE_IN], 1500));
    ck_assert(is_near(s.busy[QUEUE_OUT], 1500) && fabs(s.busy[QUEUE_READ] - 2e-6) < 1e-8);
    ck_assert(is_near(s.waited[QUEUE_IN], 1000) && is_near(s.waited[QUEUE_WRITE], 1500));
    ck_assert(s.waited[QUEUE_COMPUTE] == 0 && s.waited[QUEUE_OUT] == 0);
    // With one queue no kernel runs beside a copy.
    s = stalls_of_events(false, 100);
    ck_assert(is_near(s.seconds, 5500) && is_near(s.streaming, 3000) && s.hidden == 0);
    ck_assert(is_near(s.waited[QUEUE_IN], 1500) && is_near(s.waited[QUEUE_OUT], 1500));
    ck_assert(is_near(s.busy[QUEUE_COMPUTE], 2000) && is_near(s.waited[QUEUE_WRITE], 500));
}
END_TEST

// Where the driver does not answer, nothing is told, and it is asked no more.
START_TEST(a_driver_without_times) {
    const run_stalls none = {0};
    for (int answers = 0; answers < 9; answers++) {
        run_stalls s = stalls_of_events(true, answers);
        ck_assert_mem_eq(&s, &none, sizeof none);
        ck_assert_int_eq(asked, answers + 1);
    }
}
END_TEST

#endif

Suite *stalls_suite(void) {
    Suite *suite = suite_create("stalls");
    TCase *sums = tcase_create("sums"), *tests = tcase_create("devices");
    tcase_add_checked_fixture(sums, begin, NULL);
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_add_checked_fixture(tests, begin, NULL);
    tcase_set_timeout(tests, 120);
    tcase_add_test(sums, spans_are_summed);
    tcase_add_test(sums, an_error_is_taken_along);
    tcase_add_test(sums, nothing_comes_to_nothing);
    tcase_add_test(sums, spans_of_another_clock);
#ifdef BRIM_OPENCL_BUILT
    tcase_add_test(sums, events_tell_what_was_waited_for);
    tcase_add_test(sums, a_driver_without_times);
#endif
    tcase_add_loop_test(tests, sums_make_sense, 0, 2 * DEVICES_UNDER_TEST);
    tcase_add_loop_test(tests, programs_are_measured_apart, 0, 2 * DEVICES_UNDER_TEST);
    tcase_add_loop_test(tests, what_does_not_stream_gives_zeros, 0, DEVICES_UNDER_TEST);
    tcase_add_loop_test(tests, a_slow_queue_is_named, 0, 4);
    suite_add_tcase(suite, sums);
    suite_add_tcase(suite, tests);
    return suite;
}
