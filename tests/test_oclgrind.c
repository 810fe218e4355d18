// Every kernel under oclgrind, a simulated OpenCL device that reports data races, accesses out of
// bounds and uses of uninitialised memory, in the specialisations that GPUs use: groups with
// barriers, vectors of four and scalars. It interprets each work-item, so shapes are small. The
// numbers are compared with the oracle's as well.
//
// oclgrind is used as a driver of the ICD loader, which takes one list of drivers for a process:
// each test is a process of its own.
#include <check.h>
#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <link.h>
#include <sys/mman.h>
#include "core/strbuf.h"
#include "test_core.h"
#include "tests/exact_operands.h"
#include "tests/op_check.h"
#include "tests/skips.h"

#ifdef BRIM_OPENCL_BUILT

enum { MEMORY = 4 << 20, LARGE_MEMORY = 32 << 20, MOST_SEEN = 256, NAME = 64, KEY = 160 };

static bool long_form(void) {
    return getenv("BRIM_TEST_LONG") != NULL;
}

// ---- the device ---------------------------------------------------------------------------------

// The driver of the oclgrind command that is on the path; false where there is none.
static bool find_driver(char path[PATH_MAX]) {
    const char *folders = getenv("PATH");
    char *list = strdup(folders ? folders : ""), *rest = list, *folder;
    bool found = false;
    while (!found && (folder = strtok_r(rest, ":", &rest))) {
        char command[PATH_MAX], real[PATH_MAX];
        snprintf(command, sizeof command, "%s/oclgrind", folder);
        if (access(command, X_OK) != 0 || !realpath(command, real)) continue;
        *strrchr(real, '/') = '\0';
        snprintf(path, PATH_MAX, "%.*s/../lib/oclgrind/liboclgrind-rt-icd.so", PATH_MAX - 64, real);
        found = access(path, R_OK) == 0;
    }
    free(list);
    return found;
}

// Makes oclgrind this process's only OpenCL driver; what it reports goes to a file.
static bool become_oclgrind(const char *local_bytes, char log[PATH_MAX]) {
    char driver[PATH_MAX];
    if (!find_driver(driver)) {
        skip(SKIP_no_oclgrind);
        return false;
    }
    ck_assert_ptr_nonnull(test_file("oclgrind.icd", driver, strlen(driver)));
    snprintf(log, PATH_MAX, "%s", test_path("reports"));
    remove(log);
    // Unoptimised, since its search for uninitialised values knows no freeze instruction, and every
    // access is then made as it is written.
    const char *const variables[][2] = {
        {"OCL_ICD_VENDORS", test_directory}, {"OCLGRIND_LOG", log},
        {"OCLGRIND_DATA_RACES", "1"},        {"OCLGRIND_UNINITIALIZED", "1"},
        {"OCLGRIND_CHECK_API", "1"},         {"OCLGRIND_BUILD_OPTIONS", "-cl-opt-disable"},
        {"OCLGRIND_NUM_THREADS", "1"},       {"OCLGRIND_LOCAL_MEM_SIZE", local_bytes}};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        setenv(variables[i][0], variables[i][1], 1);
    unsetenv("OPENCL_LAYERS");
    return true;
}

// At the end of inlining LLVM leaves marks that oclgrind 21.10 takes for functions that are
// missing. They are switched off in the copy of LLVM that it has loaded.
static int leave_no_marks(struct dl_phdr_info *library, size_t size, void *user) {
    (void)size, (void)user;
    if (!strstr(library->dlpi_name, "libLLVM")) return 0;
    void *llvm = dlopen(library->dlpi_name, RTLD_NOW | RTLD_NOLOAD);
    void (*parse)(int, const char *const *, const char *) = NULL;
    if (llvm) *(void **)&parse = dlsym(llvm, "LLVMParseCommandLineOptions");
    const char *const options[] = {"test", "-enable-noalias-to-md-conversion=false"};
    if (parse) parse(2, options, NULL);
    return 1;
}

static harness open_device(const device_settings *settings) {
    brim_error err = {0};
    harness h;
    int64_t bytes = long_form() ? LARGE_MEMORY : MEMORY;
    harness_open_with(&h, "opencl:0", settings, bytes, bytes, &err);
    ASSERT_FINE(err);
    ck_assert_str_eq(h.backend->traits(h.device)->name, "Oclgrind Simulator");
    dl_iterate_phdr(leave_no_marks, NULL);
    return h;
}

// ---- what it reports ----------------------------------------------------------------------------

// The number of reports, and the first few.
static int read_reports(const char *log, strbuf *first) {
    if (access(log, R_OK) != 0) return 0;
    char *text = test_contents(log, NULL), *at = text;
    int count = 0;
    for (char *end; *at; at = end + strspn(end, "\t\n ")) {
        end = strstr(at, "\n\t\n"); // no line of a report is empty but its last one
        if (!end) end = at + strlen(at);
        if (count++ < 3) strbuf_printf(first, "%.*s\n", (int)(end - at), at);
    }
    free(text);
    return count;
}

// ---- the kernels that were seen -----------------------------------------------------------------

// Shared by the processes of all tests: "attention.k attention_forward 64".
static struct seen_kernels {
    int count;
    char name[MOST_SEEN][KEY];
} * seen;

static void begin_seen(void) {
    make_test_directory();
    void *memory =
        mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    seen = memory == MAP_FAILED ? NULL : memory;
}

static void end_seen(void) {
    if (seen) munmap(seen, sizeof *seen);
    remove_test_directory();
}

static bool was_seen(const char *name) {
    for (int i = 0; i < seen->count; i++)
        if (strcmp(seen->name[i], name) == 0) return true;
    return false;
}

static void note(const kernel_spec *kernel, void *user) {
    char name[KEY];
    (void)user;
    snprintf(name, sizeof name, "%s %s %d", kernel->file,
             strcmp(kernel->file, "chain") == 0 ? "" : kernel->name, kernel->group);
    if (!was_seen(name) && seen->count < MOST_SEEN) strcpy(seen->name[seen->count++], name);
}

// ---- cases --------------------------------------------------------------------------------------

// Devices as GPUs are, and one as CPUs are for the kernels that only they use.
typedef struct setup {
    const char *name, *local_bytes;
    device_settings settings;
    bool cpu;
    uint32_t dtypes;
    bool long_only;
} setup;
enum { F32 = 1 << BRIM_F32, F16 = 1 << BRIM_F16, BF16 = 1 << BRIM_BF16, FLOATS = F32 | F16 | BF16 };

static const setup setups[] = {
    {"groups of 64, scalars", "32768", {.vec = 1, .group = 64}, false, F32 | F16, false},
    {"groups of 256, vectors of 4", "49152", {.vec = 4, .group = 256}, false, F32 | BF16, false},
    {"groups of one, vectors of 8", "49152", {.vec = 8, .group = 1}, true, F32 | F16, false},
    {"groups of 64, vectors of 4", "32768", {.vec = 4, .group = 64}, false, FLOATS, true},
    {"groups of 128, vectors of 4", "49152", {.vec = 4, .group = 128}, false, FLOATS, true},
    {"groups of 256, scalars", "49152", {.vec = 1, .group = 256}, false, FLOATS, true},
};
enum { SETUPS = sizeof setups / sizeof *setups };

// The cases of the short form: each kernel forward and backward, odd shapes, few elements; and
// those that fill a wide group, where a row of few elements gets a narrow one.
static const struct {
    op_id op;
    const char *names, *wide;
} chosen[] = {
    {OP_FUSED, "residual gated mixed_shapes long", ""},
    {OP_ADD, "row both", ""},
    {OP_CAST, "to_bf16", ""},
    {OP_WHERE, "broadcast", ""},
    {OP_CONCAT, "last middle", ""},
    {OP_PAD, "all_axes", ""},
    {OP_SLICE, "last", ""},
    {OP_MATMUL, "one", ""},
    {OP_SUM, "last first middle", "long_rows"},
    {OP_SUM_SQUARES, "first", ""},
    {OP_MAX, "last", ""},
    {OP_SOFTMAX, "odd", "long"},
    {OP_LOG_SOFTMAX, "odd", ""},
    {OP_LAYER_NORM, "odd", "wide"},
    {OP_RMS_NORM, "odd", "wide"},
    {OP_CROSS_ENTROPY, "odd", "long"},
    {OP_LINEAR_CROSS_ENTROPY, "odd", ""},
    {OP_ATTENTION, "tiny", ""},
    {OP_EMBEDDING, "odd outside", "wide"},
    {OP_ROTARY, "odd positions", "wide"},
    {OP_DROPOUT, "odd", ""},
    {OP_ACCUMULATE, "odd", ""},
    {OP_ADAMW, "odd", ""},
    {OP_SGD, "odd", ""},
    {OP_ADAMW_CAST, "odd", ""},
    {OP_SGD_CAST, "odd", ""},
    {OP_ADAMW_Q8, "odd", ""},
    {OP_ADAMW_Q8_CAST, "odd", ""},
    {OP_ADAMW_Q8_CAST, "rounded", ""},
};
enum { CHOSEN = sizeof chosen / sizeof *chosen, SHARES = 4, LONG_ELEMENTS = 4000 };

static bool has_word(const char *words, const char *word) {
    size_t length = strlen(word);
    for (const char *at = words; (at = strstr(at, word)); at += length)
        if ((at == words || at[-1] == ' ') && (at[length] == ' ' || !at[length])) return true;
    return false;
}

// Elements of all leaves of a case.
static int64_t elements_of(const op_case *c, brim_dtype dtype) {
    brim_error err = {0};
    brim_graph *g = brim_graph_create(&err);
    op_case_graph made;
    int64_t sum = 0;
    if (op_case_build(c, g, dtype, &made))
        for (int i = 0; i < made.leaves; i++) sum += shape_elements(&made.leaf[i].shape);
    brim_graph_free(g);
    return sum;
}

static bool takes_case(const setup *s, const op_case *c, brim_dtype dtype) {
    if (!(c->uses & OP_CASE_TEST) || !(c->dtypes >> dtype & 1)) return false;
    if (long_form()) return elements_of(c, dtype) <= LONG_ELEMENTS;
    for (int i = 0; i < CHOSEN; i++)
        if (chosen[i].op == c->op &&
            (has_word(chosen[i].names, c->name) ||
             (s->settings.group > 64 && has_word(chosen[i].wide, c->name))))
            return true;
    return false;
}

// In the short form an op has f32 on one of the two kinds of GPU and a 16-bit type on the other;
// a CPU has only the op whose kernels are its own.
static bool takes_op(const setup *s, op_id op, brim_dtype dtype) {
    if (s->cpu && op != OP_ATTENTION && !long_form()) return false;
    if (long_form() || s->cpu || op_table[op].family == FAMILY_UPDATE) return true;
    return (dtype == BRIM_F32) == (((int)op + (int)(s - setups)) % 2 == 0);
}

static void check_op(harness *h, const setup *s, op_id op, const char *log) {
    for (int dtype = 0; dtype < BRIM_I32; dtype++) {
        if (!(s->dtypes >> dtype & 1) || !takes_op(s, op, (brim_dtype)dtype)) continue;
        const op_case *cases[OP_CHECK_CASES];
        int count = 0;
        for (int i = 0; i < op_case_count && count < OP_CHECK_CASES; i++)
            if (op_cases[i].op == op && takes_case(s, &op_cases[i], (brim_dtype)dtype))
                cases[count++] = &op_cases[i];
        static op_check_report report;
        memset(&report, 0, sizeof report);
        op_check_cases(h, cases, count, (brim_dtype)dtype, &report);
        ck_assert_msg(report.failures == 0, "%s: %s", s->name, report.text);
        brim_error err = {0};
        strbuf first = {.err = &err};
        int reports = read_reports(log, &first);
        ck_assert_msg(reports == 0, "%s, %s %s: %d reports\n%s", s->name, op_table[op].name,
                      brim_dtype_name((brim_dtype)dtype), reports, strbuf_text(&first));
    }
}

// Sums begin with a copy: only a second micro-batch launches the kernel.
static void check_accumulation(harness *h, const char *log) {
    brim_error err = {0};
    brim_graph *g = brim_graph_create(&err);
    brim_value x = brim_input(g, "x", BRIM_F32, 7, 33);
    shape all = {2, {7, 33}};
    brim_value sum = graph_value_of(g, graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &all, "sum"));
    brim_value next = graph_op(g, OP_ACCUMULATE, (brim_value[]){sum, x}, 2, NULL);
    ASSERT_FINE(err);
    g->value[sum.id].update = next.id;
    leaf_values leaves[2];
    for (uint32_t m = 0; m < 2; m++) leaves[m] = leaf_values_make(g, NULL, m, &err);
    bool wanted[8] = {false};
    wanted[sum.id] = true;
    harness_results results;
    harness_run(h, g, leaves, wanted, &(harness_options){.micro_batches = 2}, &results, &err);
    ASSERT_FINE(err);
    const float *device = results.of[sum.id];
    for (int i = 0; i < 7 * 33; i++)
        ck_assert(device[i] == (float)leaves[0].of[x.id][i] + (float)leaves[1].of[x.id][i]);
    strbuf first = {.err = &err};
    ck_assert_msg(read_reports(log, &first) == 0, "accumulate: %s", strbuf_text(&first));
    harness_results_free(&results);
    for (int m = 0; m < 2; m++) leaf_values_free(&leaves[m]);
    brim_graph_free(g);
}

START_TEST(kernels_are_clean) {
    const setup *s = &setups[_i / SHARES];
    char log[PATH_MAX];
    if ((s->long_only && !long_form()) || !become_oclgrind(s->local_bytes, log)) return;
    harness h = open_device(&s->settings);
    device_traits traits = *h.backend->traits(h.device);
    traits.cpu = s->cpu;
    exact_operands_begin(&h, &(exact_operands_options){.traits = &traits, .note = note});
    for (int op = _i % SHARES; op < OP_COUNT; op += SHARES) check_op(&h, s, (op_id)op, log);
    if (_i % SHARES == 0) check_accumulation(&h, log);
    exact_operands_end(&h);
    harness_close(&h);
}
END_TEST

// ---- completeness -------------------------------------------------------------------------------

// Each entry of each kernel file ran in narrow and in wide groups; attention and products have
// limits of their own to the width.
static void check_entry(const char *file, const char *entry, strbuf *missing) {
    static const int narrow[] = {64, 0}, wide[] = {256, 128, 0}, one[] = {1, 0};
    const int *wanted[] = {narrow, wide};
    if (strstr(file, "_cpu.k")) wanted[0] = wanted[1] = one;
    if (strcmp(entry, "reduce_items") == 0) wanted[1] = narrow; // is for rows that fill no more
    if (strcmp(entry, "adamw_q8") == 0) wanted[1] = narrow;     // a block has 64 words
    // Rows long enough for wide groups come with products that take minutes here. Both entries
    // share their work with cross_entropy.
    bool in_parts = !strcmp(entry, "cross_entropy_part") || !strcmp(entry, "cross_entropy_join");
    if (in_parts && !long_form()) wanted[1] = narrow;
    for (int k = 0; k < 2; k++) {
        bool ran = false;
        for (const int *group = wanted[k]; *group; group++) {
            char name[KEY];
            snprintf(name, sizeof name, "%s %s %d", file, entry, *group);
            ran |= was_seen(name);
        }
        if (!ran) strbuf_printf(missing, "%s of %s in groups of %d\n", entry, file, *wanted[k]);
    }
}

START_TEST(every_kernel_ran) {
    char driver[PATH_MAX];
    if (!find_driver(driver)) {
        skip(SKIP_no_oclgrind);
        return;
    }
    glob_t files;
    ck_assert_int_eq(glob(BRIM_SOURCE_DIR "/backends/kernels/*.k", 0, NULL, &files), 0);
    brim_error err = {0};
    strbuf missing = {.err = &err};
    int entries = 0;
    for (size_t i = 0; i < files.gl_pathc; i++) {
        char *text = test_contents(files.gl_pathv[i], NULL), entry[NAME];
        for (const char *at = text; (at = strstr(at, "\nKERNEL")); at++, entries++) {
            bool found = sscanf(at, "\nKERNEL_AT_ONCE(%*[^)]) %63[a-z0-9_]", entry) == 1 ||
                         sscanf(at, "\nKERNEL %63[a-z0-9_]", entry) == 1;
            ck_assert_msg(found, "%.40s", at);
            check_entry(strrchr(files.gl_pathv[i], '/') + 1, entry, &missing);
        }
        free(text);
    }
    globfree(&files);
    ck_assert_int_gt(entries, 20);
    ck_assert_msg(!*strbuf_text(&missing), "these did not run:\n%s", strbuf_text(&missing));
    ck_assert(was_seen("chain  64") && was_seen("chain  256"));
    ck_assert_int_lt(seen->count, MOST_SEEN);
    strbuf_free(&missing);
}
END_TEST

// ---- mistakes -----------------------------------------------------------------------------------

// Each must be reported with this text.
typedef struct mistake {
    op_id op;
    const char *name, *from, *to, *report;
} mistake;

static const mistake mistakes[] = {
    // no barrier between those that write local memory and those that read it
    {OP_SUM, "first", "vget(v, e);            \\\n    BARRIER();", "vget(v, e);            \\\n",
     "data race at local memory"},
    // one element beyond the end is read, or written
    {OP_RMS_NORM, "odd", "EACH_REST(i, n) store(TY, out, i, load(TX, in, i) * scale",
     "EACH_REST(i, n) store(TY, out, i, load(TX, in, i + 1) * scale", "Invalid read of size 4"},
    {OP_RMS_NORM, "odd", "EACH_REST(i, n) store(TY, out, i, load(TX, in, i) * scale",
     "EACH_REST(i, n) store(TY, out, i + 1, load(TX, in, i) * scale", "Invalid write of size 4"},
    // what only the group's first work-item should do, all do with values of their own
    {OP_SUM, "last", "if (local_id() == 0) store(TY, PTR(ELEM(TY), y), row, whole);",
     "store(TY, PTR(ELEM(TY), y), row, whole + local_id());", "data race at global memory"},
    // local memory is read that nobody wrote
    {OP_SUM, "first", "++e) shared[(part * VEC", "++e) if (part != 1) shared[(part * VEC",
     "Uninitialized value"},
};
enum { MISTAKES = sizeof mistakes / sizeof *mistakes };

static const mistake *made;
static const backend *under;
static int places;

static void replace_in(arena *memory, kernel_spec *kernel, brim_error *err) {
    char *text = arena_strdup(memory, "", err);
    const char *at = kernel->source, *found;
    while (text && (found = strstr(at, made->from))) {
        text = arena_printf(memory, err, "%s%.*s%s", text, (int)(found - at), at, made->to);
        at = found + strlen(made->from);
        places++;
    }
    if (text && at != kernel->source) kernel->source = arena_printf(memory, err, "%s%s", text, at);
}

static brim_status load_with_mistake(backend_device *device, const program *p, loaded_program **out,
                                     brim_error *err) {
    program *changed = (program *)p; // made by the harness for this load alone
    for (int32_t i = 0; i < p->kernels; i++) replace_in(changed->memory, &changed->kernel[i], err);
    return under->load(device, p, out, err);
}

static const char *kernel_of(op_id op) {
    return op == OP_SUM ? "Kernel: reduce_" : "Kernel: norm_forward";
}

START_TEST(a_mistake_is_reported) {
    char log[PATH_MAX];
    if (!become_oclgrind("32768", log)) return;
    made = &mistakes[_i];
    harness h = open_device(&(device_settings){.vec = 4, .group = 64});
    exact_operands_begin(&h, &(exact_operands_options){0});
    under = h.backend;
    backend with_mistake = *under;
    with_mistake.load = load_with_mistake;
    h.backend = &with_mistake;
    static op_check_report report;
    for (int i = 0; i < op_case_count; i++)
        if (op_cases[i].op == made->op && strcmp(op_cases[i].name, made->name) == 0)
            op_check_case(&h, &op_cases[i], BRIM_F32, &report);
    ck_assert_int_eq(report.cases, 1);
    ck_assert_msg(places > 0, "no kernel of %s holds \"%s\" any more: mend this row",
                  op_table[made->op].name, made->from);
    brim_error err = {0};
    strbuf first = {.err = &err};
    int reports = read_reports(log, &first);
    ck_assert_msg(reports > 0, "%s with \"%s\" for \"%s\" is not reported", op_table[made->op].name,
                  made->to, made->from);
    ck_assert_msg(strstr(strbuf_text(&first), made->report), "%s", strbuf_text(&first));
    ck_assert_msg(strstr(strbuf_text(&first), kernel_of(made->op)), "%s", strbuf_text(&first));
    strbuf_free(&first);
    exact_operands_end(&h);
    harness_close(&h);
}
END_TEST

#else
START_TEST(kernels_are_clean) {
    skip(SKIP_no_opencl_device);
}
END_TEST
#endif

Suite *oclgrind_suite(void) {
    Suite *suite = suite_create("oclgrind");
    TCase *tests = tcase_create("oclgrind");
    tcase_set_timeout(tests, 3000);
#ifdef BRIM_OPENCL_BUILT
    tcase_add_unchecked_fixture(tests, begin_seen, end_seen);
    tcase_add_loop_test(tests, kernels_are_clean, 0, SETUPS * SHARES);
    tcase_add_test(tests, every_kernel_ran);
    tcase_add_loop_test(tests, a_mistake_is_reported, 0, MISTAKES);
#else
    tcase_add_test(tests, kernels_are_clean);
#endif
    suite_add_tcase(suite, tests);
    return suite;
}
