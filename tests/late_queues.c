#include "tests/late_queues.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "backends/opencl/device.h"
#include "core/clock.h"
#include "core/philox.h"

// Stands for a cl_event: only the functions below see it.
typedef struct late_event {
    bool done;
    int holders;
    double begin, end; // of the run
} late_event;

typedef enum command_kind { LAUNCH, NATIVE, COPY, READ, WRITE, FILL, MARKER } command_kind;

typedef struct command {
    command_kind kind;
    int queue;
    bool done;
    cl_uint waits;
    late_event **wait, *event;
    cl_kernel kernel;
    cl_uint dims, objects;
    size_t global[3], local[3];
    cl_mem from, to, object[8];
    size_t from_at, to_at, bytes, location[8]; // where in the arguments the objects' addresses go
    void *host;
    char data[256]; // a native kernel's arguments, or a pattern
    size_t data_bytes;
    void(CL_CALLBACK *native)(void *);
} command;

enum { MOST_COMMANDS = 1 << 16 };

// Calls come from the thread that submits, and from those that wait for events.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct {
    opencl_driver driver;
    backend_device *device;
    command **command;       // in the order of submission
    int32_t commands, first; // those before `first` are done
    uint32_t seed;
    uint64_t draws;
    int held, favourite; // queues; -1: none
    int64_t overtaken;
} late;

// ---- events -------------------------------------------------------------------------------------

static void let_go(late_event *event) {
    if (event && --event->holders == 0) free(event);
}

static cl_int CL_API_CALL release_event(cl_event event) {
    pthread_mutex_lock(&lock);
    let_go((late_event *)event);
    pthread_mutex_unlock(&lock);
    return CL_SUCCESS;
}

static cl_int CL_API_CALL retain_event(cl_event event) {
    pthread_mutex_lock(&lock);
    ((late_event *)event)->holders++;
    pthread_mutex_unlock(&lock);
    return CL_SUCCESS;
}

static cl_int CL_API_CALL profiling_info(cl_event event, cl_profiling_info what, size_t size,
                                         void *value, size_t *needed) {
    const late_event *e = (const late_event *)event;
    (void)size, (void)needed;
    pthread_mutex_lock(&lock);
    bool done = e->done;
    *(cl_ulong *)value = (cl_ulong)(1e9 * (what == CL_PROFILING_COMMAND_START ? e->begin : e->end));
    pthread_mutex_unlock(&lock);
    return done ? CL_SUCCESS : CL_PROFILING_INFO_NOT_AVAILABLE;
}

// ---- running ------------------------------------------------------------------------------------

static cl_int run_native(const command *c, cl_command_queue queue) {
    char data[sizeof c->data];
    const void *location[8];
    memcpy(data, c->data, sizeof data);
    for (cl_uint i = 0; i < c->objects; i++) location[i] = data + c->location[i];
    return late.driver.clEnqueueNativeKernel(queue, c->native, data, c->data_bytes, c->objects,
                                             c->object, location, 0, NULL, NULL);
}

static cl_int run(const command *c) {
    const opencl_driver *cl = &late.driver;
    cl_command_queue queue = late.device->queue[QUEUE_COMPUTE];
    cl_int status = CL_SUCCESS;
    switch (c->kind) {
    case LAUNCH:
        status = cl->clEnqueueNDRangeKernel(queue, c->kernel, c->dims, NULL, c->global, c->local, 0,
                                            NULL, NULL);
        break;
    case NATIVE:
        status = run_native(c, queue);
        break;
    case COPY:
        status = cl->clEnqueueCopyBuffer(queue, c->from, c->to, c->from_at, c->to_at, c->bytes, 0,
                                         NULL, NULL);
        break;
    case READ:
        status = cl->clEnqueueReadBuffer(queue, c->from, CL_TRUE, c->from_at, c->bytes, c->host, 0,
                                         NULL, NULL);
        break;
    case WRITE:
        status = cl->clEnqueueWriteBuffer(queue, c->to, CL_TRUE, c->to_at, c->bytes, c->host, 0,
                                          NULL, NULL);
        break;
    case FILL:
        status = cl->clEnqueueFillBuffer(queue, c->to, c->data, c->data_bytes, c->to_at, c->bytes,
                                         0, NULL, NULL);
        break;
    case MARKER:
        break;
    }
    return status == CL_SUCCESS ? cl->clFinish(queue) : status;
}

static bool may_run(const command *c) {
    for (cl_uint i = 0; i < c->waits; i++)
        if (!c->wait[i]->done) return false;
    return true;
}

static uint32_t draw(void) {
    return philox_at(late.seed, 2, late.draws++).v[0];
}

// A favourite is kept for a while, so that a queue can run far ahead of the others.
static command *choose(command *head[DEVICE_QUEUES]) {
    if (late.held >= 0) {
        for (int k = 1; k <= DEVICE_QUEUES; k++) {
            command *c = head[(late.held + k) % DEVICE_QUEUES];
            if (c && may_run(c)) return c;
        }
        return NULL;
    }
    if (late.favourite < 0 || draw() % 8 == 0) late.favourite = (int)(draw() % DEVICE_QUEUES);
    for (int k = 0; k < DEVICE_QUEUES; k++) {
        command *c = head[(late.favourite + k) % DEVICE_QUEUES];
        if (c && may_run(c)) return c;
    }
    return NULL;
}

static void forget(command *c) {
    for (cl_uint i = 0; i < c->waits; i++) let_go(c->wait[i]);
    let_go(c->event);
    free(c->wait);
    free(c);
}

// Runs one more command; false where none is left, or none can ever run.
static bool step(cl_int *status) {
    command *head[DEVICE_QUEUES] = {NULL};
    int32_t earliest = -1;
    for (int32_t i = late.first; i < late.commands; i++) {
        command *c = late.command[i];
        if (c->done) continue;
        if (earliest < 0) earliest = i;
        if (!head[c->queue]) head[c->queue] = c;
    }
    if (earliest < 0) return false;
    command *c = choose(head);
    double begin = clock_seconds();
    *status = c ? run(c) : CL_INVALID_EVENT_WAIT_LIST;
    if (!c || *status != CL_SUCCESS) return false;
    late.overtaken += c != late.command[earliest];
    c->done = true;
    if (c->event) {
        c->event->done = true;
        c->event->begin = begin;
        c->event->end = clock_seconds();
    }
    while (late.first < late.commands && late.command[late.first]->done)
        forget(late.command[late.first++]);
    if (late.first == late.commands) late.first = late.commands = 0;
    return true;
}

static int queue_index(cl_command_queue queue) {
    for (int q = 0; q < DEVICE_QUEUES; q++)
        if (late.device->queue[q] == queue) return q;
    return -1;
}

static bool is_empty(int queue) {
    for (int32_t i = late.first; i < late.commands; i++)
        if (!late.command[i]->done && late.command[i]->queue == queue) return false;
    return true;
}

static cl_int CL_API_CALL finish(cl_command_queue queue) {
    cl_int status = CL_SUCCESS;
    int q = queue_index(queue);
    pthread_mutex_lock(&lock);
    while (!is_empty(q))
        if (!step(&status)) break;
    pthread_mutex_unlock(&lock);
    return status;
}

static cl_int CL_API_CALL wait_for_events(cl_uint events, const cl_event *list) {
    cl_int status = CL_SUCCESS;
    pthread_mutex_lock(&lock);
    for (cl_uint i = 0; i < events; i++)
        while (!((const late_event *)list[i])->done)
            if (!step(&status)) {
                pthread_mutex_unlock(&lock);
                return status == CL_SUCCESS ? CL_INVALID_EVENT : status;
            }
    pthread_mutex_unlock(&lock);
    return status;
}

static cl_int CL_API_CALL flush(cl_command_queue queue) {
    (void)queue;
    return CL_SUCCESS;
}

// ---- submitting ---------------------------------------------------------------------------------

static cl_int submit(cl_command_queue queue, const command *what, cl_uint waits,
                     const cl_event *wait, cl_event *event) {
    int q = queue_index(queue);
    command *c = malloc(sizeof *c);
    late_event **list = calloc(waits + 1, sizeof *list);
    late_event *made = event ? calloc(1, sizeof *made) : NULL;
    pthread_mutex_lock(&lock);
    if (q < 0 || late.commands == MOST_COMMANDS || !c || !list || (event && !made)) {
        pthread_mutex_unlock(&lock);
        free(c), free(list), free(made);
        return q < 0 ? CL_INVALID_COMMAND_QUEUE : CL_OUT_OF_HOST_MEMORY;
    }
    *c = *what;
    c->queue = q, c->waits = waits, c->wait = list, c->event = made;
    for (cl_uint i = 0; i < waits; i++) {
        list[i] = (late_event *)wait[i];
        list[i]->holders++;
    }
    if (made) {
        made->holders = 2;
        *event = (cl_event)made;
    }
    late.command[late.commands++] = c;
    pthread_mutex_unlock(&lock);
    return CL_SUCCESS;
}

static cl_int CL_API_CALL launch(cl_command_queue queue, cl_kernel kernel, cl_uint dims,
                                 const size_t *offset, const size_t *global, const size_t *local,
                                 cl_uint waits, const cl_event *wait, cl_event *event) {
    (void)offset;
    command c = {.kind = LAUNCH, .kernel = kernel, .dims = dims};
    memcpy(c.global, global, dims * sizeof *global);
    memcpy(c.local, local, dims * sizeof *local);
    return submit(queue, &c, waits, wait, event);
}

static cl_int CL_API_CALL native(cl_command_queue queue, void(CL_CALLBACK *function)(void *),
                                 void *arguments, size_t bytes, cl_uint objects,
                                 const cl_mem *object, const void **location, cl_uint waits,
                                 const cl_event *wait, cl_event *event) {
    command c = {.kind = NATIVE, .native = function, .data_bytes = bytes, .objects = objects};
    if (bytes > sizeof c.data || objects > 8) return CL_OUT_OF_HOST_MEMORY;
    memcpy(c.data, arguments, bytes);
    for (cl_uint i = 0; i < objects; i++) {
        c.object[i] = object[i];
        c.location[i] = (size_t)((const char *)location[i] - (const char *)arguments);
    }
    return submit(queue, &c, waits, wait, event);
}

static cl_int CL_API_CALL copy(cl_command_queue queue, cl_mem from, cl_mem to, size_t from_at,
                               size_t to_at, size_t bytes, cl_uint waits, const cl_event *wait,
                               cl_event *event) {
    command c = {
        .kind = COPY, .from = from, .to = to, .from_at = from_at, .to_at = to_at, .bytes = bytes};
    return submit(queue, &c, waits, wait, event);
}

static cl_int CL_API_CALL read_buffer(cl_command_queue queue, cl_mem from, cl_bool blocking,
                                      size_t at, size_t bytes, void *to, cl_uint waits,
                                      const cl_event *wait, cl_event *event) {
    command c = {.kind = READ, .from = from, .from_at = at, .bytes = bytes, .host = to};
    cl_int status = submit(queue, &c, waits, wait, event);
    return status == CL_SUCCESS && blocking ? finish(queue) : status;
}

static cl_int CL_API_CALL write_buffer(cl_command_queue queue, cl_mem to, cl_bool blocking,
                                       size_t at, size_t bytes, const void *from, cl_uint waits,
                                       const cl_event *wait, cl_event *event) {
    command c = {.kind = WRITE, .to = to, .to_at = at, .bytes = bytes, .host = (void *)from};
    cl_int status = submit(queue, &c, waits, wait, event);
    return status == CL_SUCCESS && blocking ? finish(queue) : status;
}

static cl_int CL_API_CALL fill(cl_command_queue queue, cl_mem to, const void *pattern,
                               size_t pattern_bytes, size_t at, size_t bytes, cl_uint waits,
                               const cl_event *wait, cl_event *event) {
    command c = {.kind = FILL, .to = to, .to_at = at, .bytes = bytes, .data_bytes = pattern_bytes};
    if (pattern_bytes > sizeof c.data) return CL_OUT_OF_HOST_MEMORY;
    memcpy(c.data, pattern, pattern_bytes);
    return submit(queue, &c, waits, wait, event);
}

static cl_int CL_API_CALL marker(cl_command_queue queue, cl_uint waits, const cl_event *wait,
                                 cl_event *event) {
    return submit(queue, &(command){.kind = MARKER}, waits, wait, event);
}

// ---- beginning and ending -----------------------------------------------------------------------

void late_queues_begin(backend_device *device) {
    late.command = calloc(MOST_COMMANDS, sizeof *late.command);
    late.device = device;
    late.driver = device->cl;
    opencl_driver *cl = &device->cl;
    cl->clEnqueueNDRangeKernel = launch;
    cl->clEnqueueNativeKernel = native;
    cl->clEnqueueCopyBuffer = copy;
    cl->clEnqueueReadBuffer = read_buffer;
    cl->clEnqueueWriteBuffer = write_buffer;
    cl->clEnqueueFillBuffer = fill;
    cl->clEnqueueMarkerWithWaitList = marker;
    cl->clGetEventProfilingInfo = profiling_info;
    cl->clReleaseEvent = release_event;
    cl->clRetainEvent = retain_event;
    cl->clWaitForEvents = wait_for_events;
    cl->clFlush = flush;
    cl->clFinish = finish;
    late_queues_at_random(0);
}

void late_queues_end(void) {
    free(late.command);
    late.command = NULL;
    late.device = NULL;
}

void late_queues_at_random(uint32_t seed) {
    late.seed = seed;
    late.draws = 0;
    late.held = late.favourite = -1;
}

void late_queues_hold(queue_id queue) {
    late.held = (int)queue;
}

int64_t late_queues_overtaken(void) {
    int64_t count = late.overtaken;
    late.overtaken = 0;
    return count;
}
