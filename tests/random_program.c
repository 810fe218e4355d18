#include "tests/random_program.h"

#include <string.h>
#include "core/philox.h"
#include "graph/graph.h"

enum { MOST_UNITS = 4 };

typedef struct generator {
    program *p;
    random_program_size size;
    uint32_t seed;
    uint64_t draws;
    brim_error *err;
} generator;

static int32_t below(generator *g, int32_t n) {
    return (int32_t)(philox_at(g->seed, 3, g->draws++).v[0] % (uint32_t)n);
}

// x = 3 x + y + n, by words; a word of x depends on every word written there before.
static void mix(const host_argument *argument, int64_t first, int64_t count) {
    uint32_t *x = argument[0].buffer;
    const uint32_t *y = argument[1].buffer;
    for (int64_t i = first; i < first + count; i++)
        x[i] = 3 * x[i] + y[i] + (uint32_t)argument[2].i32;
}

static const host_kernel mix_kernel = {"mix", 3, mix};

// ---- making -------------------------------------------------------------------------------------

static byte_range random_range(generator *g, memory_space space, int64_t bytes, int64_t room) {
    int32_t units = g->size.units - (int32_t)((bytes + room) / RANDOM_UNIT) + 1;
    return (byte_range){space, (int64_t)below(g, units) * RANDOM_UNIT, bytes};
}

// Apart from `other`.
static byte_range random_other(generator *g, byte_range other) {
    byte_range range;
    do range = random_range(g, other.space, other.bytes, 0);
    while (range.offset < other.offset + other.bytes && other.offset < range.offset + range.bytes);
    return range;
}

static void make_fill(generator *g, program_record *r, record_access *access, int64_t bytes) {
    r->kind = RECORD_FILL;
    r->accesses = 1;
    r->queue = (queue_id)below(g, DEVICE_QUEUES);
    access[0] = (record_access){random_range(g, SPACE_DEVICE, bytes, 0), true};
    r->as.fill = (fill_record){access[0].range, (uint32_t)below(g, INT32_MAX)};
}

static void make_host(generator *g, program_record *r, record_access *access, int64_t bytes,
                      kernel_argument argument[4]) {
    r->kind = RECORD_HOST;
    r->queue = QUEUE_HOST;
    access[0] = (record_access){random_range(g, SPACE_HOST, bytes, 0), true};
    access[1] = (record_access){random_other(g, access[0].range), false};
    argument[0] = (kernel_argument){ARGUMENT_BUFFER, {.offset = access[0].range.offset}};
    argument[1] = (kernel_argument){ARGUMENT_BUFFER, {.offset = access[1].range.offset}};
    argument[2] = (kernel_argument){ARGUMENT_I32, {.i32 = below(g, 1000)}};
    argument[3] = (kernel_argument){ARGUMENT_I64, {.i64 = bytes / 4}};
    r->as.host = (host_record){&mix_kernel, 4, argument};
}

static void make_copy(generator *g, program_record *r, record_access *access, int64_t bytes) {
    static const struct {
        memory_space from, to;
    } sides[] = {{SPACE_DEVICE, SPACE_DEVICE}, {SPACE_DEVICE, SPACE_HOST},
                 {SPACE_HOST, SPACE_DEVICE},   {SPACE_DEVICE, SPACE_HOST},
                 {SPACE_HOST, SPACE_DEVICE},   {SPACE_FILE, SPACE_HOST},
                 {SPACE_HOST, SPACE_FILE}};
    int which = below(g, sizeof sides / sizeof *sides);
    memory_space from = sides[which].from, to = sides[which].to;
    bool file = from == SPACE_FILE || to == SPACE_FILE, moves = !file && from != to;
    int64_t stride = moves && below(g, 3) == 0 ? (1 + below(g, 2)) * RANDOM_UNIT : 0;
    int64_t room = stride * (g->size.micro_batches - 1);
    r->kind = RECORD_COPY;
    r->queue = from == SPACE_FILE ? QUEUE_READ
               : to == SPACE_FILE ? QUEUE_WRITE
                                  : (queue_id)below(g, DEVICE_QUEUES);
    access[0] = (record_access){random_range(g, from, bytes, from == SPACE_HOST ? room : 0), false};
    access[1] =
        (record_access){from == to ? random_other(g, access[0].range)
                                   : random_range(g, to, bytes, to == SPACE_HOST ? room : 0),
                        true};
    r->as.copy = (copy_record){access[0].range, access[1].range, stride};
}

static void add_random(generator *g) {
    record_access access[2];
    kernel_argument argument[4];
    program_record r = {.node = -1, .accesses = 2, .access = access};
    int64_t bytes = (1 + below(g, MOST_UNITS)) * RANDOM_UNIT;
    r.sections = g->size.micro_batches > 1 ? (uint8_t)(1 + below(g, SECTION_ALL)) : SECTION_LAST;
    if (below(g, 8) == 0)
        make_fill(g, &r, access, bytes);
    else if (below(g, 3) == 0)
        make_host(g, &r, access, bytes, argument);
    else
        make_copy(g, &r, access, bytes);
    program_add_record(g->p, &r, g->err);
}

program *random_program(uint32_t seed, random_program_size size, brim_error *err) {
    generator g = {.size = size, .seed = seed, .err = err};
    if (program_create(&g.p, err)) return NULL;
    int64_t bytes = (int64_t)size.units * RANDOM_UNIT;
    g.p->device_bytes = g.p->host_bytes = g.p->file_bytes = bytes;
    g.p->micro_batches = size.micro_batches;
    for (int32_t i = 0; i < size.records; i++) add_random(&g);
    return g.p;
}

// ---- meaning ------------------------------------------------------------------------------------

static void interpret_copy(const copy_record *c, int32_t micro_batch,
                           uint8_t *const memory[SPACES]) {
    int64_t shift = c->host_stride * micro_batch;
    int64_t from = c->from.offset + (c->from.space == SPACE_HOST ? shift : 0);
    int64_t to = c->to.offset + (c->to.space == SPACE_HOST ? shift : 0);
    memcpy(memory[c->to.space] + to, memory[c->from.space] + from, (size_t)c->from.bytes);
}

static void interpret_host(const host_record *h, uint8_t *host) {
    host_argument argument[4];
    for (int i = 0; i < h->arguments; i++) {
        const kernel_argument *a = &h->argument[i];
        if (a->kind == ARGUMENT_BUFFER)
            argument[i].buffer = host + a->as.offset;
        else if (a->kind == ARGUMENT_I64)
            argument[i].i64 = a->as.i64;
        else
            argument[i].i32 = a->as.i32;
    }
    h->kernel->run(argument, 0, argument[h->kernel->count_argument].i64);
}

void random_program_interpret(const program *p, uint8_t section, int32_t micro_batch,
                              uint8_t *const memory[SPACES]) {
    for (int32_t i = 0; i < p->records; i++) {
        const program_record *r = &p->record[i];
        if (!(r->sections & section)) continue;
        if (r->kind == RECORD_COPY) interpret_copy(&r->as.copy, micro_batch, memory);
        if (r->kind == RECORD_HOST) interpret_host(&r->as.host, memory[SPACE_HOST]);
        if (r->kind != RECORD_FILL) continue;
        const byte_range *range = &r->as.fill.range;
        for (int64_t at = 0; at < range->bytes; at += 4)
            memcpy(memory[SPACE_DEVICE] + range->offset + at, &r->as.fill.pattern, 4);
    }
}

uint8_t micro_batch_section(const program *p, int32_t micro_batch) {
    if (micro_batch == p->micro_batches - 1) return SECTION_LAST;
    return micro_batch == 0 ? SECTION_FIRST : SECTION_MIDDLE;
}

// ---- waits --------------------------------------------------------------------------------------

int32_t take_wait(program *p, int32_t record, int32_t wait) {
    program_record *r = &p->record[record];
    int32_t *list = (int32_t *)r->wait, awaited = list[wait];
    memmove(list + wait, list + wait + 1, (size_t)(--r->waits - wait) * sizeof *list);
    return awaited;
}

void put_wait(program *p, int32_t record, int32_t wait, int32_t awaited) {
    program_record *r = &p->record[record];
    int32_t *list = (int32_t *)r->wait;
    memmove(list + wait + 1, list + wait, (size_t)(r->waits++ - wait) * sizeof *list);
    list[wait] = awaited;
}
