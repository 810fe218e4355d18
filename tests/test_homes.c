// What can leave the device, in which order, and where a choice puts it.
#include <string.h>
#include "graph/homes.h"
#include "test_passes.h"

static brim_error err;
static brim_graph *g;
static graph_schedule schedule;
static graph_layout layout;
static homes made;

static void train(brim_value p, brim_value gradient, const char *state) {
    brim_value one = brim_constant(g, 1);
    shape s = g->value[p.id].shape;
    brim_value m = graph_value_of(g, graph_leaf(g, ROLE_STATE, BRIM_F32, &s, state));
    graph_op(g, OP_SGD, (brim_value[]){p, m, gradient, one, one, one}, 6,
             &(brim_attr){.optimizer = {.beta1 = 0.5f, .lr_scale = 1}});
}

static brim_value product(brim_value a, brim_value b) {
    return brim_matmul(brim_cast(a, BRIM_BF16), brim_cast(b, BRIM_BF16));
}

// Parameters of 64 KiB (wide, still) and more (broad) are large, those of a byte less (thin) and
// less are small. wide and still are used as 16-bit copies; still and few are frozen.
static void open_step(void) {
    err = (brim_error){0};
    g = brim_graph_create(&err);
    brim_value x = brim_input(g, "x", BRIM_F32, 130, 128), y = brim_input(g, "y", BRIM_F32, 4, 8);
    brim_value wide = brim_parameter(g, "wide", normal, 128, 128),
               few = brim_parameter(g, "few", normal, 8, 2),
               still = brim_parameter(g, "still", normal, 128, 128),
               thin = brim_parameter(g, "thin", normal, 16383),
               broad = brim_parameter(g, "broad", normal, 128, 130);
    brim_value small = brim_matmul(y, few), large = product(x, wide), other = product(x, still),
               largest = brim_matmul(x, broad), only_forward = brim_matmul(largest, largest);
    brim_value named = brim_matmul(only_forward, x), once = brim_softmax(thin, -1);
    brim_value early = brim_softmax(brim_mul(thin, once), -1); // a gradient that is there at once
    brim_value again = brim_matmul(y, few);
    brim_output(named, "named");
    g->phase = PHASE_BACKWARD;
    brim_value back = product(brim_matmul_t(x, true, named, false), wide); // reads named and x
    brim_value gradient = brim_cast(brim_matmul(back, brim_cast(wide, BRIM_BF16)), BRIM_F32);
    brim_value used = brim_add(brim_sum(brim_matmul_t(large, true, other, false), NULL, 0, false),
                               brim_sum(brim_matmul_t(small, true, again, false), NULL, 0, false));
    brim_value of_broad = brim_matmul_t(x, true, largest, false);
    used = brim_add(used, brim_sum(brim_mul(once, early), NULL, 0, false));
    brim_output(used, "used");
    g->phase = PHASE_UPDATE;
    train(wide, gradient, "wide/m");
    train(thin, early, "thin/m");
    train(broad, of_broad, "broad/m");
    TAKE(pass_compute_copies(g, NULL, &err));
    // As passes would mark them: what is made once a step, and what is made again.
    for (node_id n = 0; n < g->nodes; n++) g->node[n].sections = SECTION_ALL;
    int products = 0;
    for (node_id n = 0; n < g->nodes; n++) {
        if (g->node[n].op == OP_SOFTMAX && g->value[g->node[n].input[0]].role == ROLE_PARAMETER)
            g->node[n].sections = SECTION_FIRST;
        const graph_node *node = &g->node[n];
        bool of_few = node->op == OP_MATMUL && node->phase == PHASE_FORWARD &&
                      g->value[node->input[1]].name &&
                      strcmp(g->value[node->input[1]].name, "few") == 0;
        if (of_few && products++) g->node[n].recomputed = true;
    }
    ck_assert_int_eq(products, 2);
    graph_schedule_make(g, &schedule, &err);
    graph_layout_make(g, &schedule, &layout, &err);
    homes_make(g, &layout, &made, &err);
    ASSERT_FINE(err);
}

static void close_step(void) {
    homes_free(&made);
    ck_assert(!made.unit && !made.units && !made.home);
    graph_layout_free(&layout);
    graph_schedule_free(&schedule);
    brim_graph_free(g);
}

static value_id named(const char *name) {
    for (value_id v = 0; v < g->values; v++)
        if (g->value[v].name && strcmp(g->value[v].name, name) == 0) return v;
    ck_abort_msg("no value is named %s", name);
}

// Large ones first, and of those the last that was made.
START_TEST(units_are_sorted) {
    static const struct {
        const char *parameter, *copy, *state;
        int64_t bytes;
    } rows[] = {{"broad", NULL, "broad/m", 128 * 130 * 4},
                {"still", "still/bf16", NULL, 65536},
                {"wide", "wide/bf16", "wide/m", 65536},
                {"thin", NULL, "thin/m", 65532},
                {"few", NULL, NULL, 64}};
    enum { ROWS = sizeof rows / sizeof *rows };
    ck_assert_int_eq(made.units, ROWS);
    for (int i = 0; i < ROWS; i++) {
        const home_unit *u = &made.unit[i];
        ck_assert_str_eq(g->value[u->parameter].name, rows[i].parameter);
        ck_assert_int_eq(u->bytes, rows[i].bytes);
        ck_assert_int_eq(u->copy, rows[i].copy ? named(rows[i].copy) : -1);
        ck_assert_int_eq(u->states, rows[i].state != NULL);
        if (!rows[i].state) {
            ck_assert(u->update == -1 && u->gradient == -1);
            continue;
        }
        ck_assert_int_eq(u->state[0], named(rows[i].state));
        const graph_node *update = &g->node[u->update];
        ck_assert_int_eq(update->input[0], u->parameter);
        ck_assert_int_eq(u->gradient, layout.of[update->input[rows[i].copy ? 3 : 2]].storage);
    }
}
END_TEST

// What both passes use, but for inputs, results, gradients, what is made once a step, and what is
// made again; large ones first, in the order in which they are made.
START_TEST(activations_are_what_waits) {
    static const struct {
        int64_t rows, columns, bytes;
    } rows[] = {{130, 130, 67600}, {4, 2, 32}, {130, 128, 33280}, {130, 128, 33280}};
    ck_assert_int_eq(made.activations, 4);
    for (int i = 0; i < 4; i++) {
        const graph_value *v = &g->value[made.activation[i]];
        ck_assert(!g->node[v->producer].recomputed && g->node[v->producer].op == OP_MATMUL);
        ck_assert(v->shape.dim[0] == rows[i].rows && v->shape.dim[1] == rows[i].columns);
        ck_assert_int_eq(shape_elements(&v->shape) * (int64_t)brim_dtype_bytes(v->dtype),
                         rows[i].bytes);
        ck_assert(i < 2 || made.activation[i] > made.activation[i - 1]);
    }
}
END_TEST

typedef struct row {
    homes_choice choice;
    const char *places;
} row;

// In small letters, of device, host and file; in capitals, where it is on the device all step long.
// '!': is updated on the host.
static void describe(char *text) {
    static const char *const names[] = {"broad", "broad/m", "still",    "still/bf16",
                                        "wide",  "wide/m",  "wide/bf16"};
    for (int i = 0; i < 7; i++) {
        value_id v = named(names[i]);
        *text++ = (made.whole[v] ? "DHF" : "dhf")[made.home[v]];
        value_id update = g->value[v].update;
        if (g->value[v].role == ROLE_PARAMETER && update >= 0 &&
            made.on_host[g->value[update].producer])
            *text++ = '!';
    }
    *text = '\0';
}

START_TEST(choices_have_places) {
    static const row rows[] = {
        {{0}, "ddddddd"},
        {{.hosted = 1}, "H!hddddd"},
        {{.hosted = 2}, "H!hhdddd"},
        {{.hosted = 3}, "H!hhdh!hH"},
        {{.hosted = 1, .device_updates = true}, "dhddddd"},
        {{.hosted = 3, .device_updates = true}, "dhhdhhd"},
        {{.streamed = 1}, "hdddddd"},
        {{.streamed = 3}, "hddhddh"},
        {{.hosted = 3, .streamed = 1}, "h!hhdh!hH"},
        {{.hosted = 3, .streamed = 3}, "h!hhhh!hh"},
        {{.hosted = 3, .streamed = 3, .device_updates = true}, "hhhhhhh"},
        {{.hosted = 3, .filed = 1}, "F!fhdh!hH"},
        {{.hosted = 3, .filed = 3}, "F!ffdf!fH"},
        {{.hosted = 3, .filed = 3, .streamed = 3, .device_updates = true}, "hffhffh"},
    };
    for (int way = 0; way < 2; way++) // each after others
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            const row *r = &rows[way ? sizeof rows / sizeof *rows - 1 - i : i];
            char text[40];
            homes_choose(&made, &r->choice);
            describe(text);
            ck_assert_msg(strcmp(text, r->places) == 0, "%s, expected %s", text, r->places);
        }
}
END_TEST

static int count_away(void) {
    int away = 0;
    for (value_id v = 0; v < g->values; v++) away += made.home[v] != SPACE_DEVICE;
    return away;
}

// Of a unit that is not trained there is no gradient; activations go in their order.
START_TEST(gradients_and_activations_go_to_the_host) {
    for (int n = 0; n <= 5; n++) {
        homes_choose(&made, &(homes_choice){.gradients = n});
        ck_assert_int_eq(count_away(), (n > 0) + (n > 2) + (n > 3));
        for (int i = 0; i < n; i++)
            if (made.unit[i].gradient >= 0)
                ck_assert_int_eq(made.home[made.unit[i].gradient], SPACE_HOST);
    }
    for (int n = 0; n <= made.activations + 1; n++) {
        int all = n < made.activations ? n : made.activations;
        homes_choose(&made, &(homes_choice){.offloaded = n});
        ck_assert_int_eq(count_away(), all);
        for (int i = 0; i < all; i++) ck_assert_int_eq(made.home[made.activation[i]], SPACE_HOST);
    }
}
END_TEST

Suite *homes_suite(void) {
    Suite *s = suite_create("homes");
    TCase *tests = tcase_create("homes");
    tcase_add_checked_fixture(tests, open_step, close_step);
    tcase_add_test(tests, units_are_sorted);
    tcase_add_test(tests, activations_are_what_waits);
    tcase_add_test(tests, choices_have_places);
    tcase_add_test(tests, gradients_and_activations_go_to_the_host);
    suite_add_tcase(s, tests);
    return s;
}
