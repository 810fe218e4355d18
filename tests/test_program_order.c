// Waits from accesses: program_order gives what program_verify, which knows nothing of it, proves;
// and hardly a wait too many.
#include "test_core.h"
#include "tests/random_program.h"

static brim_error err;

static program *ordered(uint32_t seed, random_program_size size) {
    program *p = random_program(seed, size, &err);
    program_order(p, &err);
    ASSERT_FINE(err);
    return p;
}

// The waits of a program, and how many of them it is proved without.
typedef struct wait_count {
    int waits, later, idle;
} wait_count;

static void count_waits(program *p, wait_count *count) {
    for (int32_t i = 0; i < p->records; i++)
        for (int32_t w = 0; w < p->record[i].waits; w++) {
            int32_t awaited = take_wait(p, i, w);
            count->waits++;
            count->later += awaited > i;
            if (program_verify(p, &err) == BRIM_OK)
                count->idle++;
            else
                ASSERT_FAILS(err, BRIM_GRAPH, "does not wait for record");
            put_wait(p, i, w, awaited);
        }
}

START_TEST(random_programs_are_proved) {
    uint32_t seeds = getenv("BRIM_TEST_LONG") ? 20000 : 2000;
    for (uint32_t seed = 0; seed < seeds; seed++) {
        random_program_size size = {5 + (int32_t)(seed % 60), 1 + (int32_t)(seed % 5),
                                    12 + (int32_t)(seed % 40)};
        program *p = ordered(seed, size);
        program_verify(p, &err);
        ck_assert_msg(!failed(&err), "seed %u: %s", seed, err.text);
        program_free(p);
    }
}
END_TEST

// Spaces of many pieces, of which a record touches many or few.
START_TEST(large_programs_are_proved) {
    for (uint32_t seed = 0; seed < 60; seed++) {
        random_program_size size = {100, 1 + (int32_t)(seed % 5), 100 + 20 * (int32_t)seed};
        program *p = ordered(seed, size);
        program_verify(p, &err);
        ck_assert_msg(!failed(&err), "seed %u: %s", seed, err.text);
        program_free(p);
    }
}
END_TEST

START_TEST(no_wait_can_be_left_out) {
    wait_count count = {0};
    for (uint32_t seed = 0; seed < (getenv("BRIM_TEST_LONG") ? 500 : 60); seed++) {
        random_program_size size = {30, 1 + (int32_t)(seed % 5), 40};
        program *p = ordered(seed, size);
        count_waits(p, &count);
        program_free(p);
    }
    ck_assert_int_gt(count.waits, 1500);
    ck_assert_int_gt(count.later, 500);
    ck_assert_msg(100 * count.idle <= count.waits, "%d of %d waits are not needed", count.idle,
                  count.waits);
}
END_TEST

// Waits that were there before are forgotten.
START_TEST(ordering_twice_changes_nothing) {
    program *p = ordered(5, (random_program_size){40, 3, 30});
    int32_t waits[40], first[40];
    for (int i = 0; i < 40; i++) {
        waits[i] = p->record[i].waits;
        first[i] = waits[i] ? p->record[i].wait[0] : -1;
    }
    program_order(p, &err);
    ASSERT_FINE(err);
    for (int i = 0; i < 40; i++) {
        ck_assert_int_eq(p->record[i].waits, waits[i]);
        if (waits[i]) ck_assert_int_eq(p->record[i].wait[0], first[i]);
    }
    program_free(p);
}
END_TEST

static void begin(void) {
    err = (brim_error){0};
}

Suite *program_order_suite(void) {
    Suite *suite = suite_create("program_order");
    TCase *tests = tcase_create("program_order");
    tcase_add_checked_fixture(tests, begin, NULL);
    tcase_set_timeout(tests, 600);
    tcase_add_test(tests, random_programs_are_proved);
    tcase_add_test(tests, large_programs_are_proved);
    tcase_add_test(tests, no_wait_can_be_left_out);
    tcase_add_test(tests, ordering_twice_changes_nothing);
    suite_add_tcase(suite, tests);
    return suite;
}
