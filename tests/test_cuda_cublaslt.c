// The cuBLASLt that stands in on the CPU: its products against double, and what its heuristic
// offers.
#include <check.h>
#include "tests/skips.h"

#ifdef BRIM_CUDA_BUILT
#include <math.h>
#include "core/half.h"
#include "tests/cublaslt_rig.h"
#include "tests/cuda_on_cpu/cuda_on_cpu.h"
#include "tests/sandbox.h"

enum { OTHER = 0x5a }; // a byte of the workspace that nobody has used

// ---- its elements -------------------------------------------------------------------------------

static double element(cudaDataType type, const void *data, int64_t i) {
    if (type == CUDA_R_32F) return ((const float *)data)[i];
    uint16_t bits = ((const uint16_t *)data)[i];
    return type == CUDA_R_16F ? f16_to_f32(bits) : bf16_to_f32(bits);
}

static void put_element(cudaDataType type, void *data, int64_t i, float x) {
    if (type == CUDA_R_32F)
        ((float *)data)[i] = x;
    else
        ((uint16_t *)data)[i] = type == CUDA_R_16F ? f16_from_f32(x) : bf16_from_f32(x);
}

static int64_t place(const spec *s, int matrix, int64_t batch, int64_t row, int64_t column) {
    return batch * s->stride[matrix] + column * s->ld[matrix] + row;
}

// Marks the bytes of a matrix.
static void mark(const spec *s, int matrix, char *marks) {
    int64_t element_bytes = bytes_of(type_of(s, matrix));
    char *begin = marks + offset_of(s, matrix);
    for (int64_t b = 0; b < s->batch; b++)
        for (int64_t j = 0; j < columns_of(s, matrix); j++)
            memset(begin + place(s, matrix, b, 0, j) * element_bytes, 1,
                   (size_t)(rows_of(s, matrix) * element_bytes));
}

// NaN everywhere, then elements in [-1, 1) where A, B and, for beta, C are.
static void fill(const spec *s, char *space) {
    memset(space, 0xff, SPACE);
    uint64_t state = 1;
    for (int i = A; i <= (s->beta != 0 ? C : B); i++)
        for (int64_t b = 0; b < s->batch; b++)
            for (int64_t j = 0; j < columns_of(s, i); j++)
                for (int64_t r = 0; r < rows_of(s, i); r++) {
                    float x = (float)(sandbox_random(&state) >> 40) * 0x1p-23f - 1;
                    put_element(type_of(s, i), space + offset_of(s, i), place(s, i, b, r, j), x);
                }
    memset(space + WORKSPACE, OTHER, SPACE - WORKSPACE);
}

typedef struct expectation {
    double sum, tolerance;
} expectation;

// The error of a sum of k f32 products is at most k u sum |a b|, and in practice far less; a 16-bit
// result has half a unit in the last place on top.
static expectation expected(const spec *s, const char *space, int64_t b, int64_t i, int64_t j) {
    double u = s->out == CUDA_R_32F ? 0x1p-24 : s->out == CUDA_R_16F ? 0x1p-11 : 0x1p-8;
    double sum = 0, magnitude = 0;
    for (int64_t l = 0; l < s->k; l++) {
        int64_t at_a = s->transpose[A] ? place(s, A, b, l, i) : place(s, A, b, i, l);
        int64_t at_b = s->transpose[B] ? place(s, B, b, j, l) : place(s, B, b, l, j);
        double x = element(s->in, space + offset_of(s, A), at_a) *
                   element(s->in, space + offset_of(s, B), at_b);
        sum += s->alpha * x, magnitude += fabs(s->alpha * x);
    }
    if (s->beta != 0) {
        double x = s->beta * element(s->out, space + offset_of(s, C), place(s, C, b, i, j));
        sum += x, magnitude += fabs(x);
    }
    return (expectation){sum, 8 * 0x1p-24 * magnitude + u * fabs(sum) +
                                  (s->out == CUDA_R_16F ? 0x1p-25 : 0)};
}

static void check_result(const spec *s, const char *before, const char *after) {
    for (int64_t b = 0; b < s->batch; b++)
        for (int64_t j = 0; j < s->n; j++)
            for (int64_t i = 0; i < s->m; i++) {
                expectation e = expected(s, before, b, i, j);
                double got = element(s->out, after + offset_of(s, D), place(s, D, b, i, j));
                if (!(fabs(got - e.sum) <= e.tolerance))
                    ck_abort_msg("[%d][%d][%d]: %.9g, expected %.9g +- %.2g", (int)b, (int)i,
                                 (int)j, got, e.sum, e.tolerance);
            }
}

// Nothing but D and the workspace may change.
static void check_rest(const spec *s, const char *before, const char *after) {
    char *marks = calloc(1, SPACE);
    ck_assert_ptr_nonnull(marks);
    mark(s, D, marks);
    for (size_t i = 0; i < WORKSPACE; i++)
        if (!marks[i] && before[i] != after[i]) ck_abort_msg("byte %zu has changed", i);
    free(marks);
}

static void copy_in(void) {
    CU(rig.cu.memcpy_htod_async(rig.space, rig.pinned, SPACE, rig.stream));
}

static void copy_out(void) {
    CU(rig.cu.memcpy_dtoh_async(rig.pinned, rig.space, SPACE, rig.stream));
    CU(rig.cu.stream_synchronize(rig.stream));
}

// Who needs some workspace fills all that it is given with NaN first; nobody touches more.
static void check_workspace(const call *c, size_t needed, const char *after) {
    const unsigned char *w = (const unsigned char *)after + WORKSPACE;
    for (size_t i = needed; i < c->workspace_bytes; i++) ASSERT_QUICKLY(w[i] == 0xff);
    for (size_t i = c->workspace_bytes; i < PLACE; i++) ASSERT_QUICKLY(w[i] == OTHER);
}

// The product by one of the algorithms that are offered.
static void run(const spec *s, call *c, int result, char *before) {
    choose(c, result);
    size_t needed = c->workspace_bytes;
    if (needed) c->workspace_bytes += 1000;
    fill(s, before);
    memcpy(rig.pinned, before, SPACE);
    copy_in();
    LT(multiply(c));
    copy_out();
    check_result(s, before, rig.pinned);
    check_rest(s, before, rig.pinned);
    check_workspace(c, needed, rig.pinned);
}

// By each of the algorithms that are offered; says how many.
static int run_all(spec partial) {
    spec s = complete(partial);
    call c;
    int served = 0;
    char *before = malloc(SPACE);
    ck_assert_ptr_nonnull(before);
    describe(&c, &s);
    LT(ask(&c));
    for (int i = 0; i < c.results; i++) {
        if (c.result[i].state != CUBLAS_STATUS_SUCCESS) continue;
        ck_assert_uint_le(c.result[i].workspaceSize, s.workspace);
        run(&s, &c, i, before);
        served++;
    }
    forget(&c);
    free(before);
    return served;
}

// ---- products -----------------------------------------------------------------------------------

static const cudaDataType types[][2] = {
    {CUDA_R_32F, CUDA_R_32F},   {CUDA_R_16F, CUDA_R_16F},  {CUDA_R_16F, CUDA_R_32F},
    {CUDA_R_16BF, CUDA_R_16BF}, {CUDA_R_16BF, CUDA_R_32F},
};
enum { TYPES = sizeof types / sizeof *types, SHAPES = 6 };

static const int64_t shapes[SHAPES][3] = {{61, 83, 97}, {1, 1, 1},   {1, 7, 300},
                                          {16, 6, 32},  {17, 99, 5}, {131, 1, 64}};

START_TEST(products) { // _i: shapes, dtypes, transpositions
    if (!open_rig()) return;
    const int64_t *x = shapes[_i % SHAPES];
    int t = _i / SHAPES % TYPES, transposed = _i / SHAPES / TYPES;
    spec s = {.in = types[t][0],
              .out = types[t][1],
              .m = x[0],
              .n = x[1],
              .k = x[2],
              .transpose = {transposed & 1, transposed & 2}};
    ck_assert_int_eq(run_all(s), 1);
    s.alignment = 16;
    for (int i = 0; i < MATRICES; i++) s.ld[i] = (rows_of(&s, i) + 15) / 8 * 8;
    s.workspace = PLACE / 2;
    ck_assert_int_ge(run_all(s), 2);
}
END_TEST

START_TEST(leading_dimensions) {
    if (!open_rig()) return;
    spec s = {.in = types[_i / 4][0],
              .out = types[_i / 4][1],
              .m = 29,
              .n = 103,
              .k = 41,
              .transpose = {_i & 1, _i & 2}};
    for (int i = 0; i < MATRICES; i++) s.ld[i] = rows_of(&s, i) + 3 + 2 * i;
    ck_assert_int_eq(run_all(s), 1);
}
END_TEST

// Matrices one behind the other; A or B for all; between each other's columns, as heads are.
START_TEST(batches) {
    if (!open_rig()) return;
    spec s = {.in = types[_i / 4][0],
              .out = types[_i / 4][1],
              .m = 17,
              .n = 33,
              .k = 80,
              .batch = 5,
              .transpose = {false, true},
              .beta = _i < 4 ? 0 : 0.5f,
              .apart = true,
              .workspace = PLACE / 2};
    for (int i = 0; i < MATRICES; i++) {
        int64_t rows = rows_of(&s, i);
        s.ld[i] = _i % 4 == 3 ? rows * s.batch + 1 : rows + 2;
        s.stride[i] = _i % 4 == 3 ? rows : s.ld[i] * columns_of(&s, i) + 1;
    }
    if (_i % 4 == 1) s.stride[A] = 0;
    if (_i % 4 == 2) s.stride[B] = 0;
    ck_assert_int_eq(run_all(s), 2);
}
END_TEST

START_TEST(scaled_and_added) {
    if (!open_rig()) return;
    spec s = {.in = types[_i / 3][0],
              .out = types[_i / 3][1],
              .m = 45,
              .n = 31,
              .k = 70,
              .ld = {[C] = 47, [D] = 51},
              .alpha = 1.5f,
              .beta = _i % 3 == 2 ? 0 : -0.75f,
              .apart = _i % 3,
              .workspace = PLACE / 2};
    ck_assert_int_eq(run_all(s), 2);
}
END_TEST

START_TEST(split_k) {
    if (!open_rig()) return;
    spec s = complete((spec){.in = types[_i][0],
                             .out = types[_i][1],
                             .m = 9,
                             .n = 13,
                             .k = 700,
                             .batch = 2,
                             .stride = {9 * 700, 13 * 700, 0, 9 * 13},
                             .alignment = 256,
                             .workspace = PLACE / 2});
    s.stride[C] = s.stride[D];
    ck_assert_int_eq(run_all(s), 2);
    call c;
    describe(&c, &s);
    LT(ask(&c));
    size_t needed = c.result[0].workspaceSize;
    ck_assert_uint_ge(needed, (size_t)(8 * s.batch * s.m * s.n) * 4);
    forget(&c);
    s.workspace = needed - 1; // fewer parts
    describe(&c, &s);
    LT(ask(&c));
    ck_assert_uint_gt(c.result[0].workspaceSize, 0);
    ck_assert_uint_lt(c.result[0].workspaceSize, needed);
    forget(&c);
    s.workspace = 0;
    describe(&c, &s);
    LT(ask(&c));
    for (int i = 0; i < c.results; i++) ck_assert_uint_eq(c.result[i].workspaceSize, 0);
    forget(&c);
}
END_TEST

// Sums that meet in 16 bits are offered first to who allows them: what the mask is for.
START_TEST(reductions_are_masked) {
    if (!open_rig()) return;
    spec s = complete((spec){.in = CUDA_R_16BF,
                             .out = CUDA_R_16BF,
                             .m = 8,
                             .n = 8,
                             .k = 512,
                             .workspace = PLACE / 2,
                             .reductions = CUBLASLT_REDUCTION_SCHEME_MASK});
    call c;
    char *before = malloc(SPACE);
    ck_assert_ptr_nonnull(before);
    describe(&c, &s);
    LT(ask(&c));
    choose(&c, 0);
    ck_assert_uint_gt(c.workspace_bytes, 0);
    fill(&s, before);
    memcpy(rig.pinned, before, SPACE);
    copy_in();
    LT(multiply(&c));
    copy_out();
    int worse = 0;
    for (int64_t j = 0; j < s.n; j++)
        for (int64_t i = 0; i < s.m; i++) {
            expectation e = expected(&s, before, 0, i, j);
            double got = element(s.out, rig.pinned + offset_of(&s, D), place(&s, D, 0, i, j));
            ck_assert(fabs(got - e.sum) <= 0.5); // near, all the same
            worse += fabs(got - e.sum) > e.tolerance;
        }
    ck_assert_int_gt(worse, 0);
    forget(&c);
    free(before);
}
END_TEST

static void declare(const spec *s, int matrix, cuda_on_cpu_range *range, int *count) {
    int64_t bytes = bytes_of(type_of(s, matrix));
    for (int64_t j = 0; j < columns_of(s, matrix); j++) {
        uintptr_t begin = rig.space + offset_of(s, matrix) + (uintptr_t)(j * s->ld[matrix] * bytes);
        range[(*count)++] = (cuda_on_cpu_range){
            begin, begin + (uintptr_t)(rows_of(s, matrix) * bytes), matrix == D};
    }
}

// Columns, not the gaps between them; C only where beta makes it count.
START_TEST(only_elements_are_touched) {
    if (!open_rig()) return;
    spec s = plain;
    s.apart = true, s.beta = _i ? 0.5f : 0;
    s = complete(s);
    void (*expect)(const cuda_on_cpu_work *, int);
    bool (*expected_came)(void);
    *(void **)&expect = dlsym(rig.file, "cuda_on_cpu_expect");
    *(void **)&expected_came = dlsym(rig.file, "cuda_on_cpu_expected");
    ck_assert(expect && expected_came);
    cuda_on_cpu_range range[200];
    int ranges = 0;
    for (int i = 0; i < MATRICES; i++)
        if (i != C || s.beta != 0) declare(&s, i, range, &ranges);
    call c;
    describe(&c, &s);
    LT(ask(&c));
    choose(&c, 0);
    expect(
        &(cuda_on_cpu_work){
            .kind = WORK_PRODUCT, .label = "a product", .range = range, .ranges = ranges},
        1);
    LT(multiply(&c));
    ck_assert(expected_came());
    CU(rig.cu.stream_synchronize(rig.stream));
    forget(&c);
}
END_TEST

// Both leave the same bits, also where the caller lets go of all that it handed in at once.
START_TEST(work_is_queued_with_all_it_needs) {
    if (!open_rig()) return;
    spec s = complete((spec){.in = CUDA_R_32F,
                             .out = CUDA_R_32F,
                             .m = 70,
                             .n = 50,
                             .k = 400,
                             .beta = 0.5f,
                             .workspace = PLACE / 2});
    char *before = malloc(SPACE), *first = malloc(SPACE);
    ck_assert(before && first);
    call c;
    describe(&c, &s);
    LT(ask(&c));
    run(&s, &c, 0, before);
    memcpy(first, rig.pinned, SPACE);
    memcpy(rig.pinned, before, SPACE);
    copy_in();
    LT(multiply(&c));
    forget(&c);
    c.alpha = c.beta = NAN;
    memset(c.result, 0, sizeof c.result);
    copy_out();
    ck_assert_mem_eq(first, rig.pinned, SPACE);
    free(before), free(first);
}
END_TEST

// ---- what the heuristic says --------------------------------------------------------------------

START_TEST(what_is_not_served_is_no_mistake) {
    if (!open_rig()) return;
    const cudaDataType unserved[][2] = {{CUDA_R_32F, CUDA_R_16F},
                                        {CUDA_R_32F, CUDA_R_16BF},
                                        {CUDA_R_16F, CUDA_R_16BF},
                                        {CUDA_R_16BF, CUDA_R_16F},
                                        {CUDA_R_32F, CUDA_R_32F}};
    spec s = plain;
    s.in = unserved[_i][0], s.out = unserved[_i][1];
    if (_i == 4) s.k = 0;
    s = complete(s);
    call c;
    describe(&c, &s);
    c.results = RESULTS;
    listener l = listen_to_stderr();
    cublasStatus_t status = ask(&c);
    char text[1024];
    heard(l, text, sizeof text);
    ck_assert_int_eq(status, CUBLAS_STATUS_NOT_SUPPORTED);
    ck_assert_int_eq(c.results, 0);
    ck_assert_str_eq(text, "");
    forget(&c);
}
END_TEST

START_TEST(results_have_a_state) {
    if (!open_rig()) return;
    spec s = complete(plain);
    call c;
    s.ld[A] = 31; // pointers have 16 bytes of alignment, columns do not
    describe(&c, &s);
    LT(ask(&c));
    ck_assert_int_ge(c.results, 2);
    ck_assert_int_eq(c.result[0].state, CUBLAS_STATUS_NOT_SUPPORTED);
    ck_assert_int_eq(c.result[1].state, CUBLAS_STATUS_SUCCESS);
    c.requested = 1;
    LT(ask(&c));
    ck_assert_int_eq(c.results, 1);
    c.requested = RESULTS;
    prefer(&c, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, 2); // less than an element
    ck_assert_int_eq(ask(&c), CUBLAS_STATUS_NOT_SUPPORTED);
    ck_assert_int_eq(c.results, 0);
    forget(&c);
}
END_TEST

START_TEST(versions_and_names) {
    if (!open_rig()) return;
    ck_assert_uint_eq(rig.lt.cublasLtGetVersion() / 10000, 13);
    ck_assert_str_eq(rig.lt.cublasLtGetStatusName(CUBLAS_STATUS_NOT_SUPPORTED),
                     "CUBLAS_STATUS_NOT_SUPPORTED");
    ck_assert_str_eq(rig.lt.cublasLtGetStatusName(0), "CUBLAS_STATUS_SUCCESS");
    ck_assert_str_eq(rig.lt.cublasLtGetStatusName(2), "unrecognized status");
    ck_assert_str_eq(rig.lt.cublasLtGetStatusName(-1), "unrecognized status");
    LT(rig.lt.cublasLtDestroy(rig.handle));
    open_library("libcublasLt.so.12");
    LT(rig.lt.cublasLtCreate(&rig.handle));
    ck_assert_uint_eq(rig.lt.cublasLtGetVersion() / 10000, 12);
}
END_TEST

static void add_cases(TCase *tests) {
    tcase_add_checked_fixture(tests, start, finish);
    tcase_add_loop_test(tests, products, 0, SHAPES * TYPES * 4);
    tcase_add_loop_test(tests, leading_dimensions, 0, TYPES * 4);
    tcase_add_loop_test(tests, batches, 0, TYPES * 4);
    tcase_add_loop_test(tests, scaled_and_added, 0, TYPES * 3);
    tcase_add_loop_test(tests, split_k, 0, TYPES);
    tcase_add_test(tests, reductions_are_masked);
    tcase_add_loop_test(tests, only_elements_are_touched, 0, 2);
    tcase_add_test(tests, work_is_queued_with_all_it_needs);
    tcase_add_loop_test(tests, what_is_not_served_is_no_mistake, 0, 5);
    tcase_add_test(tests, results_have_a_state);
    tcase_add_test(tests, versions_and_names);
}

#else

START_TEST(needs_headers) {
    skip(SKIP_no_cuda_headers);
}
END_TEST

static void add_cases(TCase *tests) {
    tcase_add_test(tests, needs_headers);
}

#endif

Suite *cuda_cublaslt_suite(void) {
    Suite *suite = suite_create("cuda_cublaslt");
    TCase *tests = tcase_create("cuda_cublaslt");
    add_cases(tests);
    tcase_set_timeout(tests, 60);
    suite_add_tcase(suite, tests);
    return suite;
}
