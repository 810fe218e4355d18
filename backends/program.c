#include "backends/program.h"

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/number.h"
#include "graph/graph.h"

brim_status program_create(program **out, brim_error *err) {
    *out = NULL;
    program *p = brim_calloc(sizeof *p, err);
    if (p) p->memory = brim_calloc(sizeof *p->memory, err);
    if (failed(err)) {
        free(p);
        return err->status;
    }
    p->micro_batches = 1;
    *out = p;
    return BRIM_OK;
}

void program_free(program *p) {
    if (!p) return;
    arena_free(p->memory);
    free(p->memory);
    free(p->record);
    free(p->kernel);
    free(p);
}

// Room for one more element; the counts of a program are 32 bits wide.
static bool grow_by_one(void **array, int32_t count, int32_t *capacity, size_t size,
                        brim_error *err) {
    if (count == INT32_MAX) {
        brim_fail(err, BRIM_MEMORY, "a program cannot hold more than %d records", INT32_MAX);
        return false;
    }
    size_t room = (size_t)*capacity;
    if (!brim_grow(array, &room, (size_t)count + 1, size, err)) return false;
    *capacity = room > INT32_MAX ? INT32_MAX : (int32_t)room;
    return true;
}

// A copy of count elements in the program's memory; NULL for none.
static void *keep(program *p, const void *from, int32_t count, size_t size, brim_error *err) {
    if (!count) return NULL;
    void *to = arena_array(p->memory, (size_t)count, size, err);
    if (to) memcpy(to, from, (size_t)count * size);
    return to;
}

int32_t program_add_record(program *p, const program_record *record, brim_error *err) {
    if (failed(err)) return -1;
    program_record r = *record;
    r.label = arena_strdup(p->memory, r.label ? r.label : "", err);
    r.access = keep(p, r.access, r.accesses, sizeof *r.access, err);
    r.wait = keep(p, r.wait, r.waits, sizeof *r.wait, err);
    if (r.kind == RECORD_LAUNCH) {
        launch_record *launch = &r.as.launch;
        launch->argument =
            keep(p, launch->argument, launch->arguments, sizeof *launch->argument, err);
    }
    if (r.kind == RECORD_HOST) {
        host_record *host = &r.as.host;
        host->argument = keep(p, host->argument, host->arguments, sizeof *host->argument, err);
    }
    if (!grow_by_one((void **)&p->record, p->records, &p->record_capacity, sizeof r, err) ||
        failed(err))
        return -1;
    p->record[p->records] = r;
    return p->records++;
}

int32_t program_add_kernel(program *p, const kernel_spec *spec, brim_error *err) {
    if (failed(err)) return -1;
    kernel_spec k = *spec;
    k.name = arena_strdup(p->memory, k.name, err);
    k.file = arena_strdup(p->memory, k.file, err);
    k.source = arena_strdup(p->memory, k.source, err);
    k.defines = arena_strdup(p->memory, k.defines, err);
    if (!grow_by_one((void **)&p->kernel, p->kernels, &p->kernel_capacity, sizeof k, err) ||
        failed(err))
        return -1;
    p->kernel[p->kernels] = k;
    return p->kernels++;
}

const char *record_kind_name(record_kind kind) {
    static const char *const names[] = {[RECORD_LAUNCH] = "launch",
                                        [RECORD_MATMUL] = "matmul",
                                        [RECORD_COPY] = "copy",
                                        [RECORD_FILL] = "fill",
                                        [RECORD_HOST] = "host"};
    return (unsigned)kind < sizeof names / sizeof *names ? names[kind] : "unknown";
}

const char *queue_name(queue_id queue) {
    static const char *const names[QUEUE_COUNT] = {
        [QUEUE_COMPUTE] = "compute", [QUEUE_IN] = "in",     [QUEUE_OUT] = "out",
        [QUEUE_HOST] = "host",       [QUEUE_READ] = "read", [QUEUE_WRITE] = "write"};
    return (unsigned)queue < QUEUE_COUNT ? names[queue] : "unknown";
}

const char *space_name(memory_space space) {
    static const char *const names[SPACES] = {
        [SPACE_DEVICE] = "device", [SPACE_HOST] = "host", [SPACE_FILE] = "file"};
    return (unsigned)space < SPACES ? names[space] : "unknown";
}

const char *sections_name(uint8_t sections) {
    static const char *const names[] = {"none", "first",      "middle",      "first+middle",
                                        "last", "first+last", "middle+last", "all"};
    return sections <= SECTION_ALL ? names[sections] : "unknown";
}

// ---- text ---------------------------------------------------------------------------------------

static void print_range(const byte_range *r, FILE *out) {
    fprintf(out, "%s[%lld..%lld)", space_name(r->space), (long long)r->offset,
            (long long)(r->offset + r->bytes));
}

static void print_f32(float x, FILE *out) {
    char text[NUMBER_TEXT];
    number_print_f32(x, text);
    fprintf(out, " %sf", text);
}

static void print_argument(const kernel_argument *a, FILE *out) {
    switch (a->kind) {
    case ARGUMENT_BUFFER:
        if (a->as.offset < 0)
            fprintf(out, " null");
        else
            fprintf(out, " @%lld", (long long)a->as.offset);
        return;
    case ARGUMENT_I32:
        fprintf(out, " %d", a->as.i32);
        return;
    case ARGUMENT_I64:
        fprintf(out, " %lldl", (long long)a->as.i64);
        return;
    case ARGUMENT_F32:
        print_f32(a->as.f32, out);
        return;
    }
}

static void print_launch(const program_record *r, FILE *out) {
    const launch_record *l = &r->as.launch;
    fprintf(out, " kernel %d grid %dx%dx%d (", l->kernel, l->grid[0], l->grid[1], l->grid[2]);
    for (int i = 0; i < l->arguments; i++) print_argument(&l->argument[i], out);
    fprintf(out, " )");
}

static void print_host(const program_record *r, FILE *out) {
    const host_record *h = &r->as.host;
    fprintf(out, " %s (", h->kernel ? h->kernel->name : "unknown");
    for (int i = 0; i < h->arguments; i++) print_argument(&h->argument[i], out);
    fprintf(out, " )");
}

static void print_matmul(const program_record *r, FILE *out) {
    const matmul_record *m = &r->as.matmul;
    const matmul_shape *s = &m->shape;
    fprintf(out, " %s->%s m %lld n %lld k %lld batch %lld", brim_dtype_name(s->in),
            brim_dtype_name(s->out), (long long)s->m, (long long)s->n, (long long)s->k,
            (long long)s->batch);
    fprintf(out, " a%s @%lld row %lld step %lld", s->transpose_a ? "'" : "", (long long)m->a,
            (long long)s->row_a, (long long)s->batch_a);
    fprintf(out, " b%s @%lld row %lld step %lld", s->transpose_b ? "'" : "", (long long)m->b,
            (long long)s->row_b, (long long)s->batch_b);
    fprintf(out, " c @%lld row %lld step %lld", (long long)m->c, (long long)s->row_c,
            (long long)s->batch_c);
    if (m->workspace_bytes)
        fprintf(out, " workspace @%lld %lld", (long long)m->workspace,
                (long long)m->workspace_bytes);
}

static void print_copy(const program_record *r, FILE *out) {
    fprintf(out, " ");
    print_range(&r->as.copy.from, out);
    fprintf(out, " -> ");
    print_range(&r->as.copy.to, out);
    if (r->as.copy.host_stride) fprintf(out, " step %lld", (long long)r->as.copy.host_stride);
}

static void print_fill(const program_record *r, FILE *out) {
    fprintf(out, " ");
    print_range(&r->as.fill.range, out);
    fprintf(out, " = 0x%08x", r->as.fill.pattern);
}

static void print_record(const program *p, int32_t index, FILE *out) {
    static void (*const details[])(const program_record *,
                                   FILE *) = {[RECORD_LAUNCH] = print_launch,
                                              [RECORD_MATMUL] = print_matmul,
                                              [RECORD_COPY] = print_copy,
                                              [RECORD_FILL] = print_fill,
                                              [RECORD_HOST] = print_host};
    const program_record *r = &p->record[index];
    fprintf(out, "%d %s %s %s", index, sections_name(r->sections), queue_name(r->queue),
            record_kind_name(r->kind));
    if ((unsigned)r->kind < sizeof details / sizeof *details) details[r->kind](r, out);
    for (int i = 0; i < r->waits; i++) fprintf(out, "%s%d", i ? "," : " wait ", r->wait[i]);
    for (int i = 0; i < r->accesses; i++) {
        fprintf(out, " %s ", r->access[i].writes ? "w" : "r");
        print_range(&r->access[i].range, out);
    }
    fprintf(out, " \"%s\"\n", r->label);
}

void program_print(const program *p, FILE *out) {
    fprintf(out, "program: %d records, %d kernels, device %lld bytes, host %lld bytes, ",
            p->records, p->kernels, (long long)p->device_bytes, (long long)p->host_bytes);
    if (p->file_bytes) fprintf(out, "file %lld bytes, ", (long long)p->file_bytes);
    fprintf(out, "%d micro-batches\n", p->micro_batches);
    for (int i = 0; i < p->kernels; i++)
        fprintf(out, "kernel %d %s of %s, groups of %d, %s\n", i, p->kernel[i].name,
                p->kernel[i].file, p->kernel[i].group, p->kernel[i].defines);
    for (int i = 0; i < p->records; i++) print_record(p, i, out);
}
