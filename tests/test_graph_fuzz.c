// Random graphs of all ops on a device against the oracle, forward and backward, with and without
// the passes. What fails is made smaller and printed.
//
// The short form runs 1,000 graphs: 800 that share their kernels, and 200 with chains that are
// compiled for them. BRIM_TEST_LONG: ten times as many, from a seed of the clock.
// BRIM_TEST_GRAPHS=N and BRIM_TEST_GRAPH_SEED=N: as many as wanted, and which.
// BRIM_TEST_GRAPH="recipe": that one, as it was printed.
//
// A process of its own runs them, so that kernels are compiled once and a crash is a failure.
#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "test_core.h"
#include "tests/devices.h"
#include "tests/graph_check.h"
#include "tests/mistake.h"
#include "tests/random_graph.h"
#include "tests/recipe_shrink.h"
#include "tests/shared_modules.h"

enum { GRAPHS = 1000, LONG_GRAPHS = 10000, TOGETHER = 100, MOST_SHRUNK = 4, TRIES = 300 };
enum { MEMORY = 8 << 20 };
// Of each five graphs one has chains of its own.
enum { FUSED_ONE_IN = 5, MOST_NEW_KERNELS = 2 };

typedef struct report {
    bool no_device, done;
    int wrong, refused;
    int fused; // graphs with kernels of their own
    int kernels;
    graph_tally tally;
    char now[RECIPE_TEXT]; // the recipe that is being looked at
    char text[1 << 16];
} report;
static report *shared_report;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
    report *r = shared_report;
    size_t used = strlen(r->text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(r->text + used, sizeof r->text - used, format, arguments);
    va_end(arguments);
}

static long number_of(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : otherwise;
}

// Graphs -----------------------------------------------------------------------------------------

typedef struct fuzzer {
    harness h[GRAPH_SETUPS]; // opened when they are wanted
    const char *device;
    int setup;      // of the graphs that are drawn
    bool wide;      // the long form: all forms, both 16-bit types, another setup for each seed
    bool slow;      // the stand-in of CUDA: graphs are smaller
    brim_dtype low; // in the short form each device has one of the two
    uint64_t seed;
    graph_tally ignored; // of tries to make a graph smaller
} fuzzer;

// The device as the recipe wants it; NULL, with an error, where it cannot be opened.
static harness *harness_of(fuzzer *f, const recipe *r, brim_error *err) {
    harness *h = &f->h[r->setup % GRAPH_SETUPS];
    if (!h->device)
        harness_open_with(h, f->device, &graph_setups[r->setup % GRAPH_SETUPS], MEMORY, MEMORY,
                          err);
    return failed(err) ? NULL : h;
}

static void close_all(fuzzer *f) {
    shared_modules_end();
    for (int i = 0; i < GRAPH_SETUPS; i++) harness_close(&f->h[i]);
}

static graph_verdict look_at(fuzzer *f, const recipe *r, graph_tally *tally, char *why) {
    brim_error err = {0};
    harness *h = harness_of(f, r, &err);
    if (!h) {
        snprintf(why, GRAPH_WHY, "%.500s", err.text);
        return GRAPH_WRONG;
    }
    graph_verdict verdict = graph_check(h, r, tally, why);
    if (verdict != GRAPH_RIGHT) return verdict;
    return (r->training ? graph_check_precision : graph_check_differences)(r, tally, why);
}

static bool still_fails(const recipe *r, void *user) {
    char why[GRAPH_WHY];
    fuzzer *f = user;
    return look_at(f, r, &f->ignored, why) == GRAPH_WRONG;
}

static void tell(fuzzer *f, const recipe *r, const char *why) {
    char line[RECIPE_TEXT], *text = NULL;
    size_t bytes;
    recipe least = *r;
    say("%s\n  BRIM_TEST_GRAPH=\"%s\"\n", why, recipe_print(r, line, sizeof line));
    if (shared_report->wrong > MOST_SHRUNK) return;
    int tries = recipe_shrink(&least, still_fails, f, TRIES);
    char again[GRAPH_WHY];
    look_at(f, &least, &f->ignored, again);
    FILE *out = open_memstream(&text, &bytes);
    if (out) recipe_print_program(&least, out), fclose(out);
    say("after %d tries, with %d steps: %s\n  BRIM_TEST_GRAPH=\"%s\"\n%s\n", tries, least.steps,
        again, recipe_print(&least, line, sizeof line), text ? text : "");
    free(text);
}

static void check_one(fuzzer *f, const recipe *r) {
    char why[GRAPH_WHY];
    recipe_print(r, shared_report->now, sizeof shared_report->now);
    graph_verdict verdict = look_at(f, r, &shared_report->tally, why);
    if (verdict == GRAPH_RIGHT) return;
    shared_report->wrong += verdict == GRAPH_WRONG;
    shared_report->refused += verdict == GRAPH_REFUSED;
    tell(f, r, why);
}

static int expect(fuzzer *f, const recipe *r) {
    brim_error err = {0};
    harness *h = harness_of(f, r, &err);
    return h ? graph_check_expect(h, r) : 0;
}

// With kernels of their own, but few of them: each takes a tenth of a second to compile.
static void draw_fused(fuzzer *f, uint64_t *seed, recipe *out) {
    random_graph_kind kind = {.most_steps = 5,
                              .most_elements = f->slow ? 200 : 1200,
                              .setup = f->setup,
                              .fused = true,
                              .low = f->low};
    for (int tries = 0; tries < 1000; tries++) {
        int before = shared_modules_expected();
        kind.few_forms = *seed % (f->wide ? 2 : 4);
        random_graph(out, (*seed)++, &kind);
        int fresh = expect(f, out);
        if (fresh > 0 && (f->wide || shared_modules_expected() - before <= MOST_NEW_KERNELS)) {
            shared_report->fused++;
            break;
        }
        shared_modules_forget(before);
    }
}

// Those that share their kernels come first: what they need is there when the others are drawn.
static void draw_graphs(fuzzer *f, uint64_t *seed, recipe *list, long count) {
    random_graph_kind kind = {.most_steps = 12,
                              .most_elements = f->slow ? 300 : 2000,
                              .few_forms = true,
                              .setup = f->setup,
                              .low = f->low};
    long fused = count / FUSED_ONE_IN;
    for (long i = 0; i < count - fused; i++) {
        if (f->wide) kind.most_elements = f->slow ? 300 : *seed % 8 ? 1000 : 8000;
        random_graph(&list[i], (*seed)++, &kind);
        expect(f, &list[i]);
    }
    for (long i = count - fused; i < count; i++) draw_fused(f, seed, &list[i]);
}

static void check_graphs(fuzzer *f, long graphs) {
    recipe *list = calloc(TOGETHER, sizeof *list);
    uint64_t seed = f->seed * 1000000000;
    for (long done = 0; list && done < graphs; done += TOGETHER) {
        long count = graphs - done < TOGETHER ? graphs - done : TOGETHER;
        draw_graphs(f, &seed, list, count);
        for (long i = 0; i < count; i++) check_one(f, &list[i]);
    }
    free(list);
}

static void work(void) {
    const char *device = any_device_under_test(), *given = getenv("BRIM_TEST_GRAPH");
    shared_report->no_device = !device;
    if (!device) return;
    bool long_form = getenv("BRIM_TEST_LONG") != NULL;
    fuzzer f = {.device = device,
                .wide = long_form || getenv("BRIM_TEST_GRAPHS"),
                .slow = strncmp(device, "cuda", 4) == 0};
    f.low = f.wide ? BRIM_F32 : f.slow ? BRIM_BF16 : BRIM_F16;
    f.seed = (uint64_t)number_of("BRIM_TEST_GRAPH_SEED", long_form ? time(NULL) : 1);
    f.setup = f.wide ? (int)(f.seed % GRAPH_SETUPS) : 0;
    recipe r;
    shared_modules_begin(!long_form);
    if (!given)
        check_graphs(&f, number_of("BRIM_TEST_GRAPHS", long_form ? LONG_GRAPHS : GRAPHS));
    else if (recipe_read(given, &r))
        check_one(&f, &r);
    else
        say("BRIM_TEST_GRAPH is no recipe\n");
    shared_report->kernels = shared_modules_count();
    close_all(&f);
    shared_report->done = true;
}

static void print_report(const report *r) {
    const graph_tally *t = &r->tally;
    printf(
        "%lld graphs of %lld nodes, %d of them with kernels of their own; %d kernels; %lld runs\n"
        "%lld elements, of %lld of them the bound is loose, %lld are not finite; %lld derivatives "
        "against differences, %lld at kinks; %lld steps with 16 bits against those without\n",
        (long long)t->graphs, (long long)t->nodes, r->fused, r->kernels, (long long)t->runs,
        (long long)t->elements, (long long)t->loose, (long long)t->not_finite,
        (long long)t->differences, (long long)t->kinks, (long long)t->precisions);
    for (int op = 0; op < OP_COUNT; op++)
        printf("%s%s %lld", op ? ", " : "graphs by op: ", op_table[op].name,
               (long long)t->of_op[op]);
    printf("\n%s", r->text);
}

static void run_graphs(void) {
    void *memory =
        mmap(NULL, sizeof(report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    shared_report = memory;
    fflush(NULL);
    pid_t worker = fork();
    if (worker == 0) {
        work();
        _exit(0);
    }
    if (worker > 0) waitpid(worker, NULL, 0);
    if (!shared_report->no_device) print_report(shared_report);
}

static void forget_graphs(void) {
    if (shared_report) munmap(shared_report, sizeof *shared_report);
    shared_report = NULL;
}

// Tests ------------------------------------------------------------------------------------------

static bool looked_at_all(void) {
    ck_assert_ptr_nonnull(shared_report);
    return !shared_report->no_device && !getenv("BRIM_TEST_GRAPH") && !getenv("BRIM_TEST_GRAPHS");
}

START_TEST(graphs_are_right) {
    ck_assert_ptr_nonnull(shared_report);
    if (shared_report->no_device) {
        any_device_under_test(); // says why
        return;
    }
    ck_assert_msg(shared_report->done, "the process died, at BRIM_TEST_GRAPH=\"%.3000s\"",
                  shared_report->now);
    ck_assert_msg(shared_report->wrong + shared_report->refused == 0,
                  "%d graphs are wrong, %d are no graphs (see above)", shared_report->wrong,
                  shared_report->refused);
}
END_TEST

START_TEST(every_op_takes_part) {
    if (!looked_at_all()) return;
    for (int op = 0; op < OP_COUNT; op++)
        ck_assert_msg(shared_report->tally.of_op[op] > 0, "%s is in no graph", op_table[op].name);
    ck_assert_int_ge(shared_report->tally.graphs, GRAPHS);
    ck_assert_int_ge(shared_report->fused, GRAPHS / FUSED_ONE_IN);
}
END_TEST

// What could be anything is not compared.
START_TEST(bounds_mean_something) {
    if (!looked_at_all()) return;
    const graph_tally *t = &shared_report->tally;
    ck_assert_int_gt(t->elements, 1000 * t->graphs);
    ck_assert_int_lt(t->loose * 100, t->elements);
    ck_assert_int_lt(t->not_finite * 100, t->elements);
    ck_assert_int_gt(t->differences, t->graphs / 4);
    ck_assert_int_lt(t->kinks * 5, t->differences);
    ck_assert_int_gt(t->precisions, t->graphs / 20);
}
END_TEST

// ---- mistakes -----------------------------------------------------------------------------------

// Each must be found within so many graphs, and shrink to so few steps.
enum { FOUND_WITHIN = 100, LEFT_STEPS = 4 };
static const struct {
    const char *from, *to;
    bool fused; // shows in chains only
} mistakes[] = {
    {"= v_max(a, b);", "= v_min(a, b);", false},
    {"#define WEIGHT(i) load(TY, result, i)", "#define WEIGHT(i) 1.0f", false},
    {"round_to_v(f16, ", "(", true},
};
enum { MISTAKES = sizeof mistakes / sizeof *mistakes };

START_TEST(a_mistake_is_found_and_shrinks) {
    const char *device = any_device_under_test();
    if (!device || strncmp(device, "cuda", 4) == 0) return; // once is enough
    brim_error err = {0};
    static fuzzer f;
    f.device = device;
    shared_modules_begin(true);
    random_graph_kind kind = {.most_steps = 6, .most_elements = 100, .few_forms = true};
    kind.fused = mistakes[_i].fused;
    kind.low = BRIM_F16;
    recipe r = {0};
    char why[GRAPH_WHY] = "", line[RECIPE_TEXT];
    int graphs = 0;
    harness *h = harness_of(&f, &r, &err);
    ASSERT_FINE(err);
    mistake_begin(h, mistakes[_i].from, mistakes[_i].to);
    while (graphs < FOUND_WITHIN && !*why) {
        random_graph(&r, (uint64_t)graphs++, &kind);
        if (graph_check(h, &r, &f.ignored, why) != GRAPH_WRONG) *why = '\0';
    }
    ck_assert_msg(mistake_places() > 0, "no kernel holds \"%s\" any more: mend this row",
                  mistakes[_i].from);
    ck_assert_msg(*why, "\"%s\" for \"%s\" passes", mistakes[_i].to, mistakes[_i].from);
    recipe_shrink(&r, still_fails, &f, TRIES);
    ck_assert_msg(still_fails(&r, &f) && r.steps <= LEFT_STEPS, "graph %d shrank to %d steps: %s",
                  graphs, r.steps, recipe_print(&r, line, sizeof line));
    mistake_end(h);
    ck_assert_msg(!still_fails(&r, &f), "fails without the mistake, too");
    close_all(&f);
}
END_TEST

// What is printed ---------------------------------------------------------------------------------

static void draw_any(recipe *r, uint64_t seed) {
    random_graph(r, seed, &(random_graph_kind){.most_steps = 20, .most_elements = 1000});
}

START_TEST(recipes_read_back) {
    for (uint64_t seed = 0; seed < 200; seed++) {
        recipe r, again;
        char line[RECIPE_TEXT], second[RECIPE_TEXT];
        draw_any(&r, seed);
        ASSERT_QUICKLY(recipe_read(recipe_print(&r, line, sizeof line), &again));
        ASSERT_QUICKLY(strcmp(line, recipe_print(&again, second, sizeof second)) == 0);
        ASSERT_QUICKLY(again.steps == r.steps && again.seed == r.seed);
    }
    recipe r;
    ck_assert(!recipe_read("seed=1 ; nothing %0", &r));
    ck_assert(!recipe_read("seed=1 ; exp %0", &r));
    ck_assert(!recipe_read("dice=1 ; input 0 0 0 1 3", &r));
    ck_assert(!recipe_read("seed=1 ; input 0 0 0 1 3 and more", &r));
}
END_TEST

START_TEST(printed_programs_compile) {
    for (uint64_t seed = 0; seed < 4; seed++) {
        recipe r;
        char command[600];
        const char *path = test_path("graph.c");
        draw_any(&r, seed);
        FILE *out = fopen(path, "w");
        ck_assert_ptr_nonnull(out);
        recipe_print_program(&r, out);
        fclose(out);
        snprintf(command, sizeof command,
                 "cc -std=gnu11 -Wall -Werror -fsyntax-only -I%s -I%s/include %s", BRIM_SOURCE_DIR,
                 BRIM_SOURCE_DIR, path);
        ck_assert_msg(system(command) == 0, "%s", command);
    }
}
END_TEST

Suite *graph_fuzz_suite(void) {
    Suite *suite = suite_create("graph_fuzz");
    TCase *tests = tcase_create("graphs");
    tcase_add_unchecked_fixture(tests, run_graphs, forget_graphs);
    tcase_add_test(tests, graphs_are_right);
    tcase_add_test(tests, every_op_takes_part);
    tcase_add_test(tests, bounds_mean_something);
    suite_add_tcase(suite, tests);
    TCase *planted = tcase_create("mistakes");
    tcase_set_timeout(planted, 600);
    tcase_add_loop_test(planted, a_mistake_is_found_and_shrinks, 0, MISTAKES);
    suite_add_tcase(suite, planted);
    TCase *printed = tcase_create("printed");
    tcase_add_unchecked_fixture(printed, make_test_directory, remove_test_directory);
    tcase_set_timeout(printed, 60);
    tcase_add_test(printed, recipes_read_back);
    tcase_add_test(printed, printed_programs_compile);
    suite_add_tcase(suite, printed);
    return suite;
}
