// How long a step would take: each record from rates, and queues that wait for each other and share
// what they share. All numbers were found by hand.
#include <math.h>
#include "backends/program_simulate.h"
#include "graph/cost.h"
#include "test_graph.h"

enum { MOST_RECORDS = 6 };

// ---- each record alone --------------------------------------------------------------------------

static const brim_rates rates = {.memory = 10,
                                 .matmul_16 = 8,
                                 .matmul_32 = 4,
                                 .link_in = 20,
                                 .link_out = 25,
                                 .link_both = 30,
                                 .host = 40,
                                 .disk_read = 2,
                                 .disk_write = 1,
                                 .launch = 0.5};

static program_record copy(queue_id queue, memory_space from, memory_space to, int64_t bytes) {
    program_record r = {.kind = RECORD_COPY, .queue = queue, .node = -1};
    r.as.copy = (copy_record){{from, 0, bytes}, {to, 0, bytes}, 0};
    return r;
}

START_TEST(copies_take_the_rate_of_their_way) {
    static const struct {
        queue_id queue;
        memory_space from, to;
        double seconds;                                          // of 100 bytes
    } rows[] = {{QUEUE_COMPUTE, SPACE_DEVICE, SPACE_DEVICE, 20}, // read and written
                {QUEUE_COMPUTE, SPACE_HOST, SPACE_DEVICE, 5},
                {QUEUE_COMPUTE, SPACE_DEVICE, SPACE_HOST, 4},
                {QUEUE_IN, SPACE_HOST, SPACE_DEVICE, 5},
                {QUEUE_OUT, SPACE_DEVICE, SPACE_HOST, 4},
                {QUEUE_READ, SPACE_FILE, SPACE_HOST, 50},
                {QUEUE_WRITE, SPACE_HOST, SPACE_FILE, 100}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        program_record r = copy(rows[i].queue, rows[i].from, rows[i].to, 100);
        program p = {.record = &r, .records = 1};
        double seconds;
        program_seconds(&p, NULL, &rates, &seconds);
        ck_assert_msg(seconds == rows[i].seconds, "row %d: %g", (int)i, seconds);
    }
    program_record r = copy(QUEUE_READ, SPACE_FILE, SPACE_HOST, 100);
    program p = {.record = &r, .records = 1};
    double seconds;
    program_seconds(&p, NULL, &(brim_rates){.link_in = 1}, &seconds); // no disk
    ck_assert(seconds == 0);
}
END_TEST

START_TEST(kernels_move_or_compute) {
    static const record_access small[] = {{{SPACE_DEVICE, 0, 30}, false},
                                          {{SPACE_DEVICE, 30, 10}, true}},
                               large[] = {{{SPACE_DEVICE, 0, 900}, false},
                                          {{SPACE_DEVICE, 900, 100}, true}};
    program_record r[5] = {{.kind = RECORD_FILL, .node = -1, .accesses = 2, .access = small},
                           {.kind = RECORD_LAUNCH, .node = -1, .accesses = 2, .access = large},
                           {.kind = RECORD_MATMUL, .node = -1, .accesses = 2, .access = small},
                           {.kind = RECORD_MATMUL, .node = -1, .accesses = 2, .access = small},
                           {.kind = RECORD_MATMUL, .node = -1, .accesses = 2, .access = large}};
    for (int i = 2; i < 5; i++) // 2 * 2 * 3 * 5 * 4 = 240 operations
        r[i].as.matmul.shape =
            (matmul_shape){.in = i == 2 ? BRIM_F32 : BRIM_BF16, .m = 2, .n = 3, .k = 5, .batch = 4};
    static const double expected[] = {4.5, 100.5, 60.5, 30.5, 100.5};
    program p = {.record = r, .records = 5};
    double seconds[5];
    program_seconds(&p, NULL, &rates, seconds);
    for (int i = 0; i < 5; i++)
        ck_assert_msg(seconds[i] == expected[i], "record %d: %g", i, seconds[i]);
}
END_TEST

// What attention computes is shared by its launches, which stand side by side; a host's update
// moves what its node does.
START_TEST(nodes_share_their_operations) {
    MAKE_GRAPH;
    brim_value q = brim_input(g, "q", BRIM_F32, 1, 3, 1, 8),
               k = brim_input(g, "k", BRIM_F32, 1, 5, 1, 8);
    brim_attr attr = {.attention = {.scale = 1}};
    for (int i = 0; i < 2; i++) graph_op(g, OP_ATTENTION, (brim_value[]){q, k, k}, 3, &attr);
    brim_neg(k); // node 2: 160 bytes each way
    ASSERT_FINE(err);
    static const record_access access = {{SPACE_DEVICE, 0, 10}, false};
    static const int nodes[] = {2, 0, 0, 1, 1, 1, -1, 2};
    program_record r[8];
    for (int i = 0; i < 8; i++)
        r[i] = (program_record){.kind = i < 7 ? RECORD_LAUNCH : RECORD_HOST,
                                .node = nodes[i],
                                .accesses = 1,
                                .access = &access};
    // 4 * 3 * 5 * 8 = 480 operations, 60 seconds of them
    static const double expected[] = {1.5, 30.5, 30.5, 20.5, 20.5, 20.5, 1.5, 8};
    program p = {.record = r, .records = 8};
    double seconds[8];
    program_seconds(&p, g, &rates, seconds);
    for (int i = 0; i < 8; i++)
        ck_assert_msg(fabs(seconds[i] - expected[i]) < 1e-9, "record %d: %g", i, seconds[i]);
    FREE_GRAPH;
}
END_TEST

// ---- queues -------------------------------------------------------------------------------------

// Records of so many seconds; each waits for up to two others, by 1 + their number.
typedef struct row {
    queue_id queue;
    double seconds;
    uint8_t sections;
    int8_t wait[2];
} row;

typedef struct course {
    row row[MOST_RECORDS];
    int32_t micro_batches;
    bool cpu, one_queue;
    brim_rates rates;
    simulation expected;
} course;

static brim_status run(const course *c, simulation *out, brim_error *err) {
    program_record record[MOST_RECORDS];
    double seconds[MOST_RECORDS];
    int32_t wait[MOST_RECORDS][2];
    program p = {.record = record, .micro_batches = c->micro_batches ? c->micro_batches : 1};
    for (int i = 0; i < MOST_RECORDS && c->row[i].seconds > 0; i++) {
        const row *r = &c->row[i];
        record[i] = (program_record){.queue = r->queue,
                                     .sections = r->sections ? r->sections : SECTION_ALL,
                                     .wait = wait[i]};
        for (int k = 0; k < 2; k++)
            if (r->wait[k]) wait[i][record[i].waits++] = r->wait[k] - 1;
        seconds[i] = r->seconds;
        p.records++;
    }
    device_traits traits = {.cpu = c->cpu, .one_queue = c->one_queue};
    return program_simulate(&p, seconds, c->rates.host > 0 ? &c->rates : &rates, &traits, out, err);
}

static const course courses[] = {
    // One after another.
    {.row = {{QUEUE_COMPUTE, 1}, {QUEUE_COMPUTE, 2}, {QUEUE_COMPUTE, 3}},
     .expected = {.seconds = 6, .busy = {6}}},
    // A kernel that waits for its operand.
    {.row = {{QUEUE_IN, 2}, {QUEUE_COMPUTE, 1, .wait = {1}}},
     .expected = {.seconds = 3, .busy = {1, 2}, .waited = {[QUEUE_IN] = 2}, .streaming = 2}},
    // Side by side: the longer counts, whichever that is.
    {.row = {{QUEUE_IN, 2}, {QUEUE_COMPUTE, 3}},
     .expected = {.seconds = 3, .busy = {3, 2}, .streaming = 2, .hidden = 2}},
    {.row = {{QUEUE_OUT, 3}, {QUEUE_COMPUTE, 1}},
     .expected = {.seconds = 3, .busy = {1, [QUEUE_OUT] = 3}, .streaming = 3, .hidden = 1}},
    // The second of two waits is the longer one; the copy out begins when both are done.
    {.row = {{QUEUE_IN, 1}, {QUEUE_OUT, 4}, {QUEUE_COMPUTE, 1, .wait = {1, 2}}},
     .rates = {.link_in = 1, .link_out = 1, .link_both = 4, .host = 40},
     .expected = {.seconds = 5,
                  .busy = {1, 1, 4},
                  .waited = {[QUEUE_IN] = 1, [QUEUE_OUT] = 3},
                  .streaming = 4}},
    // Both ways at once have 10 of 20: half speed for two seconds, then one of them alone.
    {.row = {{QUEUE_IN, 1}, {QUEUE_OUT, 2}},
     .rates = {.link_in = 10, .link_out = 10, .link_both = 10, .host = 100},
     .expected = {.seconds = 3, .busy = {0, 2, 3}, .streaming = 3}},
    // Memory of 12 for a copy that asks for 10 and an update that asks for all: 6 each; the copy
    // has 3.6 of its 6 seconds left when the update is done.
    {.row = {{QUEUE_COMPUTE, 1},
             {QUEUE_HOST, 2, .wait = {1}},
             {QUEUE_IN, 6, .wait = {1}},
             {QUEUE_COMPUTE, 1, .wait = {3}}},
     .rates = {.link_in = 10, .link_out = 10, .link_both = 10, .host = 12},
     .expected =
         {.seconds = 9.6, .busy = {2, 7.6, 0, 4}, .waited = {[QUEUE_IN] = 7.6}, .streaming = 7.6}},
    // A copy that asks for 3 of 12 gets that; the update has the other 9.
    {.row = {{QUEUE_COMPUTE, 1},
             {QUEUE_HOST, 3, .wait = {1}},
             {QUEUE_IN, 4, .wait = {1}},
             {QUEUE_COMPUTE, 1, .wait = {3}}},
     .rates = {.link_in = 3, .link_out = 10, .link_both = 13, .host = 12},
     .expected = {.seconds = 6, .busy = {2, 4, 0, 4}, .waited = {[QUEUE_IN] = 4}, .streaming = 4}},
    // Three that ask for 2, 7 and 12 of 12: 2, 5 and 5. The write is done after 2 seconds, the read
    // after 7 / 5 of its own; of the update 5 / 12 * 2.8 are done then.
    {.row = {{QUEUE_COMPUTE, 1},
             {QUEUE_WRITE, 4, .wait = {1}},
             {QUEUE_READ, 2, .wait = {1}},
             {QUEUE_HOST, 2, .wait = {1}},
             {QUEUE_COMPUTE, 1, .wait = {3, 4}}},
     .rates = {.link_in = 1, .disk_read = 7, .disk_write = 2, .host = 12},
     .expected = {.seconds = 2 + 2.8 + 1,
                  .busy = {2, [QUEUE_HOST] = 2.8 + 1, [QUEUE_READ] = 2.8, [QUEUE_WRITE] = 4},
                  .waited = {[QUEUE_READ] = 2.8, [QUEUE_HOST] = 1}}},
    // Where the device is the host, kernels and updates share the cores.
    {.row = {{QUEUE_COMPUTE, 1}, {QUEUE_HOST, 1, .wait = {1}}, {QUEUE_COMPUTE, 2}},
     .cpu = true,
     .expected = {.seconds = 4, .busy = {4, [QUEUE_HOST] = 2}}},
    {.row = {{QUEUE_COMPUTE, 1}, {QUEUE_HOST, 1, .wait = {1}}, {QUEUE_COMPUTE, 2}},
     .expected = {.seconds = 3, .busy = {3, [QUEUE_HOST] = 1}}},
    // One queue for all of the device: nothing is hidden, and the host still has its own.
    {.row = {{QUEUE_IN, 2}, {QUEUE_COMPUTE, 1}, {QUEUE_OUT, 4}, {QUEUE_HOST, 5, .wait = {2}}},
     .one_queue = true,
     .expected = {.seconds = 7, .busy = {1, 2, 4, 5}, .streaming = 6}},
    // The kernel waits for the update of the step before.
    {.row = {{QUEUE_COMPUTE, 1, .wait = {2}}, {QUEUE_HOST, 5, .wait = {1}}},
     .expected = {.seconds = 6, .busy = {1, [QUEUE_HOST] = 5}, .waited = {[QUEUE_HOST] = 5}}},
    // It waits for a read, which waits for the update before: only the third step meets one, of the
    // first, which ends 4 seconds after the second step does.
    {.row = {{QUEUE_COMPUTE, 1, .wait = {2}},
             {QUEUE_READ, 1, .wait = {3}},
             {QUEUE_HOST, 5, .wait = {1}}},
     .expected = {.seconds = 6,
                  .busy = {1, [QUEUE_HOST] = 6, [QUEUE_READ] = 1},
                  .waited = {[QUEUE_READ] = 5}}},
    // Sections: the first, each in the middle, the last.
    {.row = {{QUEUE_COMPUTE, 1, SECTION_FIRST},
             {QUEUE_COMPUTE, 10, SECTION_MIDDLE},
             {QUEUE_COMPUTE, 100, SECTION_LAST}},
     .expected = {.seconds = 100, .busy = {100}}},
    {.row = {{QUEUE_COMPUTE, 1, SECTION_FIRST},
             {QUEUE_COMPUTE, 10, SECTION_MIDDLE},
             {QUEUE_COMPUTE, 100, SECTION_LAST}},
     .micro_batches = 2,
     .expected = {.seconds = 101, .busy = {101}}},
    {.row = {{QUEUE_COMPUTE, 1, SECTION_FIRST},
             {QUEUE_COMPUTE, 10, SECTION_MIDDLE},
             {QUEUE_COMPUTE, 100, SECTION_LAST}},
     .micro_batches = 4,
     .expected = {.seconds = 121, .busy = {121}}},
    // Of many micro-batches what one more takes is added for each that was not run.
    {.row = {{QUEUE_COMPUTE, 1, SECTION_FIRST},
             {QUEUE_IN, 4, SECTION_MIDDLE, {1, 3}},
             {QUEUE_COMPUTE, 10, SECTION_MIDDLE, {2}},
             {QUEUE_COMPUTE, 100, SECTION_LAST}},
     .micro_batches = 7,
     .expected = {.seconds = 1 + 5 * 14 + 100,
                  .busy = {1 + 5 * 10 + 100, 5 * 4},
                  .waited = {[QUEUE_IN] = 5 * 4},
                  .streaming = 5 * 4}},
};
enum { COURSES = sizeof courses / sizeof *courses };

static void expect(int number, const char *what, double is, double expected) {
    ck_assert_msg(fabs(is - expected) < 1e-9, "course %d: %s is %.9g, expected %.9g", number, what,
                  is, expected);
}

START_TEST(steps_take_what_they_take) {
    brim_error err = {0};
    const simulation *expected = &courses[_i].expected;
    simulation s;
    run(&courses[_i], &s, &err);
    ASSERT_FINE(err);
    expect(_i, "a step", s.seconds, expected->seconds);
    expect(_i, "streaming", s.streaming, expected->streaming);
    expect(_i, "what is hidden", s.hidden, expected->hidden);
    for (int q = 0; q < QUEUE_COUNT; q++) {
        expect(_i, queue_name((queue_id)q), s.busy[q], expected->busy[q]);
        expect(_i, "waiting", s.waited[q], expected->waited[q]);
    }
}
END_TEST

START_TEST(what_never_ends_is_named) {
    course endless = {.row = {{QUEUE_COMPUTE, 1}, {QUEUE_HOST, INFINITY, .wait = {1}}},
                      .micro_batches = 9};
    brim_error err = {0};
    simulation s;
    run(&endless, &s, &err);
    ASSERT_FAILS(err, BRIM_GRAPH, "simulation: queue host waits for what never ends");
    brim_fail(&err, BRIM_IO, "before");
    ck_assert_int_eq(run(&courses[0], &s, &err), BRIM_IO);
    ck_assert(s.seconds == 0);
}
END_TEST

Suite *simulate_suite(void) {
    Suite *s = suite_create("simulate");
    TCase *tests = tcase_create("simulate");
    tcase_add_test(tests, copies_take_the_rate_of_their_way);
    tcase_add_test(tests, kernels_move_or_compute);
    tcase_add_test(tests, nodes_share_their_operations);
    tcase_add_loop_test(tests, steps_take_what_they_take, 0, COURSES);
    tcase_add_test(tests, what_never_ends_is_named);
    suite_add_tcase(s, tests);
    return s;
}
