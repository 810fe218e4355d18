#include <brim/report.h>
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include "core/journal.h"
#include "core/plot.h"
#include "core/utf8.h"
#include "test_core.h"

static void assert_contents(const char *path, const char *expected) {
    char *text = test_contents(path, NULL);
    ck_assert_str_eq(text, expected);
    free(text);
}

START_TEST(journal_lines) {
    brim_error err = {0};
    const char *path = test_path("new.jsonl");
    brim_journal *log = brim_journal_open(path, 0, &err);
    ASSERT_FINE(err);
    assert_contents(path, "");
    ck_assert(brim_journal_put(log, &err, {"step", 1}, {"loss", 0.1}, {"lr", 1e-8}));
    assert_contents(path, "{\"step\": 1, \"loss\": 0.1, \"lr\": 1e-08}\n"); // in the file at once
    ck_assert(brim_journal_put(log, &err, {"step", 2}, {"loss", NAN}, {"x", -INFINITY},
                               {"a \"b\"\n", 3}));
    ck_assert(brim_journal_note(log, "device", "c\\d", &err));
    ck_assert(brim_journal_write(log, NULL, 0, &err));
    brim_journal_close(log);
    brim_journal_close(NULL);
    assert_contents(path, "{\"step\": 1, \"loss\": 0.1, \"lr\": 1e-08}\n"
                          "{\"step\": 2, \"loss\": null, \"x\": null, \"a \\\"b\\\"\\u000a\": 3}\n"
                          "{\"device\": \"c\\\\d\"}\n"
                          "{}\n");
}
END_TEST

static const char old_log[] = "{\"device\": \"cpu\"}\n"
                              "{\"step\": 1, \"loss\": 4}\n"
                              "{ \"loss\": 3, \"step\": 2 } \n"
                              "{\"step\": 2, \"held_out_loss\": 3.5}\n"
                              "{\"step\": 3, \"loss\": 2}\n"
                              "{\"note\": \"step 9\"}\n"
                              "{\"step\": 10, \"loss\": 1}\n";

START_TEST(journal_goes_on_after_a_step) {
    brim_error err = {0};
    const char *path = test_file("old.jsonl", old_log, sizeof old_log - 1);
    brim_journal *log = brim_journal_open(path, 2, &err);
    ASSERT_FINE(err);
    ck_assert(brim_journal_put(log, &err, {"step", 3}));
    brim_journal_close(log);
    assert_contents(path, "{\"device\": \"cpu\"}\n"
                          "{\"step\": 1, \"loss\": 4}\n"
                          "{ \"loss\": 3, \"step\": 2 } \n"
                          "{\"step\": 2, \"held_out_loss\": 3.5}\n"
                          "{\"note\": \"step 9\"}\n"
                          "{\"step\": 3}\n");
}
END_TEST

START_TEST(journal_keeps_all_that_is_earlier) {
    brim_error err = {0};
    const char *path = test_file("old.jsonl", old_log, sizeof old_log - 1);
    struct stat before, after;
    ck_assert_int_eq(stat(path, &before), 0);
    brim_journal_close(brim_journal_open(path, 10, &err));
    ASSERT_FINE(err);
    assert_contents(path, old_log);
    ck_assert_int_eq(stat(path, &after), 0);
    ck_assert_uint_eq(before.st_ino, after.st_ino); // not even written anew
}
END_TEST

START_TEST(journal_after_a_crash) {
    brim_error err = {0};
    static const char cut[] = "{\"step\": 1}\n{\"step\": 2, \"lo";
    const char *path = test_file("cut.jsonl", cut, sizeof cut - 1);
    brim_journal *log = brim_journal_open(path, 5, &err);
    ASSERT_FINE(err);
    ck_assert(brim_journal_put(log, &err, {"step", 2}));
    brim_journal_close(log);
    assert_contents(path, "{\"step\": 1}\n{\"step\": 2}\n");
}
END_TEST

START_TEST(journal_leaves_other_files_alone) {
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"not a log\n", "line 1 is not a JSON object"},
        {"not a log", "line 1 is not a JSON object"},
        {"{\"step\": 1}\n[1]\n", "line 2 is not a JSON object"},
        {"{\"step\": 1}\n{\"step\": 2} x\n", "line 2 is not a JSON object"},
        {"{\"step\": 1}\n\n{\"step\": 2}\n", "line 2 is not a JSON object"},
        {"{\"step\": 1}\n{\"step\": \n", "line 2 is not a JSON object"},
        {"{\"step\": 1}\nrest", "line 2 is not a JSON object"},
    };
    brim_error err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = test_file("other", cases[i].text, strlen(cases[i].text));
        ck_assert_ptr_null(brim_journal_open(path, 0, &err));
        ck_assert_ptr_nonnull(strstr(err.text, path));
        ASSERT_FAILS(err, BRIM_FORMAT, cases[i].part);
        assert_contents(path, cases[i].text);
    }
    ck_assert_ptr_null(brim_journal_open(test_directory, 0, &err));
    ASSERT_FAILS(err, BRIM_IO, "is a directory");
    ck_assert_ptr_null(brim_journal_open("/nonexistent/log", 0, &err));
    ASSERT_FAILS(err, BRIM_IO, "/nonexistent/log cannot be opened");
    ck_assert(!brim_journal_put(NULL, &err, {"step", 1}));
}
END_TEST

START_TEST(journal_on_a_full_disk) {
    brim_error err = {0};
    brim_journal *log = brim_journal_open(test_path("full.jsonl"), 0, &err);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit former, limit;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &former), 0);
    limit = former;
    limit.rlim_cur = 5;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    bool written = brim_journal_put(log, &err, {"step", 1}, {"loss", 2});
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &former), 0);
    ck_assert(!written);
    ASSERT_FAILS(err, BRIM_IO, "full.jsonl cannot be written: File too large");
    brim_journal_close(log);
}
END_TEST

START_TEST(journal_is_read_back) {
    brim_error err = {0};
    static const char text[] =
        "{\"device\": \"cpu\"}\n{\"step\": 1, \"loss\": 4}\n"
        "{\"step\": 2, \"loss\": null}\n{\"step\": 2, \"held_out_loss\": 3.5}\n"
        "{\"step\": 3, \"loss\": 0.1, \"held_out_loss\": 1}\n{\"loss\": 7}\n{\"st";
    journal_column columns[] = {{.name = "loss"}, {.name = "held_out_loss"}, {.name = "none"}};
    ck_assert(journal_read(test_file("r.jsonl", text, sizeof text - 1), columns, 3, &err));
    ck_assert_uint_eq(columns[0].count, 2);
    ck_assert(columns[0].steps[0] == 1 && columns[0].values[0] == 4);
    ck_assert(columns[0].steps[1] == 3 && columns[0].values[1] == 0.1);
    ck_assert_uint_eq(columns[1].count, 2);
    ck_assert(columns[1].steps[0] == 2 && columns[1].values[1] == 1);
    ck_assert_uint_eq(columns[2].count, 0);
    for (int i = 0; i < 3; i++) journal_column_free(&columns[i]);
}
END_TEST

// --- progress ---

static int lines_of(const char *text) {
    int lines = 0;
    for (; *text; text++) lines += *text == '\n';
    return lines;
}

START_TEST(progress_in_a_file) {
    brim_error err = {0};
    FILE *out = fopen(test_path("progress"), "w");
    brim_progress *progress = brim_progress_open(out, &err);
    ASSERT_FINE(err);
    for (int step = 1; step <= 1000; step++)
        brim_progress_step(progress, step, 1000, "loss %d", step);
    brim_progress_say(progress, "saved %s", "step-1000");
    brim_progress_end(progress);
    brim_progress_close(progress);
    brim_progress_close(NULL);
    fclose(out);
    char *text = test_contents(test_path("progress"), NULL);
    ck_assert_int_eq(strncmp(text, "step 1/1000  loss 1\n", 20), 0);
    ck_assert_ptr_nonnull(strstr(text, "step 1000/1000  loss 1000\nsaved step-1000\n"));
    ck_assert_ptr_null(strchr(text, '\r'));
    ck_assert_int_le(lines_of(text),
                     4); // limited: the first, the last, what was said, and one on a slow machine
    free(text);
}
END_TEST

// The controlling side of a new terminal; *terminal is the side that a program writes to.
static int open_terminal(unsigned short columns, FILE **terminal) {
    int control = posix_openpt(O_RDWR | O_NOCTTY);
    ck_assert_int_ge(control, 0);
    ck_assert_int_eq(grantpt(control), 0);
    ck_assert_int_eq(unlockpt(control), 0);
    const char *name = ptsname(control);
    *terminal = fopen(name, "w");
    ck_assert_ptr_nonnull(*terminal);
    struct winsize size = {.ws_row = 24, .ws_col = columns};
    ck_assert_int_eq(ioctl(control, TIOCSWINSZ, &size), 0);
    return control;
}

static void read_terminal(int control, char *text, size_t size) {
    ck_assert_int_eq(fcntl(control, F_SETFL, O_NONBLOCK), 0);
    size_t length = 0;
    for (ssize_t count; (count = read(control, text + length, size - 1 - length)) > 0;) {
        length += (size_t)count;
    }
    text[length] = '\0';
}

// What a terminal would show in the end: carriage returns go to the line's beginning.
static void replay(const char *text, char screen[4][200]) {
    int row = 0, column = 0;
    memset(screen, 0, 4 * 200);
    for (; *text; text++) {
        if (*text == '\r')
            column = 0;
        else if (*text == '\n')
            row++;
        else
            screen[row][column++] = *text;
        ck_assert(row < 4 && column < 199);
    }
}

START_TEST(progress_on_a_terminal) {
    brim_error err = {0};
    FILE *terminal;
    int control = open_terminal(70, &terminal);
    brim_progress *progress = brim_progress_open(terminal, &err);
    char text[8192], screen[4][200];
    for (int step = 1; step <= 2000; step++) {
        brim_progress_step(progress, step, 4000, "loss %.2f with quite a long text behind it",
                           1.0 / step);
    }
    brim_progress_say(progress, "step 2000  saved");
    brim_progress_step(progress, 4000, 4000, "loss 0.5");
    read_terminal(control, text, sizeof text);
    replay(text, screen);
    ck_assert_int_lt((int)strlen(text), 2500); // 2,000 drawings would be 140,000
    ck_assert_int_eq(strncmp(screen[0], "step 2000  saved ", 17), 0);
    for (size_t i = 17; screen[0][i]; i++) ck_assert_int_eq(screen[0][i], ' ');
    ck_assert_int_eq(strncmp(screen[1], "[========================] 4000/4000  loss 0.5  ", 48), 0);
    ck_assert_uint_lt(strlen(screen[1]), 70);

    brim_progress_end(progress);
    fputs("next", terminal);
    fflush(terminal);
    char rest[1000];
    read_terminal(control, rest, sizeof rest);
    strcat(text, rest);
    replay(text, screen);
    ck_assert_int_eq(strncmp(screen[1], "next ", 5), 0);
    for (size_t i = 4; screen[1][i]; i++) ck_assert_int_eq(screen[1][i], ' ');
    brim_progress_close(progress);
    fclose(terminal);
    close(control);
}
END_TEST

START_TEST(progress_tells_the_time_left) {
    brim_error err = {0};
    FILE *terminal;
    int control = open_terminal(200, &terminal);
    brim_progress *progress = brim_progress_open(terminal, &err);
    brim_progress_step(progress, 100, 1000, "x"); // a resumed run: these steps took no time
    struct timespec pause = {.tv_nsec = 150000000};
    nanosleep(&pause, NULL);
    brim_progress_step(progress, 101, 1000, "x");
    char text[2000];
    read_terminal(control, text, sizeof text);
    ck_assert_int_eq(strncmp(text, "\r[=>......................] 100/1000  x", 38), 0);
    const char *left = strstr(text, "101/1000  x  ");
    ck_assert_ptr_nonnull(left);
    int minutes = 0, seconds = 0;
    ck_assert_int_eq(sscanf(left, "101/1000  x  %d min %d s left", &minutes, &seconds), 2);
    ck_assert_int_ge(minutes * 60 + seconds, 134); // 899 steps of 0.15 s at least
    ck_assert_int_lt(minutes, 30);
    brim_progress_step(progress, 0, 0, "no total"); // nothing to divide by
    brim_progress_close(progress);
    fclose(terminal);
    close(control);
}
END_TEST

START_TEST(utf8_is_measured) {
    ck_assert_uint_eq(utf8_columns(""), 0);
    ck_assert_uint_eq(utf8_columns("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), 4);
    ck_assert_uint_eq(utf8_columns("\xe4z\xff"), 3);
    ck_assert_uint_eq(utf8_prefix("a\xc3\xa4\xe2\x82\xac", 2), 3);
    ck_assert_uint_eq(utf8_prefix("a\xc3\xa4", 9), 3);
    ck_assert_uint_eq(utf8_prefix("\xe2\x82", 1), 1);
}
END_TEST

// --- charts ---

static const plot_options labels = {
    .title = "A < B & \"C\"", .x_label = "step", .y_label = "nats", .whole_x = true};

static int count_of(const char *text, const char *part) {
    int count = 0;
    for (; (text = strstr(text, part)); text++) count++;
    return count;
}

// All numbers of an SVG file are finite, and its texts are escaped.
static char *read_chart(const char *path) {
    char *text = test_contents(path, NULL);
    ck_assert_int_eq(strncmp(text, "<svg ", 5), 0);
    ck_assert_str_eq(text + strlen(text) - 7, "</svg>\n");
    ck_assert_ptr_null(strstr(text, "nan"));
    ck_assert_ptr_null(strstr(text, "inf"));
    return text;
}

START_TEST(chart_of_two_series) {
    brim_error err = {0};
    enum { N = 5000 };
    static double x[N], y[N];
    for (int i = 0; i < N; i++) {
        x[i] = i + 1;
        y[i] = 1.2 + 4.3 / (1 + 0.01 * i) + 0.1 * sin(i * 12.9898) * cos(i * 78.233);
    }
    const double held_x[] = {1000, 2000, 3000, 4000, 5000}, held_y[] = {1.7, 1.5, 1.4, 1.36, 1.34};
    const plot_series series[] = {
        {.name = "training", .x = x, .y = y, .count = N, .smooth = true},
        {.name = "held out <1>", .x = held_x, .y = held_y, .count = 5, .dots = true},
    };
    const char *path = test_path("loss.svg");
    ck_assert(plot_write(path, &labels, series, 2, &err));
    ASSERT_FINE(err);
    char *text = read_chart(path);
    ck_assert_uint_lt(strlen(text), 150000);
    ck_assert_ptr_nonnull(strstr(text, ">A &lt; B &amp; \"C\"</text>"));
    ck_assert_ptr_nonnull(strstr(text, ">held out &lt;1&gt;</text>"));
    ck_assert_int_eq(count_of(text, "<path "), 3); // pale points, their mean, held out
    ck_assert_int_eq(count_of(text, "<circle "), 5);
    ck_assert_int_eq(count_of(text, ">1.34</text>"), 1); // the last value
    static const char *const ticks[] = {">1000<", ">5000<", ">1<", ">6<"};
    for (int i = 0; i < 4; i++)
        ck_assert_msg(strstr(text, ticks[i]) != NULL, "no tick %s", ticks[i]);
    free(text);
}
END_TEST

// y grows upwards, and the data fill the axes.
START_TEST(chart_coordinates) {
    brim_error err = {0};
    const double x[] = {0, 10}, y[] = {0, 6};
    const plot_series series = {.name = "s", .x = x, .y = y, .count = 2};
    ck_assert(plot_write(test_path("c.svg"), &(plot_options){.width = 400, .height = 300}, &series,
                         1, &err));
    char *text = read_chart(test_path("c.svg"));
    ck_assert_ptr_nonnull(strstr(text, "<path d=\"M72.0 240.0L328.0 84.0\""));
    free(text);
}
END_TEST

START_TEST(charts_of_odd_data) {
    static const double zeros[3] = {0, 0, 0}, nans[3] = {NAN, NAN, NAN}, steps[3] = {1, 2, 3};
    static const double holes[3] = {1, NAN, 2}, wide[3] = {-1e299, 0, 1e299},
                        wild[3] = {1, INFINITY, 1.5e308};
    static const double negative[3] = {-1e9, -1e9 - 1e-7, -1e9}, tiny[3] = {1e-300, 2e-300, 3e-300};
    static const struct {
        const double *x, *y;
        size_t count;
    } cases[] = {
        {steps, zeros, 0}, {steps, zeros, 1},    {steps, zeros, 3},    {steps, nans, 3},
        {steps, holes, 3}, {steps, wide, 3},     {wide, steps, 3},     {steps, wild, 3},
        {zeros, steps, 3}, {steps, negative, 3}, {negative, steps, 3}, {steps, tiny, 3},
        {nans, steps, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        brim_error err = {0};
        plot_series series = {
            .name = "s", .x = cases[i].x, .y = cases[i].y, .count = cases[i].count, .smooth = true};
        ck_assert(plot_write(test_path("odd.svg"), &labels, &series, 1, &err));
        ASSERT_FINE(err);
        char *text = read_chart(test_path("odd.svg"));
        ck_assert_uint_lt(strlen(text), 20000); // no endless ticks
        free(text);
    }
    brim_error err = {0};
    ck_assert(plot_write(test_path("odd.svg"), &labels, NULL, 0, &err));
    plot_series many[7] = {{0}};
    ck_assert(!plot_write(test_path("odd.svg"), &labels, many, 7, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "7 series, expected at most 6");
    ck_assert(!plot_write("/nonexistent/a.svg", &labels, NULL, 0, &err));
    ASSERT_FAILS(err, BRIM_IO, "/nonexistent/a.svg");
}
END_TEST

START_TEST(chart_of_a_journal) {
    brim_error err = {0};
    const char *path = test_file("j.jsonl", old_log, sizeof old_log - 1);
    brim_journal *log = brim_journal_open(path, 10, &err);
    ck_assert(brim_journal_plot(log, test_path("j.svg"), &err));
    ASSERT_FINE(err);
    char *text = read_chart(test_path("j.svg"));
    ck_assert_int_eq(count_of(text, "<path "), 2);
    ck_assert_int_eq(count_of(text, ">training</text>"), 1);
    ck_assert_int_eq(count_of(text, ">held out</text>"), 1);
    free(text);
    brim_journal_close(log);

    log = brim_journal_open(test_path("empty.jsonl"), 0, &err);
    ck_assert(brim_journal_plot(log, test_path("empty.svg"), &err));
    free(read_chart(test_path("empty.svg")));
    brim_journal_close(log);
    ck_assert(!brim_journal_plot(NULL, test_path("never.svg"), &err));
}
END_TEST

START_TEST(small_things) {
    brim_error err = {0};
    char text[32], path[160];
    ck_assert_str_eq(brim_bytes_text(3435973837, text, sizeof text), "3.2 GiB");
    ck_assert_str_eq(brim_bytes_text(3435973837, text, 4), "3.2");
    int64_t bytes = 0;
    ck_assert(brim_bytes_parse("8G", "--vram", &bytes, &err) && bytes == (int64_t)8 << 30);
    ck_assert(!brim_bytes_parse("8X", "--vram", &bytes, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "--vram: \"8X\" is not a size");
    strcpy(path, test_path("some/deep/folder"));
    ck_assert(brim_folder_make(path, &err) && brim_folder_make(path, &err));
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

Suite *core_report_suite(void) {
    Suite *suite = suite_create("core/report");
    TCase *tests = tcase_create("report");
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_add_test(tests, journal_lines);
    tcase_add_test(tests, journal_goes_on_after_a_step);
    tcase_add_test(tests, journal_keeps_all_that_is_earlier);
    tcase_add_test(tests, journal_after_a_crash);
    tcase_add_test(tests, journal_leaves_other_files_alone);
    tcase_add_test(tests, journal_on_a_full_disk);
    tcase_add_test(tests, journal_is_read_back);
    tcase_add_test(tests, progress_in_a_file);
    tcase_add_test(tests, progress_on_a_terminal);
    tcase_add_test(tests, progress_tells_the_time_left);
    tcase_add_test(tests, utf8_is_measured);
    tcase_add_test(tests, chart_of_two_series);
    tcase_add_test(tests, chart_coordinates);
    tcase_add_test(tests, charts_of_odd_data);
    tcase_add_test(tests, chart_of_a_journal);
    tcase_add_test(tests, small_things);
    suite_add_tcase(suite, tests);
    return suite;
}
