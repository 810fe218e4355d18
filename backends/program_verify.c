// The proof that no wait is missing.
//
// First each record alone: what it names exists, and every byte it uses is declared and lies inside
// its space. Then the order: steps are unrolled into runs of records (section by section, two
// steps), and each run gets a vector clock, the latest run of every queue that is certain to be
// over when it starts. Each space is cut at every end of an access; each piece remembers, for
// each queue, its last write and its last read. A run may touch a piece only if its clock covers
// those. Queues are in order, so the last one of a queue stands for all before it.
#include "backends/program.h"

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/size.h"
#include "graph/graph.h"

enum { STEPS = 2 };

typedef struct piece {
    int32_t wrote[QUEUE_COUNT], read[QUEUE_COUNT]; // positions in the queue, from 1; 0: never
} piece;

typedef struct space_map {
    int64_t *cut; // ascending; piece i is [cut[i], cut[i + 1])
    piece *piece;
    size_t cuts, capacity;
} space_map;

typedef struct clock_vector {
    int32_t at[QUEUE_COUNT];
} clock_vector;

// One record in one section of one step.
typedef struct run {
    int32_t record, micro_batch;
    uint8_t section;
} run;

typedef struct proof {
    const program *p;
    brim_error *err;
    space_map map[SPACES];
    run *run;
    size_t runs, capacity;
    clock_vector *latest;            // by record: of its latest run; all 0 where it has not run
    int32_t position[QUEUE_COUNT];   // runs submitted so far
    clock_vector clock[QUEUE_COUNT]; // of the queue's latest run
    size_t *log[QUEUE_COUNT];        // by queue and position: the run
} proof;

// ---- each record alone --------------------------------------------------------------------------

static brim_status complain(const program *p, int32_t index, brim_error *err, const char *what) {
    const program_record *r = &p->record[index];
    return brim_fail(err, BRIM_GRAPH, "program record %d (%s \"%s\"): %s", index,
                     record_kind_name(r->kind), r->label, what);
}

static bool inside(const byte_range *part, const byte_range *whole) {
    return part->space == whole->space && part->offset >= whole->offset &&
           part->offset + part->bytes <= whole->offset + whole->bytes;
}

// Is the range part of one declared access (which writes, if it is written)?
static bool declared(const program_record *r, const byte_range *range, bool writes) {
    for (int i = 0; i < r->accesses; i++)
        if (inside(range, &r->access[i].range) && (!writes || r->access[i].writes)) return true;
    return false;
}

static bool declared_byte(const program_record *r, memory_space space, int64_t offset,
                          bool writes) {
    return declared(r, &(byte_range){space, offset, 1}, writes);
}

// Is every buffer argument a declared byte of the space?
static bool arguments_declared(const program_record *r, memory_space space,
                               const kernel_argument *argument, int32_t arguments) {
    for (int i = 0; i < arguments; i++) {
        const kernel_argument *a = &argument[i];
        if (a->kind == ARGUMENT_BUFFER && a->as.offset != -1 &&
            !declared_byte(r, space, a->as.offset, false))
            return false;
    }
    return true;
}

static bool range_fits(const program *p, const byte_range *r, int64_t shift) {
    const int64_t extent[SPACES] = {[SPACE_DEVICE] = p->device_bytes,
                                    [SPACE_HOST] = p->host_bytes,
                                    [SPACE_FILE] = p->file_bytes};
    int64_t end;
    return (unsigned)r->space < SPACES && r->offset >= 0 && r->bytes >= 0 &&
           i64_add(r->offset, r->bytes, &end) && i64_add(end, shift, &end) &&
           end <= extent[r->space];
}

// How far the host side of a record's accesses moves for a micro-batch.
static int64_t host_shift(const program_record *r, int32_t micro_batch) {
    return r->kind == RECORD_COPY ? r->as.copy.host_stride * micro_batch : 0;
}

static const char *check_launch(const program *p, const program_record *r) {
    const launch_record *l = &r->as.launch;
    if (l->kernel < 0 || l->kernel >= p->kernels) return "its kernel does not exist";
    const kernel_spec *k = &p->kernel[l->kernel];
    if (!k->name || !k->file || !k->source || !k->defines || k->group < 1)
        return "its kernel is incomplete";
    for (int i = 0; i < 3; i++)
        if (l->grid[i] < 1) return "its grid is empty";
    if (!arguments_declared(r, SPACE_DEVICE, l->argument, l->arguments))
        return "a buffer argument points outside the declared accesses";
    return NULL;
}

static const char *check_matmul(const program *p, const program_record *r) {
    const matmul_record *m = &r->as.matmul;
    const matmul_shape *s = &m->shape;
    byte_range workspace = {SPACE_DEVICE, m->workspace, m->workspace_bytes};
    (void)p;
    if (s->m < 1 || s->n < 1 || s->k < 1 || s->batch < 1) return "its product is empty";
    if (!declared_byte(r, SPACE_DEVICE, m->a, false) ||
        !declared_byte(r, SPACE_DEVICE, m->b, false))
        return "an operand lies outside the declared accesses";
    if (!declared_byte(r, SPACE_DEVICE, m->c, true))
        return "its result lies outside the declared writes";
    if (m->workspace_bytes && !declared(r, &workspace, true))
        return "its workspace lies outside the declared writes";
    return NULL;
}

// Which queue a copy belongs to, by its two sides; NULL where it is there.
static const char *check_copy_queue(const program_record *r) {
    memory_space from = r->as.copy.from.space, to = r->as.copy.to.space;
    if (from == SPACE_HOST && to == SPACE_HOST) return "it copies within the host";
    if (from == SPACE_FILE && to == SPACE_HOST)
        return r->queue == QUEUE_READ ? NULL : "it reads the file, and is not on queue read";
    if (from == SPACE_HOST && to == SPACE_FILE)
        return r->queue == QUEUE_WRITE ? NULL : "it writes the file, and is not on queue write";
    if (from == SPACE_FILE || to == SPACE_FILE) return "it copies between the file and the device";
    return r->queue < DEVICE_QUEUES ? NULL : "it is not on a queue of the device";
}

static const char *check_copy(const program *p, const program_record *r) {
    const copy_record *c = &r->as.copy;
    (void)p;
    if (c->from.bytes != c->to.bytes || c->from.bytes < 1) return "its two sides differ in bytes";
    const char *what = check_copy_queue(r);
    if (what) return what;
    if (c->host_stride < 0) return "its host stride is negative";
    if (c->host_stride && r->queue >= DEVICE_QUEUES) return "a copy of the file has a host stride";
    if (!declared(r, &c->from, false)) return "its source lies outside the declared accesses";
    if (!declared(r, &c->to, true)) return "its destination lies outside the declared writes";
    return NULL;
}

static const char *check_fill(const program *p, const program_record *r) {
    const byte_range *range = &r->as.fill.range;
    (void)p;
    if (range->space != SPACE_DEVICE) return "it fills host memory";
    if (range->offset % 4 || range->bytes % 4 || range->bytes < 4)
        return "its bytes are no whole 32-bit words";
    return declared(r, range, true) ? NULL : "its bytes lie outside the declared writes";
}

static const char *check_host(const program *p, const program_record *r) {
    const host_record *h = &r->as.host;
    (void)p;
    if (!h->kernel || !h->kernel->run) return "its kernel does not exist";
    int32_t count = h->kernel->count_argument;
    if (count < 0 || count >= h->arguments || h->argument[count].kind != ARGUMENT_I64)
        return "its kernel's number of elements is no argument";
    for (int i = 0; i < r->accesses; i++)
        if (r->access[i].range.space != SPACE_HOST) return "an access lies outside the host space";
    if (!arguments_declared(r, SPACE_HOST, h->argument, h->arguments))
        return "a buffer argument points outside the declared accesses";
    return NULL;
}

static const char *check_common(const program *p, int32_t index) {
    const program_record *r = &p->record[index];
    if ((unsigned)r->queue >= QUEUE_COUNT) return "its queue does not exist";
    if (r->kind == RECORD_HOST && r->queue != QUEUE_HOST) return "it is not on queue host";
    if (r->kind != RECORD_HOST && r->kind != RECORD_COPY && r->queue >= DEVICE_QUEUES)
        return "it is not on a queue of the device";
    if (!r->sections || r->sections > SECTION_ALL) return "it runs in no section";
    for (int i = 0; i < r->waits; i++) {
        if (r->wait[i] < 0 || r->wait[i] >= p->records)
            return "it waits for a record that does not exist";
        if (p->record[r->wait[i]].queue == r->queue)
            return "it waits for a record of its own queue";
    }
    for (int i = 0; i < r->accesses; i++) {
        const byte_range *range = &r->access[i].range;
        int64_t shift = range->space == SPACE_HOST ? host_shift(r, p->micro_batches - 1) : 0;
        if (!range_fits(p, range, shift)) return "an access lies outside its space";
    }
    return NULL;
}

static brim_status check_records(const program *p, brim_error *err) {
    static const char *(*const checks[])(const program *,
                                         const program_record *) = {[RECORD_LAUNCH] = check_launch,
                                                                    [RECORD_MATMUL] = check_matmul,
                                                                    [RECORD_COPY] = check_copy,
                                                                    [RECORD_FILL] = check_fill,
                                                                    [RECORD_HOST] = check_host};
    if (failed(err)) return err->status;
    if (p->micro_batches < 1) return brim_fail(err, BRIM_GRAPH, "a program has no micro-batches");
    for (int32_t i = 0; i < p->records; i++) {
        const program_record *r = &p->record[i];
        if ((unsigned)r->kind >= sizeof checks / sizeof *checks)
            return complain(p, i, err, "its kind does not exist");
        const char *what = check_common(p, i);
        if (!what) what = checks[r->kind](p, r);
        if (what) return complain(p, i, err, what);
    }
    return BRIM_OK;
}

// ---- the order ----------------------------------------------------------------------------------

static void unroll_section(proof *f, uint8_t section, int32_t micro_batch) {
    for (int32_t i = 0; i < f->p->records; i++) {
        if (!(f->p->record[i].sections & section)) continue;
        if (!brim_grow((void **)&f->run, &f->capacity, f->runs + 1, sizeof *f->run, f->err)) return;
        f->run[f->runs++] = (run){i, micro_batch, section};
    }
}

// Two steps show every pair of sections that can follow each other; two MIDDLE runs stand for any
// number.
static void unroll(proof *f) {
    int32_t n = f->p->micro_batches;
    for (int step = 0; step < STEPS; step++) {
        if (n > 1) unroll_section(f, SECTION_FIRST, 0);
        for (int32_t i = 1; i < n - 1 && i <= 2; i++) unroll_section(f, SECTION_MIDDLE, i);
        unroll_section(f, SECTION_LAST, n - 1);
    }
}

static byte_range access_range(const proof *f, const run *x, int access) {
    const program_record *r = &f->p->record[x->record];
    byte_range range = r->access[access].range;
    if (range.space == SPACE_HOST) range.offset += host_shift(r, x->micro_batch);
    return range;
}

static int compare_cuts(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void add_cut(proof *f, memory_space space, int64_t offset) {
    space_map *m = &f->map[space];
    if (!brim_grow((void **)&m->cut, &m->capacity, m->cuts + 1, sizeof *m->cut, f->err)) return;
    m->cut[m->cuts++] = offset;
}

static void make_pieces(proof *f) {
    for (size_t i = 0; i < f->runs; i++) {
        for (int a = 0; a < f->p->record[f->run[i].record].accesses; a++) {
            byte_range range = access_range(f, &f->run[i], a);
            add_cut(f, range.space, range.offset);
            add_cut(f, range.space, range.offset + range.bytes);
        }
    }
    for (int s = 0; s < SPACES && !failed(f->err); s++) {
        space_map *m = &f->map[s];
        size_t unique = 0;
        if (m->cuts) qsort(m->cut, m->cuts, sizeof *m->cut, compare_cuts);
        for (size_t i = 0; i < m->cuts; i++)
            if (!unique || m->cut[unique - 1] != m->cut[i]) m->cut[unique++] = m->cut[i];
        m->cuts = unique;
        m->piece = brim_calloc_array(unique, sizeof *m->piece, f->err);
    }
}

static size_t find_cut(const space_map *m, int64_t offset) {
    const int64_t *at = bsearch(&offset, m->cut, m->cuts, sizeof *m->cut, compare_cuts);
    return (size_t)(at - m->cut);
}

static void report(proof *f, const run *now, const run *before, int64_t from, int64_t to,
                   memory_space space) {
    const program_record *a = &f->p->record[before->record], *b = &f->p->record[now->record];
    brim_fail(f->err, BRIM_GRAPH,
              "program record %d (%s \"%s\", queue %s, section %s) does not wait for record %d "
              "(%s \"%s\", queue %s, section %s), and both touch %s bytes %lld to %lld",
              now->record, record_kind_name(b->kind), b->label, queue_name(b->queue),
              sections_name(now->section), before->record, record_kind_name(a->kind), a->label,
              queue_name(a->queue), sections_name(before->section), space_name(space),
              (long long)from, (long long)to - 1);
}

static void touch(proof *f, const run *x, int access, const clock_vector *clock) {
    const program_record *r = &f->p->record[x->record];
    byte_range range = access_range(f, x, access);
    bool writes = r->access[access].writes;
    space_map *m = &f->map[range.space];
    if (!range.bytes) return;
    for (size_t i = find_cut(m, range.offset); m->cut[i] < range.offset + range.bytes; i++) {
        piece *t = &m->piece[i];
        for (int q = 0; q < QUEUE_COUNT; q++) {
            int32_t last = t->wrote[q];
            if (writes && t->read[q] > last) last = t->read[q];
            if (last > clock->at[q]) {
                report(f, x, &f->run[f->log[q][last]], m->cut[i], m->cut[i + 1], range.space);
                return;
            }
        }
        (writes ? t->wrote : t->read)[r->queue] = clock->at[r->queue];
    }
}

// The clock of a run: what its queue's latest run knew, and what the records it waits for knew, and
// itself.
static clock_vector tick(proof *f, size_t index) {
    const run *x = &f->run[index];
    const program_record *r = &f->p->record[x->record];
    clock_vector clock = f->clock[r->queue];
    for (int i = 0; i < r->waits; i++) {
        const clock_vector *other = &f->latest[r->wait[i]];
        for (int q = 0; q < QUEUE_COUNT; q++)
            if (other->at[q] > clock.at[q]) clock.at[q] = other->at[q];
    }
    clock.at[r->queue] = ++f->position[r->queue];
    f->log[r->queue][clock.at[r->queue]] = index;
    f->clock[r->queue] = f->latest[x->record] = clock;
    return clock;
}

static brim_status check_order(proof *f) {
    unroll(f);
    make_pieces(f);
    f->latest = brim_calloc_array((size_t)f->p->records, sizeof *f->latest, f->err);
    for (int q = 0; q < QUEUE_COUNT; q++)
        f->log[q] = brim_calloc_array(f->runs + 1, sizeof *f->log[q], f->err);
    if (f->runs >= INT32_MAX)
        brim_fail(f->err, BRIM_MEMORY, "a program is too long to be verified");
    for (size_t i = 0; i < f->runs && !failed(f->err); i++) {
        clock_vector clock = tick(f, i);
        int32_t accesses = f->p->record[f->run[i].record].accesses;
        for (int a = 0; a < accesses && !failed(f->err); a++) touch(f, &f->run[i], a, &clock);
    }
    return f->err->status;
}

brim_status program_verify(const program *p, brim_error *err) {
    if (check_records(p, err)) return err->status;
    proof f = {.p = p, .err = err};
    check_order(&f);
    for (int s = 0; s < SPACES; s++) {
        free(f.map[s].cut);
        free(f.map[s].piece);
    }
    for (int q = 0; q < QUEUE_COUNT; q++) free(f.log[q]);
    free(f.latest);
    free(f.run);
    return err->status;
}
