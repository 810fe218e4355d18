// The verifiers of layouts and memory plans: each mistake is noticed.
#include <string.h>
#include "core/alloc.h"
#include "sandbox.h"
#include "test_graph.h"
#include "tests/random_homes.h"

static bool layout_fails(const planned *p) {
    brim_error err = {0};
    return graph_layout_verify(p->g, &p->schedule, &p->layout, &err) != BRIM_OK;
}

static bool plan_fails(const planned *p) {
    brim_error err = {0};
    return memory_plan_verify(p->g, &p->layout, &p->schedule, &p->request, &p->plan, &err) !=
           BRIM_OK;
}

START_TEST(corrupted_layouts_are_caught) {
    MAKE_GRAPH;
    brim_value in[3];
    brim_value o = packed_attention(g, in);
    brim_value y = brim_mul(o, brim_add(o, brim_constant(g, 1)));
    brim_value parts[] = {brim_relu(y), brim_neg(y)};
    brim_output(brim_sum(brim_concat(parts, 2, 3), NULL, 0, false), "sum");
    planned p;
    planned_make(&p, g, 1, false, &err);
    ck_assert(!layout_fails(&p));
    const graph_node *concat = planned_node(&p, OP_CONCAT, 0);
    value_id attention = planned_node(&p, OP_ATTENTION, 0)->first_output,
             sum = planned_storage(&p, "sum");
    value_id part = concat->input[0], slice = planned_node(&p, OP_SLICE, 1)->first_output;
    struct {
        value_id v;
        value_layout bad;
    } cases[] = {
        {part, layout_dense(concat->first_output, &p.g->value[part].shape)}, // not at its place
        {slice,
         p.layout.of[planned_node(&p, OP_SLICE, 0)->first_output]}, // another part of its input
        {sum, {.storage = sum, .offset = 1}},                       // outside its storage
        {sum, {.storage = -1}},
        {attention, {.storage = attention, .stride = {40, 4, 20, 1}}}, // not dense
        {attention, layout_dense(planned_storage(&p, "x"), &p.g->value[attention].shape)},
        {attention + 1,
         layout_dense(attention, &p.g->value[attention + 1].shape)}, // two outputs in one place
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        value_layout good = p.layout.of[cases[i].v];
        p.layout.of[cases[i].v] = cases[i].bad;
        ck_assert_msg(layout_fails(&p), "case %d", (int)i);
        p.layout.of[cases[i].v] = good;
        ck_assert(!layout_fails(&p));
    }
    planned_free(&p);
}
END_TEST

// A product may not overwrite its operand, and two outputs of a chain may not take the same input.
START_TEST(forbidden_takeovers_are_caught) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 4), a = brim_softmax(x, -1);
    brim_value b = brim_matmul(a, x), c = brim_neg(b);
    brim_output(brim_matmul(c, brim_relu(c)), "y");
    planned p;
    planned_make(&p, g, 1, true, &err);
    const graph_node *product = planned_node(&p, OP_MATMUL, 0),
                     *both = planned_node(&p, OP_FUSED, 0);
    ck_assert_int_eq(both->outputs, 2);
    value_id taken = p.layout.of[both->first_output].storage, out = product->first_output;
    ck_assert_int_eq(taken, out); // the first output does lie in the chain's input
    value_id second = both->first_output + 1;
    p.layout.of[second].storage = taken;
    ck_assert(layout_fails(&p));
    p.layout.of[second].storage = second;
    ck_assert(!layout_fails(&p));
    for (value_id v = out; v < p.g->values; v++)
        if (p.layout.of[v].storage == out) p.layout.of[v].storage = product->input[0];
    ck_assert(layout_fails(&p));
    planned_free(&p);
}
END_TEST

// One mistake each that no other check would notice.
START_TEST(each_rule_of_layouts_is_checked) {
    MAKE_GRAPH;
    shape s = {2, {4, 6}};
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6);
    brim_value soft = brim_softmax(x, -1), any = brim_relu(soft); // relu reads any strides
    brim_value dense = brim_softmax(any, -1);                     // softmax does not
    brim_value whole = brim_cast(brim_add(dense, soft), BRIM_I32);
    brim_value sum = graph_value_of(g, graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &s, "sum"));
    brim_value new = graph_op(g, OP_ACCUMULATE, (brim_value[]){sum, brim_neg(x)}, 2, NULL);
    brim_output(brim_cast(whole, BRIM_F32), "y");
    planned p;
    planned_make(&p, g, 1, false, &err);
    value_id soft_id = planned_node(&p, OP_SOFTMAX, 0)->first_output;
    value_id any_id = planned_node(&p, OP_SOFTMAX, 1)->input[0];
    value_id new_id = planned_node(&p, OP_ACCUMULATE, 0)->first_output, cast_id = -1;
    for (value_id v = 0; v < p.g->values; v++)
        if (p.g->value[v].dtype == BRIM_I32) cast_id = v;
    value_id cast_in = p.g->node[p.g->value[cast_id].producer].input[0]; // any strides will do
    value_id cast_from = p.layout.of[cast_in].storage;
    value_layout columns = {.stride = {1, 4}}, backwards = {.stride = {-6, 1}, .offset = 18};
    struct {
        value_id v;
        value_layout bad;
        bool own; // storage
    } cases[] = {
        {soft_id, columns, true},               // the producer cannot write so
        {any_id, columns, true},                // the reader cannot read so
        {soft_id, backwards, true},             // nobody goes backwards
        {new_id, layout_dense(new_id, &s)},     // an update outside of its variable
        {cast_id, layout_dense(cast_from, &s)}, // another dtype than its storage
        {cast_in, {.stride = {6, -1}, .offset = 5}, true},
        {cast_in, {.stride = {7, 1}}, true}, // rows apart leave less room
        {cast_in, {.stride = {6, 1}, .offset = 1}, true},
        {cast_in, {.stride = {6, 1}, .offset = -1}, true},
    };
    ck_assert(new.id >= 0 && !layout_fails(&p));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        value_layout good = p.layout.of[cases[i].v];
        if (cases[i].own) cases[i].bad.storage = cases[i].v;
        // Whoever lies in place of it gets a storage of its own, so that only the one rule is
        // broken.
        p.layout.of[cases[i].v] = cases[i].bad;
        value_layout *kept = brim_calloc_array((size_t)p.g->values, sizeof *kept, &err);
        memcpy(kept, p.layout.of, (size_t)p.g->values * sizeof *kept);
        for (value_id v = 0; v < p.g->values && cases[i].own; v++)
            if (v != cases[i].v && kept[v].storage == cases[i].v)
                p.layout.of[v] = layout_dense(v, &p.g->value[v].shape);
        brim_error found = {0};
        graph_layout_verify(p.g, &p.schedule, &p.layout, &found);
        static const char *const reasons[] = {"its producer cannot write",
                                              "its readers cannot take",
                                              "does not lie inside its storage",
                                              "not in its variable",
                                              "another dtype",
                                              "does not lie inside its storage",
                                              "does not lie inside its storage",
                                              "does not lie inside its storage",
                                              "does not lie inside its storage"};
        ck_assert_msg(strstr(found.text, reasons[i]), "case %d: %s", (int)i, found.text);
        memcpy(p.layout.of, kept, (size_t)p.g->values * sizeof *kept);
        p.layout.of[cases[i].v] = good;
        free(kept);
    }
    planned_free(&p);
}
END_TEST

// A variable is overwritten only when all have read it: the first value of a graph, and the others.
START_TEST(early_updates_are_caught) {
    for (int first = 0; first < 2; first++) {
        MAKE_GRAPH;
        shape s = {1, {4}};
        if (!first) brim_input(g, "before", BRIM_F32, 4);
        brim_value sum = graph_value_of(g, graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &s, "sum"));
        brim_value x = brim_input(g, "x", BRIM_F32, 4);
        brim_softmax(sum, -1);
        graph_op(g, OP_ACCUMULATE, (brim_value[]){sum, x}, 2, NULL);
        planned p = {.g = g};
        graph_schedule_make(g, &p.schedule, &err);
        graph_layout_make(g, &p.schedule, &p.layout, &err);
        ASSERT_FINE(err);
        ck_assert_int_eq(p.schedule.count, 2);
        ck_assert_int_eq(g->node[p.schedule.order[1]].op, OP_ACCUMULATE);
        p.schedule.order[0] = 1, p.schedule.order[1] = 0;
        graph_layout_verify(g, &p.schedule, &p.layout, &err);
        ASSERT_FAILS(err, BRIM_GRAPH, "overwrites a value that is read later");
        planned_free(&p);
    }
}
END_TEST

// An output that nobody reads may not share its place with one that is read.
START_TEST(unread_outputs_have_places) {
    MAKE_GRAPH;
    shape s = {2, {4, 6}};
    brim_value x = brim_softmax(brim_input(g, "x", BRIM_F32, 4, 6), -1);
    chain_step steps[] = {{.op = OP_NEG, .operand = {~0}}, {.op = OP_ABS, .operand = {~0}}};
    chain two = {2, 2, steps, (const int16_t[]){0, 1}};
    brim_value first =
        graph_op_shaped(g, OP_FUSED, &x, 1, &(brim_attr){.chain = &two}, BRIM_F32, &s);
    brim_value second = graph_output(first, 1);
    brim_output(brim_softmax(second, -1), "y");
    planned p = {.g = g};
    graph_schedule_make(g, &p.schedule, &err);
    graph_layout_make(g, &p.schedule, &p.layout, &err);
    ASSERT_FINE(err);
    ck_assert_int_ne(p.layout.of[first.id].storage, p.layout.of[second.id].storage);
    ck_assert_int_eq(p.layout.of[first.id].storage, x.id);
    for (value_id v = 0; v < g->values; v++)
        if (p.layout.of[v].storage == second.id) p.layout.of[v].storage = x.id;
    ck_assert(layout_fails(&p));
    planned_free(&p);
}
END_TEST

// Lets each output of random graphs take over each storage of its size: the verifier must refuse
// whatever changes what the graph computes.
START_TEST(wrong_takeovers_are_caught) {
    int tried = 0, refused = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        brim_error err = {0};
        planned p;
        planned_make(&p, sandbox_graph(seed, 25, 1, &err), 1, true, &err);
        sandbox_outcome plain, ran;
        sandbox_run_plain(p.g, 1, &plain);
        for (value_id v = 0; v < p.g->values; v++) {
            if (p.g->value[v].producer < 0 || p.layout.of[v].storage != v) continue;
            const graph_node *node = &p.g->node[p.g->value[v].producer];
            for (int32_t i = 0; i < node->inputs; i++) {
                value_id s = p.layout.of[node->input[i]].storage;
                if (p.g->value[s].dtype != p.g->value[v].dtype) continue;
                if (shape_elements(&p.g->value[s].shape) != shape_elements(&p.g->value[v].shape))
                    continue;
                value_layout *kept = brim_calloc_array((size_t)p.g->values, sizeof *kept, &err);
                memcpy(kept, p.layout.of, (size_t)p.g->values * sizeof *kept);
                for (value_id w = 0; w < p.g->values; w++)
                    if (p.layout.of[w].storage == v) p.layout.of[w].storage = s;
                tried++;
                if (layout_fails(&p)) {
                    refused++;
                } else {
                    planned_place(&p, &err);
                    ASSERT_FINE(err);
                    sandbox_run_planned(p.g, &p.layout, &p.schedule, &p.plan, 1, seed, &ran);
                    const char *difference = sandbox_difference(&plain, &ran);
                    ck_assert_msg(!difference, "seed %d: value %d in the storage of %d: %s differs",
                                  (int)seed, v, s, difference);
                    sandbox_outcome_free(&ran);
                }
                memcpy(p.layout.of, kept, (size_t)p.g->values * sizeof *kept);
                free(kept);
            }
        }
        sandbox_outcome_free(&plain);
        planned_free(&p);
    }
    ck_assert_int_gt(tried, 200);
    ck_assert_int_gt(refused, tried / 2);
}
END_TEST

START_TEST(corrupted_plans_are_caught) {
    brim_error err = {0};
    planned p;
    planned_small_step(&p, 1, &err);
    p.request.workspace = NULL;
    planned_place(&p, &err);
    ASSERT_FINE(err);
    ck_assert(!plan_fails(&p));
    for (value_id v = 0; v < p.g->values; v++) {
        storage_place *s = &p.plan.storage[v], good = *s;
        if (s->offset < 0) continue;
        static const int64_t shifts[] = {1, -64, INT64_MAX / 2};
        for (int i = 0; i < 3; i++) {
            s->offset = good.offset + shifts[i];
            bool free_below = shifts[i] == -64 && s->offset >= 0; // a gap below is no mistake
            ck_assert(plan_fails(&p) || free_below);
        }
        s->offset = -1;
        ck_assert(plan_fails(&p));
        *s = good;
        s->bytes = good.bytes - 1;
        ck_assert(plan_fails(&p));
        *s = good;
    }
    // Each pair that lives together, one moved onto the other.
    int together = 0;
    for (value_id a = 0; a < p.g->values; a++) {
        for (value_id b = 0; b < p.g->values; b++) {
            storage_place *x = &p.plan.storage[a], *y = &p.plan.storage[b], good = *x;
            if (a == b || x->offset < 0 || y->offset < 0 || x->last < y->first ||
                y->last < x->first)
                continue;
            for (int64_t shift = -1; shift <= 1; shift++) { // all of it, its end or its beginning
                x->offset = y->offset + (shift < 0 ? 64 - (x->bytes + 63) / 64 * 64
                                                   : shift * ((y->bytes - 1) / 64 * 64));
                ck_assert(plan_fails(&p));
            }
            *x = good;
            together++;
        }
    }
    ck_assert_int_gt(together, 20);
    p.plan.peak_bytes[SPACE_DEVICE] -= 64;
    ck_assert(plan_fails(&p));
    p.plan.peak_bytes[SPACE_DEVICE] += 64;
    p.request.guard_bytes = 64;
    ck_assert(plan_fails(&p));
    p.request.guard_bytes = 0;
    p.request.chunk_bytes = 64;
    ck_assert(plan_fails(&p));
    planned_free(&p);
}
END_TEST

// Two matrices of 256 bytes that live together, moved by hand behind all others: what just
// fits, and what just does not.
START_TEST(each_rule_of_plans_is_checked) {
    enum { BASE = 8192, BYTES = 256 };
    static const struct {
        int64_t offset[2], bytes, peak, guard, chunk;
        const char *why; // NULL: nothing is wrong
    } rows[] = {
        {{0, 256}, 256, 512, 0, 0, NULL},
        {{256, 0}, 256, 512, 0, 0, NULL},
        {{0, 256}, 256, 512, 0, 256, NULL},
        {{64, 384}, 256, 704, 64, 0, NULL},
        {{384, 64}, 256, 704, 64, 0, NULL},
        {{0, -1 - BASE}, 256, 512, 0, 0, "has no place"},
        {{0, 256}, 255, 512, 0, 0, "is too small"},
        {{0, 288}, 256, 1024, 0, 0, "is not aligned"},
        {{0, 256}, 256, 511, 0, 0, "ends above the peak"},
        {{64, 384}, 256, 703, 64, 0, "ends above the peak"},
        {{0, INT64_MAX / 64 * 64 - BASE}, 256, INT64_MAX - BASE, 0, 0, "is too small"},
        {{-BASE, 384}, 256, 704, 64, 0, "has no guard before it"},
        {{0, 320}, 256, 1024, 0, 512, "straddles two chunks"},
        {{0, 192}, 256, 512, 0, 0, "live at the same time"},
        {{192, 0}, 256, 512, 0, 0, "live at the same time"},
        {{64, 320}, 256, 1024, 64, 0, "live at the same time and have no guard between them"},
    };
    MAKE_GRAPH;
    brim_value a = brim_softmax(brim_input(g, "a", BRIM_F32, 8, 8), -1);
    brim_value b = brim_softmax(brim_input(g, "b", BRIM_F32, 8, 8), -1);
    brim_output(brim_matmul(a, b), "y");
    planned p;
    planned_make(&p, g, 1, true, &err);
    planned_place(&p, &err);
    ASSERT_FINE(err);
    storage_place *place[] = {&p.plan.storage[planned_node(&p, OP_SOFTMAX, 0)->first_output],
                              &p.plan.storage[planned_node(&p, OP_SOFTMAX, 1)->first_output]};
    // Others lie far before, each alone, and are right under all these rules.
    for (value_id v = 0; v < p.g->values; v++)
        if (p.plan.storage[v].offset >= 0) p.plan.storage[v].offset = BASE / 8 * (1 + v);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (int k = 0; k < 2; k++) {
            place[k]->offset = BASE + rows[i].offset[k];
            place[k]->bytes = k ? rows[i].bytes : BYTES;
        }
        p.plan.peak_bytes[SPACE_DEVICE] = BASE + rows[i].peak;
        p.request.guard_bytes = rows[i].guard;
        p.request.chunk_bytes = rows[i].chunk;
        brim_error found = {0};
        memory_plan_verify(p.g, &p.layout, &p.schedule, &p.request, &p.plan, &found);
        ck_assert_msg(rows[i].why ? strstr(found.text, rows[i].why) != NULL : !found.status,
                      "row %d: %s", (int)i, found.text);
    }
    planned_free(&p);
}
END_TEST

// Those that are taken exactly as long as they are used. Some are kept longer, all of the step, for
// what still runs when the next one has begun.
static int32_t places_of(planned *p, storage_place **place) {
    int32_t count = 0, end = p->schedule.count - 1;
    for (value_id v = 0; v < p->g->values; v++) {
        storage_place *home = &p->plan.storage[v];
        const graph_value *value = &p->g->value[v];
        bool variable = value->producer < 0 && value->role != ROLE_INPUT;
        if (home->offset >= 0 && (variable || home->first > 0 || home->last < end))
            place[count++] = home;
    }
    for (int32_t i = 0; i < p->plan.stays; i++) {
        storage_place *away = &p->plan.stay[i].place;
        if (away->first > 0 || away->last < end) place[count++] = away;
    }
    return count;
}

// The same with homes everywhere: what a copy comes from, and where it goes, is taken while it
// runs. Any two places that are taken at the same time are laid onto each other, apart from all the
// rest.
START_TEST(corrupted_streams_are_caught) {
    enum { APART = 1 << 20 };
    int together = 0, moments = 0;
    for (uint64_t seed = 0; seed < 24; seed++) {
        brim_error err = {0};
        planned p;
        int micro_batches = 1 + (int)seed % 3;
        planned_make(&p, sandbox_graph(seed, 12, micro_batches, &err), micro_batches, true, &err);
        random_homes h;
        random_homes_make(&h, &p, seed);
        p.request.times = NULL; // which keep places for longer
        planned_place(&p, &err);
        ASSERT_FINE(err);
        storage_place *place[200];
        ck_assert_int_le(p.g->values + p.plan.stays, 200);
        int32_t count = places_of(&p, place);
        for (int space = 0; space < SPACES; space++) p.plan.peak_bytes[space] = 3 * APART;
        for (int32_t i = 0; i < count; i++) {
            for (int32_t j = 0; j < count; j++) {
                storage_place *x = place[i], *y = place[j], good[] = {*x, *y};
                if (i == j || x->space != y->space || x->last < y->first || y->last < x->first ||
                    !x->bytes || !y->bytes)
                    continue;
                together++;
                moments += x->last == y->first;
                x->offset = y->offset = APART;
                ck_assert_msg(plan_fails(&p), "seed %d: %d..%d on %d..%d in space %d", (int)seed,
                              x->first, x->last, y->first, y->last, x->space);
                y->offset = 2 * APART;
                ck_assert(!plan_fails(&p));
                *x = good[0];
                *y = good[1];
            }
        }
        random_homes_free(&h);
        planned_free(&p);
    }
    ck_assert_int_gt(together, 2000);
    ck_assert_int_gt(moments, 200);
}
END_TEST

START_TEST(corrupted_workspaces_are_caught) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 8, 8);
    brim_output(brim_sum(brim_relu(x), NULL, 0, false), "sum");
    planned p;
    planned_make(&p, g, 1, true, &err);
    planned_place(&p, &err);
    ASSERT_FINE(err);
    node_id n = p.schedule.order[planned_position(&p, OP_SUM, 0)];
    storage_place *w = &p.plan.workspace[n], good = *w;
    ck_assert_int_eq(w->bytes, 100 + n);
    w->offset = p.plan.storage[planned_storage(&p, "sum")].offset;
    ck_assert(plan_fails(&p));
    w->offset = p.plan.storage[p.layout.of[p.g->node[n].input[0]].storage].offset;
    ck_assert(plan_fails(&p));
    *w = good;
    w->bytes = 10;
    ck_assert(plan_fails(&p));
    *w = (storage_place){.offset = -1};
    ck_assert(plan_fails(&p));
    *w = good;
    ck_assert(!plan_fails(&p));
    planned_free(&p);
}
END_TEST

Suite *plan_verify_suite(void) {
    Suite *s = suite_create("plan_verify");
    TCase *verify = tcase_create("verify");
    tcase_set_timeout(verify, 300);
    tcase_add_test(verify, corrupted_layouts_are_caught);
    tcase_add_test(verify, each_rule_of_layouts_is_checked);
    tcase_add_test(verify, early_updates_are_caught);
    tcase_add_test(verify, unread_outputs_have_places);
    tcase_add_test(verify, forbidden_takeovers_are_caught);
    tcase_add_test(verify, wrong_takeovers_are_caught);
    tcase_add_test(verify, corrupted_plans_are_caught);
    tcase_add_test(verify, each_rule_of_plans_is_checked);
    tcase_add_test(verify, corrupted_streams_are_caught);
    tcase_add_test(verify, corrupted_workspaces_are_caught);
    suite_add_tcase(s, verify);
    return s;
}
