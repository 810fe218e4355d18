// Device memory and pinned memory: each allocation in pages of its own, with bytes around it that
// nobody may write, and a page without rights on both sides.
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, ALIGNMENT = 256, DEVICE_UNIT = 2 << 20, RED = 0xa5 };
static const uint32_t fresh = 0x7fc0f5e5; // a NaN in f32, and halves of it in f16 and bf16, too
static const int rights = PROT_READ | PROT_WRITE;

static allocation *list;
static int allocations, capacity;
static bool opened;
static int64_t most_taken; // of one device, since the settings were given

static uintptr_t round_up(uintptr_t n, uintptr_t unit) {
    return (n + unit - 1) / unit * unit;
}

// ---- finding ------------------------------------------------------------------------------------

const allocation *allocation_of(uintptr_t begin, size_t bytes) {
    for (int i = 0; i < allocations; i++)
        if (begin >= list[i].begin && begin - list[i].begin <= list[i].bytes &&
            list[i].bytes - (begin - list[i].begin) >= bytes)
            return &list[i];
    return NULL;
}

const allocation *allocation_below(uintptr_t begin) {
    const allocation *best = NULL;
    for (int i = 0; i < allocations; i++)
        if (list[i].begin <= begin && (!best || list[i].begin > best->begin)) best = &list[i];
    return best;
}

bool cuda_on_cpu_is_device(CUdeviceptr begin, size_t bytes) {
    __attribute__((cleanup(call_end))) call_scope scope = call_within("cuda_on_cpu_is_device");
    const allocation *a = allocation_of((uintptr_t)begin, bytes);
    return a && !a->host;
}

void memory_describe_alive(const object *context, char *out, size_t size) {
    static const char *const what[] = {"device allocations", "pinned allocations"};
    int count[2] = {0};
    for (int i = 0; i < allocations; i++)
        count[list[i].host] += !context || list[i].context == context;
    for (int i = 0; i < 2; i++) {
        size_t used = strlen(out);
        if (count[i])
            snprintf(out + used, size - used, "%s%d %s", used ? ", " : "", count[i], what[i]);
    }
}

static int64_t taken(const object *context) {
    int64_t bytes = settings()->overhead;
    for (int i = 0; i < allocations; i++)
        if (list[i].context->device == context->device && !list[i].host)
            bytes += (int64_t)round_up(list[i].bytes, DEVICE_UNIT);
    return bytes;
}

int64_t cuda_on_cpu_most_taken(void) {
    __attribute__((cleanup(call_end))) call_scope scope = call_within("cuda_on_cpu_most_taken");
    return most_taken;
}

void memory_note(const object *context) {
    if (!context)
        most_taken = 0;
    else if (taken(context) > most_taken)
        most_taken = taken(context);
}

// ---- rights -------------------------------------------------------------------------------------

static void set_rights(bool open) {
    opened = open;
    for (int i = 0; i < allocations; i++)
        if (!list[i].host)
            mprotect((char *)list[i].map + PAGE, list[i].map_bytes - 2 * PAGE,
                     open ? rights : PROT_NONE);
}

void memory_open(void) {
    if (!opened) set_rights(true);
}

void memory_close(void) {
    if (opened) set_rights(false);
}

// ---- taking and giving back ---------------------------------------------------------------------

// The bytes of the allocation's pages that are not its own.
static bool each_red(const allocation *a, bool set) {
    uint8_t *first = (uint8_t *)a->map + PAGE, *own = (uint8_t *)a->begin;
    uint8_t *last = (uint8_t *)a->map + a->map_bytes - PAGE, *end = own + a->bytes;
    if (set) {
        memset(first, RED, (size_t)(own - first));
        memset(end, RED, (size_t)(last - end));
    }
    bool whole = true;
    for (uint8_t *p = first; p < own; p++) whole &= *p == RED;
    for (uint8_t *p = end; p < last; p++) whole &= *p == RED;
    return whole;
}

// Begins at a multiple of ALIGNMENT, as the driver's do, and of no more.
static bool map(allocation *a) {
    a->map_bytes = round_up(a->bytes + ALIGNMENT, PAGE) + 2 * PAGE;
    a->map =
        mmap(NULL, a->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (a->map == MAP_FAILED) return false;
    mprotect((char *)a->map + PAGE, a->map_bytes - 2 * PAGE, rights);
    a->begin = (uintptr_t)a->map + PAGE + ALIGNMENT;
    for (uintptr_t at = a->begin; at + sizeof fresh <= a->begin + a->bytes; at += sizeof fresh)
        memcpy((void *)at, &fresh, sizeof fresh);
    each_red(a, true);
    if (!a->host && !opened) mprotect((char *)a->map + PAGE, a->map_bytes - 2 * PAGE, PROT_NONE);
    return true;
}

static CUresult take(call_scope *scope, size_t bytes, bool host, uintptr_t *out) {
    CUresult status = in_context(scope, NULL);
    if (status) return status;
    object *context = current_context();
    if (!bytes || !out) {
        cuda_on_cpu_complain(scope->name, "0 bytes, or nowhere to put the address");
        return CUDA_ERROR_INVALID_VALUE;
    }
    const driver_settings *s = settings();
    if (host && ((int64_t)bytes > s->pinned || (int64_t)bytes < s->pinned_from))
        return CUDA_ERROR_OUT_OF_MEMORY;
    int64_t left = settings()->memory - taken(context);
    if (!host && (left < 0 || round_up(bytes, DEVICE_UNIT) > (uintptr_t)left))
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (allocations == capacity) {
        capacity = capacity ? 2 * capacity : 16;
        list = realloc(list, (size_t)capacity * sizeof *list);
    }
    allocation a = {.context = context, .bytes = bytes, .host = host};
    if (!map(&a)) return CUDA_ERROR_OUT_OF_MEMORY;
    list[allocations++] = a;
    memory_note(context);
    *out = a.begin;
    return CUDA_SUCCESS;
}

static CUresult give_back(call_scope *scope, uintptr_t begin, bool host) {
    int at = 0;
    while (at < allocations && (list[at].begin != begin || list[at].host != host)) at++;
    if (at == allocations) {
        cuda_on_cpu_complain(scope->name, "%p is no allocation of that kind, or was freed before",
                             (void *)begin);
        return CUDA_ERROR_INVALID_VALUE;
    }
    allocation *a = &list[at];
    if (streams_busy(a->context)) {
        cuda_on_cpu_complain(scope->name, "memory is freed while work that may use it is queued");
        return CUDA_ERROR_INVALID_VALUE;
    }
    bool was_open = opened;
    memory_open();
    bool whole = each_red(a, false);
    if (!was_open) memory_close();
    munmap(a->map, a->map_bytes);
    list[at] = list[--allocations];
    if (whole) return CUDA_SUCCESS;
    cuda_on_cpu_complain(scope->name, "bytes beside an allocation were written");
    lose_device(CUDA_ERROR_ILLEGAL_ADDRESS);
    return CUDA_ERROR_ILLEGAL_ADDRESS;
}

// ---- calls --------------------------------------------------------------------------------------

CUDA_ON_CPU_API CUresult cuMemGetInfo_v2(size_t *out_free, size_t *out_total) {
    CALL("cuMemGetInfo", "%s", "");
    CUresult status = in_context(&scope, NULL);
    if (status) RETURN(status);
    int64_t left = settings()->memory - taken(current_context());
    *out_free = left > 0 ? (size_t)left : 0;
    *out_total = (size_t)settings()->memory;
    RETURN(CUDA_SUCCESS);
}

CUDA_ON_CPU_API CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t bytes) {
    CALL("cuMemAlloc", "%zu", bytes);
    uintptr_t begin = 0;
    CUresult status = take(&scope, bytes, false, &begin);
    if (!status) *out = (CUdeviceptr)begin;
    RETURN(status);
}

CUDA_ON_CPU_API CUresult cuMemFree_v2(CUdeviceptr begin) {
    CALL("cuMemFree", "%#llx", (unsigned long long)begin);
    RETURN(give_back(&scope, (uintptr_t)begin, false));
}

CUDA_ON_CPU_API CUresult cuMemHostAlloc(void **out, size_t bytes, unsigned flags) {
    CALL("cuMemHostAlloc", "%zu, %u", bytes, flags);
    uintptr_t begin = 0;
    if (flags & ~(unsigned)(CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP |
                            CU_MEMHOSTALLOC_WRITECOMBINED))
        REFUSE(CUDA_ERROR_INVALID_VALUE, "unknown flags %#x", flags);
    CUresult status = take(&scope, bytes, true, &begin);
    if (!status) *out = (void *)begin;
    RETURN(status);
}

CUDA_ON_CPU_API CUresult cuMemFreeHost(void *begin) {
    CALL("cuMemFreeHost", "%p", begin);
    RETURN(give_back(&scope, (uintptr_t)begin, true));
}
