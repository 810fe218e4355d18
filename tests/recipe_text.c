// Recipes as one line, and as a C program.
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <brim/train.h>
#include "tests/recipe.h"

static const struct {
    const char *name;
    size_t at;
} options[] = {
#define X(name, meaning) {#name, offsetof(recipe, name)},
    RECIPE_OPTIONS(X)
#undef X
};
enum { OPTIONS = sizeof options / sizeof *options };

static int64_t *option_of(const recipe *r, int i) {
    return (int64_t *)((char *)r + options[i].at);
}

// Numbers up to the last that is not 0.
static int numbers_of(const recipe_step *s) {
    int count = RECIPE_NUMBERS;
    while (count > 0 && s->n[count - 1] == 0) count--;
    return count;
}

// Printing ---------------------------------------------------------------------------------------

typedef struct text {
    char *buffer;
    size_t size, used;
} text;

static void put(text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(text *t, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(t->buffer + t->used, t->size - t->used, format, arguments);
    va_end(arguments);
    t->used = n < 0 || (size_t)n >= t->size - t->used ? t->size - 1 : t->used + (size_t)n;
}

char *recipe_print(const recipe *r, char *buffer, size_t size) {
    text t = {buffer, size, 0};
    buffer[0] = '\0';
    for (int i = 0; i < OPTIONS; i++)
        if (*option_of(r, i)) put(&t, "%s=%lld ", options[i].name, (long long)*option_of(r, i));
    for (int i = 0; i < r->steps; i++) {
        const recipe_step *s = &r->step[i];
        put(&t, "; %s", recipe_rows[s->kind].name);
        for (int k = 0; k < recipe_rows[s->kind].operands; k++) put(&t, " %%%d", s->x[k]);
        for (int k = 0; k < numbers_of(s); k++) put(&t, " %lld", (long long)s->n[k]);
    }
    return buffer;
}

static void print_leaf(const recipe_step *s, int i, FILE *out) {
    static const char *const names[] = {"BRIM_F32", "BRIM_F16", "BRIM_BF16", "BRIM_I32"};
    if (s->kind == STEP_parameter)
        fprintf(out, "    v[%d] = brim_parameter_dims(g, \"p%d\", (brim_init){BRIM_NORMAL, 1}, %d,",
                i, i, (int)s->n[LEAF_RANK]);
    else
        fprintf(out, "    v[%d] = brim_input_dims(g, \"x%d\", %s, %d,", i, i,
                names[s->n[LEAF_DTYPE]], (int)s->n[LEAF_RANK]);
    fprintf(out, " (int64_t[]){");
    for (int k = 0; k < s->n[LEAF_RANK] || k == 0; k++)
        fprintf(out, "%s%lld", k ? ", " : "", (long long)s->n[LEAF_EXTENTS + k]);
    fprintf(out, "});\n");
}

static void print_step(const recipe_step *s, int i, FILE *out) {
    const recipe_row *row = &recipe_rows[s->kind];
    fprintf(out, "    {\n        brim_value x[] = {");
    for (int k = 0; k < row->operands; k++) fprintf(out, "%sv[%d]", k ? ", " : "", s->x[k]);
    fprintf(out, "};\n");
    if (strstr(row->expression, "n[")) {
        fprintf(out, "        int64_t n[] = {");
        for (int k = 0; k < numbers_of(s) || k < 2; k++)
            fprintf(out, "%s%lld", k ? ", " : "", (long long)s->n[k]);
        fprintf(out, "};\n");
    }
    fprintf(out, "        v[%d] = %s;\n    }\n", i, row->expression);
}

void recipe_print_program(const recipe *r, FILE *out) {
    char line[RECIPE_TEXT];
    fprintf(out,
            "// %s\n#include <brim/brim.h>\n#include \"tests/op_case_builders.h\"\n\n"
            "static void build(brim_graph *g, brim_value *v) {\n",
            recipe_print(r, line, sizeof line));
    for (int i = 0; i < r->steps; i++) {
        const recipe_step *s = &r->step[i];
        (s->kind == STEP_input || s->kind == STEP_parameter ? print_leaf : print_step)(s, i, out);
    }
    fprintf(out,
            "}\n\nint main(void) {\n"
            "    brim_error err = {0};\n"
            "    brim_graph *g = brim_graph_create(&err);\n"
            "    brim_value v[%d];\n"
            "    build(g, v);\n"
            "    if (err.status) puts(err.text);\n"
            "    brim_graph_print(g, stdout);\n"
            "    brim_graph_free(g);\n"
            "}\n",
            r->steps);
}

// Reading ----------------------------------------------------------------------------------------

static bool read_options(const char *at, recipe *out) {
    char name[32];
    long long number;
    int used;
    for (; sscanf(at, " %31[a-z_0-9]=%lld%n", name, &number, &used) == 2; at += used) {
        int i = 0;
        while (i < OPTIONS && strcmp(options[i].name, name) != 0) i++;
        if (i == OPTIONS) return false;
        *option_of(out, i) = number;
    }
    return strspn(at, " ") == strlen(at);
}

static bool read_step(const char *at, recipe *out) {
    char name[32];
    int used;
    if (out->steps == RECIPE_STEPS || sscanf(at, " %31s%n", name, &used) != 1) return false;
    recipe_step *s = &out->step[out->steps];
    int kind = 0;
    while (kind < STEP_COUNT && strcmp(recipe_rows[kind].name, name) != 0) kind++;
    if (kind == STEP_COUNT) return false;
    s->kind = (recipe_kind)kind;
    at += used;
    for (int k = 0; k < recipe_rows[kind].operands; k++, at += used) {
        if (sscanf(at, " %%%d%n", &s->x[k], &used) != 1 || s->x[k] < 0 || s->x[k] >= out->steps)
            return false;
    }
    for (int k = 0; k < RECIPE_NUMBERS; k++, at += used) {
        long long number;
        if (sscanf(at, " %lld%n", &number, &used) != 1) break;
        s->n[k] = number;
    }
    out->steps++;
    return strspn(at, " \n") == strlen(at);
}

bool recipe_read(const char *line, recipe *out) {
    char *copy = strdup(line), *rest = copy, *part = strsep(&rest, ";");
    *out = (recipe){0};
    bool good = copy && read_options(part, out);
    while (good && (part = strsep(&rest, ";"))) good = read_step(part, out);
    free(copy);
    return good;
}
