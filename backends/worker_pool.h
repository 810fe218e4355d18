// Threads that work on the items of one job at a time, beside the caller.
//
//   1. worker_pool *pool = worker_pool_create(threads, err);       the caller counts as one of them
//   2. worker_pool_run(pool, items, function, context);            function(context, item) for each
//                                                                  of 0 .. items - 1, in any order
//   3. worker_pool_free(pool);
//
// Nobody spins: an idle worker sleeps, since the cores belong to the driver's own threads between
// two jobs.
#ifndef BRIM_BACKENDS_WORKER_POOL_H
#define BRIM_BACKENDS_WORKER_POOL_H

#include "core/error.h"

typedef struct worker_pool worker_pool;

// How many threads are of use: the machine's cores, and `most` at most.
int worker_pool_cores(int most);

worker_pool *worker_pool_create(int threads, brim_error *err);
void worker_pool_free(worker_pool *pool);

// Returns when all items are done. Jobs from several threads take turns.
void worker_pool_run(worker_pool *pool, int items, void (*function)(void *context, int item),
                     void *context);

#endif
