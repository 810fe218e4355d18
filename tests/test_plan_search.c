// The planner against brute force: a budget that some plan keeps to is never refused. And: what its
// errors name, when copies are planned, and that it plans models of 80 blocks.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <brim/brim.h>
#include "backends/paper.h"
#include "examples/model.h"
#include "graph/passes.h"
#include "graph/recompute_levels.h"
#include "optim/plan_search.h"
#include "optim/training_graph.h"
#include "optim/variant.h"
#include "tests/some_rates.h"
#include "tests/test_core.h"

static brim_error err;

typedef struct bench {
    compile_target target;
    brim_graph *graph; // through the passes before pass_recompute
    int64_t micro_batches;
} bench;

static brim_graph *replace(brim_graph *old, brim_graph *new) {
    brim_graph_free(old);
    return new;
}

static bench make_bench(model_config *model, brim_precision precision, int64_t batch,
                        int64_t micro_batches) {
    bench b = {.micro_batches = micro_batches};
    brim_trainer_options options =
        training_options(&(brim_trainer_options){.batch = batch,
                                                 .length = model->positions,
                                                 .accumulate = micro_batches,
                                                 .precision = precision,
                                                 .optimizer = {.clip = 1}},
                         &err);
    brim_graph *g = training_graph(model_build, model, &options, &err);
    ASSERT_FINE(err);
    g = replace(g, pass_prune(g, &err));
    g = replace(g, pass_compute_copies(g, NULL, &err));
    g = replace(g, pass_densify(g, &err));
    pass_sections(g, micro_batches, &err);
    b.graph = g;
    paper_open(&some_card, true, &b.target.backend, &b.target.device, &err);
    b.target.rates = &some_card;
    ASSERT_FINE(err);
    return b;
}

static void free_bench(bench *b) {
    brim_graph_free(b->graph);
    b->target.backend->close(b->target.device);
}

// The least arena of all levels, with each number of the choice at nothing or at all.
static int64_t least_by_force(const bench *b) {
    recompute_levels levels;
    int64_t least = INT64_MAX;
    recompute_levels_make(b->graph, &levels, &err);
    for (int32_t level = 0; level < levels.count; level++) {
        bool *recompute = calloc((size_t)b->graph->values, sizeof *recompute);
        variant v;
        recompute_level(b->graph, &levels, level, recompute, &err);
        variant_make(&v, b->graph, recompute, &b->target, &err);
        ASSERT_FINE(err);
        for (int bits = 0; bits < 32; bits++) {
            homes_choice c = {.hosted = bits & 1 ? v.homes.units : 0,
                              .streamed = bits & 2 ? v.homes.units : 0,
                              .gradients = bits & 4 ? v.homes.units : 0,
                              .offloaded = bits & 8 ? v.homes.activations : 0,
                              .device_updates = (bits & 16) != 0};
            memory_plan plan;
            variant_plan(&v, &b->target, &c, 0, false, &plan, &err);
            ASSERT_FINE(err);
            if (plan.peak_bytes[SPACE_DEVICE] < least) least = plan.peak_bytes[SPACE_DEVICE];
            memory_plan_free(&plan);
        }
        variant_free(&v);
        free(recompute);
    }
    recompute_levels_free(&levels);
    return least;
}

static const struct {
    model_config model;
    brim_precision precision;
    int64_t batch, micro_batches;
} cases[] = {
    {{MODEL_GPT2, .vocabulary = 50, .positions = 24, .width = 32, .layers = 3, .heads = 2,
      .norm_eps = 1e-5},
     BRIM_PRECISION_F32,
     2,
     1},
    {{MODEL_GPT2, .vocabulary = 300, .positions = 40, .width = 64, .layers = 5, .heads = 4,
      .norm_eps = 1e-5},
     BRIM_PRECISION_BF16,
     4,
     1},
    {{MODEL_LLAMA, .vocabulary = 200, .positions = 32, .width = 48, .layers = 4, .heads = 3,
      .kv_heads = 1, .ffn = 96, .norm_eps = 1e-5, .rotary_base = 1e4},
     BRIM_PRECISION_BF16,
     3,
     3},
    {{MODEL_LLAMA, .vocabulary = 90, .positions = 64, .width = 32, .layers = 2, .heads = 2,
      .kv_heads = 2, .ffn = 64, .norm_eps = 1e-5, .rotary_base = 1e4, .tied = true},
     BRIM_PRECISION_F16,
     1,
     4},
};
enum { CASES = sizeof cases / sizeof *cases };

START_TEST(what_brute_force_can_fit_is_found) {
    model_config model = cases[_i].model;
    bench b = make_bench(&model, cases[_i].precision, cases[_i].batch, cases[_i].micro_batches);
    int64_t least = least_by_force(&b);
    for (int more = 0; more <= 40; more += 10) {
        compiled out = {.micro_batches = b.micro_batches};
        b.target.budget[SPACE_DEVICE] = least + least * more / 100;
        plan_search(&out, b.graph, &b.target, &err);
        ck_assert_msg(!err.status, "%d%% above the least: %s", more, err.text);
        ck_assert_int_le(out.plan.peak_bytes[SPACE_DEVICE], b.target.budget[SPACE_DEVICE]);
        compiled_free(&out, b.target.backend);
    }
    free_bench(&b);
}
END_TEST

// The error of a budget that nothing keeps to says what is missing, and a budget that works.
START_TEST(what_is_missing_is_said) {
    model_config model = cases[1].model;
    bench b = make_bench(&model, cases[1].precision, cases[1].batch, cases[1].micro_batches);
    brim_shortfall lacks;
    b.target.shortfall = &lacks;
    b.target.budget[SPACE_DEVICE] = 5000;
    for (int space = SPACE_DEVICE; space <= SPACE_HOST; space++) {
        compiled out = {.micro_batches = b.micro_batches};
        ck_assert_int_eq(plan_search(&out, b.graph, &b.target, &err), BRIM_MEMORY);
        int64_t missing = space ? lacks.ram_missing : lacks.vram_missing;
        ck_assert_int_eq(missing + b.target.budget[space],
                         space ? lacks.ram_bytes : lacks.vram_bytes);
        char said[100];
        snprintf(said, sizeof said, "%" PRId64 " bytes of %s memory are missing", missing,
                 space ? "main" : "device");
        ASSERT_FAILS(err, BRIM_MEMORY, said);
        b.target.budget[SPACE_DEVICE] = lacks.vram_bytes;
        b.target.budget[SPACE_HOST] = 3000;
    }
    free_bench(&b);
}
END_TEST

// Sizes of Llama 3.1 70B, whose 80 blocks no card holds.
START_TEST(eighty_blocks_are_planned) {
    model_config model = {MODEL_LLAMA,      .vocabulary = 128256, .positions = 2048, .width = 8192,
                          .layers = 80,     .heads = 64,          .kv_heads = 8,     .ffn = 28672,
                          .norm_eps = 1e-5, .rotary_base = 5e5};
    bench b = make_bench(&model, BRIM_PRECISION_BF16, 1, 1);
    compiled out = {.micro_batches = 1};
    b.target.budget[SPACE_DEVICE] = 16ll << 30;
    b.target.budget[SPACE_HOST] = 2048ll << 30;
    plan_search(&out, b.graph, &b.target, &err);
    ASSERT_FINE(err);
    ck_assert_int_le(out.plan.peak_bytes[SPACE_DEVICE], b.target.budget[SPACE_DEVICE]);
    ck_assert_int_le(out.plan.peak_bytes[SPACE_HOST], b.target.budget[SPACE_HOST]);
    ck_assert(out.choice.expected.seconds > 0);
    ck_assert(out.choice.whole_bytes > 1000ll << 30);
    compiled_free(&out, b.target.backend);
    free_bench(&b);
}
END_TEST

// What could not be made holds nothing, whatever lay there before.
START_TEST(a_variant_that_fails_is_empty) {
    model_config model = cases[0].model;
    bench b = make_bench(&model, cases[0].precision, cases[0].batch, cases[0].micro_batches);
    variant v;
    memset(&v, 0x5a, sizeof v);
    brim_error before = {.status = BRIM_MEMORY};
    ck_assert_int_eq(variant_make(&v, b.graph, NULL, &b.target, &before), BRIM_MEMORY);
    const variant none = {0};
    ck_assert_mem_eq(&v, &none, sizeof v);
    b.target.rates = NULL; // nothing is timed then
    memset(&v, 0x5a, sizeof v);
    variant_make(&v, b.graph, NULL, &b.target, &err);
    ASSERT_FINE(err);
    ck_assert(v.graph && !v.start);
    variant_free(&v);
    ck_assert_mem_eq(&v, &none, sizeof v);
    free_bench(&b);
}
END_TEST

// Sums of where copies in begin and of where the bytes of copies back are given up, by the space
// that is nearer to the device.
typedef struct copy_places {
    int64_t in[SPACES], back[SPACES];
} copy_places;

static copy_places places_at(const bench *b, variant *v, const brim_rates *rates) {
    compile_target target = b->target;
    target.rates = rates;
    memory_plan plan;
    homes_choice all = {.hosted = v->homes.units,
                        .streamed = v->homes.units,
                        .filed = v->homes.units,
                        .device_updates = true};
    variant_plan(v, &target, &all, 1 << 30, true, &plan, &err);
    ASSERT_FINE(err);
    copy_places sum = {0};
    for (int32_t i = 0; i < plan.stays; i++) {
        const stay *s = &plan.stay[i];
        if (s->fetch) sum.in[s->place.space] += s->fetch_at;
        if (s->store) sum.back[s->place.space] += s->place.last;
    }
    memory_plan_free(&plan);
    return sum;
}

// A copy begins the earlier, and holds its bytes the longer, the slower its own way is.
START_TEST(copies_take_the_time_of_their_way) {
    model_config model = cases[1].model;
    bench b = make_bench(&model, cases[1].precision, cases[1].batch, cases[1].micro_batches);
    variant v;
    variant_make(&v, b.graph, NULL, &b.target, &err);
    ASSERT_FINE(err);
    brim_rates quick = some_card;
    quick.link_in = quick.link_out = quick.disk_read = quick.disk_write = 1e15;
    copy_places at_once = places_at(&b, &v, &quick);
    for (int way = 0; way < 4; way++) {
        brim_rates slow = quick;
        double *rate[] = {&slow.link_in, &slow.link_out, &slow.disk_read, &slow.disk_write};
        *rate[way] = 1e6;
        copy_places p = places_at(&b, &v, &slow);
        int64_t moved[] = {at_once.in[SPACE_DEVICE] - p.in[SPACE_DEVICE],
                           p.back[SPACE_DEVICE] - at_once.back[SPACE_DEVICE],
                           at_once.in[SPACE_HOST] - p.in[SPACE_HOST],
                           p.back[SPACE_HOST] - at_once.back[SPACE_HOST]};
        ck_assert_msg(moved[way] > 0, "way %d: by %" PRId64 " positions", way, moved[way]);
        // A slow disk is no reason to move what comes and goes over the link.
        ck_assert(way < 2 || (!moved[0] && !moved[1]));
    }
    free_bench(&b);
    variant_free(&v);
}
END_TEST

Suite *plan_search_suite(void) {
    Suite *suite = suite_create("plan_search");
    TCase *tests = tcase_create("plan_search");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, what_brute_force_can_fit_is_found, 0, CASES);
    tcase_add_test(tests, a_variant_that_fails_is_empty);
    tcase_add_test(tests, what_is_missing_is_said);
    tcase_add_test(tests, copies_take_the_time_of_their_way);
    tcase_add_test(tests, eighty_blocks_are_planned);
    suite_add_tcase(suite, tests);
    return suite;
}
