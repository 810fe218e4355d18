// The backends of this build, and devices by name.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <brim/device.h>
#include "backends/backend.h"
#include "core/alloc.h"
#include "core/strbuf.h"

const backend *const backend_list[] = {
#ifdef BRIM_HAVE_CUDA
    &cuda_backend,
#endif
#ifdef BRIM_HAVE_OPENCL
    &opencl_backend,
#endif
    NULL,
};

// APIs that this build was told to leave out, or whose headers it did not find.
static const char *const not_built[] = {
#ifndef BRIM_HAVE_CUDA
    "cuda",
#endif
#ifndef BRIM_HAVE_OPENCL
    "opencl",
#endif
    NULL,
};

// ---- listing ------------------------------------------------------------------------------------

// "cuda: no driver; opencl:0 (PoCL ...)": for errors about a name.
static void describe_all(strbuf *out) {
    for (const backend *const *b = backend_list; *b; b++) {
        char why[512] = "";
        int count = (*b)->count(why, sizeof why);
        if (out->length) strbuf_puts(out, "; ");
        if (count == 0) strbuf_printf(out, "%s: none (%.300s)", (*b)->name, why);
        for (int i = 0; i < count; i++) {
            brim_error problem = {0};
            device_traits traits;
            (*b)->describe(i, &traits, &problem);
            strbuf_printf(out, "%s%s:%d (%.200s)", i ? ", " : "", (*b)->name, i,
                          problem.status == BRIM_OK ? traits.name : problem.text);
        }
    }
    for (const char *const *name = not_built; *name; name++)
        strbuf_printf(out, "%s%s: not in this build", out->length ? "; " : "", *name);
}

static void fill_missing(const char *name, const char *why, brim_device_info *out) {
    snprintf(out->id, sizeof out->id, "%s", name);
    snprintf(out->backend, sizeof out->backend, "%s", name);
    snprintf(out->problem, sizeof out->problem, "%s", why);
}

static void fill_info(const backend *b, int index, brim_device_info *out) {
    snprintf(out->id, sizeof out->id, "%s:%d", b->name, index);
    snprintf(out->backend, sizeof out->backend, "%s", b->name);
    brim_error problem = {0};
    backend_device *device = NULL;
    if (b->open(index, NULL, &device, &problem) != BRIM_OK) {
        memcpy(out->problem, problem.text, sizeof out->problem);
        return;
    }
    const device_traits *t = b->traits(device);
    memcpy(out->name, t->name, sizeof out->name);
    memcpy(out->driver, t->driver, sizeof out->driver);
    memcpy(out->architecture, t->architecture, sizeof out->architecture);
    snprintf(out->matmul, sizeof out->matmul, "%s", b->matmul_library(device));
    out->cpu = t->cpu;
    out->exact_f32 = t->exact_f32;
    out->vector = t->vec, out->group = t->group, out->compute_units = t->compute_units;
    out->memory_bytes = t->memory_bytes, out->free_bytes = t->free_bytes;
    b->close(device);
}

// Room for `more` rows behind the first `rows`.
static bool make_room(brim_device_info **list, size_t *capacity, int rows, int more,
                      brim_error *err) {
    return brim_grow((void **)list, capacity, (size_t)(rows + more), sizeof **list, err);
}

int brim_device_list(brim_device_info **list, brim_error *err) {
    *list = NULL;
    size_t capacity = 0;
    int rows = 0;
    for (const backend *const *b = backend_list; *b; b++) {
        char why[sizeof(*list)->problem] = "";
        int count = (*b)->count(why, sizeof why);
        if (!make_room(list, &capacity, rows, count ? count : 1, err)) break;
        for (int i = 0; i < count; i++) fill_info(*b, i, &(*list)[rows++]);
        if (count == 0) fill_missing((*b)->name, why, &(*list)[rows++]);
    }
    for (const char *const *name = not_built; *name; name++) {
        if (!make_room(list, &capacity, rows, 1, err)) break;
        fill_missing(*name, "this build was made without it", &(*list)[rows++]);
    }
    if (!failed(err)) return rows;
    free(*list);
    *list = NULL;
    return 0;
}

// ---- opening ------------------------------------------------------------------------------------

static brim_status fail_with_list(const char *name, const char *reason, brim_error *err) {
    brim_error memory = {0};
    strbuf list = {.err = &memory};
    describe_all(&list);
    brim_fail(err, BRIM_ARGUMENT, "device \"%s\": %s; there is: %s", name, reason,
              strbuf_text(&list));
    strbuf_free(&list);
    return err->status;
}

// The best device that opens; of CPUs alone where asked. A device that does not open is passed
// over, but if none does, its reason is told.
static brim_status open_best(bool cpu_only, const device_settings *settings,
                             const backend **out_backend, backend_device **out, brim_error *err) {
    brim_error first = {0};
    for (const backend *const *b = backend_list; *b; b++) {
        char why[512];
        int count = (*b)->count(why, sizeof why);
        for (int i = 0; i < count; i++) {
            brim_error problem = {0};
            device_traits traits;
            (*b)->describe(i, &traits, &problem);
            if (cpu_only && (failed(&problem) || !traits.cpu)) continue;
            if ((*b)->open(i, settings, out, &problem) == BRIM_OK) {
                *out_backend = *b;
                return BRIM_OK;
            }
            if (!failed(&first)) first = problem;
        }
    }
    if (failed(&first)) return brim_fail(err, first.status, "%s", first.text);
    return fail_with_list(cpu_only ? "cpu" : "auto", "none was found", err);
}

// Splits "cuda:1". A name alone means the first device. False where it is neither.
static bool parse_name(const char *name, size_t *length, int *index) {
    const char *colon = strchr(name, ':');
    *length = colon ? (size_t)(colon - name) : strlen(name);
    *index = 0;
    if (!colon) return true;
    size_t digits = strspn(colon + 1, "0123456789");
    if (digits == 0 || digits > 4 || colon[1 + digits] != '\0') return false;
    *index = atoi(colon + 1);
    return true;
}

brim_status backend_open(const char *name, const device_settings *settings,
                         const backend **out_backend, backend_device **out, brim_error *err) {
    *out_backend = NULL;
    *out = NULL;
    if (failed(err)) return err->status;
    if (!name || !name[0] || strcmp(name, "auto") == 0)
        return open_best(false, settings, out_backend, out, err);
    if (strcmp(name, "cpu") == 0) return open_best(true, settings, out_backend, out, err);
    size_t length;
    int index;
    if (!parse_name(name, &length, &index))
        return fail_with_list(name, "expected auto, cpu, BACKEND or BACKEND:NUMBER", err);
    for (const backend *const *b = backend_list; *b; b++) {
        if (strlen((*b)->name) != length || strncmp((*b)->name, name, length) != 0) continue;
        char why[512];
        if (index >= (*b)->count(why, sizeof why))
            return fail_with_list(name, "there is no such device", err);
        *out_backend = *b;
        return (*b)->open(index, settings, out, err);
    }
    return fail_with_list(name, "this build has no such backend", err);
}
