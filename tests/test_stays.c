// Homes away from the device: that a step computes the same wherever its storages live, and that a
// copy which is missing or comes too late is found.
#include <stdio.h>
#include <string.h>
#include "graph/passes.h"
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

Suite *stays_suite(void) {
    Suite *s = suite_create("stays");
    TCase *tests = tcase_create("stays");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, homes_change_no_bit, 0, 4);
    tcase_add_test(tests, a_missing_copy_is_found);
    tcase_add_test(tests, a_parameter_is_fetched_twice);
    tcase_add_test(tests, homes_that_make_no_sense_are_refused);
    suite_add_tcase(s, tests);
    return s;
}
