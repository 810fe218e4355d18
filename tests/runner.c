// Runs all suites, or those named on the command line, and ends with "N passed, N failed, N
// skipped". After --device BACKEND only its devices are under test.
#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/clock.h"
#include "tests/devices.h"
#include "tests/skips.h"

#define SUITE(name) Suite *name##_suite(void);
#define SUITE_ON_CUDA(name) SUITE(name)
#include "tests/suites.def"
#undef SUITE
#undef SUITE_ON_CUDA

typedef struct suite_row {
    const char *name;
    Suite *(*make)(void);
    bool when_named; // and not where all suites run
} suite_row;

static const suite_row suites[] = {
#define SUITE(name) {#name, name##_suite, false},
#ifdef BRIM_CUDA_BUILT
#define SUITE_ON_CUDA(name) {#name, name##_suite, true},
#else
#define SUITE_ON_CUDA(name)
#endif
#include "tests/suites.def"
#undef SUITE
#undef SUITE_ON_CUDA
};
enum { SUITES = sizeof suites / sizeof *suites };

static bool wanted(const suite_row *row, int count, char **names) {
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], row->name) == 0) return true;
    return count == 0 && !row->when_named;
}

static int run_one(const suite_row *row, int *passed, int *failed_count) {
    SRunner *runner = srunner_create(row->make());
    printf("== %s\n", row->name);
    fflush(stdout);
    double start = clock_seconds();
    srunner_run_all(runner, CK_ENV);
    printf("   %.1f s\n", clock_seconds() - start);
    int ran = srunner_ntests_run(runner), bad = srunner_ntests_failed(runner);
    srunner_free(runner);
    *passed += ran - bad;
    *failed_count += bad;
    return ran;
}

int main(int argc, char **argv) {
    int passed = 0, failures = 0, chosen = 0;
    argc--, argv++;
    if (argc >= 2 && strcmp(argv[0], "--device") == 0) {
        if (!devices_restrict(argv[1])) {
            printf("--device %s: expected cuda or opencl\n", argv[1]);
            return 2;
        }
        argc -= 2, argv += 2;
    }
    skips_begin();
    for (int i = 0; i < SUITES; i++) {
        if (!wanted(&suites[i], argc, argv)) continue;
        chosen++;
        if (run_one(&suites[i], &passed, &failures) == 0) {
            printf("suite %s ran no test\n", suites[i].name);
            failures++;
        }
    }
    if (chosen == 0) {
        printf("no suite of that name; there are:");
        for (int i = 0; i < SUITES; i++) printf(" %s", suites[i].name);
        printf("\n");
        return 2;
    }
    int skipped = skips_report();
    printf("%d passed, %d failed, %d skipped\n", passed, failures, skipped);
    return failures > 0;
}
