// Where every byte of a step lies, and when it is where.
//
// 1. plan_request says what is to be at home where (homes.h decides), and which nodes run on the
// host.
// 2. memory_plan_make: every storage's place at its home, its stays nearer to the device, the
//    transfers between them, and all offsets. The result has passed memory_plan_verify.
// 3. Lowering asks memory_plan_place where a node finds an operand.
//
// A storage (graph/layout.h) has its home in one space. A node runs on the device or on the host
// and needs its operands in its own space. Where a storage's home is further out than that, it has
// *stays* there: intervals of the schedule in which a copy of it lies in nearer memory, fetched
// before the first use and stored after the last write, as a cache line is. Between file and device
// it passes through the host: a stay there for each fetch and store. Where a home is nearer than
// the node (a scalar on the device that a host update reads), the copy goes the other way, and only
// ever to be read.
//
// All lifetimes are known, so all spaces are packed before the first step: what persists
// (parameters, states, ...) at the start of each space, the rest by lifetime behind it.
#ifndef BRIM_GRAPH_MEMORY_PLAN_H
#define BRIM_GRAPH_MEMORY_PLAN_H

#include <stdbool.h>
#include "graph/layout.h"
#include "graph/spaces.h"

// A range of bytes and the time for which it is taken. Positions are those of the schedule,
// inclusive, transfers in and out included.
typedef struct storage_place {
    memory_space space;
    int64_t offset, bytes; // offset -1: not a storage
    int32_t first, last;
} storage_place;

// A copy of a storage away from home.
typedef struct stay {
    value_id storage;
    storage_place place;
    int32_t first_use, last_use;
    int32_t fetch_at; // the position before whose node it is filled
    uint8_t fetch;    // SECTION_* in which that happens
    int32_t store_at; // the position after whose node it is written back: of its last write
    uint8_t store;    // sections in which that happens
    bool whole;       // takes its bytes for all of a step, and is filled once
} stay;

// A copy between two spaces, due at a position: before its node, or after it. In order of
// execution.
typedef struct transfer {
    int32_t stay;
    bool store; // or a fetch
    int32_t position;
    bool after;
    uint8_t sections;
} transfer;

// Seconds and rates, for deciding how long before its use a copy is fetched, and for how long its
// bytes are still taken by the way back. They change no result.
typedef struct stream_times {
    const double *start; // by position, and one more: when a node starts, if none waits for a copy
    double bytes_per_second[SPACES][SPACES]; // [from][to], of neighbours
    int64_t ahead[SPACES]; // most bytes fetched and not yet used, or stored and not yet gone
} stream_times;

typedef struct plan_request {
    int64_t alignment;   // of every storage, a power of two
    int64_t chunk_bytes; // no place on the device may straddle a multiple of this; 0: no limit
    int64_t transient_base[SPACES]; // everything that `persistent` does not place starts here at
                                    // the earliest (several programs share one persistent region)
    // Bytes that a node needs on the device while it runs; less than 0 is an error. May be NULL.
    int64_t (*workspace)(const brim_graph *, node_id, void *user);
    // Offset at its home of a persistent storage that another program has placed already, or -1.
    // May be NULL.
    int64_t (*persistent)(const brim_graph *, value_id, void *user);
    void *user;
    int64_t guard_bytes; // unused bytes kept before, between and after places (tests poison them)

    const memory_space *home; // by value id, of storages; NULL: all on the device. Inputs, control
                              // values and named results must be there
    const bool *on_host;      // by node id: runs on the host; NULL: none. Only UPDATE nodes may
    const bool *whole; // by value id: where its home is not on the device, it has one stay there
                       // that lasts for the whole step and is filled once; NULL: none
    const stream_times *times; // NULL: stays are as short as can be
    int64_t enough[SPACES]; // a packing that ends there need not be improved; 0: as good as can be
    bool estimate; // lifetimes and bounds alone: peak_bytes are lower bounds, nothing has a place
} plan_request;

typedef struct memory_plan {
    storage_place *storage;   // by value id: at home
    storage_place *workspace; // by node id
    stay *stay;               // those of one storage and space side by side, in order of time
    transfer *transfer;
    int32_t *first_stay; // by value id, and one more: a storage's stays are first_stay[v] ..
    bool *on_host;       // by node id
    int32_t values, nodes, stays, transfers;
    int64_t persistent_bytes[SPACES];
    int64_t peak_bytes[SPACES];  // end of the highest byte used, persistent ones included
    int64_t lower_bound[SPACES]; // no packing of the same places can have a lower peak
} memory_plan;

brim_status memory_plan_make(const brim_graph *g, const graph_layout *layout,
                             const graph_schedule *schedule, const plan_request *request,
                             memory_plan *out, brim_error *err);
void memory_plan_free(memory_plan *plan);

// Where a storage is for the node at that position: at home, or the stay which covers it.
const storage_place *memory_plan_place(const memory_plan *plan, value_id storage,
                                       memory_space space, int32_t position);

// Whether no space takes more than that many bytes; 0: no limit.
bool memory_plan_is_within(const memory_plan *plan, const int64_t budget[SPACES]);

// The two ends of a transfer.
typedef struct transfer_ends {
    const storage_place *from, *to;
} transfer_ends;
transfer_ends memory_plan_ends(const memory_plan *plan, const transfer *t);

// Proves, from the graph, the layout and the schedule alone, that no two places that are taken at
// the same time share bytes, that each is large enough, aligned, within the peak and within one
// chunk, and that every node reads what was written last, wherever that was.
brim_status memory_plan_verify(const brim_graph *g, const graph_layout *layout,
                               const graph_schedule *schedule, const plan_request *request,
                               const memory_plan *plan, brim_error *err);

// Prints places with bytes, times and offsets, the bytes of each class, and how close the packing
// is to the bound.
void memory_plan_print(const brim_graph *g, const memory_plan *plan, FILE *out);

#endif
