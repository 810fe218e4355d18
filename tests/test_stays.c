// Homes away from the device: that a step computes the same wherever its storages live, and that a
// copy which is missing or comes too late is found.
#include <stdio.h>
#include <string.h>
#include "graph/passes.h"
#include "graph/stay_times.h"
#include "sandbox.h"
#include "test_graph.h"
#include "tests/random_homes.h"

static int away, hosts, stays, transfers;

static void run_random(uint64_t seed, int micro_batches) {
    brim_error err = {0};
    brim_graph *g = sandbox_graph(seed, 10 + (int)(seed % 50), micro_batches, &err);
    ASSERT_FINE(err);
    sandbox_outcome plain, ran;
    sandbox_run_plain(g, micro_batches, &plain);
    brim_graph *kept = g; // names in `plain` belong to it
    planned p;
    planned_make(&p, pass_prune(g, &err), micro_batches, seed % 4 != 0, &err);
    random_homes h;
    random_homes_make(&h, &p, seed);
    p.request.guard_bytes = seed % 2 ? 64 : 0;
    p.request.chunk_bytes = seed % 3 ? 4096 : 0;
    planned_place(&p, &err);
    ck_assert_msg(!err.status, "seed %d: %s", (int)seed, err.text);
    sandbox_run_planned(p.g, &p.layout, &p.schedule, &p.plan, micro_batches, seed, &ran);
    const char *difference = sandbox_difference(&plain, &ran);
    ck_assert_msg(!difference, "seed %d, %d micro-batches: %s differs", (int)seed, micro_batches,
                  difference);
    away += h.away, hosts += h.hosts, stays += p.plan.stays, transfers += p.plan.transfers;
    sandbox_outcome_free(&plain);
    sandbox_outcome_free(&ran);
    random_homes_free(&h);
    brim_graph_free(kept);
    planned_free(&p);
}

START_TEST(homes_change_no_bit) {
    for (int seed = 0; seed < 100; seed++)
        for (int micro_batches = 1; micro_batches <= 3; micro_batches++)
            run_random((uint64_t)(_i * 1000 + seed), micro_batches);
    ck_assert_int_gt(away, 1000);
    ck_assert_int_gt(hosts, 20);
    ck_assert_int_gt(stays, 1000);
    ck_assert_int_gt(transfers, 1000);
}
END_TEST

// Each transfer that is dropped, and each that is late, is noticed by the proof; but for those
// whose bytes nobody reads again.
START_TEST(a_missing_copy_is_found) {
    int found = 0, dropped = 0;
    for (uint64_t seed = 0; seed < 30; seed++) {
        brim_error err = {0};
        planned p;
        brim_graph *whole = sandbox_graph(seed, 30, 2, &err);
        planned_make(&p, pass_prune(whole, &err), 2, true, &err);
        brim_graph_free(whole);
        random_homes h;
        random_homes_make(&h, &p, seed);
        planned_place(&p, &err);
        ASSERT_FINE(err);
        for (int32_t i = 0; i < p.plan.transfers; i++) {
            transfer good = p.plan.transfer[i];
            for (uint8_t section = SECTION_FIRST; section <= SECTION_LAST; section <<= 1) {
                if (!(good.sections & section) || section == SECTION_MIDDLE) continue;
                p.plan.transfer[i].sections = good.sections & (uint8_t)~section;
                memory_plan_verify(p.g, &p.layout, &p.schedule, &p.request, &p.plan, &err);
                found += err.status != BRIM_OK, dropped++;
                err = (brim_error){0};
                p.plan.transfer[i] = good;
            }
        }
        random_homes_free(&h);
        planned_free(&p);
    }
    ck_assert_int_gt(dropped, 500);
    ck_assert_msg(found == dropped, "%d of %d found", found, dropped);
}
END_TEST

// A parameter whose home is on the host, used in the forward and the backward pass: two stays, of
// which the second is not written back; the update on the host needs none.
START_TEST(a_parameter_is_fetched_twice) {
    brim_error err = {0};
    planned p;
    planned_small_step(&p, 1, &err);
    memory_space home[200] = {0};
    bool on_host[200] = {0};
    ck_assert(p.g->values <= 200 && p.g->nodes <= 200);
    value_id w1 = planned_storage(&p, "w1"), m1 = planned_storage(&p, "m1");
    home[w1] = home[m1] = SPACE_HOST;
    int update = planned_position(&p, OP_SGD, 0);
    on_host[p.schedule.order[update]] = true;
    p.request.home = home;
    p.request.on_host = on_host;
    planned_place(&p, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(p.plan.first_stay[w1 + 1] - p.plan.first_stay[w1], 2);
    ck_assert_int_eq(p.plan.first_stay[m1 + 1] - p.plan.first_stay[m1], 0);
    for (int i = 0; i < 2; i++) {
        const stay *s = &p.plan.stay[p.plan.first_stay[w1] + i];
        ck_assert_int_eq(s->fetch, SECTION_LAST);
        ck_assert_int_eq(s->store, 0);
        ck_assert_int_eq(s->first_use, s->last_use);
    }
    // The gradient is copied to the host to be read there.
    const graph_node *sgd = &p.g->node[p.schedule.order[update]];
    value_id gradient = p.layout.of[sgd->input[2]].storage;
    ck_assert_int_eq(p.plan.storage[gradient].space, SPACE_DEVICE);
    const stay *copy = &p.plan.stay[p.plan.first_stay[gradient]];
    ck_assert_int_eq(copy->place.space, SPACE_HOST);
    ck_assert_int_eq(copy->fetch_at, update);
    planned_free(&p);
}
END_TEST

static void update_with(brim_graph *g, const char *parameter, const char *state,
                        brim_value gradient) {
    brim_value w = brim_parameter(g, parameter, ((brim_init){BRIM_NORMAL, 1}), 4, 4);
    value_id m = graph_leaf(g, ROLE_STATE, BRIM_F32, &g->value[w.id].shape, state);
    brim_value lr = graph_control(g, CONTROL_LR), bias = graph_control(g, CONTROL_BIAS1);
    graph_op(g, OP_SGD, (brim_value[]){w, graph_value_of(g, m), gradient, lr, lr, bias}, 6,
             &(brim_attr){.optimizer = {.beta1 = 0.9f}});
}

// Two updates on the host read parts of one storage, of which the device writes the second after
// the first was read: that is another copy.
START_TEST(a_part_written_later_is_copied_again) {
    brim_error err = {0};
    planned p;
    brim_graph *g = brim_graph_create(&err);
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 4), part[2];
    g->phase = PHASE_UPDATE;
    part[0] = brim_matmul(x, x);
    update_with(g, "w0", "m0", part[0]);
    part[1] = brim_matmul(part[0], x);
    update_with(g, "w1", "m1", part[1]);
    brim_output(brim_concat(part, 2, 0), "both");
    planned_make(&p, g, 1, false, &err);
    ck_assert_int_eq(planned_parts(&p), 3);
    memory_space home[50] = {0};
    bool on_host[50] = {0};
    ck_assert(p.g->values <= 50 && p.g->nodes <= 50);
    for (value_id v = 0; v < p.g->values; v++)
        if (p.g->value[v].role == ROLE_PARAMETER || p.g->value[v].role == ROLE_STATE)
            home[v] = SPACE_HOST;
    for (node_id n = 0; n < p.g->nodes; n++) on_host[n] = p.g->node[n].op == OP_SGD;
    p.request.home = home;
    p.request.on_host = on_host;
    planned_place(&p, &err);
    ASSERT_FINE(err);
    value_id both = planned_storage(&p, "both");
    ck_assert_int_eq(p.plan.first_stay[both + 1] - p.plan.first_stay[both], 2);
    planned_free(&p);
}
END_TEST

// What a step has written is at home when it ends.
START_TEST(a_missing_store_is_named) {
    brim_error err = {0};
    planned p;
    planned_small_step(&p, 1, &err);
    memory_space home[200] = {0};
    value_id m1 = planned_storage(&p, "m1");
    home[m1] = SPACE_HOST;
    p.request.home = home;
    planned_place(&p, &err);
    ASSERT_FINE(err);
    int stores = 0;
    for (int32_t i = 0; i < p.plan.transfers; i++) {
        transfer *t = &p.plan.transfer[i];
        if (!t->store || p.plan.stay[t->stay].storage != m1) continue;
        t->sections = 0;
        stores++;
    }
    ck_assert_int_eq(stores, 1);
    memory_plan_verify(p.g, &p.layout, &p.schedule, &p.request, &p.plan, &err);
    ASSERT_FAILS(err, BRIM_MEMORY, "memory plan: \"m1\" is not up to date after a step");
    planned_free(&p);
}
END_TEST

START_TEST(homes_that_make_no_sense_are_refused) {
    brim_error err = {0};
    planned p;
    planned_small_step(&p, 1, &err);
    memory_space home[200] = {0};
    bool on_host[200] = {0};
    p.request.home = home;
    p.request.on_host = on_host;
    home[planned_storage(&p, "x")] = SPACE_HOST;
    planned_place(&p, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "(x) must have its home on the device");
    home[planned_storage(&p, "x")] = SPACE_DEVICE;
    on_host[p.schedule.order[planned_position(&p, OP_SGD, 0)]] = true;
    planned_place(&p, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "(w1) is updated on the host; its home must be there");
    on_host[p.schedule.order[planned_position(&p, OP_SGD, 0)]] = false;
    on_host[p.schedule.order[planned_position(&p, OP_MATMUL, 0)]] = true;
    planned_place(&p, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "(matmul) cannot run on the host");
    planned_free(&p);
}
END_TEST

// ---- proofs of plans that are wrong ------------------------------------------------------------

// Whatever the proof accepts computes the same.
static bool refused(planned *p, const sandbox_outcome *plain, int micro_batches, uint64_t seed,
                    const char *what) {
    brim_error err = {0};
    if (memory_plan_verify(p->g, &p->layout, &p->schedule, &p->request, &p->plan, &err))
        return true;
    sandbox_outcome ran;
    sandbox_run_planned(p->g, &p->layout, &p->schedule, &p->plan, micro_batches, seed, &ran);
    const char *difference = sandbox_difference(plain, &ran);
    ck_assert_msg(!difference, "seed %d, %s: %s differs", (int)seed, what, difference);
    sandbox_outcome_free(&ran);
    return false;
}

static storage_place *random_place(planned *p, uint64_t *random) {
    for (;;) {
        int64_t i = sandbox_below(random, p->g->values + p->plan.stays);
        storage_place *s =
            i < p->g->values ? &p->plan.storage[i] : &p->plan.stay[i - p->g->values].place;
        if (s->offset >= 0) return s;
    }
}

static int move_places(planned *p, const sandbox_outcome *plain, uint64_t seed, uint64_t *random) {
    int found = 0;
    for (int k = 0; k < 50; k++) {
        storage_place *a = random_place(p, random), *b = random_place(p, random), good = *a;
        if (a == b || a->space != b->space) continue;
        // Onto its first byte, or onto its last ones.
        a->offset = k % 2 ? b->offset : b->offset + (b->bytes - 1) / 64 * 64;
        found += refused(p, plain, 2, seed, "a place onto another");
        *a = good;
    }
    return found;
}

// No place may end above the peak, begin between units, have less room than its storage, or begin
// before the guard.
static void bend_places(planned *p) {
    brim_error err = {0};
    for (int32_t i = 0; i < p->g->values + p->plan.stays; i++) {
        storage_place *s =
            i < p->g->values ? &p->plan.storage[i] : &p->plan.stay[i - p->g->values].place;
        if (s->offset < 0) continue;
        const storage_place good = *s;
        const int64_t offsets[] = {-1, good.offset + 32, p->plan.peak_bytes[s->space]};
        static const char *const reasons[] = {"has no place", "is not aligned",
                                              "ends above the peak"};
        for (int k = 0; k < 3; k++) {
            s->offset = offsets[k];
            memory_plan_verify(p->g, &p->layout, &p->schedule, &p->request, &p->plan, &err);
            ASSERT_FAILS(err, BRIM_MEMORY, reasons[k]);
        }
        *s = good;
        s->bytes--;
        memory_plan_verify(p->g, &p->layout, &p->schedule, &p->request, &p->plan, &err);
        ASSERT_FAILS(err, BRIM_MEMORY, "is too small");
        *s = good;
        if (p->request.guard_bytes && good.offset >= 64) {
            s->offset = 0;
            memory_plan_verify(p->g, &p->layout, &p->schedule, &p->request, &p->plan, &err);
            ASSERT_FAILS(err, BRIM_MEMORY, "has no guard before it");
            *s = good;
        }
    }
}

static int move_copies(planned *p, const sandbox_outcome *plain, uint64_t seed, uint64_t *random) {
    int found = 0;
    for (int k = 0; k < 12 && p->plan.transfers > 1; k++) {
        int32_t i = (int32_t)sandbox_below(random, p->plan.transfers - 1);
        transfer *t = &p->plan.transfer[i], good[] = {t[0], t[1]};
        switch (k % 4) {
        case 0:
            t->position += sandbox_below(random, 2) ? 1 : -1;
            break;
        case 1:
            t->after = !t->after;
            break;
        case 2:
            t[0] = good[1], t[1] = good[0];
            break;
        default:
            t->sections ^= sandbox_below(random, 2) ? SECTION_FIRST : SECTION_LAST;
            break;
        }
        if (t->position >= 0 && t->position < p->schedule.count)
            found += refused(p, plain, 2, seed, "a copy at another time");
        t[0] = good[0], t[1] = good[1];
    }
    return found;
}

START_TEST(proofs_refuse_what_computes_something_else) {
    int places = 0, copies = 0;
    for (uint64_t seed = 100; seed < 130; seed++) {
        brim_error err = {0};
        uint64_t random = seed;
        brim_graph *g = sandbox_graph(seed, 25, 2, &err), *kept = g;
        sandbox_outcome plain;
        sandbox_run_plain(g, 2, &plain);
        planned p;
        planned_make(&p, pass_prune(g, &err), 2, true, &err);
        random_homes h;
        random_homes_make(&h, &p, seed);
        p.request.guard_bytes = seed % 2 ? 64 : 0;
        planned_place(&p, &err);
        ASSERT_FINE(err);
        places += move_places(&p, &plain, seed, &random);
        copies += move_copies(&p, &plain, seed, &random);
        bend_places(&p);
        ck_assert(!refused(&p, &plain, 2, seed, "as it was"));
        sandbox_outcome_free(&plain);
        random_homes_free(&h);
        brim_graph_free(kept);
        planned_free(&p);
    }
    ck_assert_int_gt(places, 50);
    ck_assert_int_gt(copies, 50);
}
END_TEST

// ---- when copies begin and end ------------------------------------------------------------------

// Ten nodes of 10 s each, and links of a byte a second.
enum { NODES = 10, MOST_TIMED = 3 };
typedef struct timed {
    int use, bytes, earliest, first, last; // first and last: of the place at first
    bool whole;
    int expected, expected_place;
} timed;

static void make_times(stream_times *t, double start[NODES + 1], int64_t ahead, memory_space space,
                       bool stored) {
    for (int i = 0; i <= NODES; i++) start[i] = 10 * i;
    *t = (stream_times){.start = start};
    for (int from = 0; from < SPACES; from++)
        for (int to = 0; to < SPACES; to++) t->bytes_per_second[from][to] = 1e9;
    int out = (int)space + 1;
    t->bytes_per_second[stored ? (int)space : out][stored ? out : (int)space] = 1;
    t->ahead[space] = ahead;
}

// Lists are given backwards: they are sorted by what is used first, and by index.
static int list_stays(const timed *rows, stay *held, timed_stay *list) {
    int count = 0;
    while (count < MOST_TIMED && rows[count].bytes) count++;
    for (int i = 0; i < count; i++) {
        const timed *r = &rows[i];
        held[i] = (stay){.place = {.bytes = r->bytes, .first = r->first, .last = r->last},
                         .first_use = r->use,
                         .fetch_at = r->use,
                         .whole = r->whole};
        list[count - 1 - i] =
            (timed_stay){.stay = &held[i], .index = i, .use = r->use, .earliest = r->earliest};
    }
    return count;
}

START_TEST(copies_begin_as_late_as_is_in_time) {
    static const struct {
        int64_t ahead;
        timed row[MOST_TIMED];
    } cases[] = {
        // 15 bytes due at 50, begun at 35, with node 3
        {1000, {{5, 15, 0, 5, 5, false, 3, 3}}},
        {1000, {{5, 20, 0, 5, 5, false, 3, 3}}}, // just at the beginning of a node
        {1000, {{5, 21, 0, 5, 5, false, 2, 2}}},
        {1000, {{5, 400, 0, 5, 5, false, 0, 0}}}, // as soon as can be
        {1000, {{5, 15, 4, 5, 5, false, 4, 4}}},  // not before it is there
        {1000, {{5, 15, 5, 5, 5, false, 5, 5}}},
        {1000, {{5, 15, 7, 5, 5, false, 5, 5}}},
        {1000, {{5, 15, 0, 0, 9, true, 3, 0}}}, // its bytes are taken anyway
        {1, {{5, 15, 0, 5, 5, false, 3, 3}}},   // one may always
        // The second is begun at 35, and so the first, due at 35 then, at 20.
        {1000, {{5, 15, 0, 5, 5, false, 2, 2}, {6, 25, 0, 6, 6, false, 3, 3}}},
        {40, {{5, 15, 0, 5, 5, false, 2, 2}, {6, 25, 0, 6, 6, false, 3, 3}}},
        // Both have no room beside each other: the second waits until the first is used.
        {39, {{5, 15, 0, 5, 5, false, 2, 2}, {6, 25, 0, 6, 6, false, 5, 5}}},
        {39, {{5, 15, 0, 5, 5, false, 2, 2}, {5, 15, 0, 5, 5, false, 3, 3}}},
        // The third beside the second, but not beside the first.
        {40,
         {{4, 20, 0, 4, 4, false, 0, 0},
          {5, 20, 0, 5, 5, false, 2, 2},
          {6, 20, 0, 6, 6, false, 4, 4}}},
        // The last is due when the step ends.
        {1000, {{9, 5, 0, 9, 9, false, 8, 8}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int space = SPACE_DEVICE; space < SPACE_FILE; space++) {
            double start[NODES + 1];
            stream_times t;
            stay held[MOST_TIMED];
            timed_stay list[MOST_TIMED];
            make_times(&t, start, cases[i].ahead, (memory_space)space, false);
            int count = list_stays(cases[i].row, held, list);
            stays_fetch_ahead(list, count, &t, (memory_space)space, NODES - 1);
            for (int k = 0; k < count; k++)
                ck_assert_msg(held[k].fetch_at == cases[i].row[k].expected &&
                                  held[k].place.first == cases[i].row[k].expected_place &&
                                  held[k].place.last == cases[i].row[k].last,
                              "case %d, stay %d: at %d, from %d", (int)i, k, held[k].fetch_at,
                              held[k].place.first);
        }
}
END_TEST

START_TEST(bytes_are_taken_until_their_copy_is_done) {
    static const struct {
        int64_t ahead;
        timed row[MOST_TIMED];
    } cases[] = {
        // 15 bytes from 30 on are gone at 45, in node 4
        {1000, {{2, 15, 0, 1, 2, false, 0, 4}}},
        {1000, {{2, 20, 0, 1, 2, false, 0, 5}}},
        {1000, {{2, 19, 0, 1, 2, false, 0, 4}}},
        {1000, {{2, 500, 0, 1, 2, false, 0, 9}}}, // to the step's end
        {1000, {{2, 15, 0, 1, 7, false, 0, 7}}},  // they are used for longer
        {1, {{2, 15, 0, 1, 2, false, 0, 4}}},
        // The second begins when the first is gone, at 45, and ends at 70.
        {1000, {{2, 15, 0, 1, 2, false, 0, 4}, {3, 25, 0, 1, 3, false, 0, 7}}},
        {40, {{2, 15, 0, 1, 2, false, 0, 4}, {3, 25, 0, 1, 3, false, 0, 7}}},
        // There is no room for both: the first is gone when the second is written.
        {39, {{2, 15, 0, 1, 2, false, 0, 3}, {3, 25, 0, 1, 3, false, 0, 7}}},
        {1000, {{2, 5, 0, 1, 2, false, 0, 3}, {5, 25, 0, 1, 5, false, 0, 8}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int space = SPACE_DEVICE; space < SPACE_FILE; space++) {
            double start[NODES + 1];
            stream_times t;
            stay held[MOST_TIMED];
            timed_stay list[MOST_TIMED];
            make_times(&t, start, cases[i].ahead, (memory_space)space, true);
            int count = list_stays(cases[i].row, held, list);
            stays_hold_stored(list, count, &t, (memory_space)space, NODES - 1);
            for (int k = 0; k < count; k++)
                ck_assert_msg(held[k].place.last == cases[i].row[k].expected_place &&
                                  held[k].place.first == 1,
                              "case %d, stay %d: until %d", (int)i, k, held[k].place.last);
        }
}
END_TEST

Suite *stays_suite(void) {
    Suite *s = suite_create("stays");
    TCase *tests = tcase_create("stays");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, homes_change_no_bit, 0, 4);
    tcase_add_test(tests, a_missing_copy_is_found);
    tcase_add_test(tests, a_parameter_is_fetched_twice);
    tcase_add_test(tests, a_part_written_later_is_copied_again);
    tcase_add_test(tests, a_missing_store_is_named);
    tcase_add_test(tests, homes_that_make_no_sense_are_refused);
    tcase_add_test(tests, proofs_refuse_what_computes_something_else);
    tcase_add_test(tests, copies_begin_as_late_as_is_in_time);
    tcase_add_test(tests, bytes_are_taken_until_their_copy_is_done);
    suite_add_tcase(s, tests);
    return s;
}
