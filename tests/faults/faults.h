// Calls of the system that are made to fail, for tests: in a program that is linked with wraps.c
// (WRAPPED_CALLS in CMakeLists.txt), each call that the program's own objects make of malloc, open,
// write, pthread_create and so on is counted, and one of them can be told to fail. What other
// libraries call is not concerned.
//
//   1. fault_state *s = memory that two processes share;  s->kinds = ...;  s->fail_at = n;
//   2. faults_arm(s);               in the process that runs the program
//   3. run the program
//   4. faults_look(s);              notes in s what it has taken and not given back
#ifndef BRIM_TESTS_FAULTS_H
#define BRIM_TESTS_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

// What calls are about. X(KIND, "name")
#define FAULT_KINDS_LIST(X)                                                                        \
    X(MEMORY, "memory")                                                                            \
    X(MAP, "map")                                                                                  \
    X(THREAD, "thread")                                                                            \
    X(FILE, "file")                                                                                \
    X(LIBRARY, "library")                                                                          \
    X(DRIVER, "driver")

// How a call fails: with an error; by doing half of what it was asked to, where it may (read,
// pread, write, pwrite); interrupted by a signal, where that may be (those, and what waits).
typedef enum fault_manner { FAULT_ERROR, FAULT_PART, FAULT_INTERRUPT } fault_manner;

typedef enum fault_kind {
#define X(kind, name) FAULT_##kind,
    FAULT_KINDS_LIST(X)
#undef X
        FAULT_KINDS
} fault_kind;

enum { FAULT_DEPTH = 10, FAULT_MOST_SITES = 8192, FAULT_MOST_LEFT = 4 };

// Where a call was made: return addresses, the innermost first, and then zeros.
typedef struct fault_site {
    uintptr_t frame[FAULT_DEPTH];
    const char *call; // "malloc"; the same address in processes of one fork
    fault_kind kind;
    int64_t first; // number of its first call
    int64_t calls;
} fault_site;

typedef struct fault_state {
    // Said before: which calls are counted (bits of 1 << kind), how they fail, where sites differ,
    // which one fails (1 the first; 0 none), whether those after it fail too, and whether the sites
    // are listed.
    unsigned kinds;
    const char *only; // names of calls, of these kinds; NULL: all
    fault_manner manner;
    int64_t depth; // frames that make a site
    int64_t fail_at;
    uintptr_t
        place[FAULT_DEPTH]; // where the first is 0, no place; else the first call from there fails
    bool lasting, listing;
    bool tracing; // notes where each thing is taken

    // Noted.
    int64_t calls;  // that were counted
    bool struck;    // the call to fail has come
    double when;    // in seconds of CLOCK_MONOTONIC
    fault_site hit; // the call
    int sites;
    fault_site site[FAULT_MOST_SITES];
    bool returned; // from main
    int left;      // things that were taken and not given back; the first of them
    fault_site leftover[FAULT_MOST_LEFT];
} fault_state;

// From now on calls are counted, and what they take is noted; NULL ends it.
void faults_arm(fault_state *state);
// Notes what is left, and ends it.
void faults_look(fault_state *state);

// ---- for the wraps ------------------------------------------------------------------------------

// True where this call must fail. The caller is the return address of the wrap.
bool faults_strike(fault_kind kind, const char *call, const void *caller);
// How it must; to be asked after faults_strike was true.
fault_manner faults_manner(void);
// Something was taken, known by a number that is not 0 (an address; a file descriptor plus 1), and
// given back. What was not taken by a wrapped call is ignored.
void faults_take(fault_kind kind, const char *call, const void *caller, uintptr_t thing);
void faults_give(fault_kind kind, uintptr_t thing);

#endif
