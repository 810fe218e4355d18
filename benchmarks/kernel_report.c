// What the compiler makes of every kernel in use, for GPUs that are not there. See --help.
#include <argp.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "backends/cuda/device.h"
#include "backends/worker_pool.h"
#include "benchmarks/disassembler.h"
#include "benchmarks/occupancy.h"
#include "benchmarks/ptxas_log.h"
#include "benchmarks/report.h"
#include "benchmarks/sass.h"
#include "core/alloc.h"
#include "tests/kernels_in_use.h"

const char *argp_program_version = "kernel_report (Brim) 0.1.0";

static const char description[] =
    "Compiles the kernels of training and of the benchmarks with NVRTC, and tells what each takes: "
    "no GPU is needed.\v"
    "Registers are a thread's, shared memory is a group's (static), stack and spills are bytes of "
    "local memory. Groups, warps and % are what runs at once on a multiprocessor, by the "
    "documented formula; the limit is what allows no more. The loop's columns count instructions, "
    "a line for each innermost loop (of the whole kernel, marked with *, where it has none): fma, "
    "other float, integer, barriers, loads and stores as number x bits. They need nvdisasm, a tool "
    "for developers (PyPI's nvidia-cuda-nvdisasm). The JSON has the loops around them, too.";

enum { MAX_ARCHITECTURES = 8, MAX_THREADS = 16, PATH_BYTES = 4096, FIRST_COLUMNS = 57 };

typedef struct report_options {
    const char *json, *filter, *tool, *keep;
    int architecture[MAX_ARCHITECTURES];
    int architectures;
    bool tool_named;
} report_options;

// One text with one set of defines for one architecture: the kernels that share it come out of one
// compilation.
typedef struct compilation {
    const kernel_spec *spec; // the first of them
    int architecture, number;
    char *log;
    sass_listing listing; // no kernels where there is no disassembler
    arena memory;         // of the listing
    brim_error err;
} compilation;

typedef struct kernel_table {
    report_options options;
    cuda_compiler nvrtc; // its architecture is each compilation's own
    program *all;
    compilation *item;
    int items;
    int *of_kernel; // the first architecture's compilation of each kernel; the others' follow it
    char folder[PATH_BYTES];
    bool disassembles;
    brim_error *err;
} kernel_table;

// ---- compiling ----------------------------------------------------------------------------------

static void keep_file(const char *path, const void *data, size_t bytes, brim_error *err) {
    FILE *out = failed(err) ? NULL : fopen(path, "w");
    bool whole = out && fwrite(data, 1, bytes, out) == bytes;
    if (out && fclose(out) != 0) whole = false;
    if (!whole) brim_fail(err, BRIM_IO, "%s cannot be written: %s", path, strerror(errno));
}

static void list_code(const kernel_table *t, compilation *c, const cuda_image *image) {
    char path[PATH_BYTES + 128];
    int stem = snprintf(path, sizeof path, "%s/%03d-%.60s-sm_%d", t->folder, c->number,
                        c->spec->name, c->architecture);
    char *end = path + stem;
    strcpy(end, ".cubin");
    keep_file(path, image->data, image->bytes, &c->err);
    char *text = disassemble(t->options.tool, path, &c->err);
    if (text) sass_parse(text, &c->memory, &c->listing, &c->err);
    if (text && t->options.keep) {
        strcpy(end, ".sass");
        keep_file(path, text, strlen(text), &c->err);
        strcpy(end, ".k");
        keep_file(path, c->spec->source, strlen(c->spec->source), &c->err);
    }
    free(text);
}

static void compile_one(void *context, int item) {
    const kernel_table *t = context;
    compilation *c = &t->item[item];
    cuda_compiler nvrtc = t->nvrtc;
    cuda_image image = {0};
    snprintf(nvrtc.architecture, sizeof nvrtc.architecture, "sm_%d", c->architecture);
    if (!cuda_compile(&nvrtc, c->spec, true, &image, &c->err)) return;
    c->log = image.log;
    if (t->disassembles) list_code(t, c, &image);
    free(image.data);
}

static bool same_compilation(const kernel_spec *a, const kernel_spec *b) {
    return !strcmp(a->source, b->source) && !strcmp(a->defines, b->defines);
}

static bool wanted(const report_options *o, const kernel_spec *k) {
    return !o->filter || strstr(k->name, o->filter) || strstr(k->defines, o->filter);
}

static void list_compilations(kernel_table *t) {
    int count = t->all->kernels, each = t->options.architectures;
    t->of_kernel = brim_calloc_array((size_t)count, sizeof *t->of_kernel, t->err);
    t->item = brim_calloc_array((size_t)(count * each), sizeof *t->item, t->err);
    for (int k = 0; k < count && !failed(t->err); k++) {
        const kernel_spec *spec = &t->all->kernel[k];
        int first = 0;
        t->of_kernel[k] = -1;
        if (!wanted(&t->options, spec)) continue;
        while (first < t->items && !same_compilation(t->item[first].spec, spec)) first += each;
        t->of_kernel[k] = first;
        for (int a = 0; first == t->items && a < each; a++)
            t->item[first + a] = (compilation){
                .spec = spec, .architecture = t->options.architecture[a], .number = k};
        if (first == t->items) t->items += each;
    }
    if (!failed(t->err) && !t->items)
        brim_fail(t->err, BRIM_ARGUMENT, "no kernel's name or defines contain \"%s\"",
                  t->options.filter);
}

static void compile_all(kernel_table *t) {
    worker_pool *pool =
        failed(t->err) ? NULL : worker_pool_create(worker_pool_cores(MAX_THREADS), t->err);
    if (!pool) return;
    worker_pool_run(pool, t->items, compile_one, t);
    worker_pool_free(pool);
    for (int i = 0; i < t->items; i++)
        if (t->item[i].err.status)
            brim_fail(t->err, t->item[i].err.status, "sm_%d: %s", t->item[i].architecture,
                      t->item[i].err.text);
}

// ---- the table ----------------------------------------------------------------------------------

// "4x128 2x32", widest first; "-" for none.
static const char *widths(const int *count, char *out, size_t size) {
    size_t length = 0;
    snprintf(out, size, "-");
    for (int w = SASS_WIDTHS - 1; w >= 0; w--)
        if (count[w] && length < size)
            length += (size_t)snprintf(out + length, size - length, "%s%dx%d", length ? " " : "",
                                       count[w], sass_width_bits(w));
    return out;
}

static void print_heading(void) {
    printf("%-6s %4s %6s %5s %5s %6s %5s %4s %-9s  %5s %5s %5s %5s %3s  %-14s %-14s %-14s %-14s "
           "%s\n",
           "", "regs", "shared", "stack", "spill", "groups", "warps", "%", "limit", "loop", "fma",
           "float", "int", "bar", "global loads", "global stores", "shared loads", "shared stores",
           "local");
}

static void print_count(const sass_count *c, const char *mark) {
    char part[5][48];
    int local[SASS_WIDTHS];
    for (int w = 0; w < SASS_WIDTHS; w++)
        local[w] = c->loads[SASS_LOCAL][w] + c->stores[SASS_LOCAL][w];
    printf("  %4d%s %5d %5d %5d %3d  %-14s %-14s %-14s %-14s %s\n", c->instructions, mark,
           c->fma + c->matrix, c->float_other, c->integer, c->barrier,
           widths(c->loads[SASS_GLOBAL], part[0], sizeof part[0]),
           widths(c->stores[SASS_GLOBAL], part[1], sizeof part[1]),
           widths(c->loads[SASS_SHARED], part[2], sizeof part[2]),
           widths(c->stores[SASS_SHARED], part[3], sizeof part[3]),
           widths(local, part[4], sizeof part[4]));
}

// A line for each innermost loop; the first stands behind what is said of the kernel.
static void print_code(const sass_kernel *k) {
    int lines = 0;
    for (int i = 0; i < k->loops; i++) {
        if (!k->loop[i].innermost) continue;
        if (lines++) printf("%*s", FIRST_COLUMNS, "");
        print_count(&k->loop[i].count, " ");
    }
    if (!lines) print_count(&k->whole, "*");
}

static void print_row(int architecture, const kernel_resources *r, const occupancy *o,
                      const sass_kernel *k) {
    char name[16];
    snprintf(name, sizeof name, "sm_%d", architecture);
    printf("%-6s %4d %6d %5d %5d %6d %5d %4.0f %-9s", name, r->registers, r->shared_bytes,
           r->stack_bytes, r->spill_stores + r->spill_loads, o->groups, o->warps,
           100.0 * o->warps / o->most_warps, o->limit);
    if (k)
        print_code(k);
    else
        printf("\n");
}

static void put_accesses(report *r, const char *name, const int count[SASS_SPACES][SASS_WIDTHS]) {
    report_open(r, name, '{');
    for (int s = 0; s < SASS_SPACES; s++) {
        report_open(r, sass_space_name((sass_space)s), '{');
        for (int w = 0; w < SASS_WIDTHS; w++) {
            char bits[8];
            snprintf(bits, sizeof bits, "%d", sass_width_bits(w));
            if (count[s][w]) report_number(r, bits, count[s][w]);
        }
        report_close(r, '}');
    }
    report_close(r, '}');
}

static void put_count(report *r, const sass_count *c) {
    report_number(r, "instructions", c->instructions);
#define X(name) report_number(r, #name, c->name);
    SASS_CLASSES(X)
#undef X
    put_accesses(r, "loads", c->loads);
    put_accesses(r, "stores", c->stores);
}

static void put_code(report *r, const sass_kernel *k) {
    report_open(r, "whole", '{');
    put_count(r, &k->whole);
    report_close(r, '}');
    report_open(r, "loops", '[');
    for (int i = 0; i < k->loops; i++) {
        report_open(r, NULL, '{');
        report_number(r, "first_instruction", k->loop[i].first);
        report_number(r, "depth", k->loop[i].depth);
        report_number(r, "innermost", k->loop[i].innermost);
        put_count(r, &k->loop[i].count);
        report_close(r, '}');
    }
    report_close(r, ']');
}

static void put_row(report *r, int architecture, const kernel_resources *of, const occupancy *o,
                    const sass_kernel *k) {
    report_open(r, NULL, '{');
    report_number(r, "architecture", architecture);
    report_number(r, "registers", of->registers);
    report_number(r, "shared_bytes", of->shared_bytes);
    report_number(r, "stack_bytes", of->stack_bytes);
    report_number(r, "spill_store_bytes", of->spill_stores);
    report_number(r, "spill_load_bytes", of->spill_loads);
    report_number(r, "groups", o->groups);
    report_number(r, "warps", o->warps);
    report_number(r, "occupancy", (double)o->warps / o->most_warps);
    report_text(r, "limit", o->limit);
    if (k) put_code(r, k);
    report_close(r, '}');
}

static void show_architecture(const kernel_table *t, const kernel_spec *spec, const compilation *c,
                              report *r) {
    kernel_resources of;
    occupancy o;
    const sass_kernel *k = sass_find(&c->listing, spec->name);
    if (!ptxas_log_find(c->log, spec->name, &of) || (t->disassembles && !k)) {
        brim_fail(t->err, BRIM_FORMAT, "sm_%d: the compiler's log has another form: nothing of %s",
                  c->architecture, spec->name);
        return;
    }
    occupancy_of(c->architecture, spec->group, of.registers, of.shared_bytes, &o);
    print_row(c->architecture, &of, &o, k);
    put_row(r, c->architecture, &of, &o, k);
}

static void show_kernels(const kernel_table *t, report *r) {
    report_open(r, "kernels", '[');
    for (int i = 0; i < t->all->kernels && !failed(t->err); i++) {
        const kernel_spec *spec = &t->all->kernel[i];
        if (t->of_kernel[i] < 0) continue;
        printf("\n%03d %s (%s) %s\n", i, spec->name, spec->file, spec->defines);
        print_heading();
        report_open(r, NULL, '{');
        report_number(r, "number", i);
        report_text(r, "kernel", spec->name);
        report_text(r, "file", spec->file);
        report_text(r, "defines", spec->defines);
        report_open(r, "architectures", '[');
        for (int a = 0; a < t->options.architectures && !failed(t->err); a++)
            show_architecture(t, spec, &t->item[t->of_kernel[i] + a], r);
        report_close(r, ']');
        report_close(r, '}');
    }
    report_close(r, ']');
}

// ---- the program --------------------------------------------------------------------------------

static const struct argp_option option_list[] = {
    {"arch", 'a', "LIST", 0, "compute capabilities: 75, 80, 86, 89, 90, 120 (default 75,86,90,120)",
     0},
    {"filter", 'f', "TEXT", 0, "only kernels whose name or defines contain TEXT", 0},
    {"nvdisasm", 'n', "PATH", 0, "the disassembler (default: the one that PATH finds)", 0},
    {"keep", 'k', "DIR", 0, "leave each kernel's source, cubin and listing there", 0},
    {"json", 'j', "FILE", 0, "write the figures as JSON, too", 0},
    {0},
};

static bool known_architecture(int architecture) {
    for (int i = 0; occupancy_architecture(i); i++)
        if (occupancy_architecture(i) == architecture) return true;
    return false;
}

static void parse_architectures(kernel_table *t, const char *text) {
    report_options *o = &t->options;
    o->architectures = 0;
    for (const char *at = text; at;) {
        char *end;
        long number = strtol(at, &end, 10);
        if ((*end && *end != ',') || !known_architecture((int)number) ||
            o->architectures == MAX_ARCHITECTURES) {
            brim_fail(t->err, BRIM_ARGUMENT,
                      "--arch is \"%s\"; expected some of 75,80,86,89,90,120", text);
            return;
        }
        o->architecture[o->architectures++] = (int)number;
        at = *end ? end + 1 : NULL;
    }
}

static error_t parse_option(int key, char *text, struct argp_state *state) {
    kernel_table *t = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->err_stream = NULL; // a mistake gets one line: argp would add another
        return 0;
    case ARGP_KEY_ARG:
        brim_fail(t->err, BRIM_ARGUMENT, "unexpected argument \"%s\"", text);
        return 0;
    case 'a':
        parse_architectures(t, text);
        return 0;
    case 'f':
        t->options.filter = text;
        return 0;
    case 'j':
        t->options.json = text;
        return 0;
    case 'k':
        t->options.keep = text;
        return 0;
    case 'n':
        t->options.tool = text;
        t->options.tool_named = true;
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

// Cubins are handed to the disassembler as files.
static void open_folder(kernel_table *t) {
    const char *keep = t->options.keep, *base = getenv("TMPDIR");
    if (failed(t->err) || !t->disassembles) return;
    if (keep) {
        snprintf(t->folder, sizeof t->folder, "%s", keep);
        if (mkdir(keep, 0777) != 0 && errno != EEXIST)
            brim_fail(t->err, BRIM_IO, "%s cannot be made: %s", keep, strerror(errno));
        return;
    }
    snprintf(t->folder, sizeof t->folder, "%s/kernel_report-XXXXXX", base ? base : "/tmp");
    if (mkdtemp(t->folder)) return;
    t->folder[0] = '\0';
    brim_fail(t->err, BRIM_IO, "no folder can be made in %s", base ? base : "/tmp");
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *place) {
    (void)status, (void)type, (void)place;
    return remove(path);
}

static void open_tools(kernel_table *t) {
    const report_options *o = &t->options;
    if (failed(t->err)) return;
    cuda_compiler_open(&t->nvrtc, 0, o->architecture[0], t->err);
    t->disassembles = disassembler_found(o->tool);
    if (!t->disassembles && (o->tool_named || o->keep))
        brim_fail(t->err, BRIM_ARGUMENT, "%s cannot be run (PyPI's nvidia-cuda-nvdisasm has it)",
                  o->tool);
    open_folder(t);
}

static void run(kernel_table *t, report *r) {
    open_tools(t);
    if (failed(t->err)) return;
    printf("NVRTC %d.%d%s\n", t->nvrtc.major, t->nvrtc.minor,
           t->disassembles ? ""
                           : "; nvdisasm was not found: no figures of loops (PyPI's "
                             "nvidia-cuda-nvdisasm has it; --nvdisasm PATH)");
    report_number(r, "nvrtc_major", t->nvrtc.major);
    report_number(r, "nvrtc_minor", t->nvrtc.minor);
    t->all = kernels_in_use(&pretended_gpu, false, t->err);
    if (t->all) list_compilations(t);
    compile_all(t);
    if (!failed(t->err)) show_kernels(t, r);
}

static void clean_up(kernel_table *t) {
    for (int i = 0; i < t->items; i++) {
        free(t->item[i].log);
        arena_free(&t->item[i].memory);
    }
    free(t->item);
    free(t->of_kernel);
    if (t->all) program_free(t->all);
    cuda_compiler_close(&t->nvrtc);
    if (*t->folder && !t->options.keep) nftw(t->folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

int main(int argc, char **argv) {
    brim_error err = {0};
    kernel_table t = {
        .options = {.tool = "nvdisasm", .architecture = {75, 86, 90, 120}, .architectures = 4},
        .err = &err};
    if (argp_parse(&(struct argp){option_list, parse_option, NULL, description, 0, 0, 0}, argc,
                   argv, 0, 0, &t))
        return 1;
    report r = report_begin(t.options.json, &err);
    run(&t, &r);
    report_end(&r);
    clean_up(&t);
    return brim_error_report(&err);
}
