#define _POSIX_C_SOURCE 200809L
#include "backends/worker_pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/alloc.h"

struct worker_pool {
    pthread_mutex_t turn; // held for a whole job
    pthread_mutex_t lock; // guards what follows, but for next
    pthread_cond_t start, finished;
    unsigned generation; // of the job at hand
    int working;         // workers that have not yet left it
    bool ending;
    int items;
    void (*function)(void *context, int item);
    void *context;
    atomic_int next;

    int threads; // workers, without the caller
    pthread_t thread[];
};

static void work(worker_pool *pool) {
    for (;;) {
        int item = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (item >= pool->items) return;
        pool->function(pool->context, item);
    }
}

static void *worker(void *argument) {
    worker_pool *pool = argument;
    unsigned seen = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->generation == seen && !pool->ending)
            pthread_cond_wait(&pool->start, &pool->lock);
        if (pool->ending) break;
        seen = pool->generation;
        pthread_mutex_unlock(&pool->lock);
        work(pool);
        pthread_mutex_lock(&pool->lock);
        if (--pool->working == 0) pthread_cond_signal(&pool->finished);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

int worker_pool_cores(int most) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : cores < most ? (int)cores : most;
}

worker_pool *worker_pool_create(int threads, brim_error *err) {
    int workers = threads > 1 ? threads - 1 : 0;
    worker_pool *pool = brim_calloc(sizeof(worker_pool) + (size_t)workers * sizeof(pthread_t), err);
    if (!pool) return NULL;
    pthread_mutex_init(&pool->turn, NULL);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->start, NULL);
    pthread_cond_init(&pool->finished, NULL);
    for (; pool->threads < workers; pool->threads++) {
        int status = pthread_create(&pool->thread[pool->threads], NULL, worker, pool);
        if (status == 0) continue;
        brim_fail(err, BRIM_MEMORY, "cannot start thread %d of %d: %s", pool->threads + 1, workers,
                  strerror(status));
        worker_pool_free(pool);
        return NULL;
    }
    return pool;
}

void worker_pool_free(worker_pool *pool) {
    if (!pool) return;
    pthread_mutex_lock(&pool->lock);
    pool->ending = true;
    pthread_cond_broadcast(&pool->start);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->threads; i++) pthread_join(pool->thread[i], NULL);
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->start);
    pthread_mutex_destroy(&pool->lock);
    pthread_mutex_destroy(&pool->turn);
    free(pool);
}

void worker_pool_run(worker_pool *pool, int items, void (*function)(void *context, int item),
                     void *context) {
    if (pool->threads == 0 || items < 2) { // not worth waking anybody
        for (int i = 0; i < items; i++) function(context, i);
        return;
    }
    pthread_mutex_lock(&pool->turn);
    pthread_mutex_lock(&pool->lock);
    pool->items = items;
    pool->function = function;
    pool->context = context;
    pool->working = pool->threads;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    pool->generation++;
    pthread_cond_broadcast(&pool->start);
    pthread_mutex_unlock(&pool->lock);
    work(pool);
    pthread_mutex_lock(&pool->lock);
    while (pool->working > 0) pthread_cond_wait(&pool->finished, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    pthread_mutex_unlock(&pool->turn);
}
