// Counting calls, and what was taken and not given back.
#include <execinfo.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include "tests/faults/faults.h"

// Things that live, in chains by their hash. Static: nothing here may allocate.
enum { BUCKETS = 1 << 12, MOST_LIVE = 1 << 15, OWN_FRAMES = 5 };

typedef struct entry {
    struct entry *next;
    uintptr_t thing;
    fault_site site;
} entry;

static fault_state *state;
static entry pool[MOST_LIVE], *bucket[BUCKETS], *unused;
static int pool_used;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// The frames from that return address on: ours before it are more or fewer as the compiler likes.
static void walk(uintptr_t frame[FAULT_DEPTH], const void *caller) {
    void *address[FAULT_DEPTH + OWN_FRAMES];
    int depth = backtrace(address, FAULT_DEPTH + OWN_FRAMES), own = 0;
    while (own < OWN_FRAMES && own < depth && address[own] != caller) own++;
    for (int i = 0; i < FAULT_DEPTH; i++)
        frame[i] = own + i < depth ? (uintptr_t)address[own + i] : 0;
}

void faults_arm(fault_state *s) {
    uintptr_t frame[FAULT_DEPTH];
    walk(frame, NULL); // its first use loads a library
    pthread_mutex_lock(&lock);
    state = s;
    pthread_mutex_unlock(&lock);
}

// ---- counting -----------------------------------------------------------------------------------

// With the lock held.
static void list(fault_state *s, fault_kind kind, const char *call, const void *caller) {
    fault_site site = {.call = call, .kind = kind, .first = s->calls, .calls = 1};
    walk(site.frame, caller);
    size_t compared = (size_t)s->depth * sizeof *site.frame;
    for (int i = 0; i < s->sites; i++) {
        if (memcmp(s->site[i].frame, site.frame, compared) != 0) continue;
        s->site[i].calls++;
        return;
    }
    if (s->sites < FAULT_MOST_SITES) s->site[s->sites++] = site;
}

// Whether a name is among names apart by commas.
static bool is_among(const char *name, const char *names) {
    size_t length = strlen(name);
    for (const char *at = names; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || !at[length])) return true;
    }
    return false;
}

// With the lock held: whether this is the call to fail.
static bool is_due(const fault_state *s, const void *caller) {
    uintptr_t frame[FAULT_DEPTH];
    if (!s->place[0]) return s->calls == s->fail_at;
    if (s->struck || s->place[0] != (uintptr_t)caller) return false;
    walk(frame, caller);
    return memcmp(frame, s->place, (size_t)s->depth * sizeof *frame) == 0;
}

bool faults_strike(fault_kind kind, const char *call, const void *caller) {
    pthread_mutex_lock(&lock);
    fault_state *s = state;
    bool strikes = false;
    if (s && s->kinds & 1u << kind && (!s->only || is_among(call, s->only))) {
        s->calls++;
        if (s->listing) list(s, kind, call, caller);
        bool due = is_due(s, caller);
        strikes = due || (s->struck && s->lasting);
        if (due) {
            s->hit = (fault_site){.call = call, .kind = kind, .first = s->calls, .calls = 1};
            walk(s->hit.frame, caller);
            s->when = now();
            s->struck = true;
        }
    }
    pthread_mutex_unlock(&lock);
    return strikes;
}

fault_manner faults_manner(void) {
    return state ? state->manner : FAULT_ERROR;
}

// ---- taking and giving back ---------------------------------------------------------------------

static entry **bucket_of(fault_kind kind, uintptr_t thing) {
    uint64_t hash = ((uint64_t)thing + (uint64_t)kind) * 0x9E3779B97F4A7C15u;
    return &bucket[hash >> 52];
}

static entry *new_entry(void) {
    entry *e = unused;
    if (e) unused = e->next;
    return e ? e : pool_used < MOST_LIVE ? &pool[pool_used++] : NULL;
}

void faults_take(fault_kind kind, const char *call, const void *caller, uintptr_t thing) {
    pthread_mutex_lock(&lock);
    entry *e = state ? new_entry() : NULL;
    if (e) {
        entry **head = bucket_of(kind, thing);
        *e = (entry){.next = *head, .thing = thing, .site = {.call = call, .kind = kind}};
        if (state->tracing) walk(e->site.frame, caller);
        *head = e;
    }
    pthread_mutex_unlock(&lock);
}

void faults_give(fault_kind kind, uintptr_t thing) {
    pthread_mutex_lock(&lock);
    entry **at = bucket_of(kind, thing);
    while (*at && ((*at)->thing != thing || (*at)->site.kind != kind)) at = &(*at)->next;
    entry *e = *at;
    if (e) {
        *at = e->next;
        e->next = unused;
        unused = e;
    }
    pthread_mutex_unlock(&lock);
}

void faults_look(fault_state *s) {
    faults_arm(NULL);
    for (int i = 0; i < BUCKETS; i++)
        for (const entry *e = bucket[i]; e; e = e->next) {
            if (s->left < FAULT_MOST_LEFT) s->leftover[s->left] = e->site;
            s->left++;
        }
}
