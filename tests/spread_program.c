#include "tests/spread_program.h"

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/philox.h"
#include "graph/graph.h"

// The positions in each queue that are certain to be over when a record starts, and its own.
typedef struct known {
    int32_t at[DEVICE_QUEUES];
} known;

typedef struct spreading {
    program *p;
    bool *waits; // of record i for record j: at i * records + j
    known *known;
    brim_error *err;
} spreading;

static bool overlap(const byte_range *a, const byte_range *b) {
    return a->space == b->space && a->offset < b->offset + b->bytes &&
           b->offset < a->offset + a->bytes;
}

// The later record must not start before the earlier one is over.
static bool conflict(const program_record *earlier, const program_record *later, bool reads_only) {
    for (int i = 0; i < earlier->accesses; i++)
        for (int k = 0; k < later->accesses; k++) {
            const record_access *a = &earlier->access[i], *b = &later->access[k];
            bool matters = reads_only ? a->writes && !b->writes : a->writes || b->writes;
            if (matters && overlap(&a->range, &b->range)) return true;
        }
    return false;
}

static void first_and_last(const program *p, uint8_t section, int32_t *first, int32_t *last) {
    *first = *last = -1;
    for (int32_t i = 0; i < p->records; i++) {
        if (!(p->record[i].sections & section)) continue;
        if (*first < 0) *first = i;
        *last = i;
    }
}

static void choose_queues(program *p, uint32_t seed) {
    for (int32_t i = 0; i < p->records; i++)
        p->record[i].queue = p->record[i].kind == RECORD_MATMUL
                                 ? QUEUE_COMPUTE
                                 : (queue_id)(philox_at(seed, 1, (uint64_t)i).v[0] % DEVICE_QUEUES);
    for (uint8_t section = 1; section <= SECTION_LAST; section *= 2) {
        int32_t first, last;
        first_and_last(p, section, &first, &last);
        if (first >= 0) p->record[first].queue = p->record[last].queue = QUEUE_COMPUTE;
    }
}

static bool *wait_of(spreading *s, int32_t record, int32_t awaited) {
    return &s->waits[(size_t)record * (size_t)s->p->records + (size_t)awaited];
}

static void learn(known *to, const known *from) {
    for (int q = 0; q < DEVICE_QUEUES; q++)
        if (from->at[q] > to->at[q]) to->at[q] = from->at[q];
}

static void await(spreading *s, int32_t record, int32_t awaited) {
    *wait_of(s, record, awaited) = true;
    learn(&s->known[record], &s->known[awaited]);
}

// The waits of one section's records, in their order; those that another section wanted count.
static void add_waits(spreading *s, uint8_t section) {
    const program *p = s->p;
    int32_t first, last, latest[DEVICE_QUEUES] = {-1, -1, -1};
    first_and_last(p, section, &first, &last);
    for (int32_t i = first; i >= 0 && i <= last; i++) {
        const program_record *r = &p->record[i];
        if (!(r->sections & section)) continue;
        s->known[i] = (known){{0}};
        if (latest[r->queue] >= 0)
            s->known[i] = s->known[latest[r->queue]];
        else if (i != first)
            await(s, i, first);
        for (int32_t j = i - 1; j >= first; j--)
            if (p->record[j].sections & section && *wait_of(s, i, j)) await(s, i, j);
        for (int32_t j = i - 1; j >= first; j--) {
            const program_record *before = &p->record[j];
            if (!(before->sections & section) ||
                s->known[i].at[before->queue] >= s->known[j].at[before->queue])
                continue;
            bool end = i == last && j == latest[before->queue];
            if (end || conflict(before, r, false)) await(s, i, j);
        }
        s->known[i].at[r->queue] = i + 1;
        latest[r->queue] = i;
    }
}

static void keep_waits(spreading *s) {
    for (int32_t i = 0; i < s->p->records && !failed(s->err); i++) {
        program_record *r = &s->p->record[i];
        int32_t *wait = arena_array(s->p->memory, (size_t)i + 1, sizeof *wait, s->err);
        if (!wait) return;
        r->waits = 0;
        for (int32_t j = 0; j < i; j++)
            if (*wait_of(s, i, j)) wait[r->waits++] = j;
        r->wait = wait;
    }
}

brim_status spread_program(program *p, uint32_t seed, brim_error *err) {
    if (failed(err)) return err->status;
    size_t records = (size_t)p->records;
    spreading s = {.p = p,
                   .waits = brim_calloc_array(records * records, sizeof *s.waits, err),
                   .known = brim_calloc_array(records, sizeof *s.known, err),
                   .err = err};
    choose_queues(p, seed);
    for (uint8_t section = 1; section <= SECTION_LAST && !failed(err); section *= 2)
        add_waits(&s, section);
    if (!failed(err)) keep_waits(&s);
    free(s.waits);
    free(s.known);
    return program_verify(p, err);
}

int32_t spread_waits(const program *p, spread_wait *out, int32_t room) {
    int32_t count = 0;
    for (int32_t i = 0; i < p->records; i++)
        for (int32_t w = 0; w < p->record[i].waits; w++) {
            if (!conflict(&p->record[p->record[i].wait[w]], &p->record[i], true)) continue;
            if (count < room) out[count] = (spread_wait){i, w};
            count++;
        }
    return count;
}

void spread_drop(program *p, spread_wait which) {
    program_record *r = &p->record[which.record];
    int32_t *wait = (int32_t *)r->wait;
    memmove(wait + which.wait, wait + which.wait + 1,
            (size_t)(r->waits - which.wait - 1) * sizeof *wait);
    r->waits--;
}
