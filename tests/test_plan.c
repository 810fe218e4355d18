// Schedule and memory plan: that plans compute what the graph says, and where they put what.
#include <stdio.h>
#include <string.h>
#include "graph/passes.h"
#include "sandbox.h"
#include "test_graph.h"
#include "tests/planned.h"

// Runs a random graph from its plan, and compares with the graph as it was built.
static void run_random(uint64_t seed, int micro_batches, bool fuse) {
    brim_error err = {0};
    planned p;
    brim_graph *g = sandbox_graph(seed, 10 + (int)(seed % 50), micro_batches, &err);
    ASSERT_FINE(err);
    sandbox_outcome plain, ran;
    sandbox_run_plain(g, micro_batches, &plain);
    brim_graph *kept = g; // names in `plain` belong to it
    g = pass_prune(g, &err);
    ASSERT_FINE(err);
    planned_make(&p, g, micro_batches, fuse, &err);
    uint64_t random = seed;
    p.request.guard_bytes = sandbox_below(&random, 2) ? 64 : 0;
    p.request.chunk_bytes = sandbox_below(&random, 2) ? 4096 : 0;
    p.request.transient_base[SPACE_DEVICE] = sandbox_below(&random, 2) ? 1000 : 0;
    planned_place(&p, &err);
    ASSERT_FINE(err);
    sandbox_run_planned(p.g, &p.layout, &p.schedule, &p.plan, micro_batches, seed, &ran);
    const char *difference = sandbox_difference(&plain, &ran);
    ck_assert_msg(!difference, "seed %d, %d micro-batches, fusion %d: %s differs", (int)seed,
                  micro_batches, fuse, difference);
    sandbox_outcome_free(&plain);
    sandbox_outcome_free(&ran);
    brim_graph_free(kept);
    planned_free(&p);
}

START_TEST(plans_compute_the_graph) {
    for (int seed = 0; seed < 60; seed++)
        for (int micro_batches = 1; micro_batches <= 3; micro_batches++)
            run_random((uint64_t)(_i * 1000 + seed), micro_batches, seed % 4 != 0);
}
END_TEST

START_TEST(updates_follow_readers) {
    brim_error err = {0};
    planned p;
    planned_small_step(&p, 1, &err);
    planned_place(&p, &err);
    ASSERT_FINE(err);
    // dW1 is updated only after the product that still reads W1; its gradient dies there.
    int update = planned_position(&p, OP_SGD, 0), reader = planned_position(&p, OP_MATMUL, 3);
    ck_assert_int_eq(update, reader + 1);
    const graph_node *sgd = &p.g->node[p.schedule.order[update]];
    ck_assert_str_eq(p.g->value[sgd->input[0]].name, "w1");
    ck_assert_int_eq(p.plan.storage[sgd->input[2]].last, update);
    for (int j = 0; j < 2; j++)
        ck_assert_int_eq(p.layout.of[sgd->first_output + j].storage, sgd->input[j]);
    planned_free(&p);
}
END_TEST

// Of two nodes that are ready the one that frees more than it makes runs first.
START_TEST(memory_is_freed_early) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 8, 8);
    brim_value a = brim_softmax(x, -1), b = brim_log_softmax(x, -1);
    brim_value c = brim_matmul(a, a),
               d = brim_sum(b, NULL, 0, false); // c makes as much as a's death frees
    brim_value e = brim_sum(c, NULL, 0, false);
    brim_output(brim_add(d, e), "y");
    graph_schedule schedule;
    graph_schedule_make(g, &schedule, &err);
    ASSERT_FINE(err);
    static const op_id expected[] = {OP_SOFTMAX, OP_LOG_SOFTMAX, OP_SUM, OP_MATMUL,
                                     OP_SUM,     OP_ADD,         OP_COPY};
    for (int i = 0; i < schedule.count; i++)
        ck_assert_int_eq(g->node[schedule.order[i]].op, expected[i]);
    graph_schedule_free(&schedule);
    FREE_GRAPH;
}
END_TEST

// A node that was ready already is preferred from when it has become the last reader of something.
START_TEST(last_readers_are_preferred) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 8, 8), b = brim_softmax(x, -1);
    brim_value q = brim_sum(b, NULL, 0, false), m = brim_matmul(x, x),
               r = brim_max(b, NULL, 0, false);
    brim_output(brim_add(brim_add(q, r), brim_sum(m, NULL, 0, false)), "y");
    graph_schedule schedule;
    graph_schedule_make(g, &schedule, &err);
    ASSERT_FINE(err);
    static const op_id expected[] = {OP_SOFTMAX, OP_SUM, OP_MAX, OP_ADD, OP_MATMUL, OP_SUM, OP_ADD};
    for (int i = 0; i < schedule.count; i++)
        ck_assert_int_eq(g->node[schedule.order[i]].op, expected[i]);
    graph_schedule_free(&schedule);
    FREE_GRAPH;
}
END_TEST

// What leads to updates runs when it can, not after all gradients.
START_TEST(norms_follow_gradients) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 8, 8), y[2], norm[2];
    g->phase = PHASE_BACKWARD;
    for (int i = 0; i < 2; i++) y[i] = brim_matmul_t(x, i, x, false);
    g->phase = PHASE_UPDATE;
    for (int i = 0; i < 2; i++) norm[i] = brim_exp(y[i]);
    brim_output(brim_add(norm[0], norm[1]), "y");
    graph_schedule schedule;
    graph_schedule_make(g, &schedule, &err);
    ASSERT_FINE(err);
    static const op_id expected[] = {OP_MATMUL, OP_EXP, OP_MATMUL, OP_EXP, OP_ADD};
    for (int i = 0; i < schedule.count; i++)
        ck_assert_int_eq(g->node[schedule.order[i]].op, expected[i]);
    graph_schedule_free(&schedule);
    FREE_GRAPH;
}
END_TEST

// Made once a step, read by every micro-batch, and by another node that is run once and could be in
// its place.
START_TEST(invariants_are_not_overwritten) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4),
               w = brim_parameter(g, "w", ((brim_init){BRIM_NORMAL, 1}), 4);
    brim_value once = brim_softmax(w, -1), read = brim_mul(x, once);
    g->phase = PHASE_BACKWARD; // another chain than `read`, though the same ops
    brim_output(brim_add(read, brim_softmax(brim_neg(once), -1)), "y");
    sandbox_outcome plain, ran;
    sandbox_run_plain(g, 3, &plain);
    brim_graph *kept = g;
    planned p;
    planned_make(&p, pass_prune(g, &err), 3, true, &err);
    planned_place(&p, &err);
    ASSERT_FINE(err);
    sandbox_run_planned(p.g, &p.layout, &p.schedule, &p.plan, 3, 1, &ran);
    ck_assert_ptr_null(sandbox_difference(&plain, &ran));
    value_id owner = planned_node(&p, OP_SOFTMAX, 0)->first_output,
             taker = planned_node(&p, OP_FUSED, 1)->first_output;
    ck_assert_int_eq(p.layout.of[taker].storage, taker);
    for (value_id v = 0; v < p.g->values; v++)
        if (p.layout.of[v].storage == taker) p.layout.of[v].storage = owner;
    graph_layout_verify(p.g, &p.schedule, &p.layout, &err);
    ASSERT_FAILS(err, BRIM_GRAPH, "overwrites a value that is read later");
    sandbox_outcome_free(&plain);
    sandbox_outcome_free(&ran);
    brim_graph_free(kept);
    planned_free(&p);
}
END_TEST

START_TEST(reading_behind_an_update_is_refused) {
    MAKE_GRAPH;
    shape s = {1, {4}};
    brim_value sum = graph_value_of(g, graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &s, "sum"));
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    brim_value new = graph_op(g, OP_ACCUMULATE, (brim_value[]){sum, x}, 2, NULL);
    brim_output(brim_add(new, sum), "both");
    graph_schedule schedule;
    ASSERT_FINE(err);
    ck_assert_int_ne(graph_schedule_make(g, &schedule, &err), BRIM_OK);
    ASSERT_FAILS(err, BRIM_GRAPH,
                 "\"sum\" from before its update is read by a node that depends on the update");
    ck_assert_ptr_null(schedule.order);
    FREE_GRAPH;
}
END_TEST

START_TEST(persistent_storages_come_first) {
    brim_error err = {0};
    planned p;
    planned_small_step(&p, 2, &err);
    p.request.transient_base[SPACE_DEVICE] = 500;
    p.request.guard_bytes = 32;
    planned_place(&p, &err);
    ASSERT_FINE(err);
    int64_t next = 0;
    for (value_id v = 0; v < p.g->values; v++) {
        const storage_place *s = &p.plan.storage[v];
        value_role role = p.g->value[v].role;
        if (s->offset < 0) continue;
        ck_assert_int_ge(s->offset, 532);
        if (role == ROLE_RESULT || role == ROLE_INPUT) {
            ck_assert_int_ge(s->offset, p.plan.persistent_bytes[SPACE_DEVICE]);
        } else {
            ck_assert_int_ge(s->offset, next);
            next = s->offset + s->bytes + 32;
            ck_assert_int_le(next, p.plan.persistent_bytes[SPACE_DEVICE]);
            ck_assert(s->first == 0 && s->last == p.schedule.count - 1);
        }
    }
    // w0, w1, g0, g1, m0, m1: 2048 bytes each; the control block: all its slots
    ck_assert_int_eq(p.plan.storage[planned_storage(&p, "lr")].bytes, 4 * CONTROL_COUNT);
    ck_assert_int_eq(planned_storage(&p, "lr"), planned_storage(&p, "bias1"));
    planned_free(&p);
}
END_TEST

static int64_t elsewhere(const brim_graph *g, value_id v, void *user) {
    (void)user;
    return strcmp(g->value[v].name, "w0") == 0   ? 0
           : strcmp(g->value[v].name, "w1") == 0 ? 4096
                                                 : -1;
}

START_TEST(programs_share_variables) {
    brim_error err = {0};
    planned p;
    planned_small_step(&p, 1, &err);
    p.request.persistent = elsewhere;
    p.request.transient_base[SPACE_DEVICE] = 6144;
    planned_place(&p, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(p.plan.storage[planned_storage(&p, "w0")].offset, 0);
    ck_assert_int_eq(p.plan.storage[planned_storage(&p, "w1")].offset, 4096);
    ck_assert_int_ge(p.plan.storage[planned_storage(&p, "m0")].offset, 6144);
    p.request.transient_base[SPACE_DEVICE] = 4096; // would put m0 onto w1
    planned_place(&p, &err);
    ck_assert_msg(strstr(err.text, "(w1) at 4096..6144") && strstr(err.text, "(m0) at 4096..6144"),
                  "%s", err.text);
    ASSERT_FAILS(err, BRIM_MEMORY, "live at the same time");
    planned_free(&p);
}
END_TEST

START_TEST(invariant_values_live_through_the_step) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 4),
               w = brim_parameter(g, "w", ((brim_init){0}), 4, 4);
    brim_value copy = brim_cast(w, BRIM_BF16);
    brim_value y = brim_matmul(brim_cast(x, BRIM_BF16), copy);
    for (int i = 0; i < 5; i++) y = brim_matmul(y, y);
    brim_output(y, "y");
    planned p;
    planned_make(&p, g, 4, true, &err);
    planned_place(&p, &err);
    ASSERT_FINE(err);
    const graph_node *cast = planned_node(&p, OP_FUSED, 0);
    if (cast->sections != SECTION_FIRST) cast = planned_node(&p, OP_FUSED, 1);
    ck_assert_int_eq(cast->sections, SECTION_FIRST);
    const storage_place *s = &p.plan.storage[cast->first_output];
    ck_assert_int_eq(s->first, 0);
    ck_assert_int_eq(s->last, p.schedule.count - 1);
    planned_free(&p);
}
END_TEST

// One part is written once a step, the other by every micro-batch, and what reads both could run in
// place.
START_TEST(invariant_parts_are_not_overwritten) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4),
               w = brim_parameter(g, "w", ((brim_init){BRIM_ONES}), 4);
    brim_value parts[] = {brim_neg(w), brim_relu(x)};
    brim_output(brim_reshape(brim_softmax(brim_concat(parts, 2, 0), -1), 2, 4), "y");
    sandbox_outcome plain, ran;
    sandbox_run_plain(g, 3, &plain);
    brim_graph *kept = g;
    planned p;
    planned_make(&p, pass_prune(g, &err), 3, true, &err);
    planned_place(&p, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(planned_parts(&p), 2);
    sandbox_run_planned(p.g, &p.layout, &p.schedule, &p.plan, 3, 1, &ran);
    ck_assert_ptr_null(sandbox_difference(&plain, &ran));
    sandbox_outcome_free(&plain);
    sandbox_outcome_free(&ran);
    brim_graph_free(kept);
    planned_free(&p);
}
END_TEST

START_TEST(storage_beyond_a_chunk_is_named) {
    brim_error err = {0};
    planned p;
    planned_small_step(&p, 1, &err);
    p.request.chunk_bytes = 1024;
    planned_place(&p, &err);
    ASSERT_FAILS(err, BRIM_MEMORY,
                 "memory plan: \"w0\": 2048 bytes in one piece; the device allocates at most 1024");
    p.request.chunk_bytes = 100;
    planned_place(&p, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "chunk 100");
    planned_free(&p);
}
END_TEST

START_TEST(plan_prints) {
    brim_error err = {0};
    planned p;
    planned_small_step(&p, 1, &err);
    planned_place(&p, &err);
    ASSERT_FINE(err);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    memory_plan_print(p.g, &p.plan, out);
    fclose(out);
    ck_assert_ptr_nonnull(strstr(text, " w0: 2048 bytes at 0, live 0..7\n"));
    ck_assert_ptr_nonnull(strstr(text, "parameters: 2 storages, 4096 bytes\n"));
    ck_assert_ptr_nonnull(strstr(text, "states: 2 storages, 4096 bytes\n"));
    ck_assert_ptr_nonnull(strstr(text, "1.0000 of the lower bound\n"));
    free(text);
    planned_free(&p);
}
END_TEST

// One number each that makes no sense.
START_TEST(requests_are_checked) {
    const struct {
        int64_t alignment, chunk, guard, base[SPACES];
        bool fine;
    } rows[] = {
        {64, 0, 0, {0}, true},    {1, 0, 0, {0}, true},       {4096, 8192, 1, {3}, true},
        {0, 0, 0, {0}, false},    {-64, 0, 0, {0}, false},    {48, 0, 0, {0}, false},
        {64, -64, 0, {0}, false}, {64, 4128, 0, {0}, false},  {64, 4096, -1, {0}, false},
        {64, 0, 0, {-1}, false},  {64, 0, 0, {0, -1}, false}, {64, 0, 0, {0, 0, -1}, false}};
    brim_error err = {0};
    planned p;
    planned_small_step(&p, 1, &err);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        p.request.alignment = rows[i].alignment;
        p.request.chunk_bytes = rows[i].chunk;
        p.request.guard_bytes = rows[i].guard;
        memcpy(p.request.transient_base, rows[i].base, sizeof rows[i].base);
        planned_place(&p, &err);
        char said[100];
        snprintf(said, sizeof said, "alignment %d, chunk %d, base %d, guard %d;",
                 (int)rows[i].alignment, (int)rows[i].chunk, (int)rows[i].base[0],
                 (int)rows[i].guard);
        if (rows[i].fine)
            ASSERT_FINE(err);
        else
            ASSERT_FAILS(err, BRIM_ARGUMENT, said);
        ck_assert(rows[i].fine || !p.plan.storage);
    }
    planned_free(&p);
}
END_TEST

static int64_t negative_workspace(const brim_graph *g, node_id n, void *user) {
    return g->node[n].op == OP_SUM ? *(int64_t *)user : 0;
}

START_TEST(what_cannot_be_placed_is_named) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 8, 8);
    brim_scope_push(g, "here");
    brim_value y = brim_sum(brim_matmul(x, brim_matmul(x, x)), NULL, 0, false);
    brim_scope_pop(g);
    brim_output(y, "y");
    planned p;
    planned_make(&p, g, 1, true, &err);
    int64_t bytes = -5;
    p.request.workspace = negative_workspace;
    p.request.user = &bytes;
    planned_place(&p, &err);
    ASSERT_FAILS(err, BRIM_MEMORY, "(sum in scope \"here\") asks for -5 bytes of workspace");
    bytes = 300;
    p.request.chunk_bytes = 256; // the matrices have 256 bytes each
    planned_place(&p, &err);
    ASSERT_FAILS(err, BRIM_MEMORY, "memory plan: workspace: 300 bytes in one piece");
    bytes = 0;
    planned_place(&p, &err);
    ASSERT_FINE(err);
    p.request.alignment = 1;
    p.request.chunk_bytes = 255;
    planned_place(&p, &err);
    ASSERT_FAILS(err, BRIM_MEMORY, "memory plan: x: 256 bytes in one piece");
    planned_free(&p);

    // At home on the host, where there are no pieces: it is the stay on the device that is too
    // large.
    memory_space home[20] = {0};
    g = brim_graph_create(&err);
    brim_value w = brim_parameter(g, "w", ((brim_init){0}), 16, 32);
    brim_output(brim_sum(w, NULL, 0, false), "y");
    planned_make(&p, g, 1, true, &err);
    home[planned_storage(&p, "w")] = SPACE_HOST;
    p.request.home = home;
    p.request.chunk_bytes = 1024;
    planned_place(&p, &err);
    ASSERT_FAILS(err, BRIM_MEMORY, "memory plan: w: 2048 bytes in one piece; the device allocates");
    p.request.chunk_bytes = 0;
    p.request.transient_base[SPACE_HOST] = INT64_MAX / 4;
    planned_place(&p, &err);
    ASSERT_FAILS(err, BRIM_MEMORY, "memory plan: more than 2^61 bytes are asked for");
    planned_free(&p);
}
END_TEST

// A plan of all spaces, as people read it.
START_TEST(plans_of_all_spaces_print) {
    brim_error err = {0};
    planned p;
    planned_small_step(&p, 1, &err);
    memory_space home[200] = {0};
    bool on_host[200] = {0};
    home[planned_storage(&p, "w1")] = SPACE_HOST;
    home[planned_storage(&p, "m1")] = SPACE_FILE;
    on_host[p.schedule.order[planned_position(&p, OP_SGD, 0)]] = true;
    p.request.home = home;
    p.request.on_host = on_host;
    planned_place(&p, &err);
    ASSERT_FINE(err);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    memory_plan_print(p.g, &p.plan, out);
    fclose(out);
    static const char *const lines[] = {
        "storage 1 w0: 2048 bytes at 0, live 0..7\n",
        "storage 2 w1: 2048 bytes at 0 of the host, live 0..7\n  stay of 2 w1: 2048 bytes at ",
        ", live 2..2\n    used 2..2, fetched in sections 4, stored in 0\n",
        ", live 4..4\n    used 4..4, fetched in sections 4, stored in 0\nstorage 3 m0: 2048 bytes "
        "at ",
        "storage 6 m1: 2048 bytes at 0 of the file, live 0..7\n  stay of 6 m1: 2048 bytes at ",
        " of the host, live 5..5\n    used 5..5, fetched in sections 4, stored in 4\n",
        "storage 7 matmul: 1024 bytes at ",
        "\nvalues: 5 storages, 6656 bytes\ninputs: 1 storages, 512 bytes\nparameters: 2 storages, "
        "4096 bytes\nstates: 2 storages, 4096 bytes\ncontrol: 1 storages, 28 bytes\npersistent: "
        "4160 "
        "bytes; peak: 10304 bytes, 1.0000 of the lower bound\nhost: persistent: 2048 bytes; peak: "
        "6208 bytes, 1.0000 of the lower bound\nfile: persistent: 2048 bytes; peak: 2048 bytes, "
        "1.0000 of the lower bound\n"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        ck_assert_msg(strstr(text, lines[i]) != NULL, "\"%s\" is not in: %s", lines[i], text);
    free(text);
    planned_free(&p);
}
END_TEST

START_TEST(workspaces_print) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 8, 8);
    brim_output(brim_add(brim_sum(x, NULL, 0, false), brim_sum(brim_matmul(x, x), NULL, 0, false)),
                "y");
    planned p;
    planned_make(&p, g, 1, true, &err);
    planned_place(&p, &err);
    ASSERT_FINE(err);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    memory_plan_print(p.g, &p.plan, out);
    fclose(out);
    int first = p.schedule.order[planned_position(&p, OP_SUM, 0)],
        second = p.schedule.order[planned_position(&p, OP_SUM, 1)];
    char said[100];
    snprintf(said, sizeof said, "workspace %d sum: %d bytes at ", second, 100 + second);
    ck_assert_ptr_nonnull(strstr(text, said));
    snprintf(said, sizeof said, "largest workspace: %d bytes\n",
             100 + (first > second ? first : second));
    ck_assert_ptr_nonnull(strstr(text, said));
    free(text);
    planned_free(&p);
}
END_TEST

Suite *plan_suite(void) {
    Suite *s = suite_create("plan");
    TCase *plan = tcase_create("plan");
    tcase_set_timeout(plan, 300);
    tcase_add_loop_test(plan, plans_compute_the_graph, 0, 4);
    tcase_add_test(plan, updates_follow_readers);
    tcase_add_test(plan, memory_is_freed_early);
    tcase_add_test(plan, last_readers_are_preferred);
    tcase_add_test(plan, norms_follow_gradients);
    tcase_add_test(plan, invariant_parts_are_not_overwritten);
    tcase_add_test(plan, invariants_are_not_overwritten);
    tcase_add_test(plan, reading_behind_an_update_is_refused);
    tcase_add_test(plan, persistent_storages_come_first);
    tcase_add_test(plan, programs_share_variables);
    tcase_add_test(plan, invariant_values_live_through_the_step);
    tcase_add_test(plan, storage_beyond_a_chunk_is_named);
    tcase_add_test(plan, plan_prints);
    tcase_add_test(plan, requests_are_checked);
    tcase_add_test(plan, what_cannot_be_placed_is_named);
    tcase_add_test(plan, plans_of_all_spaces_print);
    tcase_add_test(plan, workspaces_print);
    suite_add_tcase(s, plan);
    return s;
}
