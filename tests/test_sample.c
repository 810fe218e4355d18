// Sampling: from all tokens, from a nucleus, the likeliest, and until it is told to stop.
#include <check.h>
#include <math.h>
#include <string.h>
#include <brim/brim.h>
#include "examples/sample.h"
#include "tests/test_core.h"

enum { VOCABULARY = 5, LENGTH = 4, DRAWS = 4000 };
static const float probability[VOCABULARY] = {0.06f, 0.5f, 0.04f, 0.3f, 0.1f};

static brim_error err;

// The next token depends on the last one alone.
static brim_value logits_of(brim_graph *g, brim_value tokens) {
    brim_value table = brim_parameter(g, "table", (brim_init){0}, VOCABULARY, VOCABULARY);
    return brim_gather(table, tokens);
}

static brim_loss build(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)user;
    brim_value tokens = brim_input(g, "tokens", BRIM_I32, batch, length);
    brim_value targets = brim_input(g, "targets", BRIM_I32, batch, length);
    return brim_cross_entropy(logits_of(g, tokens), targets, -100);
}

static brim_loss build_next(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)user;
    brim_value tokens = brim_input(g, "tokens", BRIM_I32, batch, length);
    brim_value last = brim_input(g, "last", BRIM_I32, batch);
    brim_value rows = brim_reshape(logits_of(g, tokens), batch * length, VOCABULARY);
    brim_output(brim_gather(rows, last), "logits");
    return (brim_loss){0};
}

static brim_trainer *trainer;
static sample_options how;

// A model that gives each token its probability, whatever came before.
static void open_model(void) {
    err = (brim_error){0};
    trainer = brim_trainer_create(
        build, NULL, &(brim_trainer_options){.batch = 1, .length = LENGTH, .device = "opencl:0"},
        &err);
    how = (sample_options){.program =
                               brim_trainer_program(trainer, build_next, NULL, 1, LENGTH, &err),
                           .length = LENGTH,
                           .vocabulary = VOCABULARY,
                           .temperature = 1,
                           .top_p = 1,
                           .seed = 7};
    brim_trainer_prepare(trainer, &err);
    float table[VOCABULARY][VOCABULARY];
    for (int row = 0; row < VOCABULARY; row++)
        for (int i = 0; i < VOCABULARY; i++) table[row][i] = logf(probability[i]) + (float)row;
    brim_trainer_write(trainer, "table", table[0], (size_t)VOCABULARY * VOCABULARY, &err);
    ASSERT_FINE(err);
}

static void close_model(void) {
    brim_trainer_free(trainer);
}

// Draws, and expects tokens as often as `shares` (which need not sum to 1) says: within four
// standard deviations, and never where it says 0.
static void expect_shares(const float shares[VOCABULARY]) {
    static int32_t tokens[1 + DRAWS];
    int drawn[VOCABULARY] = {0};
    double sum = 0;
    tokens[0] = 1;
    ck_assert_int_eq(sample_tokens(&how, tokens, 1, DRAWS, &err), DRAWS);
    ASSERT_FINE(err);
    for (int i = 1; i <= DRAWS; i++) drawn[tokens[i]]++;
    for (int i = 0; i < VOCABULARY; i++) sum += shares[i];
    for (int i = 0; i < VOCABULARY; i++) {
        double p = shares[i] / sum, deviation = sqrt(DRAWS * p * (1 - p));
        ck_assert_msg(fabs(drawn[i] - DRAWS * p) <= 4 * deviation,
                      "token %d was drawn %d times of %d; expected %.0f +- %.0f", i, drawn[i],
                      DRAWS, DRAWS * p, 4 * deviation);
    }
}

START_TEST(draws_as_the_model_says) {
    expect_shares(probability);
}
END_TEST

START_TEST(temperature_sharpens) {
    float shares[VOCABULARY];
    for (int i = 0; i < VOCABULARY; i++) shares[i] = probability[i] * probability[i];
    how.temperature = 0.5;
    expect_shares(shares);
}
END_TEST

// The nucleus is the fewest tokens that reach top_p: below a sum of probabilities it ends with that
// token, above it takes one more.
START_TEST(draws_from_the_nucleus) {
    static const struct {
        double top_p;
        float shares[VOCABULARY];
    } rows[] = {
        {0, {0, 1, 0, 0, 0}},       {0.49, {0, 1, 0, 0, 0}},    {0.51, {0, 5, 0, 3, 0}},
        {0.79, {0, 5, 0, 3, 0}},    {0.81, {0, 5, 0, 3, 1}},    {0.89, {0, 5, 0, 3, 1}},
        {0.91, {0.6f, 5, 0, 3, 1}}, {0.95, {0.6f, 5, 0, 3, 1}}, {0.97, {6, 50, 4, 30, 10}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        how.top_p = rows[i].top_p;
        expect_shares(rows[i].shares);
    }
}
END_TEST

// The temperature comes first: at 0.5 the likeliest two have 0.94 of the probability.
START_TEST(nucleus_is_taken_at_the_temperature) {
    how.temperature = 0.5;
    how.top_p = 0.93;
    expect_shares((float[VOCABULARY]){0, 25, 0, 9, 0});
}
END_TEST

START_TEST(temperature_0_takes_the_likeliest) {
    how.temperature = 0;
    expect_shares((float[VOCABULARY]){0, 1, 0, 0, 0});
}
END_TEST

// Also where the text has grown longer than what the model sees.
START_TEST(goes_on_from_the_last_token) {
    float table[VOCABULARY][VOCABULARY] = {0};
    for (int row = 0; row < VOCABULARY; row++) table[row][(row + 1) % VOCABULARY] = 1;
    brim_trainer_write(trainer, "table", table[0], (size_t)VOCABULARY * VOCABULARY, &err);
    int32_t tokens[3 * LENGTH] = {2, 3};
    how.temperature = 0;
    sample_tokens(&how, tokens, 2, 3 * LENGTH - 2, &err);
    ASSERT_FINE(err);
    for (int i = 0; i < 3 * LENGTH; i++) ck_assert_int_eq(tokens[i], (2 + i) % VOCABULARY);
}
END_TEST

START_TEST(stops_when_told) {
    static volatile sig_atomic_t stop;
    int32_t tokens[4] = {1, -1, -1, -1};
    how.stop = &stop;
    stop = 0;
    ck_assert_int_eq(sample_tokens(&how, tokens, 1, 2, &err), 2);
    ck_assert_int_ge(tokens[2], 0);
    stop = 1;
    ck_assert_int_eq(sample_tokens(&how, tokens, 3, 1, &err), 0);
    ck_assert_int_eq(tokens[3], -1);
    ASSERT_FINE(err);
}
END_TEST

Suite *sample_suite(void) {
    Suite *s = suite_create("sample");
    TCase *tc = tcase_create("sample");
    tcase_add_checked_fixture(tc, open_model, close_model);
    tcase_add_test(tc, draws_as_the_model_says);
    tcase_add_test(tc, temperature_sharpens);
    tcase_add_test(tc, draws_from_the_nucleus);
    tcase_add_test(tc, nucleus_is_taken_at_the_temperature);
    tcase_add_test(tc, temperature_0_takes_the_likeliest);
    tcase_add_test(tc, goes_on_from_the_last_token);
    tcase_add_test(tc, stops_when_told);
    suite_add_tcase(s, tc);
    return s;
}
