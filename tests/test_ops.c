// Every op case on every device that is here, forward and backward, against the oracle; and that no
// table forgets an op.
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "autograd/autograd.h"
#include "backends/lower.h"
#include "test_core.h"
#include "tests/op_check.h"
#include "tests/skips.h"

// A device as it is, and as other devices are: the specialisations that GPUs use run on a CPU
// device, too.
typedef struct setup {
    const char *name, *device;
    device_settings settings;
    skip_id skip; // where the device is not here
} setup;
static const setup setups[] = {
    {"OpenCL", "opencl:0", {.poison = true}, SKIP_no_opencl_device},
    {"OpenCL, groups of 64, scalars",
     "opencl:0",
     {.poison = true, .vec = 1, .group = 64},
     SKIP_no_opencl_device},
    {"OpenCL, groups of 128, vectors of 4, own products",
     "opencl:0",
     {.poison = true, .vec = 4, .group = 128, .no_native = true},
     SKIP_no_opencl_device},
    {"OpenCL, groups of 256, vectors of 4",
     "opencl:0",
     {.poison = true, .vec = 4, .group = 256},
     SKIP_no_opencl_device},
    {"CUDA", "cuda:0", {.poison = true}, SKIP_no_cuda_device},
};
enum { SETUPS = sizeof setups / sizeof *setups };

static bool present(const setup *s) {
    char why[300];
    for (const backend *const *b = backend_list; *b; b++)
        if (strncmp((*b)->name, s->device, strlen((*b)->name)) == 0)
            return (*b)->count(why, sizeof why) > 0;
    return false;
}

START_TEST(cases) {
    const setup *s = &setups[_i / OP_COUNT];
    op_id op = (op_id)(_i % OP_COUNT);
    if (!present(s)) {
        if (op == 0) skip(s->skip);
        return;
    }
    brim_error err = {0};
    harness h;
    harness_open(&h, s->device, &s->settings, &err);
    ASSERT_FINE(err);
    op_check_report report = {0};
    for (int dtype = 0; dtype < BRIM_I32; dtype++) op_check(&h, op, (brim_dtype)dtype, &report);
    harness_close(&h);
    ck_assert_msg(report.failures == 0, "%s: %d of %d cases of %s fail\n%s", s->name,
                  report.failures, report.cases, op_table[op].name, report.text);
}
END_TEST

// op.def, rules, oracle, kernels and cases know the same ops.
START_TEST(no_table_forgets_an_op) {
    bool cased[OP_COUNT][BRIM_DTYPE_COUNT] = {{false}};
    for (int i = 0; i < op_case_count; i++)
        for (int dtype = 0; dtype < BRIM_I32; dtype++)
            if ((op_cases[i].uses & OP_CASE_TEST) && op_cases[i].dtypes >> dtype & 1)
                cased[op_cases[i].op][dtype] = true;
    for (int op = 0; op < OP_COUNT; op++) {
        const char *name = op_table[op].name;
        ck_assert_msg((derivative_rules[op] != NULL) ==
                          (op_table[op].derivative == DERIVATIVE_RULE),
                      "%s: derivative rule", name);
        ck_assert_msg(oracle_rules[op] != NULL, "%s is not in the oracle", name);
        ck_assert_msg(kernel_table[op].lower != NULL, "%s has no row in the kernel table", name);
        bool updates = op_table[op].family == FAMILY_UPDATE;
        for (int dtype = 0; dtype < BRIM_I32; dtype++)
            ck_assert_msg(cased[op][dtype] || (updates && dtype != BRIM_F32),
                          "%s has no case in %s", name, brim_dtype_name((brim_dtype)dtype));
    }
}
END_TEST

Suite *ops_suite(void) {
    Suite *suite = suite_create("ops");
    TCase *tables = tcase_create("tables");
    tcase_add_test(tables, no_table_forgets_an_op);
    suite_add_tcase(suite, tables);
    TCase *devices = tcase_create("devices");
    tcase_set_timeout(devices, 300);
    tcase_add_loop_test(devices, cases, 0, SETUPS * OP_COUNT);
    suite_add_tcase(suite, devices);
    return suite;
}
