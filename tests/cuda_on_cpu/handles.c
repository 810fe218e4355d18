#include "internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { FIRST_HANDLE = 0x10000, HANDLE_STEP = 64, SEGMENT = 4096, SEGMENTS = 4096 };

static const char *const kind_name[OBJECT_KINDS] = {
    [OBJECT_CONTEXT] = "context", [OBJECT_STREAM] = "stream",     [OBJECT_EVENT] = "event",
    [OBJECT_MODULE] = "module",   [OBJECT_FUNCTION] = "function",
};

// In segments, so that entries stay where they are.
static object *segment[SEGMENTS];
static int objects;

static object *entry(int i) {
    return &segment[i / SEGMENT][i % SEGMENT];
}

object *object_create(object_kind kind, object *context) {
    if (objects == SEGMENT * SEGMENTS) return NULL;
    if (objects % SEGMENT == 0) segment[objects / SEGMENT] = calloc(SEGMENT, sizeof(object));
    object *o = entry(objects++);
    *o = (object){.kind = kind, .alive = true, .context = context};
    return o;
}

void *object_handle(const object *o) {
    for (int s = 0; s * SEGMENT < objects; s++)
        if (o >= segment[s] && o < segment[s] + SEGMENT)
            return (void *)(uintptr_t)(FIRST_HANDLE +
                                       HANDLE_STEP * (s * SEGMENT + (o - segment[s])));
    return NULL;
}

object *object_find(call_scope *scope, object_kind kind, const void *handle) {
    uintptr_t at = (uintptr_t)handle - FIRST_HANDLE;
    bool known = handle && at % HANDLE_STEP == 0 && at / HANDLE_STEP < (uintptr_t)objects;
    object *o = known ? entry((int)(at / HANDLE_STEP)) : NULL;
    if (o && o->kind == kind && o->alive) return o;
    if (o && o->kind == kind)
        cuda_on_cpu_complain(scope->name, "%s %p was destroyed", kind_name[kind], handle);
    else
        cuda_on_cpu_complain(scope->name, "%p is no %s", handle, kind_name[kind]);
    return NULL;
}

CUresult in_context(call_scope *scope, const object *o) {
    const object *current = current_context();
    if (!current || !current->alive) {
        cuda_on_cpu_complain(scope->name, "no context is current to this thread");
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (!o || o->context == current) return CUDA_SUCCESS;
    cuda_on_cpu_complain(scope->name, "the %s is of another context than the current one",
                         kind_name[o->kind]);
    return CUDA_ERROR_INVALID_HANDLE;
}

void objects_forget_module(const object *module) {
    for (int i = 0; i < objects; i++)
        if (entry(i)->kind == OBJECT_FUNCTION && entry(i)->image == module->image)
            entry(i)->alive = false;
}

// Functions are their modules'.
static const char *describe_alive(const object *context) {
    static char text[512];
    int count[OBJECT_KINDS] = {0};
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < objects; i++)
        count[entry(i)->kind] += entry(i)->alive && (!context || entry(i)->context == context);
    for (int kind = OBJECT_CONTEXT; kind < OBJECT_FUNCTION; kind++)
        if (count[kind])
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%d %s%s", used ? ", " : "",
                                     count[kind], kind_name[kind], count[kind] > 1 ? "s" : "");
    memory_describe_alive(context, text, sizeof text);
    return text;
}

const char *cuda_on_cpu_alive(void) {
    return describe_alive(NULL);
}

const char *objects_left_in(const object *context) {
    return describe_alive(context);
}
