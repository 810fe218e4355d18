// Kernels compiled by the driver, or taken from the cache.
#include <stdlib.h>
#include <string.h>
#include "backends/kernel_source.h"
#include "backends/opencl/device.h"
#include "core/alloc.h"
#include "core/strbuf.h"

enum { PARTS = 3, LOG_LINES = 6 };

typedef struct module_source {
    const char *part[PARTS]; // the API's dialect, the dialect, the kernel
    char *options;
} module_source;

static bool gather(backend_device *d, const kernel_spec *spec, module_source *out,
                   brim_error *err) {
    *out = (module_source){
        {kernel_source_find("dialect_opencl.h"), kernel_source_find("dialect.h"), spec->source}};
    for (int i = 0; i < PARTS; i++) {
        if (out->part[i]) continue;
        brim_fail(err, BRIM_UNSUPPORTED, "the library was built without the source of its kernels");
        return false;
    }
    strbuf options = {.err = err};
    strbuf_printf(&options, "%s %s", d->build_options, spec->defines ? spec->defines : "");
    out->options = strbuf_take(&options);
    return out->options != NULL;
}

static kernel_key key_of(const backend_device *d, const module_source *source) {
    kernel_key key = {.part = {"opencl", d->identity, source->options}, .parts = 3};
    for (int i = 0; i < PARTS; i++) key.part[key.parts++] = source->part[i];
    return key;
}

// The first lines of the compiler's log, on one line.
static void fail_with_log(backend_device *d, cl_program module, cl_int status,
                          const kernel_spec *spec, brim_error *err) {
    size_t bytes = 0;
    char *log = NULL;
    if (d->cl.clGetProgramBuildInfo(module, d->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &bytes) ==
            CL_SUCCESS &&
        (log = calloc(bytes + 1, 1)))
        d->cl.clGetProgramBuildInfo(module, d->id, CL_PROGRAM_BUILD_LOG, bytes, log, NULL);
    strbuf text = {.err = err};
    char *rest = log, *line;
    for (int lines = 0; lines < LOG_LINES && (line = strtok_r(rest, "\r\n", &rest)); lines++)
        strbuf_printf(&text, "%s%.200s", lines ? " | " : "", line);
    brim_fail(err, BRIM_DEVICE, "kernel %s (%s) does not compile: %s: %s", spec->name, spec->file,
              opencl_status_name(status), strbuf_text(&text));
    strbuf_free(&text);
    free(log);
}

static cl_program build_from_source(backend_device *d, const module_source *source,
                                    const kernel_spec *spec, brim_error *err) {
    cl_int status;
    const char *part[PARTS];
    memcpy(part, source->part, sizeof part);
    cl_program module = d->cl.clCreateProgramWithSource(d->context, PARTS, part, NULL, &status);
    if (!opencl_check(status, "clCreateProgramWithSource", err)) return NULL;
    status = d->cl.clBuildProgram(module, 1, &d->id, source->options, NULL, NULL);
    if (status == CL_SUCCESS) return module;
    fail_with_log(d, module, status, spec, err);
    d->cl.clReleaseProgram(module);
    return NULL;
}

// NULL where the driver does not take its binary back; that is no error, the source is there.
static cl_program build_from_binary(backend_device *d, const void *data, size_t bytes,
                                    const char *options) {
    cl_int status, loaded;
    const unsigned char *binary = data;
    cl_program module =
        d->cl.clCreateProgramWithBinary(d->context, 1, &d->id, &bytes, &binary, &loaded, &status);
    if (status != CL_SUCCESS) return NULL;
    if (d->cl.clBuildProgram(module, 1, &d->id, options, NULL, NULL) == CL_SUCCESS) return module;
    d->cl.clReleaseProgram(module);
    return NULL;
}

static void store_binary(backend_device *d, cl_program module, const kernel_key *key) {
    size_t bytes = 0;
    if (d->cl.clGetProgramInfo(module, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL) !=
            CL_SUCCESS ||
        bytes == 0)
        return;
    unsigned char *binary = malloc(bytes);
    if (binary && d->cl.clGetProgramInfo(module, CL_PROGRAM_BINARIES, sizeof binary, &binary,
                                         NULL) == CL_SUCCESS)
        kernel_cache_put(d->cache, key, binary, bytes);
    free(binary);
}

cl_program opencl_module_build(backend_device *d, const kernel_spec *spec, brim_error *err) {
    if (failed(err)) return NULL;
    module_source source;
    if (!gather(d, spec, &source, err)) return NULL;
    kernel_key key = key_of(d, &source);
    cl_program module = NULL;
    void *data;
    size_t bytes;
    if (kernel_cache_get(d->cache, &key, &data, &bytes)) {
        module = build_from_binary(d, data, bytes, source.options);
        free(data);
    }
    if (!module) {
        module = build_from_source(d, &source, spec, err);
        // A CPU's driver compiles a kernel anew, in a general form, when it is asked for its
        // binary: only where it is kept.
        if (module && *kernel_cache_directory(d->cache)) store_binary(d, module, &key);
    }
    free(source.options);
    return module;
}
