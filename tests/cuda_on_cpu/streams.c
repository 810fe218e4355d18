// Streams and events. Work waits in its stream until somebody waits for that; then the streams'
// heads run one at a time, in an adversary's order.
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef enum item_kind { ITEM_WORK, ITEM_RECORD, ITEM_WAIT } item_kind;

typedef struct work_item {
    struct work_item *next;
    item_kind kind;
    uint64_t number; // in the order of submission
    const char *call;
    work_function *run;
    void *data;
    const image_kernel *kernel;
    declared_work declared;
    object *event;
    int64_t ticket; // of the record that this is, or waits for
} work_item;

// The streams that have ever had work, with their queues.
typedef struct work_list {
    struct work_list *next;
    object *stream;
    work_item *first, *last;
    uint64_t priority;
} work_list;

static work_list *all;
static uint64_t submitted;
static uint8_t *done; // by ticket of a record
static int64_t tickets, ticket_capacity;

// ---- queues -------------------------------------------------------------------------------------

static work_list *queue_of(object *stream) {
    if (stream->queue) return stream->queue;
    work_list *q = calloc(1, sizeof *q);
    *q = (work_list){.next = all, .stream = stream, .priority = random_bits()};
    return stream->queue = all = q;
}

static work_item *append(object *stream, work_item item) {
    work_list *q = queue_of(stream);
    work_item *own = malloc(sizeof *own);
    *own = item;
    own->number = submitted++;
    if (q->last)
        q->last->next = own;
    else
        q->first = own;
    return q->last = own;
}

static void drop_first(work_list *q) {
    work_item *item = q->first;
    q->first = item->next;
    if (!q->first) q->last = NULL;
    free(item->declared.range);
    free(item->data);
    free(item);
}

bool streams_busy(const object *context) {
    for (work_list *q = all; q; q = q->next)
        if (q->first && q->stream->context == context) return true;
    return false;
}

static int64_t new_ticket(void) {
    if (tickets + 1 >= ticket_capacity) {
        ticket_capacity = ticket_capacity ? 2 * ticket_capacity : 1024;
        done = realloc(done, (size_t)ticket_capacity);
    }
    done[++tickets] = 0;
    return tickets;
}

// ---- the adversary ------------------------------------------------------------------------------

static bool may_run(const work_item *item) {
    return item->kind != ITEM_WAIT || done[item->ticket];
}

// Mostly the same stream goes on as far as it can, so that others fall far behind.
static work_list *choose(void) {
    work_list *best = NULL;
    bool in_order = settings()->in_submitted_order;
    if (!in_order && random_below(16) == 0)
        for (work_list *q = all; q; q = q->next) q->priority = random_bits();
    for (work_list *q = all; q; q = q->next) {
        if (!q->first || !may_run(q->first)) continue;
        if (!best ||
            (in_order ? q->first->number < best->first->number : q->priority < best->priority))
            best = q;
    }
    return best;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void run_item(work_item *item) {
    if (item->kind == ITEM_RECORD) {
        done[item->ticket] = 1;
        if (item->event->ticket == item->ticket) item->event->seconds = now();
    }
    if (item->kind != ITEM_WORK) return;
    access_begin(
        &(access_scope){.call = item->call, .declared = item->declared, .kernel = item->kernel});
    item->run(item->data);
    access_end();
}

static void drop_everything(void) {
    for (work_list *q = all; q; q = q->next)
        while (q->first) drop_first(q);
}

// What somebody waits for: a stream's end, or the record of an event.
typedef struct awaited {
    work_list *stream; // NULL: the record
    int64_t ticket;
} awaited;

static bool is_over(const awaited *a) {
    return a->stream ? !a->stream->first : done[a->ticket];
}

static CUresult run_until(call_scope *scope, awaited target) {
    if (is_over(&target)) return CUDA_SUCCESS;
    memory_open();
    CUresult status = CUDA_SUCCESS;
    while (!is_over(&target) && !status) {
        work_list *q = choose();
        if (!q) {
            cuda_on_cpu_complain(scope->name, "streams wait for each other for ever");
            status = CUDA_ERROR_UNKNOWN;
            break;
        }
        run_item(q->first);
        drop_first(q);
        status = device_lost();
    }
    memory_close();
    if (status) drop_everything();
    return status;
}

CUresult stream_drain(call_scope *scope, object *stream) {
    return run_until(scope, (awaited){.stream = queue_of(stream)});
}

CUresult stream_add(call_scope *scope, object *stream, cuda_on_cpu_kind kind,
                    const image_kernel *kernel, work_function *run, void *data) {
    declared_work declared;
    if (!expect_next(scope, kind, kernel, &declared)) {
        free(data);
        return CUDA_ERROR_INVALID_VALUE;
    }
    append(stream, (work_item){.kind = ITEM_WORK,
                               .call = scope->name,
                               .run = run,
                               .data = data,
                               .kernel = kernel,
                               .declared = declared});
    return CUDA_SUCCESS;
}

CUresult cuda_on_cpu_enqueue(CUstream handle, const char *call, void (*run)(void *), void *data) {
    __attribute__((cleanup(call_end))) call_scope scope = call_within(call);
    object *stream = scope.status ? NULL : object_find(&scope, OBJECT_STREAM, handle);
    if (!scope.status)
        scope.status = stream ? in_context(&scope, stream) : CUDA_ERROR_INVALID_HANDLE;
    if (!scope.status) return stream_add(&scope, stream, WORK_PRODUCT, NULL, run, data);
    free(data);
    return scope.status;
}

// ---- calls: streams -----------------------------------------------------------------------------

CUDA_ON_CPU_API CUresult cuStreamCreate(CUstream *out, unsigned flags) {
    CALL("cuStreamCreate", "%u", flags);
    CUresult status = in_context(&scope, NULL);
    if (status) RETURN(status);
    // What the default stream would wait for is not played here.
    if (flags != CU_STREAM_NON_BLOCKING)
        REFUSE(CUDA_ERROR_INVALID_VALUE, "only streams that do not wait for the default one");
    *out = object_handle(object_create(OBJECT_STREAM, current_context()));
    RETURN(CUDA_SUCCESS);
}

CUDA_ON_CPU_API CUresult cuStreamDestroy_v2(CUstream handle) {
    CALL("cuStreamDestroy", "%p", (void *)handle);
    object *stream = object_find(&scope, OBJECT_STREAM, handle);
    if (!stream) RETURN(CUDA_ERROR_INVALID_HANDLE);
    if (stream->queue && stream->queue->first)
        REFUSE(CUDA_ERROR_INVALID_HANDLE, "the stream still has work");
    stream->alive = false;
    RETURN(CUDA_SUCCESS);
}

CUDA_ON_CPU_API CUresult cuStreamSynchronize(CUstream handle) {
    CALL("cuStreamSynchronize", "%p", (void *)handle);
    object *stream = object_find(&scope, OBJECT_STREAM, handle);
    if (!stream) RETURN(CUDA_ERROR_INVALID_HANDLE);
    CUresult status = in_context(&scope, stream);
    RETURN(status ? status : stream_drain(&scope, stream));
}

CUDA_ON_CPU_API CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned flags) {
    CALL("cuStreamWaitEvent", "%p, %p, %u", (void *)handle, (void *)event_handle, flags);
    object *stream = object_find(&scope, OBJECT_STREAM, handle);
    object *event = object_find(&scope, OBJECT_EVENT, event_handle);
    if (!stream || !event) RETURN(CUDA_ERROR_INVALID_HANDLE);
    CUresult status = in_context(&scope, stream);
    if (status) RETURN(status);
    if (flags != CU_EVENT_WAIT_DEFAULT) REFUSE(CUDA_ERROR_INVALID_VALUE, "flags %u", flags);
    if (event->ticket) // one that was never recorded holds nothing up
        append(stream, (work_item){.kind = ITEM_WAIT, .event = event, .ticket = event->ticket});
    RETURN(CUDA_SUCCESS);
}

// ---- calls: events ------------------------------------------------------------------------------

CUDA_ON_CPU_API CUresult cuEventCreate(CUevent *out, unsigned flags) {
    CALL("cuEventCreate", "%u", flags);
    CUresult status = in_context(&scope, NULL);
    if (status) RETURN(status);
    if (flags & ~(unsigned)(CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC))
        REFUSE(CUDA_ERROR_INVALID_VALUE, "flags %u", flags);
    object *event = object_create(OBJECT_EVENT, current_context());
    event->timed = !(flags & CU_EVENT_DISABLE_TIMING);
    *out = object_handle(event);
    RETURN(CUDA_SUCCESS);
}

CUDA_ON_CPU_API CUresult cuEventDestroy_v2(CUevent handle) {
    CALL("cuEventDestroy", "%p", (void *)handle);
    object *event = object_find(&scope, OBJECT_EVENT, handle);
    if (!event) RETURN(CUDA_ERROR_INVALID_HANDLE);
    event->alive = false;
    RETURN(CUDA_SUCCESS);
}

CUDA_ON_CPU_API CUresult cuEventRecord(CUevent handle, CUstream stream_handle) {
    CALL("cuEventRecord", "%p, %p", (void *)handle, (void *)stream_handle);
    object *event = object_find(&scope, OBJECT_EVENT, handle);
    object *stream = object_find(&scope, OBJECT_STREAM, stream_handle);
    if (!event || !stream) RETURN(CUDA_ERROR_INVALID_HANDLE);
    CUresult status = in_context(&scope, stream);
    if (status) RETURN(status);
    if (event->context != stream->context)
        REFUSE(CUDA_ERROR_INVALID_HANDLE, "event and stream are of two contexts");
    event->ticket = new_ticket();
    append(stream, (work_item){.kind = ITEM_RECORD, .event = event, .ticket = event->ticket});
    RETURN(CUDA_SUCCESS);
}

// By whatever thread: it runs what the record needs, and more.
CUDA_ON_CPU_API CUresult cuEventSynchronize(CUevent handle) {
    CALL("cuEventSynchronize", "%p", (void *)handle);
    object *event = object_find(&scope, OBJECT_EVENT, handle);
    if (!event) RETURN(CUDA_ERROR_INVALID_HANDLE);
    CUresult status = in_context(&scope, event);
    if (status || !event->ticket) RETURN(status); // one that was never recorded holds nothing up
    RETURN(run_until(&scope, (awaited){.ticket = event->ticket}));
}

// The header gives the name to a newer form.
#undef cuEventElapsedTime
CUDA_ON_CPU_API CUresult cuEventElapsedTime(float *out, CUevent begin_handle, CUevent end_handle) {
    CALL("cuEventElapsedTime", "%p, %p", (void *)begin_handle, (void *)end_handle);
    object *begin = object_find(&scope, OBJECT_EVENT, begin_handle);
    object *end = object_find(&scope, OBJECT_EVENT, end_handle);
    if (!begin || !end) RETURN(CUDA_ERROR_INVALID_HANDLE);
    if (!begin->timed || !end->timed || !begin->ticket || !end->ticket)
        REFUSE(CUDA_ERROR_INVALID_HANDLE, "an event without timing, or never recorded");
    if (!done[begin->ticket] || !done[end->ticket]) RETURN(CUDA_ERROR_NOT_READY);
    *out = (float)((end->seconds - begin->seconds) * 1e3);
    RETURN(CUDA_SUCCESS);
}
