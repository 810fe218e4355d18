#include <brim/data.h>
#include "test_core.h"

// A stream in which token i is i, so that every batch tells where it was cut.
static brim_dataset *counting(int32_t count) {
    static unsigned char data[1024 + 2 * 60000];
    const int32_t header[] = {20240520, 1, count};
    memset(data, 0, 1024);
    memcpy(data, header, sizeof header);
    for (int32_t i = 0; i < count; i++) {
        data[1024 + 2 * i] = (unsigned char)i;
        data[1024 + 2 * i + 1] = (unsigned char)(i >> 8);
    }
    const char *path = test_file("counting.bin", data, 1024 + 2 * (size_t)count);
    brim_error err = {0};
    brim_dataset *opened = brim_dataset_open(&path, 1, &err);
    ASSERT_FINE(err);
    return opened;
}

// Checks that each row counts up and that targets are one further; gives each row's first token.
static void next_batch(brim_loader *l, int32_t *starts) {
    enum { MOST = 4096 };
    static int32_t tokens[MOST], targets[MOST];
    int64_t batch = l->options.batch, sequence = l->options.sequence;
    ck_assert(batch * sequence <= MOST);
    brim_error err = {0};
    ck_assert(brim_loader_next(l, tokens, targets, &err));
    ASSERT_FINE(err);
    for (int64_t b = 0; b < batch; b++) {
        starts[b] = tokens[b * sequence];
        for (int64_t t = 0; t < sequence; t++) {
            ck_assert_int_eq(tokens[b * sequence + t], starts[b] + t);
            ck_assert_int_eq(targets[b * sequence + t], starts[b] + t + 1);
        }
    }
}

// The loader of llm.c, written from its description.
START_TEST(sequential_order) {
    enum { COUNT = 103, B = 3, T = 8 };
    brim_dataset *data = counting(COUNT);
    brim_error err = {0};
    brim_loader l;
    ck_assert(brim_loader_init(
        &l, &(brim_loader_options){.data = data, .batch = B, .sequence = T, .sequential = true},
        &err));
    ck_assert_int_eq(brim_loader_batches_per_epoch(&l), 4);
    int32_t p = 0, wraps = 0;
    for (int step = 0; step < 20; step++) {
        ck_assert_int_eq(l.position, p);
        int32_t starts[B];
        next_batch(&l, starts);
        for (int b = 0; b < B; b++) ck_assert_int_eq(starts[b], p + b * T);
        p += B * T;
        if (COUNT - p < B * T + 1) p = 0, wraps++;
    }
    ck_assert_int_eq(wraps, 5);
    brim_dataset_close(data);
}
END_TEST

START_TEST(sequential_range_that_fits_exactly) {
    brim_dataset *data = counting(100);
    brim_error err = {0};
    brim_loader l;
    ck_assert(brim_loader_init(
        &l,
        &(brim_loader_options){
            .data = data, .batch = 2, .sequence = 4, .begin = 50, .end = 67, .sequential = true},
        &err));
    ck_assert_int_eq(brim_loader_batches_per_epoch(&l), 2);
    static const int32_t expected[] = {50, 58, 50, 58};
    for (int i = 0; i < 4; i++) {
        int32_t starts[2];
        next_batch(&l, starts);
        ck_assert_int_eq(starts[0], expected[i]);
    }
    ck_assert(brim_loader_restore(&l, 8, &err) && l.position == 8);
    ck_assert(brim_loader_restore(&l, 9, &err) && l.position == 0); // saved with smaller batches
    ck_assert(!brim_loader_restore(&l, 18, &err));
    ASSERT_FAILS(err, BRIM_FORMAT, "position 18 is not inside the 17");
    ck_assert(!brim_loader_restore(&l, -1, &err));
    ASSERT_FAILS(err, BRIM_FORMAT, "position -1");
    brim_dataset_close(data);
}
END_TEST

START_TEST(shuffled_epochs_visit_each_window_once) {
    enum { COUNT = 1000, T = 7, BEGIN = 100, END = 900 };
    brim_dataset *data = counting(COUNT);
    brim_error err = {0};
    brim_loader l;
    ck_assert(brim_loader_init(
        &l,
        &(brim_loader_options){
            .data = data, .batch = 1, .sequence = T, .begin = BEGIN, .end = END, .seed = 5},
        &err));
    int windows = (int)brim_loader_batches_per_epoch(&l);
    ck_assert_int_eq(windows, (END - BEGIN - 1) / T - 1);
    int phases[T] = {0}, in_file_order = 0;
    for (int epoch = 0; epoch < 50; epoch++) {
        char seen[COUNT] = {0};
        int32_t first = -1, last = -1;
        for (int i = 0; i < windows; i++) {
            int32_t start;
            next_batch(&l, &start);
            ck_assert(start >= BEGIN && start + T < END);
            ck_assert_msg(!seen[start], "window %d twice in epoch %d", start, epoch);
            seen[start] = 1;
            if (first < 0) first = start;
            ck_assert_int_eq((start - first) % T, 0);
            in_file_order += start == last + T;
            last = start;
        }
        phases[(first - BEGIN) % T]++;
    }
    for (int i = 0; i < T; i++) ck_assert_int_gt(phases[i], 0);
    ck_assert_int_lt(in_file_order, 50 * 5); // about one each epoch by chance
    brim_dataset_close(data);
}
END_TEST

START_TEST(seeds_and_resuming) {
    enum { B = 3 };
    brim_dataset *data = counting(5000);
    brim_error err = {0};
    brim_loader_options options = {.data = data, .batch = B, .sequence = 16, .seed = 5};
    brim_loader a, b, other;
    ck_assert(brim_loader_init(&a, &options, &err));
    ck_assert(brim_loader_init(&b, &options, &err));
    options.seed = 6;
    ck_assert(brim_loader_init(&other, &options, &err));
    int same = 0;
    for (int i = 0; i < 150; i++) { // into the second epoch
        int32_t from_a[B], from_other[B];
        next_batch(&a, from_a);
        next_batch(&other, from_other);
        same += memcmp(from_a, from_other, sizeof from_a) == 0;
    }
    ck_assert_int_lt(same, 3);
    ck_assert_int_eq(a.position, 450);
    ck_assert(brim_loader_restore(&b, a.position, &err));
    for (int i = 0; i < 150; i++) {
        int32_t from_a[B], from_b[B];
        next_batch(&a, from_a);
        next_batch(&b, from_b);
        ck_assert_mem_eq(from_a, from_b, sizeof from_a);
    }
    ck_assert(!brim_loader_restore(&b, -1, &err));
    ASSERT_FAILS(err, BRIM_FORMAT, "position -1");
    ck_assert(!brim_loader_restore(&b, INT64_MAX, &err));
    ASSERT_FAILS(err, BRIM_FORMAT, "beyond 2^62");
    brim_dataset_close(data);
}
END_TEST

// A training that is resumed by a later version must go on with the rows that come next: where they
// began when this was written down, they begin.
START_TEST(shuffled_order_stays_as_it_was) {
    static const int32_t expected[] = {128, 800, 653, 793, 884, 863}, later[] = {780, 255, 486};
    brim_dataset *data = counting(1000);
    brim_error err = {0};
    brim_loader l;
    ck_assert(brim_loader_init(
        &l,
        &(brim_loader_options){
            .data = data, .batch = 3, .sequence = 7, .begin = 100, .end = 900, .seed = 5},
        &err));
    int32_t starts[3];
    for (int i = 0; i < 6; i += 3) {
        next_batch(&l, starts);
        ck_assert_mem_eq(starts, expected + i, sizeof starts);
    }
    ck_assert(brim_loader_restore(&l, 117, &err)); // in the second epoch
    next_batch(&l, starts);
    ck_assert_mem_eq(starts, later, sizeof starts);
    brim_dataset_close(data);
}
END_TEST

// 20 tokens are two windows of 8, a last target, and 3 to begin later by.
START_TEST(no_window_is_given_up_for_the_phase) {
    brim_dataset *data = counting(20);
    brim_error err = {0};
    brim_loader l;
    ck_assert(brim_loader_init(
        &l, &(brim_loader_options){.data = data, .batch = 2, .sequence = 8, .seed = 1}, &err));
    ck_assert_int_eq(brim_loader_batches_per_epoch(&l), 1);
    int phases[4] = {0};
    for (int i = 0; i < 100; i++) {
        int32_t starts[2];
        next_batch(&l, starts);
        int32_t phase = starts[0] < starts[1] ? starts[0] : starts[1];
        ck_assert_int_eq(starts[0] + starts[1], 2 * phase + 8);
        ck_assert(phase >= 0 && phase < 4);
        phases[phase]++;
    }
    for (int i = 0; i < 4; i++) ck_assert_int_gt(phases[i], 10);
    brim_dataset_close(data);
}
END_TEST

// How many windows there are, and how much later than the first token they may begin: at most by
// what is left, and by less than a window.
START_TEST(windows_and_their_slack) {
    static const int64_t cases[][3] = {{17, 2, 0}, {20, 2, 3}, {24, 2, 7},
                                       {25, 2, 7}, {26, 2, 7}, {33, 3, 7}};
    brim_dataset *data = counting(100);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        brim_error err = {0};
        brim_loader l;
        brim_loader_options options = {.data = data, .batch = 2, .sequence = 8, .end = cases[i][0]};
        ck_assert(brim_loader_init(&l, &options, &err));
        ck_assert_int_eq(l.windows, cases[i][1]);
        ck_assert_int_eq(l.slack, cases[i][2]);
    }
    brim_dataset_close(data);
}
END_TEST

START_TEST(the_last_positions) {
    brim_dataset *data = counting(100);
    brim_error err = {0};
    brim_loader l;
    brim_loader_options options = {.data = data, .batch = 2, .sequence = 4, .end = 100};
    ck_assert(brim_loader_init(&l, &options, &err));
    ck_assert(brim_loader_restore(&l, INT64_MAX / 2, &err) && l.position == INT64_MAX / 2);
    ck_assert(!brim_loader_restore(&l, INT64_MAX / 2 + 1, &err));
    ASSERT_FAILS(err, BRIM_FORMAT, "position 4611686018427387904 is beyond 2^62");
    options.sequential = true;
    ck_assert(brim_loader_init(&l, &options, &err));
    ck_assert(brim_loader_restore(&l, 91, &err) && l.position == 91);
    ck_assert(brim_loader_restore(&l, 100, &err) && l.position == 0);
    ck_assert(!brim_loader_restore(&l, 101, &err));
    ASSERT_FAILS(err, BRIM_FORMAT, "position 101 is not inside the 100");
    brim_fail(&err, BRIM_IO, "earlier");
    ck_assert(!brim_loader_restore(&l, 8, &err) && l.position == 0);
    brim_dataset_close(data);
}
END_TEST

START_TEST(the_least_data) {
    brim_dataset *data = counting(13);
    brim_error err = {0};
    brim_loader l;
    for (int sequential = 0; sequential < 2; sequential++) {
        brim_loader_options options = {
            .data = data, .batch = 3, .sequence = 4, .sequential = sequential};
        ck_assert(brim_loader_init(&l, &options, &err));
        ck_assert_int_eq(brim_loader_batches_per_epoch(&l), 1);
        for (int i = 0; i < 5; i++) {
            int32_t starts[3];
            next_batch(&l, starts);
            ck_assert_int_eq(starts[0] + starts[1] + starts[2], 12); // 0, 4, 8 in some order
        }
        options.end = 12;
        ck_assert(!brim_loader_init(&l, &options, &err));
        ASSERT_FAILS(err, BRIM_ARGUMENT,
                     "a batch of 3 x 4 takes 13 tokens with the last target, and there are 12");
    }
    brim_dataset_close(data);
}
END_TEST

START_TEST(wrong_options) {
    brim_dataset *data = counting(100);
    brim_error err = {0};
    brim_loader l;
    static const struct {
        int64_t batch, sequence, begin, end;
        const char *part;
    } cases[] = {
        {0, 4, 0, 0, "both must be at least 1"},
        {4, -1, 0, 0, "both must be at least 1"},
        {INT64_MAX, 2, 0, 0, "beyond 2^63"},
        {INT64_MAX, 1, 0, 0, "beyond 2^63"},
        {1, INT64_MAX - 1, 0, 0, "too little data"},
        {1, 4, -1, 50, "not a range of the 100"},
        {1, 4, 0, 101, "not a range of the 100"},
        {1, 4, 60, 50, "not a range of the 100"},
        {1, 4, 200, 0, "not a range of the 100"},
        {4, 0, 0, 0, "both must be at least 1"},
        {1, 1, 50, 50, "there are 0"},
        {1, 1, 50, 51, "there are 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        brim_loader_options options = {.data = data,
                                       .batch = cases[i].batch,
                                       .sequence = cases[i].sequence,
                                       .begin = cases[i].begin,
                                       .end = cases[i].end};
        ck_assert(!brim_loader_init(&l, &options, &err));
        ASSERT_FAILS(err, BRIM_ARGUMENT, cases[i].part);
    }
    brim_dataset_close(data);
}
END_TEST

START_TEST(tokens_beyond_the_vocabulary) {
    brim_dataset *data = counting(100);
    brim_error err = {0};
    brim_loader l;
    int32_t tokens[8], targets[8];
    brim_loader_options options = {
        .data = data, .batch = 2, .sequence = 4, .sequential = true, .vocabulary = 16};
    ck_assert(brim_loader_init(&l, &options, &err));
    ck_assert(brim_loader_next(&l, tokens, targets, &err));
    ck_assert(!brim_loader_next(&l, tokens, targets, &err)); // token 16 is only a target
    ck_assert_ptr_nonnull(strstr(err.text, "counting.bin"));
    ASSERT_FAILS(err, BRIM_FORMAT,
                 "token number 16 is 16, expected less than the vocabulary of 16");
    ck_assert_int_eq(l.position, 8);
    l.options.vocabulary = 17;
    ck_assert(brim_loader_next(&l, tokens, targets, &err));
    brim_dataset_close(data);
}
END_TEST

START_TEST(splits) {
    brim_error err = {0};
    int64_t split = 7;
    ck_assert(brim_loader_split(10000, 2, 8, 0.02, &split, &err) && split == 9800);
    ck_assert(brim_loader_split(100, 2, 8, 0.02, &split, &err) &&
              split == 83);                                                    // one batch at least
    ck_assert(brim_loader_split(101, 2, 8, 0.5, &split, &err) && split == 50); // rounded up
    ck_assert(brim_loader_split(4, 1, 1, 0.5, &split, &err) && split == 2);
    ck_assert(brim_loader_split(35, 2, 8, 0.5, &split, &err) && split == 17);
    ck_assert(!brim_loader_split(36, 2, 8, 0.54, &split, &err)); // 16 would be left
    ASSERT_FAILS(err, BRIM_ARGUMENT, "too little data");
    ck_assert(brim_loader_split(34, 2, 8, 0, &split, &err) && split == 17);
    ck_assert(!brim_loader_split(33, 2, 8, 0, &split, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "17 tokens with the last target, and there are 33 in all");
    ck_assert(!brim_loader_split(0, 2, 8, 0.5, &split, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "too little data");
    ck_assert(!brim_loader_split(20, 2, 8, 0.999, &split, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "too little data");
    ck_assert(!brim_loader_split(10000, 2, 8, 1, &split, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "fraction is 1");
    ck_assert(!brim_loader_split(10000, 2, 8, -0.1, &split, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "fraction is -0.1");
    ck_assert(!brim_loader_split(10000, 2, 8, 0.0 / 0.0, &split, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "fraction");
    ck_assert(!brim_loader_split(10000, INT64_MAX, 8, 0.1, &split, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "beyond 2^63");
    ck_assert_int_eq(split, 17);
}
END_TEST

Suite *core_loader_suite(void) {
    Suite *suite = suite_create("core/loader");
    TCase *tests = tcase_create("loader");
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, sequential_order);
    tcase_add_test(tests, sequential_range_that_fits_exactly);
    tcase_add_test(tests, shuffled_epochs_visit_each_window_once);
    tcase_add_test(tests, seeds_and_resuming);
    tcase_add_test(tests, shuffled_order_stays_as_it_was);
    tcase_add_test(tests, no_window_is_given_up_for_the_phase);
    tcase_add_test(tests, windows_and_their_slack);
    tcase_add_test(tests, the_last_positions);
    tcase_add_test(tests, the_least_data);
    tcase_add_test(tests, wrong_options);
    tcase_add_test(tests, tokens_beyond_the_vocabulary);
    tcase_add_test(tests, splits);
    suite_add_tcase(suite, tests);
    return suite;
}
