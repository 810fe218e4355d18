// Every kernel in every specialisation that GPUs use, compiled by NVRTC for the architectures that
// users have: no error, and no local memory (stack frames, spilled registers) that is not on the
// written list, nvrtc_local.def. Needs the compiler only, no GPU.
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "tests/skips.h"
#include "tests/test_core.h"

#ifdef BRIM_CUDA_BUILT
#include "backends/cuda/device.h"
#include "backends/worker_pool.h"
#include "core/alloc.h"
#include "core/strbuf.h"
#include "tests/kernels_in_use.h"

static const int architectures[] = {75, 80, 86, 89, 90, 120};
enum { ARCHITECTURES = sizeof architectures / sizeof *architectures, THREADS = 2 };
enum { PACK = 16 };

static brim_error err;

// ---- compiling ----------------------------------------------------------------------------------

// Compilations: a generated kernel is short, so many of one set of defines make one.
typedef struct compilation {
    kernel_spec spec;
    char *text, *log;
    brim_error err;
} compilation;

typedef struct job {
    cuda_compiler nvrtc;
    compilation *item;
    int items;
} job;

static void append_renamed(strbuf *out, const kernel_spec *k, int number) {
    strbuf_printf(out,
                  "#define %s %s__%d\n#define %s_body %s_body__%d\n%s#undef %s\n#undef %s_body\n",
                  k->name, k->name, number, k->name, k->name, number, k->source, k->name, k->name);
}

static void add_compilation(job *j, const kernel_spec *spec, char *text) {
    compilation *c = &j->item[j->items++];
    c->spec = *spec;
    c->text = text;
    if (text) c->spec.source = text;
}

static void pack(job *j, const program *all) {
    bool *done = brim_calloc_array((size_t)all->kernels, sizeof *done, &err);
    j->item = brim_calloc_array((size_t)all->kernels, sizeof *j->item, &err);
    ASSERT_FINE(err);
    for (int i = 0; i < all->kernels; i++) {
        const kernel_spec *k = &all->kernel[i];
        if (done[i]) continue;
        if (strcmp(k->file, "chain")) {
            for (int other = i; other < all->kernels;
                 other++) // entries of one text come out of one compilation
                done[other] = done[other] || (!strcmp(all->kernel[other].source, k->source) &&
                                              !strcmp(all->kernel[other].defines, k->defines));
            add_compilation(j, k, NULL);
            continue;
        }
        strbuf text = {.err = &err};
        for (int other = i, count = 0; other < all->kernels && count < PACK; other++) {
            const kernel_spec *o = &all->kernel[other];
            if (done[other] || strcmp(o->file, "chain") || strcmp(o->defines, k->defines)) continue;
            append_renamed(&text, o, count++);
            done[other] = true;
        }
        add_compilation(j, k, strbuf_take(&text));
        ASSERT_FINE(err);
    }
    free(done);
}

static void compile_one(void *context, int item) {
    job *j = context;
    cuda_image image = {0};
    if (cuda_compile(&j->nvrtc, &j->item[item].spec, true, &image, &j->item[item].err))
        j->item[item].log = image.log;
    free(image.data);
}

// ---- what the compiler says ---------------------------------------------------------------------

static int allowed_bytes(const char *entry) {
    static const struct {
        const char *entry;
        int bytes;
    } list[] = {
#define LOCAL(entry, bytes, why) {#entry, bytes},
#include "tests/nvrtc_local.def"
#undef LOCAL
        {"", 0}};
    size_t length = strcspn(entry, "'\n ");
    const char *number = strstr(entry, "__"); // of a packed kernel
    if (number && (size_t)(number - entry) < length) length = (size_t)(number - entry);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (strlen(list[i].entry) == length && !strncmp(list[i].entry, entry, length))
            return list[i].bytes;
    return 0;
}

// "Function properties for NAME", then "N bytes stack frame, N bytes spill stores, N bytes spill
// loads".
static int check_log(const compilation *c, int architecture, int *functions) {
    static const char marker[] = "Function properties for ";
    int bad = 0;
    for (const char *at = c->log; at && (at = strstr(at, marker));) {
        const char *name = at += strlen(marker);
        int stack = -1, stores = 0, loads = 0;
        const char *numbers = strchr(at, '\n');
        if (numbers) numbers += strcspn(numbers, "0123456789");
        if (!numbers ||
            sscanf(numbers, "%d bytes stack frame, %d bytes spill stores, %d bytes spill loads",
                   &stack, &stores, &loads) != 3)
            ck_abort_msg("the compiler's log has another form: %.200s", name);
        ++*functions;
        if (stack <= allowed_bytes(name) && stores + loads <= stack) continue;
        printf("sm_%d: %.*s (%s, %s): %d bytes stack frame, %d spilled, %d loaded again\n",
               architecture, (int)strcspn(name, "'\n"), name, c->spec.file, c->spec.defines, stack,
               stores, loads);
        bad++;
    }
    return bad;
}

static void compile_all(int architecture, const program *all) {
    job j = {0};
    int bad = 0, functions = 0;
    cuda_compiler_open(&j.nvrtc, 0, architecture, &err);
    ASSERT_FINE(err);
    snprintf(j.nvrtc.architecture, sizeof j.nvrtc.architecture, "sm_%d", architecture);
    pack(&j, all);
    worker_pool *pool = worker_pool_create(THREADS, &err);
    ASSERT_FINE(err);
    worker_pool_run(pool, j.items, compile_one, &j);
    worker_pool_free(pool);
    for (int i = 0; i < j.items; i++) {
        if (j.item[i].err.status) printf("sm_%d: %s\n", architecture, j.item[i].err.text);
        bad += j.item[i].err.status ? 1 : check_log(&j.item[i], architecture, &functions);
        free(j.item[i].text);
        free(j.item[i].log);
    }
    free(j.item);
    cuda_compiler_close(&j.nvrtc);
    ck_assert_msg(!bad, "%d kernels fail for sm_%d", bad, architecture);
    ck_assert_int_ge(functions, all->kernels);
}

static bool compiler_is_there(void) {
    cuda_compiler nvrtc;
    brim_error missing = {0};
    bool there = cuda_compiler_open(&nvrtc, 0, 90, &missing);
    if (there) cuda_compiler_close(&nvrtc);
    return there;
}

START_TEST(kernels_compile) {
    if (!compiler_is_there()) {
        skip(SKIP_no_nvrtc);
        return;
    }
    err = (brim_error){0};
    // The small and odd sizes of the tests differ in what the language makes of them, not the
    // architecture: for the first one only.
    program *all = kernels_in_use(&pretended_gpu, _i == 0, &err);
    ASSERT_FINE(err);
    ck_assert_int_gt(all->kernels, 50);
    compile_all(architectures[_i], all);
    program_free(all);
}
END_TEST
#else
enum { ARCHITECTURES = 1 };
START_TEST(kernels_compile) {
    skip(SKIP_no_cuda_headers);
}
END_TEST
#endif

Suite *nvrtc_suite(void) {
    Suite *suite = suite_create("nvrtc");
    TCase *all = tcase_create("architectures");
    tcase_set_timeout(all, 600);
    tcase_add_loop_test(all, kernels_compile, 0, ARCHITECTURES);
    suite_add_tcase(suite, all);
    return suite;
}
