// Kernels compiled by NVRTC, or taken from the cache.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/cuda/device.h"
#include "backends/kernel_source.h"
#include "backends/worker_pool.h"
#include "core/alloc.h"
#include "core/strbuf.h"

enum { MAX_OPTIONS = 64, LOG_LINES = 6, MAX_THREADS = 16 };

// What "The same bits" demands; the same for every kernel.
static const char *const language_options[] = {"-fmad=false", "--ftz=false", "--prec-div=true",
                                               "--prec-sqrt=true", "-default-device"};
enum { LANGUAGE_OPTIONS = sizeof language_options / sizeof *language_options };

enum { KEY_PARTS = 6 };
_Static_assert(KEY_PARTS + LANGUAGE_OPTIONS <= KERNEL_KEY_PARTS,
               "a key has no room for all options");

// ---- sources and options ------------------------------------------------------------------------

// The API's dialect, the dialect, the kernel; freed with free(). Messages name each file's own
// lines.
static char *gather(const kernel_spec *spec, brim_error *err) {
    const char *name[] = {"dialect_cuda.h", "dialect.h", spec->file};
    const char *part[] = {kernel_source_find(name[0]), kernel_source_find(name[1]), spec->source};
    strbuf text = {.err = err};
    for (int i = 0; i < 3; i++) {
        if (!part[i]) {
            brim_fail(err, BRIM_UNSUPPORTED,
                      "the library was built without the source of its kernels");
            break;
        }
        strbuf_printf(&text, "#line 1 \"%s\"\n%s\n", name[i], part[i]);
    }
    return strbuf_take(&text);
}

typedef struct option_list {
    const char *option[MAX_OPTIONS];
    int options;
    char architecture[64];
    char *defines; // cut up; freed with free()
} option_list;

static bool make_options(const cuda_compiler *nvrtc, const kernel_spec *spec, bool verbose,
                         option_list *out, brim_error *err) {
    *out = (option_list){.defines = brim_strdup(spec->defines, err)};
    if (!out->defines) return false;
    snprintf(out->architecture, sizeof out->architecture, "--gpu-architecture=%s",
             nvrtc->architecture);
    out->option[out->options++] = out->architecture;
    for (int i = 0; i < LANGUAGE_OPTIONS; i++) out->option[out->options++] = language_options[i];
    if (verbose) out->option[out->options++] = "--ptxas-options=-v";
    char *rest = out->defines, *define;
    while ((define = strtok_r(rest, " ", &rest))) {
        if (out->options == MAX_OPTIONS) {
            brim_fail(err, BRIM_ARGUMENT, "kernel %s has more than %d defines", spec->name,
                      MAX_OPTIONS);
            return false;
        }
        out->option[out->options++] = define;
    }
    return true;
}

// ---- compiling ----------------------------------------------------------------------------------

static bool check(const cuda_compiler *nvrtc, nvrtcResult result, const char *call,
                  brim_error *err) {
    if (result == NVRTC_SUCCESS) return true;
    brim_fail(err, result == NVRTC_ERROR_OUT_OF_MEMORY ? BRIM_MEMORY : BRIM_DEVICE,
              "CUDA: %s failed with %s", call, nvrtc->get_error_string(result));
    return false;
}

// Freed with free(); NULL where there is none.
static char *read_log(const cuda_compiler *nvrtc, nvrtcProgram handle) {
    size_t bytes = 0;
    if (nvrtc->get_program_log_size(handle, &bytes) != NVRTC_SUCCESS) return NULL;
    char *log = calloc(bytes + 1, 1);
    if (log && bytes && nvrtc->get_program_log(handle, log) != NVRTC_SUCCESS) log[0] = '\0';
    return log;
}

// The first lines of the compiler's log, on one line.
static void fail_with_log(const cuda_compiler *nvrtc, nvrtcProgram handle, nvrtcResult result,
                          const kernel_spec *spec, brim_error *err) {
    char *log = read_log(nvrtc, handle), *rest = log, *line;
    strbuf text = {.err = err};
    for (int lines = 0; log && lines < LOG_LINES && (line = strtok_r(rest, "\r\n", &rest)); lines++)
        strbuf_printf(&text, "%s%.200s", lines ? " | " : "", line);
    brim_fail(err, BRIM_DEVICE, "kernel %s (%s) does not compile: %s: %s", spec->name, spec->file,
              nvrtc->get_error_string(result), strbuf_text(&text));
    strbuf_free(&text);
    free(log);
}

// A cubin for the device's own architecture, else PTX.
static void read_image(const cuda_compiler *nvrtc, nvrtcProgram handle, cuda_image *out,
                       brim_error *err) {
    bool cubin = strncmp(nvrtc->architecture, "sm_", 3) == 0;
    nvrtcResult result = (cubin ? nvrtc->get_cubin_size : nvrtc->get_ptx_size)(handle, &out->bytes);
    if (!check(nvrtc, result, cubin ? "nvrtcGetCUBINSize" : "nvrtcGetPTXSize", err)) return;
    out->data = brim_calloc_array(out->bytes + 1, 1, err);
    if (!out->data) return;
    result = (cubin ? nvrtc->get_cubin : nvrtc->get_ptx)(handle, out->data);
    check(nvrtc, result, cubin ? "nvrtcGetCUBIN" : "nvrtcGetPTX", err);
}

static void compile(const cuda_compiler *nvrtc, const kernel_spec *spec, const char *source,
                    const option_list *options, cuda_image *out, brim_error *err) {
    nvrtcProgram handle;
    if (!check(nvrtc, nvrtc->create_program(&handle, source, spec->file, 0, NULL, NULL),
               "nvrtcCreateProgram", err))
        return;
    nvrtcResult result = nvrtc->compile_program(handle, options->options, options->option);
    if (result == NVRTC_SUCCESS) {
        read_image(nvrtc, handle, out, err);
        out->log = read_log(nvrtc, handle);
    } else {
        fail_with_log(nvrtc, handle, result, spec, err);
    }
    nvrtc->destroy_program(&handle);
}

bool cuda_compile(const cuda_compiler *nvrtc, const kernel_spec *spec, bool verbose,
                  cuda_image *out, brim_error *err) {
    *out = (cuda_image){0};
    if (failed(err)) return false;
    option_list options = {.defines = NULL};
    char *source = gather(spec, err);
    if (source && make_options(nvrtc, spec, verbose, &options, err))
        compile(nvrtc, spec, source, &options, out, err);
    free(options.defines);
    free(source);
    if (!failed(err)) return true;
    free(out->data);
    free(out->log);
    *out = (cuda_image){0};
    return false;
}

// ---- modules ------------------------------------------------------------------------------------

// Source, options and compiler: all that an image follows from.
static bool make_key(backend_device *d, const kernel_spec *spec, kernel_key *key, brim_error *err) {
    *key = (kernel_key){.part = {"cuda", d->identity, spec->defines,
                                 kernel_source_find("dialect_cuda.h"),
                                 kernel_source_find("dialect.h"), spec->source},
                        .parts = KEY_PARTS};
    for (int i = 0; i < LANGUAGE_OPTIONS; i++) key->part[key->parts++] = language_options[i];
    for (int i = 0; i < key->parts; i++) {
        if (key->part[i]) continue;
        brim_fail(err, BRIM_UNSUPPORTED, "the library was built without the source of its kernels");
        return false;
    }
    return true;
}

// One text with one set of defines: the kernels that share it come out of one compilation.
typedef struct module_job {
    const kernel_spec *spec; // the first of them
    kernel_key key;
    cuda_image image;
    bool cached;
    brim_error err;
} module_job;

typedef struct module_list {
    const backend_device *device;
    module_job *job;
    int32_t jobs;
} module_list;

static bool same_module(const kernel_spec *a, const kernel_spec *b) {
    return strcmp(a->source, b->source) == 0 && strcmp(a->defines, b->defines) == 0;
}

// The job of a kernel, added if it is the first of its text.
static int32_t find_job(backend_device *d, module_list *list, const kernel_spec *spec,
                        brim_error *err) {
    for (int32_t i = 0; i < list->jobs; i++)
        if (same_module(list->job[i].spec, spec)) return i;
    module_job *job = &list->job[list->jobs];
    *job = (module_job){.spec = spec};
    if (!make_key(d, spec, &job->key, err)) return -1;
    job->cached = kernel_cache_get(d->cache, &job->key, &job->image.data, &job->image.bytes);
    return list->jobs++;
}

static void compile_job(void *context, int item) {
    module_list *list = context;
    module_job *job = &list->job[item];
    if (!job->cached) cuda_compile(&list->device->nvrtc, job->spec, false, &job->image, &job->err);
}

// What the cache lacks, on as many threads as the host has processors.
static void compile_jobs(module_list *list, brim_error *err) {
    int missing = 0;
    for (int32_t i = 0; i < list->jobs; i++) missing += !list->job[i].cached;
    if (!missing) return;
    int most = missing < MAX_THREADS ? missing : MAX_THREADS;
    worker_pool *pool = worker_pool_create(worker_pool_cores(most), err);
    if (!pool) return;
    worker_pool_run(pool, list->jobs, compile_job, list);
    worker_pool_free(pool);
}

// NULL where the driver does not take the image.
static CUmodule load_image(backend_device *d, const module_job *job, brim_error *err) {
    CUmodule module = NULL;
    CUresult status = d->cu.module_load_data(&module, job->image.data);
    if (cuda_check(&d->cu, status, "cuModuleLoadData", err)) return module;
    brim_error_prefix(err, "kernel %s (%s)", job->spec->name, job->spec->file);
    return NULL;
}

static CUmodule load_job(backend_device *d, module_job *job, brim_error *err) {
    if (job->err.status) {
        brim_fail(err, job->err.status, "%s", job->err.text);
        return NULL;
    }
    if (!job->cached) {
        CUmodule module = load_image(d, job, err);
        if (module) kernel_cache_put(d->cache, &job->key, job->image.data, job->image.bytes);
        return module;
    }
    brim_error refused = {0}; // an entry that the driver no longer takes is compiled again
    CUmodule module = load_image(d, job, &refused);
    if (module) return module;
    free(job->image.data);
    job->cached = false;
    return cuda_compile(&d->nvrtc, job->spec, false, &job->image, err) ? load_job(d, job, err)
                                                                       : NULL;
}

static void load_jobs(backend_device *d, module_list *list, CUmodule *module, brim_error *err) {
    for (int32_t i = 0; i < list->jobs && !failed(err); i++)
        module[i] = load_job(d, &list->job[i], err);
}

int32_t cuda_modules_build(backend_device *d, const kernel_spec *spec, int32_t count,
                           CUmodule *module, int32_t *module_of, brim_error *err) {
    module_list list = {.device = d,
                        .job = brim_calloc_array((size_t)count, sizeof *list.job, err)};
    if (!list.job) return 0;
    for (int32_t i = 0; i < count && !failed(err); i++)
        module_of[i] = find_job(d, &list, &spec[i], err);
    if (!failed(err)) compile_jobs(&list, err);
    if (!failed(err)) load_jobs(d, &list, module, err);
    for (int32_t i = 0; i < list.jobs; i++) {
        free(list.job[i].image.data);
        free(list.job[i].image.log);
    }
    free(list.job);
    return list.jobs;
}
