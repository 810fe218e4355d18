#include <math.h>
#include <stdlib.h>
#include "core/philox.h"
#include "test_core.h"

// The known answers that come with Random123 (kat_vectors, philox4x32 10).
START_TEST(known_answers) {
    static const struct {
        philox_block counter;
        uint32_t key[2];
        philox_block expected;
    } vectors[] = {
        {{{0, 0, 0, 0}}, {0, 0}, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
        {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
         {0xffffffff, 0xffffffff},
         {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
        {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
         {0xa4093822, 0x299f31d0},
         {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        philox_block block = philox4x32(vectors[i].counter, vectors[i].key[0], vectors[i].key[1]);
        ck_assert_mem_eq(&block, &vectors[i].expected, sizeof block);
    }
    philox_block block = philox_at(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88);
    ck_assert_mem_eq(&block, &vectors[2].expected, sizeof block);
}
END_TEST

START_TEST(uniform_numbers) {
    enum { N = 100003 };
    static float values[N];
    ck_assert(philox_uniform(0) == 0);
    ck_assert(philox_uniform(0xffffffff) == 1 - 0x1p-24f);
    philox_fill_uniform(values, 0, N, 3, 9, -2, 4);
    double sum = 0, squares = 0;
    for (int i = 0; i < N; i++) {
        ck_assert(values[i] >= -2 && values[i] < 4);
        sum += values[i];
        squares += (double)values[i] * values[i];
    }
    double mean = sum / N, variance = squares / N - mean * mean;
    ck_assert(fabs(mean - 1) < 5 * sqrt(3.0 / N)); // five standard errors
    ck_assert(fabs(variance - 3) < 0.05);
    for (int i = 4; i < 12; i++) {
        float part[5], number = philox_uniform(philox_at(3, 9, (uint64_t)i / 4).v[i % 4]);
        ck_assert(values[i] == (float)(-2 + 6.0 * number));
        philox_fill_uniform(part, 4, 5, 3, 9, -2, 4);
        if (i < 9) ck_assert(part[i - 4] == values[i]);
    }
}
END_TEST

START_TEST(normal_numbers) {
    enum { N = 100003 };
    static float values[N], part[101], other[101];
    philox_fill_normal(values, 0, N, 3, 9, 2, 0.5f);
    double sum = 0, squares = 0, fourth = 0;
    int beyond = 0;
    for (int i = 0; i < N; i++) {
        double z = (values[i] - 2) / 0.5;
        ck_assert(fabs(z) < 5.8);
        sum += z;
        squares += z * z;
        fourth += z * z * z * z;
        beyond += fabs(z) > 1.959964;
    }
    ck_assert(fabs(sum / N) < 5 * sqrt(1.0 / N));
    ck_assert(fabs(squares / N - 1) < 5 * sqrt(2.0 / N));
    ck_assert(fabs(fourth / N - 3) < 5 * sqrt(96.0 / N));
    ck_assert(fabs(beyond - 0.05 * N) < 5 * sqrt(0.05 * 0.95 * N));

    // An element depends neither on how many are drawn nor on where they begin.
    philox_fill_normal(part, 0, 101, 3, 9, 2, 0.5f);
    ck_assert_mem_eq(part, values, sizeof part);
    philox_fill_normal(part, 20, 101, 3, 9, 2, 0.5f);
    ck_assert_mem_eq(part, values + 20, sizeof part);
    philox_fill_normal(other, 0, 101, 3, 10, 2, 0.5f);
    ck_assert_mem_ne(other, values, sizeof other);
    philox_fill_normal(other, 0, 101, 4, 9, 2, 0.5f);
    ck_assert_mem_ne(other, values, sizeof other);

    // cos and sin of the pairs of the very first block, counter 0 and key 0.
    static const uint32_t words[] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    philox_fill_normal(part, 0, 4, 0, 0, 0, 1);
    for (int i = 0; i < 4; i += 2) {
        double u = ((words[i] >> 8) + 1) * 0x1p-24, v = (words[i + 1] >> 8) * 0x1p-24;
        ck_assert(part[i] == (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v)));
        ck_assert(part[i + 1] == (float)(sqrt(-2 * log(u)) * sin(6.283185307179586 * v)));
    }
}
END_TEST

START_TEST(shuffle_is_a_permutation) {
    static const int64_t sizes[] = {1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4097};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s];
        char *seen = calloc((size_t)n, 1);
        ck_assert_ptr_nonnull(seen);
        for (int64_t i = 0; i < n; i++) {
            int64_t image = shuffle_index(i, n, 42, 7);
            ck_assert(image >= 0 && image < n);
            ck_assert_msg(!seen[image], "%lld of %lld twice", (long long)image, (long long)n);
            seen[image] = 1;
        }
        free(seen);
    }
}
END_TEST

START_TEST(shuffle_depends_on_seed_and_epoch) {
    enum { N = 1000 };
    int same_epoch = 0, same_seed = 0, fixed = 0, neighbours = 0;
    for (int64_t i = 0; i < N; i++) {
        int64_t image = shuffle_index(i, N, 1, 0);
        same_seed += image == shuffle_index(i, N, 1, 1);
        same_epoch += image == shuffle_index(i, N, 2, 0);
        fixed += image == i;
        neighbours += i > 0 && llabs(image - shuffle_index(i - 1, N, 1, 0)) == 1;
    }
    // Of a random permutation one element stays in place on average, and two neighbours stay
    // together.
    ck_assert_int_lt(same_seed, 10);
    ck_assert_int_lt(same_epoch, 10);
    ck_assert_int_lt(fixed, 10);
    ck_assert_int_lt(neighbours, 12);
}
END_TEST

// All 24 permutations of four elements turn up about equally often.
START_TEST(shuffle_is_fair) {
    enum { TRIES = 24000 };
    int counts[256] = {0};
    for (uint64_t epoch = 0; epoch < TRIES; epoch++) {
        int code = 0;
        for (int64_t i = 0; i < 4; i++) code = code * 4 + (int)shuffle_index(i, 4, 5, epoch);
        counts[code]++;
    }
    int kinds = 0;
    double chi_square = 0;
    for (int i = 0; i < 256; i++) {
        kinds += counts[i] > 0;
        if (counts[i]) chi_square += pow(counts[i] - TRIES / 24, 2) / (TRIES / 24);
    }
    ck_assert_int_eq(kinds, 24);
    ck_assert_msg(chi_square < 60, "chi square %g, 23 degrees of freedom", chi_square);
}
END_TEST

// A training that is resumed by a later version must see its data in the order it had: what these
// numbers were when it was written down, they stay.
START_TEST(shuffle_stays_as_it_was) {
    static const struct {
        int64_t n, first, second, last;
    } cases[] = {
        {10, 9, 1, 2},
        {64, 9, 1, 42},
        {65, 14, 53, 8},
        {1000, 921, 750, 913},
        {1048576, 1005884, 404585, 934046},
        {((int64_t)1 << 60) + 1, 47442006869558024, 528189437104364982, 604935186158671368},
        {(int64_t)1 << 62, 3543681493411463880, 3313479020836395926, 3012939868789073628},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t n = cases[i].n;
        ck_assert_int_eq(shuffle_index(0, n, 42, 7), cases[i].first);
        ck_assert_int_eq(shuffle_index(1, n, 42, 7), cases[i].second);
        ck_assert_int_eq(shuffle_index(n - 1, n, 42, 7), cases[i].last);
    }
}
END_TEST

START_TEST(shuffle_of_huge_ranges) {
    int64_t n = (int64_t)1 << 62;
    for (int64_t i = 0; i < 100; i++) {
        int64_t image = shuffle_index(n - 1 - i, n, 42, 7);
        ck_assert(image >= 0 && image < n);
    }
}
END_TEST

Suite *core_philox_suite(void) {
    Suite *suite = suite_create("core/philox");
    TCase *tests = tcase_create("philox");
    tcase_add_test(tests, known_answers);
    tcase_add_test(tests, uniform_numbers);
    tcase_add_test(tests, normal_numbers);
    tcase_add_test(tests, shuffle_is_a_permutation);
    tcase_add_test(tests, shuffle_depends_on_seed_and_epoch);
    tcase_add_test(tests, shuffle_is_fair);
    tcase_add_test(tests, shuffle_stays_as_it_was);
    tcase_add_test(tests, shuffle_of_huge_ranges);
    suite_add_tcase(suite, tests);
    return suite;
}
