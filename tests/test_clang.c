// Every kernel in use, checked by clang as OpenCL C 1.2. It refuses what CUDA, OpenCL 2.0 and PoCL
// take, such as a pointer without its address space. Needs the compiler only, no device.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/kernel_source.h"
#include "backends/worker_pool.h"
#include "core/strbuf.h"
#include "tests/kernels_in_use.h"
#include "tests/kernels_packed.h"
#include "tests/skips.h"
#include "tests/test_core.h"

// A call of clang checks many files, one after another; two calls run at a time.
enum { FILES_A_CALL = 12, THREADS = 2 };

static brim_error err;

// Devices as they tell of themselves: GPUs as the OpenCL backend sets them up and as it may be told
// to, CPUs by the width of their vectors.
static device_traits device(bool cpu, int vec, int group) {
    device_traits traits = pretended_gpu;
    traits.cpu = cpu;
    traits.vec = vec;
    traits.group = group;
    return traits;
}

// What the driver is given (backends/opencl/module.c), as a file. Errors name the kernel's file and
// its specialisation.
static void write_source(const char *path, const kernel_spec *k) {
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    for (const char *at = k->defines; (at = strstr(at, "-D")); at++) {
        const char *name = at + 2;
        int whole = (int)strcspn(name, " "), length = (int)strcspn(name, " =");
        fprintf(file, "#define %.*s %.*s\n", length, name, whole - length - (length < whole),
                name + length + (length < whole));
    }
    const char *const parts[] = {"dialect_opencl.h", "dialect.h"};
    for (int i = 0; i < 2; i++)
        fprintf(file, "#line 1 \"%s\"\n%s\n", parts[i], kernel_source_find(parts[i]));
    fprintf(file, "#line 1 \"%s (%s)\"\n%s\n", k->file, k->defines, k->source);
    ck_assert_int_eq(fclose(file), 0);
}

static void call_clang(void *context, int call) {
    int *status = context;
    char command[400];
    snprintf(command, sizeof command,
             "cd %s && clang -x cl -cl-std=CL1.2 -fsyntax-only -Wall -Wextra -Wno-unused-function "
             "-Wno-unused-parameter -Werror -fno-caret-diagnostics @list-%d >log-%d 2>&1",
             test_directory, call, call);
    status[call] = system(command);
}

// Checks a list of kernels; true where clang accepts all. show: prints what it says otherwise.
static bool accepts(const kernel_spec *kernels, int count, bool show) {
    int calls = (count + FILES_A_CALL - 1) / FILES_A_CALL,
        *status = calloc((size_t)calls, sizeof *status);
    char name[40], path[160];
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "list-%d", i / FILES_A_CALL);
        FILE *list = fopen(test_path(name), i % FILES_A_CALL ? "a" : "w");
        ck_assert_ptr_nonnull(list);
        fprintf(list, "%d.cl\n", i);
        fclose(list);
        snprintf(path, sizeof path, "%s/%d.cl", test_directory, i);
        write_source(path, &kernels[i]);
    }
    worker_pool *pool = worker_pool_create(THREADS, &err);
    ASSERT_FINE(err);
    worker_pool_run(pool, calls, call_clang, status);
    worker_pool_free(pool);
    bool good = true;
    for (int i = 0; i < calls; i++) {
        if (status[i] == 0) continue;
        good = false;
        if (!show) continue;
        snprintf(name, sizeof name, "log-%d", i);
        char *log = test_contents(test_path(name), NULL);
        printf("%.2000s\n", log);
        free(log);
    }
    free(status);
    return good;
}

static bool clang_is_there(void) {
    if (system("clang --version >/dev/null 2>&1") == 0) return true;
    skip(SKIP_no_clang);
    return false;
}

START_TEST(kernels_are_opencl_1_2) {
    const device_traits devices[] = {device(false, 4, 256), device(false, 1, 64),
                                     device(true, 16, 1), device(true, 8, 1)};
    if (!clang_is_there()) return;
    // The op cases with odd sizes on one device of each kind.
    program *all = kernels_in_use(&devices[_i], _i % 2 == 0, &err);
    ASSERT_FINE(err);
    packed_kernels packed;
    pack_kernels(all, &packed, &err);
    ASSERT_FINE(err);
    ck_assert_int_gt(packed.items, 50);
    ck_assert(accepts(packed.item, packed.items, true));
    packed_kernels_free(&packed);
    program_free(all);
}
END_TEST

// What this suite is for.
START_TEST(mistakes_are_found) {
    static const char *const bodies[] = {"out[0] = 1.0f;",                   // right
                                         "float *p = out; p[0] = 1.0f;",     // no address space
                                         "LOCAL float *p = out; p[0] = 1;",  // another one
                                         "out[0] = no_such_function(1.0f);", // not declared
                                         "int unused;"};
    enum { BODIES = sizeof bodies / sizeof *bodies };
    if (!clang_is_there()) return;
    for (int i = 0; i < BODIES; i++) {
        char source[200];
        snprintf(source, sizeof source, "KERNEL k(GLOBAL float *out) { %s }\n", bodies[i]);
        kernel_spec k = {"k", "mistake.k", source, "-DVEC=4 -DGROUP=64", 64};
        ck_assert_msg(accepts(&k, 1, false) == (i == 0), "%s", bodies[i]);
    }
}
END_TEST

Suite *clang_suite(void) {
    Suite *suite = suite_create("clang");
    TCase *tests = tcase_create("clang");
    tcase_set_timeout(tests, 600);
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_add_test(tests, mistakes_are_found);
    tcase_add_loop_test(tests, kernels_are_opencl_1_2, 0, 4);
    suite_add_tcase(suite, tests);
    return suite;
}
