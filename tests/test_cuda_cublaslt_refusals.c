// The cuBLASLt that stands in on the CPU: what it refuses, with which status and which line, and
// that its calls fail when they are told to.
#include <check.h>
#include "tests/skips.h"

#ifdef BRIM_CUDA_BUILT
#include "tests/cublaslt_rig.h"

// ---- refusals -----------------------------------------------------------------------------------

static void *const garbage = &rig; // a live pointer to something else

static cublasStatus_t layout_attribute(call *c, int matrix, cublasLtMatrixLayoutAttribute_t which,
                                       int64_t value, size_t bytes) {
    return rig.lt.cublasLtMatrixLayoutSetAttribute(c->layout[matrix], which, &value, bytes);
}

static void set_layout(call *c, int matrix, cublasLtMatrixLayoutAttribute_t which, int64_t value,
                       size_t bytes) {
    LT(layout_attribute(c, matrix, which, value, bytes));
}

// An attempt that the library must refuse, made on a product that is in order.
#define ATTEMPT(name) static cublasStatus_t name(call *c)

ATTEMPT(handle_null) {
    c->handle = NULL;
    return multiply(c);
}
ATTEMPT(handle_garbage) {
    c->handle = garbage;
    return multiply(c);
}
ATTEMPT(handle_is_a_layout) {
    c->handle = (cublasLtHandle_t)c->layout[A];
    return multiply(c);
}
static void free_handle(call *c) {
    LT(rig.lt.cublasLtCreate(&c->handle));
    LT(rig.lt.cublasLtDestroy(c->handle));
}
ATTEMPT(handle_freed) {
    free_handle(c);
    return multiply(c);
}
ATTEMPT(handle_freed_heuristic) {
    free_handle(c);
    return ask(c);
}
ATTEMPT(handle_freed_twice) {
    free_handle(c);
    return rig.lt.cublasLtDestroy(c->handle);
}
ATTEMPT(handle_without_context) {
    CU(rig.cu.ctx_set_current(NULL));
    cublasStatus_t status = rig.lt.cublasLtCreate(&c->handle);
    CU(rig.cu.ctx_set_current(rig.context[0]));
    return status;
}
ATTEMPT(handle_of_another_context) {
    CU(rig.cu.ctx_set_current(rig.context[1]));
    cublasStatus_t status = multiply(c);
    CU(rig.cu.ctx_set_current(rig.context[0]));
    return status;
}
ATTEMPT(operation_freed) {
    cublasLtMatmulDesc_t freed = c->operation;
    LT(rig.lt.cublasLtMatmulDescDestroy(c->operation));
    LT(rig.lt.cublasLtMatmulDescCreate(&c->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    cublasLtMatmulDesc_t live = c->operation;
    c->operation = freed;
    cublasStatus_t status = multiply(c);
    c->operation = live;
    return status;
}
ATTEMPT(layout_freed) {
    cublasLtMatrixLayout_t live = c->layout[B];
    spec s = complete(plain);
    c->layout[B] = make_layout(&s, B);
    LT(rig.lt.cublasLtMatrixLayoutDestroy(c->layout[B]));
    cublasStatus_t status = multiply(c);
    c->layout[B] = live;
    return status;
}
ATTEMPT(layout_freed_twice) {
    spec s = complete(plain);
    cublasLtMatrixLayout_t freed = make_layout(&s, B);
    (void)c;
    LT(rig.lt.cublasLtMatrixLayoutDestroy(freed));
    return rig.lt.cublasLtMatrixLayoutDestroy(freed);
}
ATTEMPT(layout_inside_another) {
    cublasLtMatrixLayout_t live = c->layout[D];
    c->layout[D] = (cublasLtMatrixLayout_t)((char *)live + 8);
    cublasStatus_t status = multiply(c);
    c->layout[D] = live;
    return status;
}
ATTEMPT(preference_freed) {
    cublasLtMatmulPreference_t live = c->preference;
    LT(rig.lt.cublasLtMatmulPreferenceCreate(&c->preference));
    LT(rig.lt.cublasLtMatmulPreferenceDestroy(c->preference));
    cublasStatus_t status = ask(c);
    c->preference = live;
    return status;
}
ATTEMPT(attribute_unknown) {
    return layout_attribute(c, A, 77, 1, 4);
}
ATTEMPT(attribute_too_small) {
    return layout_attribute(c, A, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, 1, 4);
}
ATTEMPT(attribute_too_large) {
    return layout_attribute(c, A, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 1, 8);
}
ATTEMPT(attribute_null) {
    return rig.lt.cublasLtMatmulDescSetAttribute(c->operation, CUBLASLT_MATMUL_DESC_TRANSA, NULL,
                                                 4);
}
ATTEMPT(attribute_of_operation_too_large) {
    int64_t value = 0;
    return rig.lt.cublasLtMatmulDescSetAttribute(c->operation, CUBLASLT_MATMUL_DESC_TRANSA, &value,
                                                 sizeof value);
}
ATTEMPT(attribute_not_served) {
    void *bias = NULL;
    return rig.lt.cublasLtMatmulDescSetAttribute(c->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                 &bias, sizeof bias);
}
ATTEMPT(attribute_of_preference_too_small) {
    uint32_t bytes = 0;
    return rig.lt.cublasLtMatmulPreferenceSetAttribute(
        c->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes);
}
ATTEMPT(alignment_of_three) {
    prefer(c, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 3);
    return ask(c);
}
ATTEMPT(ld_too_small) {
    set_layout(c, A, CUBLASLT_MATRIX_LAYOUT_LD, 23, 8);
    return ask(c);
}
ATTEMPT(ld_too_small_when_it_runs) {
    set_layout(c, D, CUBLASLT_MATRIX_LAYOUT_LD, 23, 8);
    return multiply(c);
}
ATTEMPT(inner_extents_differ) {
    set_layout(c, B, CUBLASLT_MATRIX_LAYOUT_ROWS, 39, 8);
    return ask(c);
}
ATTEMPT(inner_extents_differ_after_transposing) {
    set_operation(c, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    return ask(c);
}
ATTEMPT(result_has_other_columns) {
    set_layout(c, D, CUBLASLT_MATRIX_LAYOUT_COLS, 21, 8);
    return ask(c);
}
ATTEMPT(batches_differ) {
    set_layout(c, B, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 2, 4);
    return ask(c);
}
ATTEMPT(no_batch) {
    set_layout(c, A, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 0, 4);
    return ask(c);
}
ATTEMPT(row_major) {
    set_layout(c, A, CUBLASLT_MATRIX_LAYOUT_ORDER, CUBLASLT_ORDER_ROW, 4);
    return ask(c);
}
ATTEMPT(transform_unknown) {
    set_operation(c, CUBLASLT_MATMUL_DESC_TRANSB, 9);
    return ask(c);
}
ATTEMPT(epilogue) {
    set_operation(c, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_RELU);
    return ask(c);
}
ATTEMPT(device_pointer_mode) {
    set_operation(c, CUBLASLT_MATMUL_DESC_POINTER_MODE, CUBLASLT_POINTER_MODE_DEVICE);
    return multiply(c);
}
ATTEMPT(compute_type) {
    set_operation(c, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, CUBLAS_COMPUTE_32F_FAST_TF32);
    return ask(c);
}
ATTEMPT(scale_type) {
    set_operation(c, CUBLASLT_MATMUL_DESC_SCALE_TYPE, CUDA_R_16F);
    return multiply(c);
}
ATTEMPT(types_of_a_and_b_differ) {
    set_layout(c, A, CUBLASLT_MATRIX_LAYOUT_TYPE, CUDA_R_16F, 4);
    return multiply(c);
}
ATTEMPT(types_of_c_and_d_differ) {
    set_layout(c, C, CUBLASLT_MATRIX_LAYOUT_TYPE, CUDA_R_16F, 4);
    return ask(c);
}
ATTEMPT(f32_to_16_bits) {
    set_layout(c, C, CUBLASLT_MATRIX_LAYOUT_TYPE, CUDA_R_16BF, 4);
    set_layout(c, D, CUBLASLT_MATRIX_LAYOUT_TYPE, CUDA_R_16BF, 4);
    return multiply(c);
}
ATTEMPT(layouts_of_c_and_d_differ) {
    set_layout(c, C, CUBLASLT_MATRIX_LAYOUT_LD, 32, 8);
    LT(ask(c)); // C need not be D
    return multiply(c);
}
ATTEMPT(no_results_wanted) {
    c->requested = 0;
    return ask(c);
}
ATTEMPT(algorithm_null) {
    c->algorithm = NULL;
    return multiply(c);
}
ATTEMPT(algorithm_garbage) {
    static const cublasLtMatmulAlgo_t zeros;
    c->algorithm = &zeros;
    return multiply(c);
}
ATTEMPT(algorithm_changed) {
    c->result[0].algo.data[2] ^= 256;
    return multiply(c);
}
ATTEMPT(algorithm_for_other_descriptors) {
    set_layout(c, A, CUBLASLT_MATRIX_LAYOUT_LD, 36, 8);
    return multiply(c);
}
ATTEMPT(alpha_null) {
    c->at_alpha = NULL;
    return multiply(c);
}
ATTEMPT(beta_null) {
    c->at_beta = NULL;
    return multiply(c);
}
ATTEMPT(alpha_in_device_memory) {
    c->at_alpha = host_pointer(rig.space);
    return multiply(c);
}
ATTEMPT(element_misaligned) {
    c->matrix[B] += 2;
    return multiply(c);
}
ATTEMPT(less_aligned_than_promised) {
    c->matrix[A] += 16;
    return multiply(c);
}
ATTEMPT(result_less_aligned_than_promised) {
    c->matrix[C] = c->matrix[D] += 32;
    return multiply(c);
}
ATTEMPT(host_memory) {
    c->matrix[A] = (CUdeviceptr)(uintptr_t)rig.pinned;
    return multiply(c);
}
ATTEMPT(operand_null) {
    c->matrix[B] = 0;
    return multiply(c);
}
ATTEMPT(result_runs_out_of_memory) {
    c->matrix[C] = c->matrix[D] = rig.space + SPACE - 64;
    return multiply(c);
}
ATTEMPT(a_is_d) {
    c->matrix[A] = c->matrix[D];
    return multiply(c);
}
ATTEMPT(b_overlaps_d) {
    c->matrix[B] = c->matrix[D] + 19 * 28 * 4 + 48; // in its last column
    return multiply(c);
}
ATTEMPT(c_overlaps_d) {
    c->matrix[C] = c->matrix[D] + 28 * 4 * 16;
    return multiply(c);
}
static void use_split_k(call *c) {
    for (int i = 0; i < c->results; i++)
        if (c->result[i].state == CUBLAS_STATUS_SUCCESS && c->result[i].workspaceSize) choose(c, i);
    ck_assert_uint_gt(c->workspace_bytes, 0);
}
static void make_deep(call *c) {
    set_layout(c, A, CUBLASLT_MATRIX_LAYOUT_COLS, 400, 8);
    set_layout(c, B, CUBLASLT_MATRIX_LAYOUT_ROWS, 400, 8);
    set_layout(c, B, CUBLASLT_MATRIX_LAYOUT_LD, 400, 8);
    LT(ask(c));
    use_split_k(c);
}
ATTEMPT(workspace_too_small) {
    make_deep(c);
    c->workspace_bytes--;
    return multiply(c);
}
ATTEMPT(workspace_null) {
    make_deep(c);
    c->workspace = 0;
    return multiply(c);
}
ATTEMPT(workspace_misaligned) {
    make_deep(c);
    c->workspace += 128;
    return multiply(c);
}
ATTEMPT(workspace_runs_out_of_memory) {
    make_deep(c);
    c->workspace = rig.space + SPACE - 256;
    return multiply(c);
}
ATTEMPT(workspace_overlaps_b) {
    make_deep(c);
    c->workspace = rig.space + B * PLACE;
    return multiply(c);
}
static void make_batched(call *c, int64_t stride) {
    for (int i = 0; i < MATRICES; i++) {
        set_layout(c, i, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 3, 4);
        set_layout(c, i, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, i < C ? 4096 : stride, 8);
    }
    LT(ask(c));
    choose(c, 0);
}
ATTEMPT(result_broadcast) {
    make_batched(c, 0);
    return multiply(c);
}
ATTEMPT(results_overlap) {
    make_batched(c, 20 * 28 - 32);
    return multiply(c);
}
ATTEMPT(batch_stride_negative) {
    make_batched(c, 4096);
    set_layout(c, A, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, -4096, 8);
    return multiply(c);
}

typedef struct refusal {
    const char *name;
    cublasStatus_t (*attempt)(call *c);
    cublasStatus_t status;
    const char *text;
} refusal;

#define INVALID(name, text)                                                                        \
    { #name, name, CUBLAS_STATUS_INVALID_VALUE, text }
#define UNSUPPORTED(name, text)                                                                    \
    { #name, name, CUBLAS_STATUS_NOT_SUPPORTED, text }
#define UNINITIALIZED(name, text)                                                                  \
    { #name, name, CUBLAS_STATUS_NOT_INITIALIZED, text }
static const refusal refusals[] = {
    UNINITIALIZED(handle_null, "is not a handle that lives"),
    UNINITIALIZED(handle_garbage, "is not a handle that lives"),
    UNINITIALIZED(handle_is_a_layout, "is not a handle that lives"),
    UNINITIALIZED(handle_freed, "is not a handle that lives"),
    UNINITIALIZED(handle_freed_heuristic, "is not a handle that lives"),
    INVALID(handle_freed_twice, "is not a handle that lives"),
    UNINITIALIZED(handle_without_context, "no context is current"),
    INVALID(handle_of_another_context, "made in another context"),
    INVALID(operation_freed, "is not a matmul descriptor that lives"),
    INVALID(layout_freed, "is not a matrix layout (B) that lives"),
    INVALID(layout_freed_twice, "is not a matrix layout that lives"),
    INVALID(layout_inside_another, "is not a matrix layout (D) that lives"),
    INVALID(preference_freed, "is not a matmul preference that lives"),
    INVALID(attribute_unknown, "no attribute 77"),
    INVALID(attribute_too_small, "STRIDED_BATCH_OFFSET has 8 bytes, not 4"),
    INVALID(attribute_too_large, "BATCH_COUNT has 4 bytes, not 8"),
    INVALID(attribute_null, "TRANSA: the value is NULL"),
    INVALID(attribute_of_operation_too_large, "TRANSA has 4 bytes, not 8"),
    UNSUPPORTED(attribute_not_served, "BIAS_POINTER is not served here"),
    INVALID(attribute_of_preference_too_small, "MAX_WORKSPACE_BYTES has 8 bytes, not 4"),
    INVALID(alignment_of_three, "3 bytes for A is no power of two"),
    INVALID(ld_too_small, "A: its leading dimension 23 is less than its 24 rows"),
    INVALID(ld_too_small_when_it_runs, "D: its leading dimension 23 is less than its 24 rows"),
    INVALID(inner_extents_differ, "op(A) has 40 columns, op(B) 39 rows"),
    INVALID(inner_extents_differ_after_transposing, "op(A) has 24 columns, op(B) 40 rows"),
    INVALID(result_has_other_columns, "D is 24 x 21, the product 24 x 20"),
    INVALID(batches_differ, "a batch of 2 for B, of 1 for A"),
    INVALID(no_batch, "A: a batch of 0"),
    UNSUPPORTED(row_major, "only column-major matrices"),
    INVALID(transform_unknown, "transform 9 of B"),
    UNSUPPORTED(epilogue, "epilogue 2 is not served here"),
    UNSUPPORTED(device_pointer_mode, "pointer mode 1 is not served here"),
    UNSUPPORTED(compute_type, "compute type 77 is not served here"),
    UNSUPPORTED(scale_type, "scaled in CUDA_R_32F only"),
    UNSUPPORTED(types_of_a_and_b_differ, "types of A, B and D do not go together"),
    INVALID(types_of_c_and_d_differ, "C has type 2, D 0"),
    UNSUPPORTED(f32_to_16_bits, "types of A, B and D do not go together"),
    INVALID(layouts_of_c_and_d_differ, "their layouts differ"),
    INVALID(no_results_wanted, "no place for its results"),
    INVALID(algorithm_null, "no algorithm"),
    INVALID(algorithm_garbage, "none that this library's heuristic chose"),
    INVALID(algorithm_changed, "none that this library's heuristic chose"),
    INVALID(algorithm_for_other_descriptors, "chosen for other descriptors"),
    INVALID(alpha_null, "alpha is NULL"),
    INVALID(beta_null, "beta is NULL"),
    INVALID(alpha_in_device_memory, "alpha is in device memory"),
    INVALID(element_misaligned, "its elements have 4 bytes"),
    UNSUPPORTED(less_aligned_than_promised, "chosen for 64 bytes of alignment"),
    UNSUPPORTED(result_less_aligned_than_promised, "chosen for 64 bytes of alignment"),
    INVALID(host_memory, "are not in one piece of device memory"),
    INVALID(operand_null, "are not in one piece of device memory"),
    INVALID(result_runs_out_of_memory, "are not in one piece of device memory"),
    INVALID(a_is_d, "A and D overlap"),
    INVALID(b_overlaps_d, "B and D overlap"),
    INVALID(c_overlaps_d, "C and D overlap"),
    INVALID(workspace_too_small, "the algorithm needs"),
    INVALID(workspace_null, "are not in one piece of device memory"),
    INVALID(workspace_misaligned, "must be aligned to 256 bytes"),
    INVALID(workspace_runs_out_of_memory, "are not in one piece of device memory"),
    INVALID(workspace_overlaps_b, "B and the workspace overlap"),
    INVALID(result_broadcast, "matrices of D overlap each other"),
    INVALID(results_overlap, "matrices of D overlap each other"),
    INVALID(batch_stride_negative, "A: batch stride -4096"),
};
enum { REFUSALS = sizeof refusals / sizeof *refusals };

START_TEST(refuses) {
    if (!open_rig()) return;
    const refusal *r = &refusals[_i];
    spec s = complete(plain);
    call c;
    describe(&c, &s);
    LT(ask(&c));
    choose(&c, 0);
    LT(multiply(&c)); // in order
    listener l = listen_to_stderr();
    cublasStatus_t status = r->attempt(&c);
    char text[1024];
    heard(l, text, sizeof text);
    ck_assert_msg(status == r->status, "%s: status %d: %s", r->name, status, text);
    ck_assert_msg(strncmp(text, "cuda_on_cpu: cublasLt", 21) == 0 && strstr(text, r->text) &&
                      strchr(text, '\n') == text + strlen(text) - 1,
                  "%s: \"%s\" is not in one line: %s", r->name, r->text, text);
    forget(&c);
    CU(rig.cu.stream_synchronize(rig.stream));
}
END_TEST

// Columns of D may lie between those of A: only what is really shared is refused.
START_TEST(interleaved_matrices_do_not_overlap) {
    if (!open_rig()) return;
    spec s = complete(plain);
    for (int i = 0; i < MATRICES; i++) s.ld[i] = 128;
    call c;
    describe(&c, &s);
    LT(ask(&c));
    choose(&c, 0);
    c.matrix[A] = c.matrix[D] + 128;
    c.matrix[B] = c.matrix[D] + 256;
    LT(multiply(&c));
    char text[1024];
    listener l = listen_to_stderr();
    c.matrix[A] = c.matrix[D] + 64; // begins in a column of D
    cublasStatus_t begins = multiply(&c);
    c.matrix[A] = c.matrix[D] - 64; // ends in one
    cublasStatus_t ends = multiply(&c);
    heard(l, text, sizeof text);
    ck_assert_int_eq(begins, CUBLAS_STATUS_INVALID_VALUE);
    ck_assert_int_eq(ends, CUBLAS_STATUS_INVALID_VALUE);
    CU(rig.cu.stream_synchronize(rig.stream));
    forget(&c);
}
END_TEST

// ---- failures that are ordered ------------------------------------------------------------------

enum { INJECTED = CUBLAS_STATUS_INTERNAL_ERROR };

static void order_failure(const char *name) {
    char words[96];
    snprintf(words, sizeof words, "fail=%s:1:%d", name, INJECTED);
    ck_assert_ptr_null(rig.configure(words));
}
#define FAILS(name, ...)                                                                           \
    do {                                                                                           \
        order_failure(#name);                                                                      \
        ck_assert_int_eq(rig.lt.name(__VA_ARGS__), INJECTED);                                      \
    } while (0)

START_TEST(calls_fail_when_told_to) {
    if (!open_rig()) return;
    spec s = complete(plain);
    call c;
    describe(&c, &s);
    LT(ask(&c));
    choose(&c, 0);
    order_failure("cublasLtMatmul");
    ck_assert_int_eq(multiply(&c), INJECTED);
    LT(multiply(&c)); // once only
    order_failure("cublasLtMatmulAlgoGetHeuristic");
    ck_assert_int_eq(ask(&c), INJECTED);
    cublasLtHandle_t handle;
    FAILS(cublasLtCreate, &handle);
    FAILS(cublasLtDestroy, rig.handle);
    FAILS(cublasLtMatmulDescCreate, &c.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    FAILS(cublasLtMatmulDescDestroy, c.operation);
    FAILS(cublasLtMatmulDescSetAttribute, c.operation, CUBLASLT_MATMUL_DESC_TRANSA, &c, 4);
    FAILS(cublasLtMatmulPreferenceCreate, &c.preference);
    FAILS(cublasLtMatmulPreferenceDestroy, c.preference);
    FAILS(cublasLtMatmulPreferenceSetAttribute, c.preference,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &c, 4);
    FAILS(cublasLtMatrixLayoutCreate, &c.layout[A], CUDA_R_32F, 1, 1, 1);
    FAILS(cublasLtMatrixLayoutDestroy, c.layout[A]);
    FAILS(cublasLtMatrixLayoutSetAttribute, c.layout[A], CUBLASLT_MATRIX_LAYOUT_LD, &c, 8);
    LT(multiply(&c)); // nothing was made, destroyed or changed
    CU(rig.cu.stream_synchronize(rig.stream));
    forget(&c);
}
END_TEST

static void add_cases(TCase *tests) {
    tcase_add_checked_fixture(tests, start, finish);
    tcase_add_loop_test(tests, refuses, 0, REFUSALS);
    tcase_add_test(tests, interleaved_matrices_do_not_overlap);
    tcase_add_test(tests, calls_fail_when_told_to);
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

Suite *cuda_cublaslt_refusals_suite(void) {
    Suite *suite = suite_create("cuda_cublaslt_refusals");
    TCase *tests = tcase_create("cuda_cublaslt_refusals");
    add_cases(tests);
    tcase_set_timeout(tests, 60);
    suite_add_tcase(suite, tests);
    return suite;
}
