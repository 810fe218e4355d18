// The op tests test themselves: with one kernel deliberately broken, they must fail.
// Each row is a mistake that a person could make; none of them
// makes a kernel fail to compile or leave its operands.
#include <check.h>
#include <stdio.h>
#include <string.h>
#include "test_core.h"
#include "tests/devices.h"
#include "tests/mistake.h"
#include "tests/op_check.h"

typedef struct mistake {
    op_id op;
    const char *name; // of the case that is run
    brim_dtype dtype;
    const char *from, *to;
    enum { EVERYWHERE, ON_CPUS, ON_GPUS } where; // that text is what runs
} mistake;

// Texts of backends/kernels, and of generated chains.
static const mistake mistakes[] = {
    // another function, with nearly the same values
    {OP_GELU, "odd", BRIM_F32, "v_gelu_tanh(", "v_gelu_erf("},
    // a relative error of 1e-6 in what must be exact
    {OP_MUL, "itself", BRIM_F32, "= a * b;", "= a * b * splat(1.000001f);"},
    // a value in a chain that is not rounded to its dtype
    {OP_FUSED, "residual", BRIM_BF16, "round_to_v(bf16, ", "("},
    // half the epsilon
    {OP_LAYER_NORM, "odd", BRIM_F32, "+ eps", "+ 0.5f * eps"},
    // the tail of a row is lost, or not weighted
    {OP_SUM, "last", BRIM_F32, "rest = TAKE(rest, v);", ""},
    {OP_SOFTMAX_BACKWARD, "direct", BRIM_F32, "#define WEIGHT(i) load(TY, result, i)",
     "#define WEIGHT(i) 1.0f"},
    // off by one
    {OP_CROSS_ENTROPY_BACKWARD, "direct", BRIM_F32, "t - i)", "t - i + 1)"},
    {OP_LINEAR_CROSS_ENTROPY_BACKWARD, "odd", BRIM_F32, "t -= first;", ""},
    // the largest of all classes is taken for that of each part
    {OP_LINEAR_CROSS_ENTROPY, "odd", BRIM_F32, "tops[p * rows] - highest", "0.0f"},
    {OP_ATTENTION, "size_64", BRIM_F32, "int n = i + m->offset + 1;", "int n = i + m->offset;",
     ON_CPUS},
    {OP_ATTENTION, "size_64", BRIM_F32, "j <= i + ", "j < i + ", ON_GPUS},
    {OP_EMBEDDING_BACKWARD, "direct", BRIM_F32, "for (; at < last; ++at)",
     "for (; at < last - 1; ++at)"},
    // the mask of another call
    {OP_DROPOUT, "large", BRIM_F32, "(vecul)(stream)", "(vecul)(stream + 1)", ON_CPUS},
    {OP_DROPOUT, "large", BRIM_F32, ">> 32), stream,", ">> 32), stream + 1,", ON_GPUS},
    // forgets the decay
    {OP_ADAMW, "odd", BRIM_F32, "s_fma(-s_lr, decay, 1.0f)", "1.0f"},
    // a decade of codes begins a little late
    {OP_ADAMW_Q8, "whole", BRIM_F32, "56.8888889f", "56.88f"},
    // the copy is that of the step before
    {OP_SGD_CAST, "odd", BRIM_BF16, "STOREV_COPY(i, pi);", ""},
};
enum { MISTAKES = sizeof mistakes / sizeof *mistakes };

START_TEST(a_mistake_is_found) {
    const char *device = any_device_under_test();
    if (!device) return;
    brim_error err = {0};
    harness h;
    harness_open(&h, device, &(device_settings){.poison = true}, &err);
    ASSERT_FINE(err);
    bool cpu = h.backend->traits(h.device)->cpu;
    if (mistakes[_i].where == (cpu ? ON_GPUS : ON_CPUS)) {
        harness_close(&h);
        return;
    }
    const mistake *made = &mistakes[_i];
    mistake_begin(&h, made->from, made->to);
    static op_check_report report;
    for (int i = 0; i < op_case_count; i++)
        if (op_cases[i].op == made->op && strcmp(op_cases[i].name, made->name) == 0)
            op_check_case(&h, &op_cases[i], made->dtype, &report);
    mistake_end(&h);
    harness_close(&h);
    ck_assert_int_eq(report.cases, 1);
    ck_assert_msg(mistake_places() > 0, "no kernel of %s holds \"%s\" any more: mend this row",
                  op_table[made->op].name, made->from);
    ck_assert_msg(report.failures > 0, "%s with \"%s\" for \"%s\" passes", op_table[made->op].name,
                  made->to, made->from);
    // Found by its numbers, not because it does not compile.
    bool by_numbers =
        strstr(report.text, " elements; element ") || strstr(report.text, " other bits ");
    ck_assert_msg(by_numbers, "%s", report.text);
}
END_TEST

Suite *self_check_suite(void) {
    Suite *suite = suite_create("self_check");
    TCase *tests = tcase_create("mistakes");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, a_mistake_is_found, 0, MISTAKES);
    suite_add_tcase(suite, tests);
    return suite;
}
