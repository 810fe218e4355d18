// Runs a kernel's blocks: one after another, the threads of each as fibers on this thread.
//
// A thread runs until it ends or waits, then another goes on, in an order that is drawn anew each
// time. So whatever two threads do to the same bytes without a barrier between them happens in
// either order sooner or later. A stack is shared by threads that never wait.
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include "fiber.h"

enum { STACK_BYTES = 128 << 10 };
static const uint32_t unset = 0x7fc0f5e5; // NaN

typedef enum thread_state {
    THREAD_READY,
    THREAD_WAITS,
    THREAD_EXCHANGES,
    THREAD_ENDED
} thread_state;

typedef struct block_thread {
    thread_state state;
    const char *file; // where it waits
    int line;
    unsigned mask;      // for an exchange
    uint64_t exchanges; // so far: values of two in turn are kept apart
    fiber *stack;       // NULL before it starts and when it has ended
} block_thread;

typedef struct block_run {
    launch *launch;
    image_host host;
    fiber *scheduler;
    fiber *idle[MOST_THREADS]; // stacks without a thread
    int idles;
    block_thread thread[MOST_THREADS];
    int order[MOST_THREADS], threads, running;
    bool failed;
} block_run;

// One launch runs at a time; its stacks are kept for the next.
static block_run *now;

// ---- threads ------------------------------------------------------------------------------------

static void set_place(block_run *b, int thread) {
    image_index size = b->launch->block;
    unsigned t = (unsigned)thread;
    b->running = thread;
    b->host.thread.index = (image_index){t % size.x, t / size.x % size.y, t / size.x / size.y};
    fiber_stack(b->thread[thread].stack, &b->host.thread.stack, &b->host.thread.stack_bytes);
}

// Back to the scheduler, which may come here again.
static void pause_thread(block_run *b) {
    fiber_switch(b->thread[b->running].stack, b->scheduler);
}

// A stack runs one thread after another, of whatever is launched.
static void run_threads(void *unused) {
    (void)unused;
    for (;;) {
        now->launch->kernel->invoke(now->launch->parameter);
        now->thread[now->running].state = THREAD_ENDED;
        pause_thread(now);
    }
}

static void resume(block_run *b, int thread) {
    block_thread *t = &b->thread[thread];
    if (!t->stack)
        t->stack = b->idles ? b->idle[--b->idles] : fiber_create(STACK_BYTES, run_threads, NULL);
    set_place(b, thread);
    fiber_switch(b->scheduler, t->stack);
    if (t->state != THREAD_ENDED) return;
    b->idle[b->idles++] = t->stack;
    t->stack = NULL;
}

// The kernel did what it may not: it goes no further.
static void stop(block_run *b) {
    b->failed = true;
    pause_thread(b);
}

// ---- what kernels call --------------------------------------------------------------------------

static void on_access(uintptr_t at, uintptr_t bytes, int writes) {
    block_run *b = now;
    uintptr_t parameters = (uintptr_t)b->launch;
    if (at >= parameters && at + bytes <= parameters + b->launch->bytes) return;
    if (!access_check(at, bytes, writes, "", &b->host.window[writes])) stop(b);
}

static void on_misuse(const char *what, uintptr_t value) {
    access_complain("%s: %#llx", what, (unsigned long long)value);
    lose_device(CUDA_ERROR_MISALIGNED_ADDRESS);
    stop(now);
}

static void on_barrier(const char *file, int line) {
    block_run *b = now;
    block_thread *t = &b->thread[b->running];
    t->state = THREAD_WAITS;
    t->file = file;
    t->line = line;
    pause_thread(b);
}

static const uint64_t *on_exchange(unsigned mask, uint64_t value, const char *file, int line) {
    block_run *b = now;
    int self = b->running;
    block_thread *t = &b->thread[self];
    uint64_t *lane = b->host.lane[t->exchanges++ % 2];
    lane[self] = value;
    t->state = THREAD_EXCHANGES;
    t->mask = mask;
    t->file = file;
    t->line = line;
    pause_thread(b);
    return &lane[self / WARP * WARP];
}

// ---- a block ------------------------------------------------------------------------------------

// The lanes of a warp go on once all of the mask are there, at the same line.
static bool release_warp(block_run *b, int first) {
    bool released = false;
    for (int i = first; i < first + WARP && i < b->threads; i++) {
        if (b->thread[i].state != THREAD_EXCHANGES) continue;
        unsigned mask = b->thread[i].mask, there = 0;
        for (int lane = 0; lane < WARP && first + lane < b->threads; lane++) {
            const block_thread *t = &b->thread[first + lane];
            if (t->state == THREAD_EXCHANGES && t->mask == mask && t->line == b->thread[i].line)
                there |= 1u << lane;
        }
        if ((there & mask) != mask || !(mask >> (i - first) & 1)) continue;
        for (int lane = 0; lane < WARP; lane++)
            if (mask >> lane & 1) b->thread[first + lane].state = THREAD_READY;
        released = true;
    }
    return released;
}

static bool release_warps(block_run *b) {
    bool released = false;
    for (int first = 0; first < b->threads; first += WARP) released |= release_warp(b, first);
    return released;
}

static bool waits(const block_thread *t) {
    return t->state == THREAD_WAITS || t->state == THREAD_EXCHANGES;
}

// Thread `other` is not where `one`, which waits, is.
static void complain_of(block_run *b, int one, int other) {
    const block_thread *at = &b->thread[one];
    b->running = other;
    b->host.thread.index.x = (unsigned)other;
    access_complain("does not come to the %s at %s:%d, where thread %d waits",
                    at->state == THREAD_EXCHANGES ? "exchange between lanes" : "barrier", at->file,
                    at->line, one);
    lose_device(CUDA_ERROR_LAUNCH_FAILED);
}

// All wait at one barrier, or all have ended. Anything else would hang, or worse, on a device.
static bool release_barrier(block_run *b, bool *ended) {
    int one = 0;
    while (one < b->threads - 1 && !waits(&b->thread[one])) one++;
    *ended = !waits(&b->thread[one]);
    for (int i = 0; i < b->threads && !*ended; i++) {
        const block_thread *t = &b->thread[i], *at = &b->thread[one];
        bool same = t->state == THREAD_WAITS && at->state == THREAD_WAITS && t->line == at->line &&
                    strcmp(t->file, at->file) == 0;
        if (same) continue;
        complain_of(b, one, i == one ? !one : i);
        return false;
    }
    for (int i = 0; i < b->threads && !*ended; i++) b->thread[i].state = THREAD_READY;
    return true;
}

static void shuffle(int *order, int count) {
    if (settings()->in_submitted_order) return;
    for (int i = count - 1; i > 0; i--) {
        int other = (int)random_below((uint64_t)i + 1), kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
}

static void poison_shared(const image_table *table) {
    for (char *p = table->shared; p && p + sizeof unset <= table->shared_end; p += sizeof unset)
        memcpy(p, &unset, sizeof unset);
}

static bool run_block(block_run *b) {
    poison_shared(b->launch->image->table);
    for (int i = 0; i < b->threads; i++) {
        b->thread[i] = (block_thread){.state = THREAD_READY};
        b->order[i] = i;
    }
    for (bool ended = false; !ended && !b->failed;) {
        shuffle(b->order, b->threads);
        for (int i = 0; i < b->threads && !b->failed; i++)
            if (b->thread[b->order[i]].state == THREAD_READY) resume(b, b->order[i]);
        if (!b->failed && !release_warps(b)) b->failed = !release_barrier(b, &ended);
    }
    return !b->failed;
}

// ---- a launch -----------------------------------------------------------------------------------

// Threads that were stopped never end: their stacks are of no more use.
static void drop_stopped(block_run *b) {
    for (int i = 0; i < b->threads; i++) {
        if (b->thread[i].stack) fiber_free(b->thread[i].stack);
        b->thread[i].stack = NULL;
    }
}

static block_run *prepare(launch *l) {
    if (!now) {
        now = calloc(1, sizeof *now);
        now->scheduler = fiber_of_this_thread();
    }
    block_run *b = now;
    fiber_is_here(b->scheduler);
    b->launch = l;
    b->failed = false;
    b->threads = (int)(l->block.x * l->block.y * l->block.z);
    b->host = (image_host){.access = on_access,
                           .misuse = on_misuse,
                           .barrier = on_barrier,
                           .exchange = on_exchange,
                           .own = {l->image->begin, l->image->end - l->image->begin},
                           .thread = {.size = l->block, .grid = l->grid}};
    return b;
}

bool launch_run(launch *l) {
    block_run *b = prepare(l);
    *l->image->table->host = &b->host;
    access_place(&b->host.thread);
    uint64_t blocks = (uint64_t)l->grid.x * l->grid.y * l->grid.z;
    uint64_t first = settings()->in_submitted_order ? 0 : random_below(blocks);
    for (uint64_t i = 0; i < blocks && !b->failed; i++) { // any first one, and then around
        uint64_t at = (first + i) % blocks;
        b->host.thread.block =
            (image_index){(unsigned)(at % l->grid.x), (unsigned)(at / l->grid.x % l->grid.y),
                          (unsigned)(at / l->grid.x / l->grid.y)};
        run_block(b);
    }
    access_place(NULL);
    if (b->failed) drop_stopped(b);
    return !b->failed;
}
