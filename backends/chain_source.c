// What chain_source writes for bias and GELU, x [rows, C] and bias [C] in bf16:
//
//   DEVICE_FN void chain_add_gelu_body(const vecf x0_v, const vecf x1_v, vecf *y0_v)
//   {
//       vecf t0; { const vecf a = x0_v; const vecf b = x1_v; t0 = round_to_v(bf16, a + b); }
//       vecf t1; { const vecf a = t0; t1 = v_gelu_tanh(a); }          rounded by its store
//       *y0_v = t1;
//   }
//   KERNEL chain_add_gelu(CONST_BUFFER(x0), CONST_BUFFER(x1), BUFFER(y0), int_t tasks,
//                         int_t per_item, int_t block, long_t inner, int_t count, int_t x0_0,
//                         int_t x1_0, int_t y0_0)
//   {
//       const GLOBAL ELEM(bf16) *x0_p = PTR(const ELEM(bf16), x0); ...
//       for each task of this work-item:
//           row and column of the task; x0_r = x0_p + row * x0_0; ...
//           for each whole vector of the row: load, body, store
//           the same for what is left, element by element
//   }
//
// On a CPU device a work-item has a long run of tasks: row and column are found by division once,
// then counted up.
#include "backends/chain_source.h"

#include <math.h>
#include <string.h>
#include "core/number.h"

typedef struct writer {
    const chain_form *form;
    strbuf *out;
} writer;

// ---- operands -----------------------------------------------------------------------------------

static int operands(const chain_form *f) {
    return f->inputs + f->chain->outputs;
}
static bool is_output(const chain_form *f, int i) {
    return i >= f->inputs;
}
static bool is_integer(brim_dtype dtype) {
    return dtype == BRIM_I32;
}
static const char *vector_of(brim_dtype dtype) {
    return is_integer(dtype) ? "veci" : "vecf";
}

// "x0" for inputs, "y0" for outputs
typedef struct operand_name {
    char text[16];
} operand_name;
static operand_name name_of(const chain_form *f, int i) {
    operand_name n;
    if (is_output(f, i))
        snprintf(n.text, sizeof n.text, "y%d", i - f->inputs);
    else
        snprintf(n.text, sizeof n.text, "x%d", i);
    return n;
}

static bool has_walk(const chain_form *f, int i, operand_walk walk) {
    return f->walk[i] == walk;
}

// ---- steps --------------------------------------------------------------------------------------

// Exact integer forms, where result and operands are i32; other ops compute in f32.
static const char *const integer_expression[OP_COUNT] = {
    [OP_CONSTANT] = "p0",
    [OP_COPY] = "a",
    [OP_CAST] = "a",
    [OP_NEG] = "-a",
    [OP_ADD] = "a + b",
    [OP_SUB] = "a - b",
    [OP_MUL] = "a * b",
    [OP_ABS] = "vi_where(vi_lt(a, splat_i(0)), -a, a)",
    [OP_SQUARE] = "a * a",
    [OP_RELU] = "vi_where(vi_lt(a, splat_i(0)), splat_i(0), a)",
    [OP_MAXIMUM] = "vi_where(vi_gt(a, b), a, b)",
    [OP_MINIMUM] = "vi_where(vi_lt(a, b), a, b)",
    [OP_LT] = "vi_where(vi_lt(a, b), splat_i(1), splat_i(0))",
    [OP_LE] = "vi_where(vi_le(a, b), splat_i(1), splat_i(0))",
    [OP_GT] = "vi_where(vi_gt(a, b), splat_i(1), splat_i(0))",
    [OP_GE] = "vi_where(vi_ge(a, b), splat_i(1), splat_i(0))",
    [OP_EQ] = "vi_where(vi_eq(a, b), splat_i(1), splat_i(0))",
    [OP_NE] = "vi_where(vi_ne(a, b), splat_i(1), splat_i(0))",
    [OP_WHERE] = "vi_where(vi_ne(a, splat_i(0)), b, c)",
};

static brim_dtype operand_dtype(const chain_form *f, int operand) {
    return operand < 0 ? f->dtype[~operand] : f->chain->step[operand].dtype;
}

// A float literal that both languages read back to the same bits.
static void write_float(strbuf *out, float x) {
    char digits[NUMBER_TEXT];
    number_print_f32(x, digits);
    if (isnan(x))
        strbuf_puts(out, "NAN");
    else if (isinf(x))
        strbuf_puts(out, x < 0 ? "-INFINITY" : "INFINITY");
    else
        strbuf_printf(out, "%s%sf", digits, strpbrk(digits, ".e") ? "" : ".0");
}

static void write_constant(const writer *w, const char *name, float x, bool integer) {
    strbuf_printf(w->out, " const %s %s = ", integer ? "veci" : "vecf", name);
    if (integer) {
        int32_t whole = x >= 2147483648.0f   ? INT32_MAX
                        : x > -2147483648.0f ? (int32_t)x
                                             : INT32_MIN;
        strbuf_printf(w->out, "splat_i((int_t)%lldLL);", (long long)whole);
        return;
    }
    strbuf_puts(w->out, "splat(");
    write_float(w->out, x);
    strbuf_puts(w->out, ");");
}

// `const vecf a = t0;`, converted where the step computes in the other type.
// A condition must not be cut to an integer: 0.5 is true.
static void write_operand(const writer *w, char name, int operand, bool integer, bool condition) {
    bool from_integer = is_integer(operand_dtype(w->form, operand));
    const char *convert = integer == from_integer ? "" : integer ? "v_to_int" : "v_from_int";
    if (condition && integer && !from_integer) convert = "IS_TRUE";
    strbuf_printf(w->out, " const %s %c = %s(", integer ? "veci" : "vecf", name, convert);
    if (operand < 0)
        strbuf_printf(w->out, "%s_v);", name_of(w->form, ~operand).text);
    else
        strbuf_printf(w->out, "t%d);", operand);
}

static bool used_later(const chain *c, int step) {
    for (int s = step + 1; s < c->steps; s++)
        for (int i = 0; i < op_table[c->step[s].op].inputs; i++)
            if (c->step[s].operand[i] == step) return true;
    return false;
}

static void write_step(const writer *w, int index) {
    const chain *c = w->form->chain;
    const chain_step *s = &c->step[index];
    const op_info *op = &op_table[s->op];
    bool to_integer = is_integer(s->dtype), integer = to_integer && integer_expression[s->op];
    strbuf_printf(w->out, "    %s t%d; {", vector_of(s->dtype), index);
    for (int i = 0; i < op->inputs; i++)
        write_operand(w, "abc"[i], s -> operand[i], integer, s -> op == OP_WHERE && i == 0);
    if (op->attr == ATTR_SCALARS) {
        write_constant(w, "p0", s->scalar[0], integer);
        if (s->op == OP_CLAMP) write_constant(w, "p1", s->scalar[1], integer);
    }
    const char *expression = integer ? integer_expression[s->op] : op->expression;
    if (to_integer)
        strbuf_printf(w->out, integer ? " t%d = %s; }\n" : " t%d = v_to_int(%s); }\n", index,
                      expression);
    else if (used_later(c, index))
        strbuf_printf(w->out, " t%d = round_to_v(%s, %s); }\n", index, brim_dtype_name(s->dtype),
                      expression);
    else // rounded by its store
        strbuf_printf(w->out, " t%d = %s; }\n", index, expression);
}

// ---- memory -------------------------------------------------------------------------------------

static void write_load(const writer *w, int i, const char *index, bool vector) {
    const char *dtype = brim_dtype_name(w->form->dtype[i]);
    strbuf_printf(w->out, "%s(%s, %s_r, %s)", vector ? "loadv" : "load", dtype,
                  name_of(w->form, i).text, index);
}

// x0_v of an operand that is one element: for the whole work-item, or for a row.
static void write_splat(const writer *w, int i, const char *pointer, const char *indent) {
    const char *dtype = brim_dtype_name(w->form->dtype[i]);
    operand_name n = name_of(w->form, i);
    bool integer = is_integer(w->form->dtype[i]);
    strbuf_printf(w->out, "%sconst %s %s_v = %s(load(%s, %s%s, 0));\n", indent,
                  integer ? "veci" : "vecf", n.text, integer ? "splat_i" : "splat", dtype, n.text,
                  pointer);
}

static void write_element_index(char *index, size_t size, const chain_form *f, int i) {
    if (has_walk(f, i, WALK_STRIDED))
        snprintf(index, size, "(j + k) * %s_in", name_of(f, i).text);
    else
        snprintf(index, size, "j + k");
}

// Sets element k of x0_v.
static void write_element_load(const writer *w, int i) {
    char index[48];
    write_element_index(index, sizeof index, w->form, i);
    strbuf_printf(w->out, "%s(%s_v, k, ", is_integer(w->form->dtype[i]) ? "vset_i" : "vset",
                  name_of(w->form, i).text);
    write_load(w, i, index, false);
    strbuf_puts(w->out, ");");
}

static void write_element_store(const writer *w, int i) {
    char index[48];
    operand_name n = name_of(w->form, i);
    write_element_index(index, sizeof index, w->form, i);
    strbuf_printf(w->out, "store(%s, %s_r, %s, %s(%s_v, k));", brim_dtype_name(w->form->dtype[i]),
                  n.text, index, is_integer(w->form->dtype[i]) ? "vget_i" : "vget", n.text);
}

static bool moves_along_row(const chain_form *f, int i) {
    return has_walk(f, i, WALK_DENSE) || has_walk(f, i, WALK_STRIDED);
}

// x0_v of every operand that moves along the row: VEC elements, or the `left` ones at its end.
static void write_loads(const writer *w, bool whole) {
    const chain_form *f = w->form;
    for (int i = 0; i < f->inputs; i++) {
        if (!moves_along_row(f, i)) continue;
        bool integer = is_integer(f->dtype[i]);
        strbuf_printf(w->out, "            %s %s_v = ", vector_of(f->dtype[i]), name_of(f, i).text);
        if (whole && has_walk(f, i, WALK_DENSE)) {
            write_load(w, i, "j", true);
            strbuf_puts(w->out, ";\n");
            continue;
        }
        strbuf_printf(w->out, "%s;\n            %s ", integer ? "splat_i(0)" : "splat(0.0f)",
                      whole ? "EACH_LANE" : "EACH_LEFT");
        write_element_load(w, i);
        strbuf_putc(w->out, '\n');
    }
}

static void write_stores(const writer *w, bool whole) {
    const chain_form *f = w->form;
    for (int i = f->inputs; i < operands(f); i++) {
        operand_name n = name_of(f, i);
        if (whole && has_walk(f, i, WALK_DENSE)) {
            strbuf_printf(w->out, "            storev(%s, %s_r, j, %s_v);\n",
                          brim_dtype_name(f->dtype[i]), n.text, n.text);
            continue;
        }
        strbuf_printf(w->out, "            %s ", whole ? "EACH_LANE" : "EACH_LEFT");
        write_element_store(w, i);
        strbuf_putc(w->out, '\n');
    }
}

// One vector of every operand: load, compute, store.
static void write_vector(const writer *w, const char *entry, bool whole) {
    const chain_form *f = w->form;
    write_loads(w, whole);
    for (int i = f->inputs; i < operands(f); i++)
        strbuf_printf(w->out, "            %s %s_v;\n", vector_of(f->dtype[i]), name_of(f, i).text);
    strbuf_printf(w->out, "            %s_body(", entry);
    for (int i = 0; i < operands(f); i++)
        strbuf_printf(w->out, "%s%s%s_v", i ? ", " : "", is_output(f, i) ? "&" : "",
                      name_of(f, i).text);
    strbuf_puts(w->out, ");\n");
    write_stores(w, whole);
}

// The arithmetic, on vectors in registers.
static void write_body(const writer *w, const char *entry) {
    const chain_form *f = w->form;
    strbuf_printf(w->out, "DEVICE_FN void %s_body(", entry);
    for (int i = 0; i < operands(f); i++)
        strbuf_printf(w->out, "%s%s%s %s%s_v", i ? ", " : "", is_output(f, i) ? "" : "const ",
                      vector_of(f->dtype[i]), is_output(f, i) ? "*" : "", name_of(f, i).text);
    strbuf_puts(w->out, ")\n{\n");
    for (int s = 0; s < f->chain->steps; s++) write_step(w, s);
    for (int i = 0; i < f->chain->outputs; i++)
        strbuf_printf(w->out, "    *y%d_v = t%d;\n", i, f->chain->output[i]);
    strbuf_puts(w->out, "}\n");
}

// ---- the kernel ---------------------------------------------------------------------------------

static void write_signature(const writer *w, const char *entry) {
    const chain_form *f = w->form;
    strbuf_printf(w->out, "KERNEL %s(", entry);
    for (int i = 0; i < operands(f); i++)
        strbuf_printf(w->out, "%s(%s), ", is_output(f, i) ? "BUFFER" : "CONST_BUFFER",
                      name_of(f, i).text);
    strbuf_puts(w->out, "int_t tasks, int_t per_item, int_t block, long_t inner");
    if (f->dims > 1) strbuf_puts(w->out, ", int_t count");
    for (int d = 1; d < f->dims - 1; d++) strbuf_printf(w->out, ", int_t e%d", d);
    for (int i = 0; i < operands(f); i++) {
        if (has_walk(f, i, WALK_SCALAR)) continue;
        for (int d = 0; d < f->dims - 1; d++)
            strbuf_printf(w->out, ", int_t %s_%d", name_of(f, i).text, d);
        if (has_walk(f, i, WALK_STRIDED))
            strbuf_printf(w->out, ", int_t %s_in", name_of(f, i).text);
    }
    strbuf_puts(w->out, ")\n{\n");
}

static void write_pointers(const writer *w) {
    const chain_form *f = w->form;
    for (int i = 0; i < operands(f); i++) {
        const char *qualifier = is_output(f, i) ? "" : "const ";
        const char *dtype = brim_dtype_name(f->dtype[i]);
        operand_name n = name_of(f, i);
        strbuf_printf(w->out, "    %sGLOBAL ELEM(%s) *%s_p = PTR(%sELEM(%s), %s);\n", qualifier,
                      dtype, n.text, qualifier, dtype, n.text);
        if (!is_output(f, i) && has_walk(f, i, WALK_SCALAR)) write_splat(w, i, "_p", "    ");
    }
}

// Column (in blocks) and row (its index along each axis but the last) of `task`.
static void write_division(const writer *w) {
    int rows = w->form->dims - 1;
    const char *fast = w->form->rows_first ? "c0" : "column",
               *slow = w->form->rows_first ? "column" : "c0";
    strbuf_printf(w->out, "    %s = task %% (uint_t)count;\n    %s = task / (uint_t)count;\n", fast,
                  slow);
    for (int d = rows - 1; d > 0; d--)
        strbuf_printf(w->out, "    c%d = c0 %% (uint_t)e%d;\n    c0 /= (uint_t)e%d;\n", d, d, d);
}

// The next task's, by counting. (The outermost index is compared with nothing: it ends with the
// tasks.)
static void write_count_up(const writer *w) {
    int rows = w->form->dims - 1, open = rows - 1;
    bool rows_first = w->form->rows_first;
    if (!rows_first)
        strbuf_puts(w->out, "        if (++column == (uint_t)count) {\n        column = 0;\n");
    else
        strbuf_puts(w->out,
                    "        if (++row == (uint_t)count) {\n        row = 0;\n        ++column;\n");
    if (rows_first) {
        for (int d = 0; d < rows; d++) strbuf_printf(w->out, "        c%d = 0;\n", d);
        strbuf_puts(w->out, "        } else {\n");
    }
    for (int d = rows - 1; d > 0; d--)
        strbuf_printf(w->out, "        if (++c%d == (uint_t)e%d) {\n        c%d = 0;\n", d, d, d);
    strbuf_puts(w->out, "        ++c0;\n        ");
    for (int d = 0; d <= open; d++) strbuf_putc(w->out, '}');
    strbuf_putc(w->out, '\n');
}

static void write_row_pointers(const writer *w) {
    const chain_form *f = w->form;
    for (int i = 0; i < operands(f); i++) {
        if (has_walk(f, i, WALK_SCALAR)) continue;
        operand_name n = name_of(f, i);
        strbuf_printf(w->out, "        %sGLOBAL ELEM(%s) *%s_r = %s_p",
                      is_output(f, i) ? "" : "const ", brim_dtype_name(f->dtype[i]), n.text,
                      n.text);
        for (int d = 0; d < f->dims - 1; d++)
            strbuf_printf(w->out, " + (long_t)c%d * %s_%d", d, n.text, d);
        strbuf_puts(w->out, ";\n");
        if (!is_output(f, i) && has_walk(f, i, WALK_ROW)) write_splat(w, i, "_r", "        ");
    }
}

static void write_tasks(const writer *w, const char *entry) {
    bool rows = w->form->dims > 1;
    strbuf_puts(w->out,
                "    uint_t task = (uint_t)group_id(0) * GROUP * (uint_t)per_item + local_id();\n");
    if (rows) {
        strbuf_puts(w->out, "    uint_t column");
        for (int d = 0; d < w->form->dims - 1; d++) strbuf_printf(w->out, ", c%d", d);
        strbuf_puts(w->out, ";\n#if GROUP == 1\n");
        write_division(w);
        if (w->form->rows_first) strbuf_puts(w->out, "    uint_t row = task % (uint_t)count;\n");
        strbuf_puts(w->out, "#endif\n");
    }
    strbuf_puts(
        w->out,
        "    for (int_t n = 0; n < per_item && task < (uint_t)tasks; ++n, task += GROUP) {\n");
    if (rows) {
        strbuf_puts(w->out, "#if GROUP > 1\n");
        write_division(w);
        strbuf_puts(w->out, "#endif\n");
    }
    write_row_pointers(w);
    strbuf_printf(w->out, "        long_t begin = (long_t)%s * block;\n", rows ? "column" : "task");
    strbuf_puts(w->out, "        long_t end = begin + block < inner ? begin + block : inner;\n"
                        "        long_t j = begin;\n"
                        "        for (; j + VEC <= end; j += VEC) {\n");
    write_vector(w, entry, true);
    strbuf_puts(w->out, "        }\n#if VEC > 1\n"
                        "        if (j < end) {\n"
                        "            int_t left = (int_t)(end - j);\n");
    write_vector(w, entry, false);
    strbuf_puts(w->out, "        }\n#endif\n");
    if (rows) {
        strbuf_puts(w->out, "#if GROUP == 1\n");
        write_count_up(w);
        strbuf_puts(w->out, "#endif\n");
    }
    strbuf_puts(w->out, "    }\n}\n");
}

// Vectors in registers of a GPU cannot be indexed by a variable; on a CPU device 16 conditions
// would be long.
static const char prelude[] =
    "#define IS_TRUE(x) vi_where(v_ne(x, splat(0.0f)), splat_i(1), splat_i(0))\n"
    "#define EACH_LANE UNROLL for (int_t k = 0; k < VEC; ++k)\n"
    "#if BRIM_CPU\n"
    "#define EACH_LEFT NO_UNROLL for (int_t k = 0; k < left; ++k)\n"
    "#else\n"
    "#define EACH_LEFT UNROLL for (int_t k = 0; k < VEC; ++k) if (k < left)\n"
    "#endif\n";

// "chain" and the ops that do something, as many as there is room for.
static void write_entry(const chain *c, char *entry) {
    size_t length = (size_t)snprintf(entry, CHAIN_ENTRY_BYTES, "chain");
    for (int s = 0; s < c->steps; s++) {
        const char *name = op_table[c->step[s].op].name;
        if (c->step[s].op == OP_CONSTANT && c->steps > 1) continue;
        if (length + strlen(name) + 2 > CHAIN_ENTRY_BYTES) return;
        length += (size_t)snprintf(entry + length, CHAIN_ENTRY_BYTES - length, "_%s", name);
    }
}

void chain_source(const chain_form *form, strbuf *source, char entry[CHAIN_ENTRY_BYTES]) {
    writer w = {form, source};
    write_entry(form->chain, entry);
    strbuf_puts(source, prelude);
    write_body(&w, entry);
    write_signature(&w, entry);
    write_pointers(&w);
    write_tasks(&w, entry);
}
