#include "backends/host_records.h"

#include <stdlib.h>
#include "core/alloc.h"

enum { PIECE = 1 << 16 }; // elements of a host kernel that a thread does at a time

// ---- host kernels -------------------------------------------------------------------------------

typedef struct kernel_work {
    const host_kernel *kernel;
    host_argument *argument;
} kernel_work;

static void run_piece(void *context, int item) {
    const kernel_work *w = context;
    int64_t all = w->argument[w->kernel->count_argument].i64, first = (int64_t)item * PIECE;
    w->kernel->run(w->argument, first, all - first < PIECE ? all - first : PIECE);
}

static void run_kernel(host_queues *h, const host_work *work, int32_t micro_batch,
                       brim_error *err) {
    const kernel_work *w = work->what;
    (void)micro_batch;
    int64_t pieces = (w->argument[w->kernel->count_argument].i64 + PIECE - 1) / PIECE;
    worker_pool *pool = host_queues_pool(h, err);
    if (pool) worker_pool_run(pool, (int)pieces, run_piece, (void *)w);
}

static bool prepare_argument(const kernel_argument *from, const host_spaces *spaces,
                             host_argument *to, brim_error *err) {
    switch (from->kind) {
    case ARGUMENT_BUFFER:
        if (from->as.offset > spaces->host_bytes) {
            brim_fail(err, BRIM_ARGUMENT, "a buffer at %lld is outside the host space",
                      (long long)from->as.offset);
            return false;
        }
        to->buffer = from->as.offset < 0 ? NULL : spaces->host + from->as.offset;
        break;
    case ARGUMENT_I32:
        to->i32 = from->as.i32;
        break;
    case ARGUMENT_I64:
        to->i64 = from->as.i64;
        break;
    case ARGUMENT_F32:
        to->f32 = from->as.f32;
        break;
    }
    return true;
}

static bool prepare_kernel(host_records *h, const host_record *r, const host_spaces *spaces,
                           host_work *out, brim_error *err) {
    int32_t count = r->kernel ? r->kernel->count_argument : -1;
    if (count < 0 || count >= r->arguments || r->argument[count].kind != ARGUMENT_I64 ||
        r->argument[count].as.i64 / PIECE >= INT32_MAX) {
        brim_fail(err, BRIM_ARGUMENT, "a host kernel without a number of elements");
        return false;
    }
    kernel_work *w = arena_array(&h->memory, 1, sizeof *w, err);
    host_argument *argument = arena_array(&h->memory, (size_t)r->arguments, sizeof *argument, err);
    if (failed(err)) return false;
    for (int32_t i = 0; i < r->arguments; i++) {
        if (prepare_argument(&r->argument[i], spaces, &argument[i], err)) continue;
        brim_error_prefix(err, "argument %d", i);
        return false;
    }
    *w = (kernel_work){r->kernel, argument};
    out->run = run_kernel;
    out->what = w;
    return true;
}

// ---- the file -----------------------------------------------------------------------------------

typedef struct file_work {
    const host_file *file;
    char *host;
    int64_t offset, bytes;
} file_work;

static void run_read(host_queues *h, const host_work *work, int32_t micro_batch, brim_error *err) {
    const file_work *w = work->what;
    (void)h, (void)micro_batch;
    host_file_read(w->file, w->offset, w->host, w->bytes, err);
}

static void run_write(host_queues *h, const host_work *work, int32_t micro_batch, brim_error *err) {
    const file_work *w = work->what;
    (void)h, (void)micro_batch;
    host_file_write(w->file, w->offset, w->host, w->bytes, err);
}

static bool prepare_file_copy(host_records *h, const program_record *r, const host_spaces *spaces,
                              host_work *out, brim_error *err) {
    const copy_record *c = &r->as.copy;
    bool reads = r->queue == QUEUE_READ;
    const byte_range *file = reads ? &c->from : &c->to, *host = reads ? &c->to : &c->from;
    if (r->kind != RECORD_COPY || file->space != SPACE_FILE || host->space != SPACE_HOST ||
        file->bytes != host->bytes) {
        brim_fail(err, BRIM_ARGUMENT, "queue %s does nothing but copies between file and host",
                  queue_name(r->queue));
        return false;
    }
    if (host->offset < 0 || host->bytes < 0 || host->bytes > spaces->host_bytes - host->offset) {
        brim_fail(err, BRIM_ARGUMENT, "%lld bytes at %lld are outside the host space of %lld",
                  (long long)host->bytes, (long long)host->offset, (long long)spaces->host_bytes);
        return false;
    }
    file_work *w = arena_array(&h->memory, 1, sizeof *w, err);
    if (!w) return false;
    *w = (file_work){&spaces->file, spaces->host + host->offset, file->offset, file->bytes};
    out->run = reads ? run_read : run_write;
    out->what = w;
    return true;
}

// ---- all records --------------------------------------------------------------------------------

static void prepare(host_records *h, int32_t i, const host_spaces *spaces, brim_error *err) {
    const program_record *r = &h->p->record[i];
    host_work work = {0};
    bool done = r->kind == RECORD_HOST && r->queue == QUEUE_HOST
                    ? prepare_kernel(h, &r->as.host, spaces, &work, err)
                    : prepare_file_copy(h, r, spaces, &work, err);
    if (done) host_records_add(h, i, &work, err);
    brim_error_prefix(err, "record %d (%s)", i, r->label);
}

brim_status host_records_load(host_records *h, host_queues *queues, const program *p,
                              const host_spaces *spaces, brim_error *err) {
    *h = (host_records){.queues = queues, .p = p};
    for (int32_t i = 0; i < p->records && !failed(err); i++)
        if (p->record[i].queue >= DEVICE_QUEUES) prepare(h, i, spaces, err);
    return err->status;
}

brim_status host_records_add(host_records *h, int32_t record, const host_work *work,
                             brim_error *err) {
    const program_record *r = &h->p->record[record];
    if (!h->work) {
        h->work = brim_calloc_array((size_t)h->p->records, sizeof *h->work, err);
        h->ticket = brim_calloc_array((size_t)h->p->records, sizeof *h->ticket, err);
    }
    if (host_queues_start(h->queues, r->queue, err)) return err->status;
    h->work[record] = *work;
    h->work[record].record = record;
    h->work[record].label = r->label;
    h->tasks++;
    return BRIM_OK;
}

void host_records_time(host_records *h) {
    for (int32_t i = 0; h->tasks && i < h->p->records; i++) h->work[i].log = &h->log;
}

void host_records_take_log(host_records *h, stall_log *to, double behind) {
    host_queues_take_log(h->queues, &h->log, to, behind);
}

void host_records_free(host_records *h) {
    arena_free(&h->memory);
    free(h->work);
    free(h->ticket);
    stall_log_free(&h->log);
    *h = (host_records){0};
}

// ---- running ------------------------------------------------------------------------------------

void host_records_awaited(const host_records *h, int32_t record, int64_t after[QUEUE_COUNT]) {
    const program_record *r = &h->p->record[record];
    for (int q = 0; q < QUEUE_COUNT; q++) after[q] = 0;
    for (int32_t w = 0; h->tasks && w < r->waits; w++) {
        queue_id queue = h->p->record[r->wait[w]].queue;
        int64_t ticket = h->ticket[r->wait[w]];
        if (ticket > after[queue]) after[queue] = ticket;
    }
}

brim_status host_records_submit(host_records *h, int32_t record, int32_t micro_batch,
                                const int64_t after[QUEUE_COUNT], void *const *event,
                                int32_t events, brim_error *err) {
    host_order order = {
        .work = &h->work[record], .micro_batch = micro_batch, .event = event, .events = events};
    for (int q = 0; q < QUEUE_COUNT; q++) order.after[q] = after[q];
    h->ticket[record] = host_queues_submit(h->queues, h->p->record[record].queue, &order, err);
    return err->status;
}

brim_status host_records_run(host_records *h, int32_t record, int32_t micro_batch,
                             brim_error *err) {
    const host_work *work = &h->work[record];
    if (failed(err)) return err->status;
    work->run(h->queues, work, micro_batch, err);
    brim_error_prefix(err, "record %d (%s)", work->record, work->label);
    return err->status;
}
