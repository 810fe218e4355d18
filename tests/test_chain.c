// Generated elementwise kernels against the host, bit for bit: random chains of ops whose results
// are exact, over random shapes, broadcasts and strides, in every storage type. Nothing but the
// outputs' elements may change in memory.
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/chain_source.h"
#include "backends/lower_rules.h"
#include "core/dtype.h"
#include "core/half.h"
#include "graph/layout.h"
#include "tests/devices.h"
#include "tests/test_core.h"

enum { CASES = 14, MAX_STEPS = 6, MAX_INPUTS = 4, MAX_OUTPUTS = 2, ARENA = 1 << 20, MARGIN = 64 };

// What is drawn for one launch.
typedef struct chain_case {
    chain_step step[MAX_STEPS];
    int16_t output[MAX_OUTPUTS];
    chain chain;
    operand input[MAX_INPUTS], result[MAX_OUTPUTS];
    int inputs;
    char *before; // the arena
} chain_case;

static uint64_t state;

static uint32_t draw(void) { // splitmix64 (Steele, Lea, Flood 2014)
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) >> 32);
}
static int below(int n) {
    return (int)(draw() % (uint32_t)n);
}

// ---- drawing ------------------------------------------------------------------------------------

static shape draw_shape(void) {
    static const int64_t extents[] = {1, 2, 3, 5, 7, 16, 17, 33, 64, 100};
    shape s = {.rank = below(BRIM_MAX_DIMS + 1)};
    int64_t left = 6000;
    for (int d = s.rank - 1; d >= 0; d--) {
        int64_t extent = extents[below(10)];
        s.dim[d] = extent <= left ? extent : 1;
        left /= s.dim[d];
    }
    return s;
}

// A part of a larger array whose axes lie in a random order in memory, at a random place of the
// arena.
static operand draw_operand(brim_dtype dtype, shape s, int64_t *end) {
    operand x = {.dtype = dtype, .shape = s};
    int order[BRIM_MAX_DIMS];
    int64_t stride = 1, bytes = (int64_t)brim_dtype_bytes(dtype);
    bool shuffled = below(3) == 0, padded = below(3) == 0;
    for (int d = 0; d < s.rank; d++) order[d] = d;
    for (int d = s.rank - 1; d > 0 && shuffled; d--) {
        int other = below(d + 1), kept = order[d];
        order[d] = order[other];
        order[other] = kept;
    }
    for (int d = s.rank - 1; d >= 0; d--) {
        x.stride[order[d]] = stride;
        stride *= s.dim[order[d]] + (padded ? below(3) : 0);
    }
    int64_t start = *end + MARGIN + below(3) * (below(2) ? 256 : bytes);
    x.offset = (start + bytes - 1) / bytes * bytes;
    int64_t last = 0;
    for (int d = 0; d < s.rank; d++) last += (s.dim[d] - 1) * x.stride[d];
    x.range = (byte_range){SPACE_DEVICE, x.offset, (last + 1) * bytes};
    *end = x.offset + stride * bytes;
    ck_assert_int_le(*end, ARENA - MARGIN);
    return x;
}

static shape draw_broadcast(shape s) {
    int dropped = below(3) == 0 ? below(s.rank + 1) : 0;
    shape r = {.rank = s.rank - dropped};
    for (int d = 0; d < r.rank; d++) r.dim[d] = below(5) == 0 ? 1 : s.dim[d + dropped];
    return r;
}

// Ops that are exact in f32 and in i32, with one rounding each.
static const op_id exact_ops[] = {OP_COPY,  OP_NEG,      OP_ABS,     OP_SQUARE,  OP_RELU,  OP_ADD,
                                  OP_SUB,   OP_MUL,      OP_MAXIMUM, OP_MINIMUM, OP_LT,    OP_LE,
                                  OP_GT,    OP_GE,       OP_EQ,      OP_NE,      OP_WHERE, OP_CAST,
                                  OP_CLAMP, OP_CONSTANT, OP_DIV,     OP_SQRT};
enum { INTEGER_OPS = 18, ALL_OPS = sizeof exact_ops / sizeof *exact_ops };

static brim_dtype dtype_of(const chain_case *c, int source) {
    return source < 0 ? c->input[~source].dtype : c->step[source].dtype;
}

static int draw_source(const chain_case *c, int step) {
    int choice = below(step + c->inputs);
    return choice < step ? choice : ~(choice - step);
}

// An operand of that type among inputs and earlier steps; falls back to any.
static int draw_typed(const chain_case *c, int step, brim_dtype dtype) {
    for (int i = 0; i < 20; i++) {
        int source = draw_source(c, step);
        if (dtype_of(c, source) == dtype) return source;
    }
    return INT16_MAX;
}

static void draw_step(chain_case *c, int index, brim_dtype low) {
    chain_step *s = &c->step[index];
    s->operand[0] = (int16_t)draw_source(c, index);
    s->dtype = dtype_of(c, s->operand[0]);
    s->op = exact_ops[below(s->dtype == BRIM_I32 ? INTEGER_OPS : ALL_OPS)];
    for (int i = 1; i < op_table[s->op].inputs; i++) {
        int other = draw_typed(c, index, s->dtype);
        s->operand[i] = (int16_t)(other == INT16_MAX ? s->operand[0] : other);
    }
    if (s->op == OP_CONSTANT) s->scalar[0] = (float)(below(200) - 100) / 7;
    if (s->op == OP_CLAMP) s->scalar[0] = -0.3f, s->scalar[1] = below(2) ? 1.7f : INFINITY;
    // Floats beyond the integers' range have no defined value as integers.
    static const brim_dtype to[] = {BRIM_F32, BRIM_F16, BRIM_BF16};
    if (s->op == OP_CAST) s->dtype = below(2) ? low : to[below(3)];
    if (index == 0 && s->op == OP_CAST && below(2)) s->dtype = BRIM_I32;
}

static float draw_number(void) {
    static const float special[] = {0.0f, -0.0f, 1.0f, -1.0f, 1e-6f, 65504.0f, 0.5f};
    return below(8) ? ((float)below(4001) - 2000) / 256 : special[below(7)];
}

static void fill(const operand *x, char *arena_bytes) {
    int64_t count = x->range.bytes / (int64_t)brim_dtype_bytes(x->dtype);
    for (int64_t i = 0; i < count; i++) {
        char *at = arena_bytes + x->offset + i * (int64_t)brim_dtype_bytes(x->dtype);
        float number = draw_number();
        int32_t whole = below(4) ? below(100) - 50 : (int32_t)(draw() >> 2) - (1 << 29);
        if (x->dtype == BRIM_I32)
            memcpy(at, &whole, sizeof whole);
        else
            dtype_from_f32(x->dtype, &number, at, 1);
    }
}

static void draw_case(chain_case *c) {
    static const brim_dtype types[] = {BRIM_F32, BRIM_F16, BRIM_BF16, BRIM_F32, BRIM_I32};
    shape s = draw_shape();
    int64_t end = 256;
    brim_dtype low = types[below(3)];
    c->inputs = 1 + below(MAX_INPUTS);
    for (int i = 0; i < c->inputs; i++)
        c->input[i] =
            draw_operand(i == 0 || below(2) ? low : types[below(5)], draw_broadcast(s), &end);
    int steps = 1 + below(MAX_STEPS), outputs = 1 + below(MAX_OUTPUTS);
    for (int i = 0; i < steps; i++) draw_step(c, i, low);
    for (int i = 0; i < outputs; i++) {
        c->output[i] = (int16_t)(i ? below(steps) : steps - 1);
        c->result[i] = draw_operand(c->step[c->output[i]].dtype, s, &end);
    }
    // One in four is computed in place.
    operand *first = &c->input[0];
    if (below(4) == 0 && shape_equal(&first->shape, &s) && first->dtype == c->result[0].dtype)
        *first = c->result[0];
    c->chain = (chain){(int16_t)steps, (int16_t)outputs, c->step, c->output};
    c->before = calloc(ARENA, 1);
    ck_assert_ptr_nonnull(c->before);
    for (int i = 0; i < ARENA; i++) c->before[i] = (char)draw();
    for (int i = 0; i < c->inputs; i++) fill(&c->input[i], c->before);
}

// ---- the host -----------------------------------------------------------------------------------

typedef struct number {
    float f;
    int32_t i;
} number;

static float choose(bool x) {
    return x ? 1.0f : 0.0f;
}

static float evaluate_float(const chain_step *s, float a, float b, float c) {
    switch (s->op) {
    case OP_COPY:
    case OP_CAST:
        return a;
    case OP_CONSTANT:
        return s->scalar[0];
    case OP_NEG:
        return -a;
    case OP_ABS:
        return fabsf(a);
    case OP_SQUARE:
        return a * a;
    case OP_RELU:
        return a > 0 || a != a ? a : 0;
    case OP_ADD:
        return a + b;
    case OP_SUB:
        return a - b;
    case OP_MUL:
        return a * b;
    case OP_DIV:
        return a / b;
    case OP_SQRT:
        return sqrtf(a);
    case OP_MAXIMUM:
        return a > b || a != a ? a : b;
    case OP_MINIMUM:
        return a < b || a != a ? a : b;
    case OP_LT:
        return choose(a < b);
    case OP_LE:
        return choose(a <= b);
    case OP_GT:
        return choose(a > b);
    case OP_GE:
        return choose(a >= b);
    case OP_EQ:
        return choose(a == b);
    case OP_NE:
        return choose(a != b);
    case OP_WHERE:
        return a != 0 ? b : c;
    case OP_CLAMP:
        a = a > s->scalar[0] || a != a ? a : s->scalar[0];
        return a < s->scalar[1] || a != a ? a : s->scalar[1];
    default:
        ck_abort_msg("op %d is not drawn", s->op);
        return 0;
    }
}

static int32_t evaluate_integer(const chain_step *s, int32_t a, int32_t b, int32_t c) {
    uint32_t x = (uint32_t)a, y = (uint32_t)b;
    switch (s->op) {
    case OP_COPY:
    case OP_CAST:
        return a;
    case OP_NEG:
        return (int32_t)(0 - x);
    case OP_ABS:
        return a < 0 ? (int32_t)(0 - x) : a;
    case OP_SQUARE:
        return (int32_t)(x * x);
    case OP_RELU:
        return a > 0 ? a : 0;
    case OP_ADD:
        return (int32_t)(x + y);
    case OP_SUB:
        return (int32_t)(x - y);
    case OP_MUL:
        return (int32_t)(x * y);
    case OP_MAXIMUM:
        return a > b ? a : b;
    case OP_MINIMUM:
        return a < b ? a : b;
    case OP_LT:
        return a < b;
    case OP_LE:
        return a <= b;
    case OP_GT:
        return a > b;
    case OP_GE:
        return a >= b;
    case OP_EQ:
        return a == b;
    case OP_NE:
        return a != b;
    case OP_WHERE:
        return a != 0 ? b : c;
    default:
        ck_abort_msg("op %d is not drawn", s->op);
        return 0;
    }
}

static float round_as(brim_dtype dtype, float x) {
    uint16_t stored;
    if (dtype == BRIM_F32) return x;
    dtype_from_f32(dtype, &x, &stored, 1);
    dtype_to_f32(dtype, &stored, &x, 1);
    return x;
}

static int64_t place(const operand *x, const shape *s, const int64_t *index) {
    int64_t at = 0;
    int missing = s->rank - x->shape.rank;
    for (int d = 0; d < x->shape.rank; d++)
        if (x->shape.dim[d] > 1) at += index[d + missing] * x->stride[d];
    return x->offset + at * (int64_t)brim_dtype_bytes(x->dtype);
}

static void compute_element(const chain_case *c, const shape *s, const int64_t *index,
                            char *after) {
    number input[MAX_INPUTS] = {{0, 0}}, step[MAX_STEPS];
    for (int i = 0; i < c->inputs; i++) {
        const char *at = c->before + place(&c->input[i], s, index);
        if (c->input[i].dtype == BRIM_I32)
            memcpy(&input[i].i, at, sizeof input[i].i);
        else
            dtype_to_f32(c->input[i].dtype, at, &input[i].f, 1);
    }
    for (int k = 0; k < c->chain.steps; k++) {
        const chain_step *t = &c->step[k];
        number x[3] = {{0, 0}};
        bool integer = t->dtype == BRIM_I32;
        for (int i = 0; i < op_table[t->op].inputs; i++) {
            int from = t->operand[i];
            x[i] = from < 0 ? input[~from] : step[from];
            bool from_integer = dtype_of(c, from) == BRIM_I32;
            if (integer && !from_integer) x[i].i = (int32_t)x[i].f;
            if (!integer && from_integer) x[i].f = (float)x[i].i;
        }
        step[k] = (number){0, 0};
        if (integer)
            step[k].i = evaluate_integer(t, x[0].i, x[1].i, x[2].i);
        else
            step[k].f = round_as(t->dtype, evaluate_float(t, x[0].f, x[1].f, x[2].f));
    }
    for (int i = 0; i < c->chain.outputs; i++) {
        char *at = after + place(&c->result[i], s, index);
        const number *x = &step[c->output[i]];
        if (c->result[i].dtype == BRIM_I32)
            memcpy(at, &x->i, sizeof x->i);
        else
            dtype_from_f32(c->result[i].dtype, &x->f, at, 1);
    }
}

static void compute(const chain_case *c, char *after) {
    const shape *s = &c->result[0].shape;
    int64_t index[BRIM_MAX_DIMS] = {0}, count = shape_elements(s);
    memcpy(after, c->before, ARENA);
    for (int64_t e = 0; e < count; e++) {
        int64_t rest = e;
        for (int d = s->rank - 1; d >= 0; d--) {
            index[d] = rest % s->dim[d];
            rest /= s->dim[d];
        }
        compute_element(c, s, index, after);
    }
}

// ---- the device ---------------------------------------------------------------------------------

static const backend *api;
static backend_device *device;
static brim_error err;

static void show(const chain_case *c, const program *p) {
    program_print(p, stdout);
    printf("%s", p->kernel[0].source);
    for (int i = 0; i < c->inputs; i++) {
        char text[80];
        printf("input %d %s %s\n", i, brim_dtype_name(c->input[i].dtype),
               shape_print(&c->input[i].shape, text, sizeof text));
    }
}

// NaNs may differ in sign and payload.
static bool same_element(const operand *x, const char *a, const char *b) {
    float f, g;
    if (!memcmp(a, b, brim_dtype_bytes(x->dtype))) return true;
    if (x->dtype == BRIM_I32) return false;
    dtype_to_f32(x->dtype, a, &f, 1);
    dtype_to_f32(x->dtype, b, &g, 1);
    return f != f && g != g;
}

static void compare(const chain_case *c, const program *p, char *expected, const char *got) {
    for (int64_t i = 0; i < ARENA; i++) {
        if (expected[i] == got[i]) continue;
        for (int r = 0; r < c->chain.outputs; r++) {
            const operand *x = &c->result[r];
            int64_t bytes = (int64_t)brim_dtype_bytes(x->dtype);
            if (i < x->offset || i >= x->offset + x->range.bytes) continue;
            int64_t at = x->offset + (i - x->offset) / bytes * bytes;
            if (same_element(x, expected + at, got + at))
                memcpy(expected + at, got + at, (size_t)bytes);
        }
        if (expected[i] == got[i]) continue;
        show(c, p);
        ck_abort_msg("byte %lld differs", (long long)i);
    }
}

static void run_case(uint64_t seed, char *expected, char *got) {
    chain_case c = {0};
    program *p;
    loaded_program *loaded = NULL;
    state = seed;
    draw_case(&c);
    program_create(&p, &err);
    ASSERT_FINE(err);
    p->device_bytes = ARENA;
    lowering l = {.traits = api->traits(device),
                  .backend = api,
                  .device = device,
                  .program = p,
                  .node_index = -1,
                  .sections = SECTION_LAST,
                  .err = &err};
    lower_chain(&l, &c.chain, c.input, c.inputs, c.result);
    program_verify(p, &err);
    api->load(device, p, &loaded, &err);
    api->write(device, 0, c.before, ARENA, &err);
    if (loaded) api->run(loaded, SECTION_LAST, 0, &err);
    api->read(device, 0, got, ARENA, &err);
    if (err.status) show(&c, p);
    ASSERT_FINE(err);
    compute(&c, expected);
    compare(&c, p, expected, got);
    api->unload(loaded);
    program_free(p);
    free(c.before);
}

// As the device works by itself, and as GPUs do, on whatever device there is.
static const device_settings variants[] = {{0}, {.vec = 4, .group = 64}, {.vec = 1, .group = 128}};

static void run_variant(int device_index, int variant) {
    const char *name = device_under_test(device_index);
    if (!name) return;
    char *expected = malloc(ARENA), *got = malloc(ARENA);
    ck_assert(expected && got);
    err = (brim_error){0};
    backend_open(name, &variants[variant], &api, &device, &err);
    ASSERT_FINE(err);
    api->reserve(device, &(memory_request){ARENA, 0}, &err);
    ASSERT_FINE(err);
    for (int i = 0; i < CASES; i++) run_case((uint64_t)i * 1000 + 17, expected, got);
    api->close(device);
    free(expected);
    free(got);
}

START_TEST(chains_are_exact_on_opencl) {
    run_variant(0, _i);
}
END_TEST
START_TEST(chains_are_exact_on_cuda) {
    run_variant(1, _i);
}
END_TEST

// ---- text ---------------------------------------------------------------------------------------

// Of a chain of the first `steps` steps, whose last one is the output; without inputs.
static void source_of(const chain_step *step, int steps, char *text, size_t size,
                      char entry[CHAIN_ENTRY_BYTES]) {
    chain c = {(int16_t)steps, 1, step, &(int16_t){(int16_t)(steps - 1)}};
    operand_walk walk = WALK_DENSE;
    brim_dtype dtype = step[steps - 1].dtype;
    chain_form form = {&c, 1, 0, false, &dtype, &walk};
    err = (brim_error){0};
    strbuf out = {.err = &err};
    chain_source(&form, &out, entry);
    ASSERT_FINE(err);
    snprintf(text, size, "%s", strbuf_text(&out));
    strbuf_free(&out);
}

// Of f32 what reads back as the same; of i32 the nearest that there is, cut to a whole number.
START_TEST(constants_are_exact_literals) {
    static const struct {
        brim_dtype dtype;
        float value;
        const char *text;
    } cases[] = {{BRIM_F32, 1, "splat(1.0f)"},
                 {BRIM_F32, 0.1f, "splat(0.1f)"},
                 {BRIM_F32, 1e-20f, "splat(1e-20f)"},
                 {BRIM_F32, -0.0f, "splat(-0.0f)"},
                 {BRIM_F32, 16777216, "splat(16777216.0f)"},
                 {BRIM_F32, NAN, "splat(NAN)"},
                 {BRIM_F32, INFINITY, "splat(INFINITY)"},
                 {BRIM_F32, -INFINITY, "splat(-INFINITY)"},
                 {BRIM_I32, 2147483648.0f, "splat_i((int_t)2147483647LL)"},
                 {BRIM_I32, 2147483520.0f, "splat_i((int_t)2147483520LL)"},
                 {BRIM_I32, 1e30f, "splat_i((int_t)2147483647LL)"},
                 {BRIM_I32, -2147483648.0f, "splat_i((int_t)-2147483648LL)"},
                 {BRIM_I32, -2147483520.0f, "splat_i((int_t)-2147483520LL)"},
                 {BRIM_I32, -1e30f, "splat_i((int_t)-2147483648LL)"},
                 {BRIM_I32, 1.75f, "splat_i((int_t)1LL)"},
                 {BRIM_I32, -1.75f, "splat_i((int_t)-1LL)"}};
    char text[4000], entry[CHAIN_ENTRY_BYTES];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        chain_step step = {.op = OP_CONSTANT, .dtype = cases[i].dtype, .scalar = {cases[i].value}};
        source_of(&step, 1, text, sizeof text, entry);
        ck_assert_msg(strstr(text, cases[i].text) != NULL, "%s is not in %s", cases[i].text, text);
        ck_assert_str_eq(entry, "chain_constant");
    }
}
END_TEST

// A name has the ops that compute, as many as there is room for, none of them cut.
START_TEST(names_say_what_is_done) {
    enum { STEPS = 40 };
    chain_step step[STEPS] = {{.op = OP_CONSTANT, .dtype = BRIM_F32}};
    char text[8000], entry[CHAIN_ENTRY_BYTES], expected[8 * STEPS] = "chain";
    for (int i = 1; i < STEPS; i++)
        step[i] = (chain_step){.op = OP_NEG, .dtype = BRIM_F32, .operand = {(int16_t)(i - 1)}};
    for (int steps = 2; steps < STEPS; steps++) {
        if (strlen(expected) + strlen("_neg") < CHAIN_ENTRY_BYTES) strcat(expected, "_neg");
        source_of(step, steps, text, sizeof text, entry);
        ck_assert_str_eq(entry, expected);
    }
}
END_TEST

Suite *chain_suite(void) {
    Suite *suite = suite_create("chain");
    TCase *text = tcase_create("text"), *run = tcase_create("run");
    int count = (int)(sizeof variants / sizeof *variants);
    tcase_set_timeout(run, 240);
    tcase_add_test(text, constants_are_exact_literals);
    tcase_add_test(text, names_say_what_is_done);
    tcase_add_loop_test(run, chains_are_exact_on_opencl, 0, count);
    tcase_add_loop_test(run, chains_are_exact_on_cuda, 0, count);
    suite_add_tcase(suite, text);
    suite_add_tcase(suite, run);
    return suite;
}
