// What the files of libcuda.so.1 share: settings, handles, calls, memory, streams, blocks.
//
// All of it is guarded by one lock, taken by each call (CALL): one thread at a time is inside.
#ifndef BRIM_TESTS_CUDA_ON_CPU_INTERNAL_H
#define BRIM_TESTS_CUDA_ON_CPU_INTERNAL_H

#include "cuda_on_cpu.h"
#include "image.h"

// ---- settings.c ---------------------------------------------------------------------------------

typedef struct driver_settings {
    int64_t seed, devices, memory, overhead, pinned, pinned_from, capability, driver, check, nvrtc;
    bool seeded, in_submitted_order;
    char fail_call[64], failed_call[64];
    int64_t fail_at, fail_status;
    char record[512];
} driver_settings;

// As configured; the environment is read at the first use.
driver_settings *settings(void);

// ---- calls.c ------------------------------------------------------------------------------------

// Of a call that runs. status: with what it ends, for the record; set before it runs where the call
// must fail at once.
typedef struct call_scope {
    const char *name;
    char arguments[160];
    CUresult status;
} call_scope;

call_scope call_begin(const char *name, const char *arguments, ...)
    __attribute__((format(printf, 2, 3)));
// The same for what another library of ours asks within a call of its own: it is not counted again.
call_scope call_within(const char *name);
void call_end(call_scope *scope);

// Opens a call's function. Arguments are a format and its values, for the record.
#define CALL(name, ...)                                                                            \
    __attribute__((cleanup(call_end))) call_scope scope = call_begin(name, __VA_ARGS__);           \
    if (scope.status) return scope.status
// Ends it.
#define RETURN(what) return scope.status = (what)
// Ends it with a line of what is wrong.
#define REFUSE(what, ...)                                                                          \
    do {                                                                                           \
        cuda_on_cpu_complain(scope.name, __VA_ARGS__);                                             \
        RETURN(what);                                                                              \
    } while (0)

// From here on each call fails with that status, as the driver's do once a kernel went astray.
void lose_device(CUresult status);
// That status, or success.
CUresult device_lost(void);
// The process that called cuInit; 0 before it. A child of fork has no driver.
void calls_started(void);

uint64_t random_bits(void); // of the seed's sequence
static inline uint64_t random_below(uint64_t n) {
    return random_bits() % n;
}

// ---- handles.c ----------------------------------------------------------------------------------

typedef enum object_kind {
    OBJECT_CONTEXT = 1,
    OBJECT_STREAM,
    OBJECT_EVENT,
    OBJECT_MODULE,
    OBJECT_FUNCTION,
    OBJECT_KINDS
} object_kind;

// Handles are numbers of table entries, never addresses: whatever a caller hands over is told from
// a live one without a look at memory. Entries are not used twice.
typedef struct object {
    object_kind kind;
    bool alive;
    struct object *context;     // of all but contexts
    struct work_list *queue;    // OBJECT_STREAM
    int32_t references, device; // OBJECT_CONTEXT
    bool timed;                 // OBJECT_EVENT
    int64_t ticket;             // OBJECT_EVENT: of its latest record; 0: never
    double seconds;             // OBJECT_EVENT: when that one ran
    struct loaded_image *image; // OBJECT_MODULE, OBJECT_FUNCTION
    const image_kernel *kernel; // OBJECT_FUNCTION
} object;

object *object_create(object_kind kind, object *context);
void *object_handle(const object *o);
// NULL where the handle is not a live one of that kind; says so.
object *object_find(call_scope *scope, object_kind kind, const void *handle);

// What lives in a context, as text; "" where nothing does.
const char *objects_left_in(const object *context);
// The module's functions are no more.
void objects_forget_module(const object *module);

// The context current to this thread; NULL: none.
object *current_context(void);
// Whether there is one, and whether `o` is of it.
CUresult in_context(call_scope *scope, const object *o);

// ---- memory.c -----------------------------------------------------------------------------------

typedef struct allocation {
    object *context;
    uintptr_t begin, bytes; // as asked for
    void *map;              // with guard pages
    size_t map_bytes;
    bool host;
} allocation;

// The allocation that holds all these bytes; NULL: none.
const allocation *allocation_of(uintptr_t begin, size_t bytes);
// The one nearest below, for messages; NULL: none.
const allocation *allocation_below(uintptr_t begin);
// Lets work, and only it, at device memory.
void memory_open(void);
void memory_close(void);
// A context has come, or takes more, or (NULL) the most that was taken is forgotten.
void memory_note(const object *context);
// Adds to the text in `out` what is allocated; in one context, or (NULL) in all.
void memory_describe_alive(const object *context, char *out, size_t size);

// ---- streams.c ----------------------------------------------------------------------------------

// What a piece of work declares, and who it is; copied from cuda_on_cpu_work.
typedef struct declared_work {
    bool known;
    const char *label;
    cuda_on_cpu_range *range;
    int ranges;
} declared_work;

typedef void work_function(void *data);

// Queues run(data); data is freed. `kind` and `kernel` are held against what is expected next.
CUresult stream_add(call_scope *scope, object *stream, cuda_on_cpu_kind kind,
                    const image_kernel *kernel, work_function *run, void *data);
// Runs until nothing is left in `stream`.
CUresult stream_drain(call_scope *scope, object *stream);
// Whether work is queued in any stream of the context.
bool streams_busy(const object *context);

// ---- expect.c -----------------------------------------------------------------------------------

// Takes the next expected piece of work. False where another one was expected; says so.
bool expect_next(call_scope *scope, cuda_on_cpu_kind kind, const image_kernel *kernel,
                 declared_work *out);

// ---- access.c -----------------------------------------------------------------------------------

// The work that runs, and its kernel's place, for messages.
typedef struct access_scope {
    const char *call;
    declared_work declared;
    const image_kernel *kernel; // NULL: no launch
    const image_thread *thread;
} access_scope;

void access_begin(const access_scope *scope);
void access_end(void);
// The thread of the kernel that runs, for messages; NULL: none.
void access_place(const image_thread *thread);
// Whether these bytes may be touched; false after a line that says why not, and the device is lost.
// window: set to the bytes around that may be touched as well.
bool access_check(uintptr_t at, size_t bytes, bool writes, const char *what, image_window *window);
// A line with the place of the running thread in it.
void access_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ---- module.c -----------------------------------------------------------------------------------

typedef struct loaded_image {
    void *library;
    const image_table *table;
    uintptr_t begin, end; // of the file in memory: constants and shared arrays
} loaded_image;

// ---- block.c ------------------------------------------------------------------------------------

typedef struct launch {
    const image_kernel *kernel;
    const loaded_image *image;
    image_index grid, block;
    void **parameter; // own copies
    size_t bytes;     // of the launch with all that it points to
} launch;

// Runs all blocks, in an order of their own. False where a kernel did what it may not.
bool launch_run(launch *l);

#endif
