// Whether the work that runs may touch some bytes.
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static access_scope running;
static bool inside;

void access_begin(const access_scope *scope) {
    running = *scope;
    inside = true;
}

void access_end(void) {
    inside = false;
}

void access_place(const image_thread *thread) {
    running.thread = thread;
}

// ---- messages -----------------------------------------------------------------------------------

static int place_text(char *out, size_t size) {
    int used = 0;
    out[0] = '\0';
    if (running.kernel) used += snprintf(out, size, "kernel %s", running.kernel->name);
    if (running.declared.known)
        used += snprintf(out + used, size - (size_t)used, "%s(%s)", used ? " " : "",
                         running.declared.label);
    const image_thread *t = running.thread;
    if (t)
        used += snprintf(out + used, size - (size_t)used, ", block (%u, %u, %u), thread %u",
                         t->block.x, t->block.y, t->block.z, t->index.x);
    return used;
}

void access_complain(const char *format, ...) {
    char place[300], text[500];
    va_list values;
    place_text(place, sizeof place);
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    cuda_on_cpu_complain(running.call, "%s %s", place, text);
}

// How far the bytes are from the nearest that may be touched.
static void describe(uintptr_t at, const cuda_on_cpu_range *near, char *out, size_t size) {
    if (at < near->begin)
        snprintf(out, size, "%zu bytes before the %zu", (size_t)(near->begin - at),
                 (size_t)(near->end - near->begin));
    else
        snprintf(out, size, "at byte %zu of the %zu", (size_t)(at - near->begin),
                 (size_t)(near->end - near->begin));
}

static uintptr_t distance(uintptr_t at, const cuda_on_cpu_range *r) {
    return at < r->begin ? r->begin - at : at >= r->end ? at - r->end : 0;
}

static void refuse(uintptr_t at, size_t bytes, bool writes, const char *what,
                   const cuda_on_cpu_range *near, const char *whose) {
    char where[160] = "";
    if (near) describe(at, near, where, sizeof where);
    access_complain("%s %zu bytes%s%s at %p: %s%s%s", writes ? "writes" : "reads", bytes,
                    *what ? " of " : "", what, (void *)at, near ? where : "", near ? " " : "",
                    whose);
    lose_device(CUDA_ERROR_ILLEGAL_ADDRESS);
}

// ---- checks -------------------------------------------------------------------------------------

static bool holds(const cuda_on_cpu_range *r, uintptr_t at, size_t bytes) {
    return at >= r->begin && at <= r->end && r->end - at >= bytes;
}

static bool check_declared(uintptr_t at, size_t bytes, bool writes, const char *what,
                           image_window *window) {
    const declared_work *d = &running.declared;
    const cuda_on_cpu_range *near = NULL;
    for (int i = 0; i < d->ranges; i++) {
        const cuda_on_cpu_range *r = &d->range[i];
        if (writes && !r->writes) continue;
        if (holds(r, at, bytes)) {
            *window = (image_window){r->begin, r->end - r->begin};
            return true;
        }
        if (!near || distance(at, r) < distance(at, near)) near = r;
    }
    refuse(at, bytes, writes, what, near,
           writes ? "that it declares to write" : "that it declares to touch");
    return false;
}

static bool check_memory(uintptr_t at, size_t bytes, bool writes, const char *what,
                         image_window *window) {
    const allocation *a = allocation_of(at, bytes);
    if (a && (!a->host || !running.kernel)) {
        *window = (image_window){a->begin, a->bytes};
        return true;
    }
    const allocation *below = allocation_below(at);
    cuda_on_cpu_range near = {0};
    if (below)
        near = (cuda_on_cpu_range){.begin = below->begin, .end = below->begin + below->bytes};
    refuse(at, bytes, writes, what, below ? &near : NULL,
           below ? below->host ? "of pinned memory" : "of an allocation"
                 : "no memory of the device");
    return false;
}

bool access_check(uintptr_t at, size_t bytes, bool writes, const char *what, image_window *window) {
    if (!settings()->check) {
        *window = (image_window){0, UINTPTR_MAX};
        return true;
    }
    return running.declared.known ? check_declared(at, bytes, writes, what, window)
                                  : check_memory(at, bytes, writes, what, window);
}

bool cuda_on_cpu_access(CUdeviceptr begin, size_t bytes, bool writes, const char *what) {
    image_window window;
    if (inside) return access_check((uintptr_t)begin, bytes, writes, what, &window);
    cuda_on_cpu_complain("cuda_on_cpu_access", "asked by no work that runs");
    return false;
}
