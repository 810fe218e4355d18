// Waits from accesses.
//
// Steps are unrolled as the verifier does. Each run of a record has a vector clock: for each queue,
// how much of it is certain to be over when the run starts. Each space is cut at every end of an
// access, and the pieces between the cuts are joined to segments that have one state: the last run
// that wrote them, and for each queue the last run that has read them since. One writer is enough,
// since whoever writes is made to wait for all that came before, and so stands for it; a write
// therefore makes one segment of all that it covers, and the work stays in proportion to the
// accesses. Where a run's clock does not cover a run that it conflicts with, its record gets a
// wait.
#include "backends/program.h"

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "graph/graph.h"

enum { STEPS = 2, PASSES = 4, WORD = 64 };

typedef struct clock_vector {
    int32_t at[QUEUE_COUNT]; // positions in the queues, from 1; 0: nothing of it
} clock_vector;

typedef struct segment {
    int32_t wrote; // position in `queue`; 0: nobody
    int32_t queue;
    int32_t read[QUEUE_COUNT];
} segment;

typedef struct space_map {
    int64_t *cut; // ascending
    size_t cuts, capacity;
    segment *segment; // by first piece: piece i is [cut[i], cut[i + 1])
    uint64_t *first;  // bit i: a segment starts at piece i
} space_map;

// The pieces of an access: from `begin` up to, not including, `end`.
typedef struct piece_range {
    size_t begin, end;
} piece_range;

typedef struct wait_list {
    int32_t count, capacity;
    int32_t *record;
    bool *needed; // some run would lack it
} wait_list;

// A section of a step, for one micro-batch.
typedef struct section_pass {
    uint8_t section;
    int32_t micro_batch;
} section_pass;

typedef struct ordering {
    program *p;
    brim_error *err;
    space_map map[SPACES];
    size_t *access;      // by record: where its accesses start in `pieces`
    piece_range *pieces; // of micro-batch 0
    wait_list *waits;
    int32_t *log[QUEUE_COUNT]; // by position: the record
    clock_vector *latest;      // by record: of its latest run
    clock_vector queue[QUEUE_COUNT];
    section_pass pass[PASSES];
    int passes;
} ordering;

// ---- pieces -------------------------------------------------------------------------------------

static int64_t host_shift(const program_record *r, memory_space space, int32_t micro_batch) {
    bool moves = r->kind == RECORD_COPY && space == SPACE_HOST;
    return moves ? r->as.copy.host_stride * micro_batch : 0;
}

static void add_cut(ordering *o, memory_space space, int64_t offset) {
    space_map *m = &o->map[space];
    if (!brim_grow((void **)&m->cut, &m->capacity, m->cuts + 1, sizeof *m->cut, o->err)) return;
    m->cut[m->cuts++] = offset;
}

static void add_cuts(ordering *o, const program_record *r, int32_t micro_batch) {
    for (int a = 0; a < r->accesses; a++) {
        const byte_range *range = &r->access[a].range;
        int64_t shift = host_shift(r, range->space, micro_batch);
        if (micro_batch && !shift) continue; // as in micro-batch 0
        add_cut(o, range->space, range->offset + shift);
        add_cut(o, range->space, range->offset + shift + range->bytes);
    }
}

static int compare_cuts(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void sort_cuts(space_map *m) {
    size_t unique = 0;
    if (m->cuts) qsort(m->cut, m->cuts, sizeof *m->cut, compare_cuts);
    for (size_t i = 0; i < m->cuts; i++)
        if (!unique || m->cut[unique - 1] != m->cut[i]) m->cut[unique++] = m->cut[i];
    m->cuts = unique;
}

static size_t find_cut(const space_map *m, int64_t offset) {
    const int64_t *at = bsearch(&offset, m->cut, m->cuts, sizeof *m->cut, compare_cuts);
    return (size_t)(at - m->cut);
}

static piece_range find_pieces(const ordering *o, const byte_range *range, int64_t shift) {
    const space_map *m = &o->map[range->space];
    return (piece_range){find_cut(m, range->offset + shift),
                         find_cut(m, range->offset + shift + range->bytes)};
}

static void make_pieces(ordering *o) {
    const program *p = o->p;
    size_t accesses = 0;
    for (int pass = 0; pass < o->passes; pass++)
        for (int32_t i = 0; i < p->records; i++)
            add_cuts(o, &p->record[i], o->pass[pass].micro_batch);
    for (int32_t i = 0; i < p->records; i++) add_cuts(o, &p->record[i], 0);
    o->access = brim_calloc_array((size_t)p->records, sizeof *o->access, o->err);
    for (int32_t i = 0; i < p->records && !failed(o->err); i++) {
        o->access[i] = accesses;
        accesses += (size_t)p->record[i].accesses;
    }
    o->pieces = brim_calloc_array(accesses, sizeof *o->pieces, o->err);
    if (failed(o->err)) return;
    for (int s = 0; s < SPACES; s++) sort_cuts(&o->map[s]);
    for (int32_t i = 0; i < p->records; i++)
        for (int a = 0; a < p->record[i].accesses; a++)
            o->pieces[o->access[i] + (size_t)a] = find_pieces(o, &p->record[i].access[a].range, 0);
}

// ---- segments -----------------------------------------------------------------------------------

static void make_segments(ordering *o) {
    for (int s = 0; s < SPACES; s++) {
        space_map *m = &o->map[s];
        m->segment = brim_calloc_array(m->cuts, sizeof *m->segment, o->err);
        m->first = brim_calloc_array(m->cuts / WORD + 1, sizeof *m->first, o->err);
        if (failed(o->err)) return;
        memset(m->first, 0xff, (m->cuts / WORD + 1) * sizeof *m->first);
    }
}

static bool starts(const space_map *m, size_t piece) {
    return m->first[piece / WORD] >> piece % WORD & 1;
}

// The first piece of the segment that a piece is in.
static size_t segment_of(const space_map *m, size_t piece) {
    size_t word = piece / WORD;
    uint64_t bits = m->first[word] & UINT64_MAX >> (WORD - 1 - piece % WORD);
    while (!bits) bits = m->first[--word];
    return word * WORD + (size_t)(WORD - 1 - __builtin_clzll(bits));
}

// The first piece behind `piece` where a segment starts, or `end`.
static size_t next_segment(const space_map *m, size_t piece, size_t end) {
    size_t at = piece + 1;
    if (at >= end) return end;
    size_t word = at / WORD;
    uint64_t bits = m->first[word] >> at % WORD << at % WORD;
    while (!bits && (word + 1) * WORD < end) bits = m->first[++word];
    if (!bits) return end;
    at = word * WORD + (size_t)__builtin_ctzll(bits);
    return at < end ? at : end;
}

// Makes a segment start at the piece.
static void split_at(space_map *m, size_t piece) {
    if (piece >= m->cuts || starts(m, piece)) return;
    m->segment[piece] = m->segment[segment_of(m, piece)];
    m->first[piece / WORD] |= 1ull << piece % WORD;
}

static void require(clock_vector *needed, int queue, int32_t position) {
    if (position > needed->at[queue]) needed->at[queue] = position;
}

// What must be over before these pieces are read, or written.
static void collect(const space_map *m, piece_range range, bool writes, clock_vector *needed) {
    if (range.begin == range.end) return;
    for (size_t i = segment_of(m, range.begin); i < range.end; i = next_segment(m, i, range.end)) {
        const segment *s = &m->segment[i];
        require(needed, s->queue, s->wrote);
        for (int q = 0; q < QUEUE_COUNT && writes; q++) require(needed, q, s->read[q]);
    }
}

static void note(space_map *m, piece_range range, bool writes, int queue, int32_t position) {
    if (range.begin == range.end) return;
    split_at(m, range.begin);
    split_at(m, range.end);
    if (!writes) {
        for (size_t i = range.begin; i < range.end; i = next_segment(m, i, range.end))
            m->segment[i].read[queue] = position;
        return;
    }
    for (size_t i = next_segment(m, range.begin, range.end); i < range.end;
         i = next_segment(m, i, range.end))
        m->first[i / WORD] &= ~(1ull << i % WORD);
    m->segment[range.begin] = (segment){.wrote = position, .queue = queue};
}

// ---- waits --------------------------------------------------------------------------------------

static void learn(clock_vector *to, const clock_vector *from) {
    for (int q = 0; q < QUEUE_COUNT; q++)
        if (from->at[q] > to->at[q]) to->at[q] = from->at[q];
}

static void add_wait(ordering *o, int32_t record, int32_t awaited) {
    wait_list *w = &o->waits[record];
    if (w->count == w->capacity) {
        int32_t capacity = w->capacity ? 2 * w->capacity : 4;
        int32_t *grown = arena_array(o->p->memory, (size_t)capacity, sizeof *grown, o->err);
        bool *needed = arena_array(o->p->memory, (size_t)capacity, sizeof *needed, o->err);
        if (failed(o->err)) return;
        if (w->count) memcpy(grown, w->record, (size_t)w->count * sizeof *grown);
        memset(needed, 0, (size_t)capacity * sizeof *needed);
        *w = (wait_list){w->count, capacity, grown, needed};
    }
    w->record[w->count++] = awaited;
}

// Adds waits for positions that the clock lacks, but for those that another one brings along. True
// if something was lacking.
static bool await(ordering *o, int32_t record, const clock_vector *needed, clock_vector *clock) {
    int32_t candidate[QUEUE_COUNT];
    bool lacking = false;
    for (int q = 0; q < QUEUE_COUNT; q++)
        candidate[q] = needed->at[q] > clock->at[q] ? o->log[q][needed->at[q]] : -1;
    for (int q = 0; q < QUEUE_COUNT; q++)
        for (int other = 0; other < QUEUE_COUNT && candidate[q] >= 0; other++)
            if (other != q && candidate[other] >= 0 &&
                o->latest[candidate[other]].at[q] >= needed->at[q])
                candidate[q] = -1;
    for (int q = 0; q < QUEUE_COUNT; q++) {
        if (candidate[q] < 0) continue;
        add_wait(o, record, candidate[q]);
        learn(clock, &o->latest[candidate[q]]);
        lacking = true;
    }
    return lacking && !failed(o->err);
}

// What is over when a record starts now, by its queue and its waits.
static clock_vector start_clock(const ordering *o, int32_t record) {
    const wait_list *w = &o->waits[record];
    clock_vector clock = o->queue[o->p->record[record].queue];
    for (int32_t i = 0; i < w->count; i++) learn(&clock, &o->latest[w->record[i]]);
    return clock;
}

static int32_t submit(ordering *o, int32_t record, clock_vector clock) {
    queue_id queue = o->p->record[record].queue;
    int32_t position = ++clock.at[queue];
    o->queue[queue] = o->latest[record] = clock;
    if (o->log[queue]) o->log[queue][position] = record;
    return position;
}

static piece_range pieces_of(const ordering *o, int32_t record, int access, int32_t micro_batch) {
    const program_record *r = &o->p->record[record];
    const byte_range *range = &r->access[access].range;
    int64_t shift = host_shift(r, range->space, micro_batch);
    return shift ? find_pieces(o, range, shift) : o->pieces[o->access[record] + (size_t)access];
}

static void order_run(ordering *o, int32_t record, int32_t micro_batch) {
    const program_record *r = &o->p->record[record];
    clock_vector needed = {{0}}, clock = start_clock(o, record);
    for (int a = 0; a < r->accesses; a++)
        collect(&o->map[r->access[a].range.space], pieces_of(o, record, a, micro_batch),
                r->access[a].writes, &needed);
    needed.at[r->queue] = 0; // by its queue
    while (await(o, record, &needed, &clock))
        ;
    int32_t position = submit(o, record, clock);
    for (int writes = 0; writes < 2; writes++)
        for (int a = 0; a < r->accesses; a++)
            if (r->access[a].writes == writes)
                note(&o->map[r->access[a].range.space], pieces_of(o, record, a, micro_batch),
                     writes, (int)r->queue, position);
}

// Marks the waits that tell this run something that neither its queue nor another wait does.
static void mark_needed(ordering *o, int32_t record, int32_t micro_batch) {
    wait_list *w = &o->waits[record];
    (void)micro_batch;
    for (int32_t i = 0; i < w->count; i++) {
        queue_id queue = o->p->record[w->record[i]].queue;
        int32_t position = o->latest[w->record[i]].at[queue];
        bool told = o->queue[o->p->record[record].queue].at[queue] >= position;
        for (int32_t k = 0; k < w->count && !told; k++)
            told = k != i && o->latest[w->record[k]].at[queue] >= position;
        if (!told) w->needed[i] = true;
    }
    submit(o, record, start_clock(o, record));
}

static void unroll(ordering *o, void (*visit)(ordering *, int32_t record, int32_t micro_batch)) {
    memset(o->queue, 0, sizeof o->queue);
    memset(o->latest, 0, (size_t)o->p->records * sizeof *o->latest);
    for (int step = 0; step < STEPS; step++)
        for (int pass = 0; pass < o->passes; pass++)
            for (int32_t i = 0; i < o->p->records && !failed(o->err); i++)
                if (o->p->record[i].sections & o->pass[pass].section)
                    visit(o, i, o->pass[pass].micro_batch);
}

// What a wait of one section is for, another section's waits may tell as well.
static void keep_needed(ordering *o) {
    for (int32_t i = 0; i < o->p->records; i++) {
        wait_list *w = &o->waits[i];
        int32_t kept = 0;
        for (int32_t k = 0; k < w->count; k++)
            if (w->needed[k]) w->record[kept++] = w->record[k];
        o->p->record[i].waits = kept;
        o->p->record[i].wait = w->record;
    }
}

// ---- the whole ----------------------------------------------------------------------------------

// Two steps of these show every pair of sections that can follow each other; two MIDDLE runs stand
// for any number.
static void list_passes(ordering *o) {
    int32_t n = o->p->micro_batches;
    if (n > 1) o->pass[o->passes++] = (section_pass){SECTION_FIRST, 0};
    for (int32_t i = 1; i < n - 1 && i <= 2; i++)
        o->pass[o->passes++] = (section_pass){SECTION_MIDDLE, i};
    o->pass[o->passes++] = (section_pass){SECTION_LAST, n - 1};
}

static void make_logs(ordering *o) {
    size_t runs = (size_t)o->p->records * STEPS * (size_t)o->passes;
    if (runs >= INT32_MAX) brim_fail(o->err, BRIM_MEMORY, "a program is too long to be ordered");
    for (int q = 0; q < QUEUE_COUNT; q++)
        o->log[q] = brim_calloc_array(runs + 1, sizeof *o->log[q], o->err);
    o->latest = brim_calloc_array((size_t)o->p->records, sizeof *o->latest, o->err);
    o->waits = brim_calloc_array((size_t)o->p->records, sizeof *o->waits, o->err);
}

static void ordering_free(ordering *o) {
    for (int s = 0; s < SPACES; s++) {
        free(o->map[s].cut);
        free(o->map[s].segment);
        free(o->map[s].first);
    }
    for (int q = 0; q < QUEUE_COUNT; q++) free(o->log[q]);
    free(o->access);
    free(o->pieces);
    free(o->waits);
    free(o->latest);
}

brim_status program_order(program *p, brim_error *err) {
    if (failed(err)) return err->status;
    ordering o = {.p = p, .err = err};
    list_passes(&o);
    make_logs(&o);
    if (!failed(err)) make_pieces(&o);
    if (!failed(err)) make_segments(&o);
    if (!failed(err)) unroll(&o, order_run);
    if (!failed(err)) unroll(&o, mark_needed);
    if (!failed(err)) keep_needed(&o);
    ordering_free(&o);
    return err->status;
}
