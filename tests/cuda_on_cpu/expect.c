// What work was said to come next, and whether it does.
#include "internal.h"

#include <stdlib.h>
#include <string.h>

static const char *const kind_name[] = {[WORK_LAUNCH] = "launch",
                                        [WORK_PRODUCT] = "product",
                                        [WORK_COPY] = "copy",
                                        [WORK_FILL] = "fill"};

static cuda_on_cpu_work *list; // its ranges and sizes are copies; a range passes on to the work
static int count, next;
static bool expecting, refused;

static void *copy_of(const void *from, size_t bytes) {
    void *copy = malloc(bytes + 1);
    if (bytes) memcpy(copy, from, bytes);
    return copy;
}

static void forget(void) {
    for (int i = next; i < count; i++) free((void *)list[i].range);
    for (int i = 0; i < count; i++) free((void *)list[i].argument_bytes);
    free(list);
    list = NULL;
    count = next = 0;
    expecting = refused = false;
}

void cuda_on_cpu_expect(const cuda_on_cpu_work *work, int how_many) {
    forget();
    list = copy_of(work, (size_t)how_many * sizeof *work);
    count = how_many;
    expecting = true;
    for (int i = 0; i < count; i++) {
        list[i].range = copy_of(work[i].range, (size_t)work[i].ranges * sizeof *work->range);
        list[i].argument_bytes = copy_of(work[i].argument_bytes, (size_t)work[i].arguments);
    }
}

bool cuda_on_cpu_expected(void) {
    bool all = !expecting || (next == count && !refused);
    if (!all && !refused)
        cuda_on_cpu_complain("expected work", "a %s (%s) and %d more never came",
                             kind_name[list[next].kind], list[next].label, count - next - 1);
    forget();
    return all;
}

// A parameter that takes more or fewer bytes than it is given shifts all that follow.
static bool same_arguments(call_scope *scope, const cuda_on_cpu_work *w, const image_kernel *k) {
    if (!k) return true;
    if (w->arguments != k->parameters) {
        cuda_on_cpu_complain(scope->name, "kernel %s takes %d arguments, %d are given (%s)",
                             k->name, k->parameters, w->arguments, w->label);
        return false;
    }
    for (int i = 0; i < w->arguments; i++) {
        if (w->argument_bytes[i] == k->bytes[i]) continue;
        cuda_on_cpu_complain(scope->name,
                             "kernel %s takes %u bytes as argument %d, %u are given (%s)", k->name,
                             k->bytes[i], i, w->argument_bytes[i], w->label);
        return false;
    }
    return true;
}

bool expect_next(call_scope *scope, cuda_on_cpu_kind kind, const image_kernel *kernel,
                 declared_work *out) {
    *out = (declared_work){0};
    if (!expecting) return true;
    const cuda_on_cpu_work *w = next < count ? &list[next] : NULL;
    const char *name = kernel ? kernel->name : "";
    if (!w || w->kind != kind || (kernel && strcmp(w->kernel, name) != 0)) {
        cuda_on_cpu_complain(scope->name, "a %s %s came where %s %s (%s) was expected",
                             kind_name[kind], name, w ? kind_name[w->kind] : "nothing",
                             w && w->kernel ? w->kernel : "", w ? w->label : "the end");
        refused = true;
        return false;
    }
    if (!same_arguments(scope, w, kernel)) {
        refused = true;
        return false;
    }
    *out = (declared_work){.known = true,
                           .label = w->label,
                           .range = (cuda_on_cpu_range *)w->range,
                           .ranges = w->ranges};
    next++;
    return true;
}
