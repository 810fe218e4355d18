// What every call has in common: the lock, counting, records, failures on demand, a lost device.
#include "internal.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CALL_NAMES = 128 };

typedef struct call_count {
    char name[64];
    int64_t calls;
} call_count;

static pthread_mutex_t lock;
static pthread_once_t lock_made = PTHREAD_ONCE_INIT;
static call_count counts[CALL_NAMES];
static int names;
static int64_t all_calls, calls_to_fail; // of the name that is to fail, since it was configured
static char failing[64];
static CUresult lost;
static pid_t owner;
static FILE *record;

static void make_lock(void) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE); // failures free what they hold
    pthread_mutex_init(&lock, &attributes);
}

void cuda_on_cpu_complain(const char *call, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "cuda_on_cpu: %s: %s\n", call, text);
}

// ---- random numbers -----------------------------------------------------------------------------

// SplitMix64 (Steele, Lea, Flood 2014). Starts anew where another seed is configured.
uint64_t random_bits(void) {
    static uint64_t state;
    static int64_t seed = -1;
    if (seed != settings()->seed) state = (uint64_t)(seed = settings()->seed);
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

// ---- counting, failing --------------------------------------------------------------------------

static call_count *count_of(const char *name) {
    for (int i = 0; i < names; i++)
        if (strcmp(counts[i].name, name) == 0) return &counts[i];
    if (names == CALL_NAMES) return NULL;
    snprintf(counts[names].name, sizeof counts[names].name, "%s", name);
    return &counts[names++];
}

// Whether this one is the call that was told to fail.
static bool must_fail(const char *name) {
    driver_settings *s = settings();
    if (strcmp(failing, s->fail_call) != 0) {
        snprintf(failing, sizeof failing, "%s", s->fail_call);
        calls_to_fail = 0;
    }
    if (!*s->fail_call || (strcmp(s->fail_call, "any") != 0 && strcmp(s->fail_call, name) != 0))
        return false;
    if (++calls_to_fail != s->fail_at) return false;
    s->fail_call[0] = '\0'; // once
    snprintf(s->failed_call, sizeof s->failed_call, "%s", name);
    return true;
}

const char *cuda_on_cpu_failed(void) {
    return settings()->failed_call;
}

// These end a context, as on a device: all later calls fail alike.
static bool loses(int64_t status) {
    return (status >= 700 && status <= 719 && status != CUDA_ERROR_NOT_READY) ||
           status == CUDA_ERROR_ECC_UNCORRECTABLE || status == CUDA_ERROR_ILLEGAL_ADDRESS;
}

int cuda_on_cpu_enter(const char *name) {
    pthread_once(&lock_made, make_lock);
    pthread_mutex_lock(&lock);
    int status = 0;
    call_count *count = count_of(name);
    if (count) count->calls++;
    all_calls++;
    if (must_fail(name)) {
        status = (int)settings()->fail_status;
        if (strncmp(name, "cu", 2) == 0 && strncmp(name, "cublas", 6) != 0 && loses(status))
            lost = (CUresult)status;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

int64_t cuda_on_cpu_calls(const char *call) {
    if (strcmp(call, "any") == 0) return all_calls;
    for (int i = 0; i < names; i++)
        if (strcmp(counts[i].name, call) == 0) return counts[i].calls;
    return 0;
}

// ---- scopes -------------------------------------------------------------------------------------

void calls_started(void) {
    if (owner) return;
    owner = getpid();
    fprintf(stderr, "cuda_on_cpu: CUDA on the CPU, for tests; seed=%lld\n",
            (long long)settings()->seed);
}

void lose_device(CUresult status) {
    if (!lost) lost = status;
}

CUresult device_lost(void) {
    return lost;
}

// These work, or at least answer, whatever has happened.
static bool needs_no_driver(const char *name) {
    static const char *const list[] = {"cuInit", "cuGetErrorName", "cuGetErrorString",
                                       "cuDriverGetVersion"};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (strcmp(list[i], name) == 0) return true;
    return false;
}

static CUresult ready(const char *name) {
    if (needs_no_driver(name) && strcmp(name, "cuInit") != 0) return CUDA_SUCCESS;
    if (owner && owner != getpid()) {
        cuda_on_cpu_complain(name, "the driver was started by another process: it does not survive "
                                   "a fork");
        return CUDA_ERROR_NOT_INITIALIZED;
    }
    if (needs_no_driver(name)) return CUDA_SUCCESS;
    if (!owner) return CUDA_ERROR_NOT_INITIALIZED;
    return lost;
}

call_scope call_begin(const char *name, const char *arguments, ...) {
    call_scope scope = {.name = name};
    int status = cuda_on_cpu_enter(name);
    pthread_mutex_lock(&lock);
    va_list values;
    va_start(values, arguments);
    vsnprintf(scope.arguments, sizeof scope.arguments, arguments, values);
    va_end(values);
    scope.status = status ? (CUresult)status : ready(name);
    return scope;
}

call_scope call_within(const char *name) {
    pthread_once(&lock_made, make_lock);
    pthread_mutex_lock(&lock);
    return (call_scope){.name = name, .status = ready(name)};
}

void call_end(call_scope *scope) {
    const char *file = settings()->record;
    if (*file && !record) record = fopen(file, "w");
    if (record) fprintf(record, "%s(%s) = %d\n", scope->name, scope->arguments, (int)scope->status);
    if (record) fflush(record);
    pthread_mutex_unlock(&lock);
}
