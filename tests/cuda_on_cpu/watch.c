// Holds what the CUDA backend submits against the flat program, where it runs on cuda_on_cpu: the
// same records in the same order, with arguments of the sizes that kernels take, and no access
// beyond what a record declares to the verifier.
//
// The linker puts these functions in place of the backend's own (-Wl,--wrap): the backend's table
// calls __wrap_NAME, and __real_NAME is the backend's.
#include <dlfcn.h>
#include <stdlib.h>
#include "backends/cuda/device.h"
#include "core/alloc.h"
#include "tests/cuda_on_cpu/cuda_on_cpu.h"

brim_status __real_cuda_load(backend_device *d, const program *p, loaded_program **out,
                             brim_error *err);
brim_status __real_cuda_run(loaded_program *l, uint8_t section, int32_t micro_batch,
                            brim_error *err);
void __real_cuda_unload(loaded_program *l);
brim_status __wrap_cuda_load(backend_device *d, const program *p, loaded_program **out,
                             brim_error *err);
brim_status __wrap_cuda_run(loaded_program *l, uint8_t section, int32_t micro_batch,
                            brim_error *err);
void __wrap_cuda_unload(loaded_program *l);

// ---- the programs that are loaded ---------------------------------------------------------------

typedef struct watched {
    struct watched *next;
    const loaded_program *loaded;
    const program *program;
    const backend_device *device;
} watched;
static watched *list;

static void watch(const loaded_program *l, const program *p, const backend_device *d) {
    watched *w = malloc(sizeof *w);
    if (w) *w = (watched){list, l, p, d};
    if (w) list = w;
}

static const watched *find(const loaded_program *l) {
    const watched *w = list;
    while (w && w->loaded != l) w = w->next;
    return w;
}

static void forget(const loaded_program *l) {
    for (watched **at = &list; *at; at = &(*at)->next) {
        watched *w = *at;
        if (w->loaded != l) continue;
        *at = w->next;
        free(w);
        return;
    }
}

// ---- records as work ----------------------------------------------------------------------------

typedef __typeof__(&cuda_on_cpu_expect) expect_function;
typedef __typeof__(&cuda_on_cpu_expected) expected_function;
typedef struct watcher_functions {
    expect_function expect;
    expected_function expected;
} watcher_functions;

// Not there where the driver is a real one.
static bool find_watcher(watcher_functions *out) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    *out = (watcher_functions){NULL, NULL};
    if (!library) return false;
    out->expect = (expect_function)dlsym(library, "cuda_on_cpu_expect");
    out->expected = (expected_function)dlsym(library, "cuda_on_cpu_expected");
    dlclose(library);
    return out->expect && out->expected;
}

static cuda_on_cpu_range range_of(const watched *w, const program_record *r,
                                  const record_access *access, int32_t micro_batch) {
    const cuda_memory *m = &w->device->memory;
    bool device = access->range.space == SPACE_DEVICE;
    uintptr_t begin =
        (device ? (uintptr_t)m->base : (uintptr_t)m->spaces.host) + (uintptr_t)access->range.offset;
    if (!device && r->kind == RECORD_COPY)
        begin += (uintptr_t)(r->as.copy.host_stride * micro_batch);
    return (cuda_on_cpu_range){begin, begin + (uintptr_t)access->range.bytes, access->writes};
}

static int argument_bytes(const launch_record *launch, uint8_t *out) {
    int count = 0;
    for (int32_t i = 0; i < launch->arguments; i++) {
        argument_kind kind = launch->argument[i].kind;
        bool eight = kind == ARGUMENT_BUFFER || kind == ARGUMENT_I64;
        out[count++] = eight ? 8 : 4;
        if (kind == ARGUMENT_BUFFER) out[count++] = 8; // a base, and an offset
    }
    return count;
}

static const cuda_on_cpu_kind kinds[] = {[RECORD_LAUNCH] = WORK_LAUNCH,
                                         [RECORD_MATMUL] = WORK_PRODUCT,
                                         [RECORD_COPY] = WORK_COPY,
                                         [RECORD_FILL] = WORK_FILL};

static void describe(const watched *w, const program_record *r, int32_t micro_batch,
                     cuda_on_cpu_work *out, brim_error *err) {
    *out = (cuda_on_cpu_work){.kind = kinds[r->kind], .label = r->label ? r->label : "unnamed"};
    cuda_on_cpu_range *range = brim_calloc_array((size_t)r->accesses, sizeof *range, err);
    for (int32_t i = 0; range && i < r->accesses; i++)
        range[i] = range_of(w, r, &r->access[i], micro_batch);
    out->range = range;
    out->ranges = range ? r->accesses : 0;
    if (r->kind != RECORD_LAUNCH) return;
    const launch_record *launch = &r->as.launch;
    uint8_t *bytes = brim_calloc_array(2 * (size_t)launch->arguments, 1, err);
    out->kernel = w->program->kernel[launch->kernel].name;
    out->argument_bytes = bytes;
    out->arguments = bytes ? argument_bytes(launch, bytes) : 0;
}

static void expect_section(const watcher_functions *watcher, const watched *w, uint8_t section,
                           int32_t micro_batch, brim_error *err) {
    const program *p = w->program;
    int count = 0;
    cuda_on_cpu_work *work = brim_calloc_array((size_t)p->records, sizeof *work, err);
    for (int32_t i = 0; work && i < p->records; i++)
        if (p->record[i].sections & section && p->record[i].queue < DEVICE_QUEUES)
            describe(w, &p->record[i], micro_batch, &work[count++], err);
    if (!failed(err)) watcher->expect(work, count);
    for (int i = 0; i < count; i++) {
        free((void *)work[i].range);
        free((void *)work[i].argument_bytes);
    }
    free(work);
}

// ---- in place of the backend's ------------------------------------------------------------------

brim_status __wrap_cuda_load(backend_device *d, const program *p, loaded_program **out,
                             brim_error *err) {
    brim_status status = __real_cuda_load(d, p, out, err);
    if (!status) watch(*out, p, d);
    return status;
}

brim_status __wrap_cuda_run(loaded_program *l, uint8_t section, int32_t micro_batch,
                            brim_error *err) {
    watcher_functions watcher;
    const watched *w = find(l);
    // Copies of memory that is not pinned are submitted in parts, and by other threads.
    if (failed(err) || !w || !w->device->memory.pinned || !find_watcher(&watcher))
        return __real_cuda_run(l, section, micro_batch, err);
    expect_section(&watcher, w, section, micro_batch, err);
    __real_cuda_run(l, section, micro_batch, err);
    if (!watcher.expected() && !failed(err))
        brim_fail(err, BRIM_DEVICE, "what was submitted is not what the program says");
    return err->status;
}

void __wrap_cuda_unload(loaded_program *l) {
    forget(l);
    __real_cuda_unload(l);
}
