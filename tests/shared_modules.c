#include "tests/shared_modules.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "tests/shared_modules_wraps.h"

enum { BUCKETS = 4096, TOGETHER = 24 };

// A kernel; module NULL: it is expected.
typedef struct shared {
    struct shared *next;
    kernel_spec spec; // name, source and defines are copies
    void *device, *module;
} shared;

static shared *bucket[BUCKETS];
static struct {
    shared **item;
    int count, capacity;
} expected;
static bool sharing, quick;
static int count;

static shared **bucket_of(const kernel_spec *spec) {
    uint64_t hash = 14695981039346656037u; // FNV-1a
    for (const char *at = spec->source; *at; at++) hash = (hash ^ (uint8_t)*at) * 1099511628211u;
    for (const char *at = spec->defines; *at; at++) hash = (hash ^ (uint8_t)*at) * 1099511628211u;
    return &bucket[hash % BUCKETS];
}

// device NULL: of any device.
static shared *find(const void *device, const kernel_spec *spec) {
    shared *s = *bucket_of(spec);
    while (s && (strcmp(s->spec.source, spec->source) || strcmp(s->spec.defines, spec->defines) ||
                 (device && s->device && s->device != device)))
        s = s->next;
    return s;
}

static shared *add(const kernel_spec *spec) {
    shared **at = bucket_of(spec), *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    *s = (shared){.next = *at, .spec = *spec};
    s->spec.file = "chain"; // of what is compiled together; for messages
    s->spec.name = strdup(spec->name);
    s->spec.source = strdup(spec->source);
    s->spec.defines = strdup(spec->defines);
    *at = s;
    return s;
}

// Modules that programs have left to us, with what releases them.
typedef struct kept {
    struct kept *next;
    void *device, *module;
    void (*release)(void *device, void *module);
} kept;
static kept *kept_modules;

void shared_module_keep(void *device, void *module, void (*release)(void *, void *)) {
    kept *k = module ? malloc(sizeof *k) : NULL;
    if (!k) return;
    *k = (kept){kept_modules, device, module, release};
    kept_modules = k;
}

static void release_kept(void) {
    for (kept *k = kept_modules, *next; k; k = next) {
        next = k->next;
        k->release(k->device, k->module);
        free(k);
    }
    kept_modules = NULL;
}

bool shared_modules_quickly(void) {
    return quick;
}

void shared_modules_begin(bool quickly) {
    sharing = true;
    quick = quickly;
    count = 0;
}

void shared_modules_expect(const program *p) {
    for (int32_t i = 0; i < p->kernels; i++) {
        // Others than the generated ones have names and macros in common.
        if (strcmp(p->kernel[i].file, "chain") != 0 || find(NULL, &p->kernel[i])) continue;
        if (expected.count == expected.capacity) {
            int capacity = 2 * expected.capacity + 64;
            shared **grown = realloc(expected.item, (size_t)capacity * sizeof *grown);
            if (!grown) return;
            expected.item = grown;
            expected.capacity = capacity;
        }
        shared *s = add(&p->kernel[i]);
        if (s) expected.item[expected.count++] = s;
    }
}

static void release_kernel(shared *s) {
    free((char *)s->spec.name);
    free((char *)s->spec.source);
    free((char *)s->spec.defines);
    free(s);
}

void shared_modules_end(void) {
    sharing = false;
    release_kept();
    for (int i = 0; i < BUCKETS; i++) {
        for (shared *s = bucket[i], *next; s; s = next) {
            next = s->next;
            release_kernel(s);
        }
        bucket[i] = NULL;
    }
    free(expected.item);
    memset(&expected, 0, sizeof expected);
}

int shared_modules_expected(void) {
    return expected.count;
}

void shared_modules_forget(int left) {
    while (expected.count > left) {
        shared *s = expected.item[--expected.count], **at = bucket_of(&s->spec);
        while (*at != s) at = &(*at)->next;
        *at = s->next;
        release_kernel(s);
    }
}

int shared_modules_count(void) {
    return count;
}

// Compiling --------------------------------------------------------------------------------------

static bool has_name(shared *const *list, int items, const char *name) {
    for (int i = 0; i < items; i++)
        if (strcmp(list[i]->spec.name, name) == 0) return true;
    return false;
}

// Takes kernels with the same defines and different names out of those that are expected.
static int take(shared **out) {
    int taken = 0, left = 0;
    for (int i = 0; i < expected.count; i++) {
        shared *s = expected.item[i];
        if (taken < TOGETHER && (!taken || !strcmp(s->spec.defines, out[0]->spec.defines)) &&
            !has_name(out, taken, s->spec.name))
            out[taken++] = s;
        else
            expected.item[left++] = s;
    }
    expected.count = left;
    return taken;
}

// Where the compiler refuses them, each is compiled by itself later, and the error is its own.
static void compile_together(void *device, shared_module_builder *build, shared **list, int items) {
    size_t bytes = 1;
    for (int i = 0; i < items; i++) bytes += strlen(list[i]->spec.source) + 1;
    char *source = calloc(bytes, 1), *end = source;
    for (int i = 0; source && i < items; i++) {
        end = stpcpy(end, list[i]->spec.source);
        *end++ = '\n';
    }
    brim_error ignored = {0};
    kernel_spec all = list[0]->spec;
    all.source = source;
    void *module = source ? build(device, &all, &ignored) : NULL;
    for (int i = 0; module && i < items; i++) {
        list[i]->module = module;
        list[i]->device = device;
        count++;
    }
    free(source);
}

static void *module_of(void *device, const kernel_spec *spec, shared_module_builder *build,
                       brim_error *err) {
    shared *s = find(device, spec), *list[TOGETHER];
    while (s && !s->module && expected.count) compile_together(device, build, list, take(list));
    if (s && s->module) return s->module;
    void *module = build(device, spec, err);
    if (!s) s = add(spec);
    if (!s || !module) return module;
    s->module = module;
    s->device = device;
    count++;
    return module;
}

// For GPUs, backends compile on several threads.
void *shared_module_of(void *device, const kernel_spec *spec, shared_module_builder *build,
                       brim_error *err) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    if (!sharing) return NULL;
    pthread_mutex_lock(&lock);
    void *module = module_of(device, spec, build, err);
    pthread_mutex_unlock(&lock);
    return module;
}
