#include "benchmarks/sass.h"

#include <stdio.h>
#include <string.h>

enum { OPCODE_BYTES = 48, LABEL_BYTES = 96 };

// ---- instructions -------------------------------------------------------------------------------

typedef enum sass_class {
    CLASS_other,
#define X(name) CLASS_##name,
    SASS_CLASSES(X)
#undef X
        CLASS_load,
    CLASS_store,
    CLASS_async_copy
} sass_class;

// By the word before the first dot (CUDA Binary Utilities, "Instruction Set Reference").
static const struct {
    sass_class class;
    const char *opcodes; // each between two spaces
} classes[] = {
    {CLASS_fma, " FADD FADD2 FADD32I FMUL FMUL2 FMUL32I FFMA FFMA2 FFMA32I "},
    {CLASS_float_other,
     " FMNMX FMNMX3 FSET FSETP FSEL FCHK FRND MUFU F2F F2FP F2I F2IP I2F I2FP I2IP HADD2 HADD2_32I "
     "HFMA2 HFMA2_32I HMUL2 HMUL2_32I HMNMX2 HSET2 HSETP2 DADD DFMA DMUL DSETP "},
    {CLASS_matrix, " HMMA IMMA BMMA DMMA QMMA OMMA HGMMA IGMMA QGMMA "},
    {CLASS_integer,
     " IADD IADD3 IADD32I IMAD IMUL ISETP ISCADD LEA LOP LOP3 SHF SHL SHR IABS IMNMX VIMNMX VIADD "
     "VIADDMNMX POPC FLO BREV BMSK SGXT PRMT SEL PLOP3 UIADD3 UIMAD UISETP ULEA ULOP ULOP3 USHF "
     "USHL USHR UPOPC UFLO UBREV UBMSK USGXT UPRMT USEL UPLOP3 UIMNMX UVIADD UVIMNMX "},
    {CLASS_atomic, " ATOM ATOMG ATOMS RED REDG "},
    {CLASS_shuffle, " SHFL "},
    {CLASS_barrier, " BAR "},
    {CLASS_load, " LD LDG LDS LDSM LDL "},
    {CLASS_store, " ST STG STS STL "},
    {CLASS_async_copy, " LDGSTS "},
};

static sass_class class_of(const char *opcode) {
    char word[OPCODE_BYTES + 2];
    if (!strncmp(opcode, "IMAD.MOV", 8)) return CLASS_other; // a copy between registers
    snprintf(word, sizeof word, " %.*s ", (int)strcspn(opcode, "."), opcode);
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strstr(classes[i].opcodes, word)) return classes[i].class;
    return CLASS_other;
}

static sass_space space_of(const char *opcode) {
    char letter = opcode[2]; // of LDS, STS; LD and ST find the space at run time
    return letter == 'S' ? SASS_SHARED : letter == 'L' ? SASS_LOCAL : SASS_GLOBAL;
}

// "LDG.E.U16.CONSTANT" has 16 bits, "LDS" 32.
static int width_of(const char *opcode) {
    static const char *const suffix[] = {".U8", ".S8", ".U16", ".S16", ".64", ".128"};
    static const int width[] = {0, 0, 1, 1, 3, 4};
    for (const char *at = strchr(opcode, '.'); at; at = strchr(at + 1, '.')) {
        size_t length = 1 + strcspn(at + 1, ".");
        for (int i = 0; i < 6; i++)
            if (strlen(suffix[i]) == length && !strncmp(at, suffix[i], length)) return width[i];
    }
    return 2;
}

static void count_opcode(sass_count *c, const char *opcode) {
    c->instructions++;
    switch (class_of(opcode)) {
#define X(name)                                                                                    \
    case CLASS_##name:                                                                             \
        c->name++;                                                                                 \
        break;
        SASS_CLASSES(X)
#undef X
    case CLASS_load:
        c->loads[space_of(opcode)][width_of(opcode)]++;
        break;
    case CLASS_store:
        c->stores[space_of(opcode)][width_of(opcode)]++;
        break;
    case CLASS_async_copy:
        c->loads[SASS_GLOBAL][width_of(opcode)]++;
        c->stores[SASS_SHARED][width_of(opcode)]++;
        break;
    case CLASS_other:
        break;
    }
}

const char *sass_space_name(sass_space space) {
    static const char *const names[] = {"global", "shared", "local"};
    return names[space];
}

int sass_width_bits(int width) {
    return 8 << width;
}

// ---- lines --------------------------------------------------------------------------------------

typedef struct instruction {
    char opcode[OPCODE_BYTES];
    char label[LABEL_BYTES]; // of where it may jump to; "" else
    int target;              // the same by number; -1: nowhere
    bool falls_through;
} instruction;

typedef struct label {
    char name[LABEL_BYTES];
    int at; // the instruction behind it
} label;

// A kernel while it is read. The arrays have room for every line.
typedef struct body {
    instruction *code;
    label *label;
    int *jump; // the instructions that have a target
    int count, labels, jumps;
} body;

static const char *skip_spaces(const char *at) {
    return at + strspn(at, " \t{");
}

static void copy_word(char *out, size_t size, const char *from, const char *ends) {
    size_t length = strcspn(from, ends);
    snprintf(out, size, "%.*s", (int)length, from);
}

// "@!P0 BRA `(.L_x_4) ;", behind the address. A jump with an operand before its target ("BRA.U UP0,
// `(...)") may fall through, too. A call comes back, and what is called is not a loop of the
// kernel.
static void read_instruction(const char *at, body *b) {
    instruction *i = &b->code[b->count++];
    *i = (instruction){.target = -1};
    bool always = *at != '@';
    if (!always) at = skip_spaces(at + strcspn(at, " \t"));
    copy_word(i->opcode, sizeof i->opcode, at, " \t;\n");
    const char *operands = skip_spaces(at + strlen(i->opcode));
    bool jump = !strcmp(i->opcode, "BRA") || !strncmp(i->opcode, "BRA.", 4);
    bool end = !strncmp(i->opcode, "EXIT", 4) || !strncmp(i->opcode, "RET", 3);
    const char *target = jump ? strstr(operands, "`(") : NULL;
    if (target && target < operands + strcspn(operands, ";\n"))
        copy_word(i->label, sizeof i->label, target + 2, ")");
    i->falls_through = !(always && (end || (jump && *operands == '`')));
}

// True if the line belongs to the kernel that is being read.
static bool read_line(const char *line, body *b) {
    const char *at = skip_spaces(line);
    if (!strncmp(at, ".section", 8)) return false;
    if (!strncmp(at, "/*", 2)) {
        const char *behind = strstr(at, "*/");
        if (behind) read_instruction(skip_spaces(behind + 2), b);
    } else if (!strncmp(at, ".L_", 3) && at[strcspn(at, ":\n")] == ':') {
        label *l = &b->label[b->labels++];
        copy_word(l->name, sizeof l->name, at, ":");
        l->at = b->count;
    }
    return true;
}

static void resolve_labels(body *b) {
    for (int i = 0; i < b->count; i++) {
        for (int l = 0; *b->code[i].label && l < b->labels; l++)
            if (!strcmp(b->label[l].name, b->code[i].label) && b->label[l].at < b->count)
                b->code[i].target = b->label[l].at;
        if (b->code[i].target >= 0) b->jump[b->jumps++] = i;
    }
}

// ---- loops --------------------------------------------------------------------------------------

// A jump back to an instruction from which it is reached: found by a walk in depth, on whose path
// both are. (Cold code behind the loop jumps back, too, and makes no loop.)
enum { NEW, ON_PATH, DONE };

static int successor(const body *b, int at, int which) {
    const instruction *i = &b->code[at];
    if (which == 0) return i->target;
    return i->falls_through && at + 1 < b->count ? at + 1 : -1;
}

// Calls found(from, to) for each such jump, once for each pair.
typedef struct walk {
    const body *b;
    int *state, *path, *next; // a mark, the path, the next successor to look at: by instruction
} walk;

static void find_back_jumps(const walk *w, void (*found)(void *context, int from, int to),
                            void *context) {
    int depth = 0;
    w->path[depth++] = 0;
    w->state[0] = ON_PATH;
    while (depth) {
        int at = w->path[depth - 1];
        if (w->next[at] == 2) {
            w->state[at] = DONE;
            depth--;
            continue;
        }
        int to = successor(w->b, at, w->next[at]++);
        if (to < 0 || w->state[to] == DONE) continue;
        if (w->state[to] == ON_PATH) {
            found(context, at, to);
            continue;
        }
        w->state[to] = ON_PATH;
        w->path[depth++] = to;
    }
}

typedef struct loop_finder {
    const body *b;
    sass_kernel *kernel;
    bool **member; // of a loop, by instruction
    int *work;
    arena *memory;
    brim_error *err;
} loop_finder;

static int reach(const loop_finder *f, bool *member, int at, int waiting) {
    if (member[at]) return waiting;
    member[at] = true;
    f->work[waiting] = at;
    return waiting + 1;
}

// The loop is what reaches `from` without passing `to`. Loops with one head are one.
static void add_loop(void *context, int from, int to) {
    loop_finder *f = context;
    const body *b = f->b;
    sass_kernel *k = f->kernel;
    int n = 0;
    while (n < k->loops && k->loop[n].first != to) n++;
    if (n == k->loops) {
        f->member[n] = arena_array(f->memory, (size_t)b->count, sizeof **f->member, f->err);
        if (!f->member[n]) return;
        k->loop[k->loops++].first = to;
        f->member[n][to] = true;
    }
    bool *member = f->member[n];
    for (int waiting = reach(f, member, from, 0); waiting;) {
        int at = f->work[--waiting];
        if (at && b->code[at - 1].falls_through) waiting = reach(f, member, at - 1, waiting);
        for (int j = 0; j < b->jumps; j++)
            if (b->code[b->jump[j]].target == at) waiting = reach(f, member, b->jump[j], waiting);
    }
}

static void describe_loops(const loop_finder *f) {
    sass_kernel *k = f->kernel;
    for (int n = 0; n < k->loops; n++) {
        sass_loop *l = &k->loop[n];
        l->innermost = true;
        for (int other = 0; other < k->loops; other++) {
            l->depth += f->member[other][l->first];
            if (other != n && f->member[n][k->loop[other].first]) l->innermost = false;
        }
        for (int i = 0; i < f->b->count; i++)
            if (f->member[n][i]) count_opcode(&l->count, f->b->code[i].opcode);
    }
}

static void find_loops(const body *b, sass_kernel *k, arena *memory, brim_error *err) {
    size_t count = (size_t)b->count;
    walk w = {.b = b,
              .state = arena_array(memory, count, sizeof *w.state, err),
              .path = arena_array(memory, count, sizeof *w.path, err),
              .next = arena_array(memory, count, sizeof *w.next, err)};
    loop_finder f = {.b = b,
                     .kernel = k,
                     .member = arena_array(memory, count, sizeof *f.member, err),
                     .work = arena_array(memory, count, sizeof *f.work, err),
                     .memory = memory,
                     .err = err};
    k->loop = arena_array(memory, count, sizeof *k->loop, err);
    if (failed(err) || !b->count) return;
    find_back_jumps(&w, add_loop, &f);
    if (!failed(err)) describe_loops(&f);
}

// ---- the listing --------------------------------------------------------------------------------

static int count_text(const char *text, const char *part) {
    int count = 0;
    for (const char *at = text; (at = strstr(at, part)); at += strlen(part)) count++;
    return count;
}

static const char *next_line(const char *line) {
    line += strcspn(line, "\n");
    return *line ? line + 1 : line;
}

// From the line behind ".text.NAME:"; returns where it ends.
static const char *read_kernel(const char *line, sass_kernel *k, body *b, arena *memory,
                               brim_error *err) {
    b->count = b->labels = b->jumps = 0;
    while (*line && read_line(line, b)) line = next_line(line);
    resolve_labels(b);
    for (int i = 0; i < b->count; i++) count_opcode(&k->whole, b->code[i].opcode);
    find_loops(b, k, memory, err);
    return line;
}

brim_status sass_parse(const char *text, arena *memory, sass_listing *out, brim_error *err) {
    static const char marker[] = ".text.";
    size_t lines = (size_t)count_text(text, "\n") + 1;
    body b = {.code = arena_array(memory, lines, sizeof *b.code, err),
              .label = arena_array(memory, lines, sizeof *b.label, err),
              .jump = arena_array(memory, lines, sizeof *b.jump, err)};
    *out = (sass_listing){.kernel = arena_array(memory, (size_t)count_text(text, "\n.text."),
                                                sizeof *out->kernel, err)};
    for (const char *line = text; *line && !failed(err);) {
        if (strncmp(line, marker, strlen(marker)) != 0 || line == text) {
            line = next_line(line);
            continue;
        }
        const char *name = line + strlen(marker);
        sass_kernel *k = &out->kernel[out->kernels++];
        k->name = arena_strndup(memory, name, strcspn(name, ":\n"), err);
        line = read_kernel(next_line(line), k, &b, memory, err);
    }
    if (!failed(err) && !out->kernels)
        brim_fail(err, BRIM_FORMAT, "the listing has no kernel: %.60s", text);
    return err->status;
}

const sass_kernel *sass_find(const sass_listing *listing, const char *name) {
    for (int i = 0; i < listing->kernels; i++)
        if (!strcmp(listing->kernel[i].name, name)) return &listing->kernel[i];
    return NULL;
}
