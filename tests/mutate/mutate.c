// Makes mutants: texts with one small mistake each, by rules, drawn from a seed.
//
//   mutate draw SEED OUT FILE...
//       draws a file, a rule, and a place in the file where it applies; writes the file with that
//       mistake to OUT, and says what it is
//   mutate replace OUT FILE FROM TO
//       writes FILE with TO for FROM, which must be there exactly once
//   mutate list FILE...
//       says every mistake that could be drawn
//
// Each is said in one line: path:line, rule, the line as it was, the line as it is, with tabs
// between. A seed is any text.
//
// The rules, on C and the kernels' dialect, where code is: bodies of functions and of macros.
// Comments, texts, declarations, and tables outside functions are left as they are, but for
// constants in enums.
//
//   operator     + for -, * for /, & for |, << for >>, and so on, also in assignments; a minus lost
//   constant     one more, one less; for floating point the double and the half
//   comparison   the bound in or out, the other way round, equal for unequal; not the bound where
//                the lesser or the greater of two is taken, which is the same for equal ones
//   index        the next one, or the one before
//   condition    `if` always or never; && for ||; `!` lost; one side of `?:` always
//   statement    an assignment, a call, `break` or `continue` dropped; not a call of free, whose
//                lack no test but a leak checker sees
#include "tokens.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RULE_OPERATOR, RULE_CONSTANT, RULE_COMPARISON, RULE_INDEX, RULE_CONDITION, RULE_STATEMENT };
enum { RULES = RULE_STATEMENT + 1 };
static const char *const rule_names[] = {"operator", "constant",  "comparison",
                                         "index",    "condition", "statement"};

typedef struct mistake {
    int rule;
    size_t at, length;
    char *to;
} mistake;

// ---- rules --------------------------------------------------------------------------------------

static const char *const keywords[] = {"return", "case", "else",   "sizeof", "if",      "while",
                                       "for",    "do",   "switch", "goto",   "default", NULL};

// The text from one token up to, with, another.
static char *cut(const file *f, size_t first, size_t last) {
    size_t at = f->token[first].at, end = f->token[last].at + f->token[last].length;
    char *copy = calloc(end - at + 1, 1);
    if (!copy) die("out of memory", f->path);
    memcpy(copy, f->text.bytes + at, end - at);
    return copy;
}

// TO for the tokens first .. last: each %s in it stands for what was there.
static void add(file *f, int rule, size_t first, size_t last, const char *to) {
    char *old = cut(f, first, last);
    size_t room = strlen(to) + 2 * strlen(old) + 1;
    mistake m = {.rule = rule, .at = f->token[first].at, .length = strlen(old)};
    m.to = calloc(room, 1);
    if (!m.to) die("out of memory", f->path);
    const char *mark = strstr(to, "%s");
    if (mark)
        snprintf(m.to, room, "%.*s%s%s", (int)(mark - to), to, old, mark + 2);
    else
        snprintf(m.to, room, "%s", to);
    free(old);
    f->mistake = grown(f->mistake, f->mistakes, sizeof m);
    f->mistake[f->mistakes++] = m;
}

static bool ends_operand(const file *f, size_t i) {
    const token *t = &f->token[i];
    if (t->kind == NAME) return !is_any(f, i, keywords);
    return t->kind == NUMBER || is(f, i, ")") || is(f, i, "]");
}

typedef struct swap {
    const char *from, *to[3];
} swap;

static void try_swaps(file *f, int rule, size_t i, const swap *list) {
    for (; list->from; list++)
        for (int k = 0; is(f, i, list->from) && k < 3 && list->to[k]; k++)
            add(f, rule, i, i, list->to[k]);
}

// A name in capitals.
static bool is_flag(const file *f, size_t i) {
    const token *t = &f->token[i];
    for (size_t k = 0; k < t->length; k++)
        if (islower((unsigned char)f->text.bytes[t->at + k])) return false;
    return t->kind == NAME;
}

static void operators(file *f, size_t i) {
    static const swap binary[] = {{"+", {"-"}},
                                  {"-", {"+"}},
                                  {"*", {"/", "+"}},
                                  {"/", {"*"}},
                                  {"%", {"/"}},
                                  {"&", {"|"}},
                                  {"|", {"&"}},
                                  {"^", {"|"}},
                                  {"<<", {">>"}},
                                  {">>", {"<<"}},
                                  {"+=", {"-=", "="}},
                                  {"-=", {"+="}},
                                  {"*=", {"/=", "="}},
                                  {"/=", {"*="}},
                                  {"|=", {"&=", "="}},
                                  {"&=", {"|=", "="}},
                                  {"<<=", {">>="}},
                                  {">>=", {"<<="}},
                                  {0}};
    static const swap functions[] = {{"v_min", {"v_max"}},
                                     {"v_max", {"v_min"}},
                                     {"fminf", {"fmaxf"}},
                                     {"fmaxf", {"fminf"}},
                                     {"fmin", {"fmax"}},
                                     {"fmax", {"fmin"}},
                                     {0}};
    bool between = ends_operand(f, i - 1) && space_before(f, i) && space_after(f, i);
    if (is(f, i + 1, "(")) try_swaps(f, RULE_OPERATOR, i, functions);
    if (between && is(f, i, "|") && !(is_flag(f, i - 1) && is_flag(f, i + 1)))
        add(f, RULE_OPERATOR, i, i, "^"); // the same for flags, which are bits apart
    if (between)
        try_swaps(f, RULE_OPERATOR, i, binary);
    else if (is(f, i, "-") && !ends_operand(f, i - 1) && !space_after(f, i))
        add(f, RULE_OPERATOR, i, i, "");
}

// Does the statement that i is in, outside of brackets, declare something?
static bool in_declaration(const file *f, size_t i) {
    for (; i > 0 && !is(f, i - 1, ";") && !is(f, i - 1, "{") && !is(f, i - 1, "}"); i--) {
        if (is(f, i - 1, "(") || is(f, i - 1, "[")) return false;
        if ((is(f, i - 1, ")") || is(f, i - 1, "]")) && f->token[i - 1].match)
            i = f->token[i - 1].match + 1;
    }
    return f->token[i].kind == NAME && f->token[i + 1].kind == NAME && !is_any(f, i, keywords);
}

// Is the '[' at i that of an array's declaration, or of a designator?
static bool no_index(const file *f, size_t i) {
    if (is(f, i - 2, ",") && in_declaration(f, i - 2)) return true;
    if (f->token[i - 1].kind != NAME && !is(f, i - 1, "]") && !is(f, i - 1, ")")) return true;
    while (is(f, i - 1, "]")) i = f->token[i - 1].match;
    if (f->token[i - 1].kind != NAME) return false;
    if (f->token[i - 2].kind == NAME) return !is_any(f, i - 2, keywords);
    return is(f, i - 2, "*") && space_before(f, i - 2) && !space_after(f, i - 2);
}

static bool is_floating(const char *number) {
    if (number[0] == '0' && (number[1] == 'x' || number[1] == 'X')) return false;
    return strpbrk(number, ".eE") != NULL;
}

static void add_number(file *f, size_t i, double value, const char *suffix) {
    char to[64];
    snprintf(to, sizeof to, "%.9g", value);
    snprintf(to + strlen(to), sizeof to - strlen(to), "%s%s", strpbrk(to, ".e") ? "" : ".0",
             suffix);
    add(f, RULE_CONSTANT, i, i, to);
}

static void constants(file *f, size_t i) {
    if (f->token[i].kind != NUMBER) return;
    if (is(f, i - 1, "{") && is(f, i + 1, "}") && is(f, i, "0")) return; // everything zero
    if (is(f, i - 1, "[") && no_index(f, i - 1)) return;                 // room
    char *number = cut(f, i, i), *rest, to[64];
    if (is_floating(number)) {
        double value = strtod(number, &rest);
        add_number(f, i, value ? 2 * value : 1, rest);
        if (value) add_number(f, i, value / 2, rest);
    } else {
        bool hex = number[0] == '0' && (number[1] == 'x' || number[1] == 'X');
        uint64_t value = strtoull(number, &rest, 0);
        for (int step = -1; step <= 1; step += 2) {
            if (!value && step < 0) continue;
            uint64_t other = value + (uint64_t)(int64_t)step;
            snprintf(to, sizeof to, hex ? "0x%" PRIx64 "%s" : "%" PRIu64 "%s", other, rest);
            add(f, RULE_CONSTANT, i, i, to);
        }
    }
    free(number);
}

// The last token of the expression that starts at i, as far as a comma, a bracket or a semicolon.
static size_t expression_end(const file *f, size_t i) {
    static const char *const ends[] = {",", ")", "]", "}", ";", ":", NULL};
    while (i + 1 < f->tokens && !is_any(f, i, ends)) {
        if ((is(f, i, "(") || is(f, i, "[") || is(f, i, "{")) && f->token[i].match)
            i = f->token[i].match;
        i++;
    }
    return i - 1;
}

static bool same_tokens(const file *f, size_t a, size_t b, size_t count) {
    for (size_t k = 0; k < count; k++) {
        const token *x = &f->token[a + k], *y = &f->token[b + k];
        if (b + k >= f->tokens || x->length != y->length) return false;
        if (memcmp(f->text.bytes + x->at, f->text.bytes + y->at, x->length) != 0) return false;
    }
    return true;
}

// Where two expressions lie.
typedef struct pair {
    size_t a, a_tokens, b, b_tokens;
} pair;

// Does the comparison at i stand between these two, in either order, as its whole operands?
static bool compares(const file *f, size_t i, pair p) {
    static const char *const before[] = {"=", "(", ",", "[", "return", NULL};
    for (int turn = 0; turn < 2; turn++) {
        bool left = i > p.a_tokens && same_tokens(f, p.a, i - p.a_tokens, p.a_tokens) &&
                    is_any(f, i - p.a_tokens - 1, before);
        size_t end = i + 1 + p.b_tokens;
        bool right = end < f->tokens && same_tokens(f, p.b, i + 1, p.b_tokens) &&
                     (is(f, end, "?") || is(f, end, ")"));
        if (left && right) return true;
        p = (pair){p.b, p.b_tokens, p.a, p.a_tokens};
    }
    return false;
}

// The lesser or the greater: "a < b ? a : b", or "if (a < b) a = b;".
static bool takes_one_of_both(const file *f, size_t i) {
    static const char *const ends[] = {";", "{", "}", "&&", "||", NULL};
    size_t k = i + 1;
    while (k + 1 < f->tokens && !is(f, k, "?") && !f->token[k].header)
        if (is_any(f, k++, ends)) return false;
    bool choice = is(f, k, "?");
    size_t middle = k + 1;
    while (middle + 1 < f->tokens && !is(f, middle, choice ? ":" : "="))
        if (is_any(f, middle++, ends)) return false;
    size_t last = expression_end(f, middle + 1);
    return compares(f, i, (pair){k + 1, middle - k - 1, middle + 1, last - middle});
}

static void comparisons(file *f, size_t i) {
    static const swap turned[] = {{"<", {">"}}, {"<=", {">="}}, {">", {"<"}}, {">=", {"<="}}, {0}};
    static const swap others[] = {{"<", {"<=", ">"}},
                                  {"<=", {"<", ">="}},
                                  {">", {">=", "<"}},
                                  {">=", {">", "<="}},
                                  {"==", {"!="}},
                                  {"!=", {"=="}},
                                  {0}};
    if (!space_before(f, i) || !space_after(f, i)) return;
    try_swaps(f, RULE_COMPARISON, i, takes_one_of_both(f, i) ? turned : others);
}

static void indices(file *f, size_t i) {
    if (!is(f, i, "[") || !f->token[i].match || no_index(f, i)) return;
    size_t last = f->token[i].match - 1;
    if (last <= i) return;
    add(f, RULE_INDEX, i + 1, last, "(%s) + 1");
    add(f, RULE_INDEX, i + 1, last, "(%s) - 1");
}

// One side of "? a : b" for both. Not where a or b holds another one.
static void choices(file *f, size_t i) {
    size_t colon = expression_end(f, i + 1) + 1;
    if (!is(f, colon, ":")) return;
    size_t last = expression_end(f, colon + 1);
    for (size_t k = i + 1; k <= last; k++)
        if (is(f, k, "?")) return;
    char *a = cut(f, i + 1, colon - 1), *b = cut(f, colon + 1, last);
    if (!strchr(a, '\n') && !strchr(b, '\n')) {
        add(f, RULE_CONDITION, colon + 1, last, a);
        add(f, RULE_CONDITION, i + 1, colon - 1, b);
    }
    free(a);
    free(b);
}

static void conditions(file *f, size_t i) {
    static const swap both[] = {{"&&", {"||"}}, {"||", {"&&"}}, {0}};
    try_swaps(f, RULE_CONDITION, i, both);
    if (is(f, i, "!")) add(f, RULE_CONDITION, i, i, "");
    if (is(f, i, "?")) choices(f, i);
    if (!is(f, i, "if") || !is(f, i + 1, "(") || !f->token[i + 1].match) return;
    add(f, RULE_CONDITION, i + 1, f->token[i + 1].match, "(0 && %s)");
    add(f, RULE_CONDITION, i + 1, f->token[i + 1].match, "(1 || %s)");
}

// The ';' of the statement that starts at i; 0 where it is a declaration or has a block.
static size_t statement_end(const file *f, size_t i) {
    if (f->token[i].kind != NAME && !is(f, i, "*")) return 0;
    if (is_any(f, i, keywords)) return 0;
    bool declares = f->token[i].kind == NAME && f->token[i + 1].kind == NAME;
    bool points = is(f, i + 1, "*") && space_before(f, i + 1) && !space_after(f, i + 1);
    if (declares || points || is(f, i + 1, ":")) return 0;
    for (; i + 1 < f->tokens; i++) {
        if ((is(f, i, "(") || is(f, i, "[") || is(f, i, "{")) && f->token[i].match)
            i = f->token[i].match;
        if (is(f, i, ";")) return i;
        if (is(f, i, "}") && f->token[i].block) return 0;
    }
    return 0;
}

static bool frees(const file *f, size_t i) {
    const token *t = &f->token[i];
    return is(f, i + 1, "(") && t->length >= 4 &&
           memcmp(f->text.bytes + t->at + t->length - 4, "free", 4) == 0;
}

static void statements(file *f, size_t i) {
    if (!f->token[i].statement || frees(f, i)) return;
    size_t last = statement_end(f, i);
    if (!last) return;
    char *old = cut(f, i, last), *to = calloc(strlen(old) + 2, 1);
    if (!to) die("out of memory", f->path);
    strcpy(to, ";");
    for (const char *c = old; (c = strchr(c, '\n')); c++) // lines keep their numbers
        strcat(to, f->token[i].in_macro ? "\\\n" : "\n");
    add(f, RULE_STATEMENT, i, last, to);
    free(old);
    free(to);
}

static void find_mistakes(file *f) {
    static void (*const rules[])(file *, size_t) = {operators, constants,  comparisons,
                                                    indices,   conditions, statements};
    for (size_t i = 2; i + 2 < f->tokens; i++) {
        for (int r = 0; r < RULES; r++)
            if (f->token[i].in == CODE || (f->token[i].in == ENUM && r == RULE_CONSTANT))
                rules[r](f, i);
    }
}

// ---- what is asked for --------------------------------------------------------------------------

static file scan(const char *path) {
    file f = open_file(path);
    find_mistakes(&f);
    return f;
}

static text with(const text *t, const mistake *m) {
    text made = {.length = t->length - m->length + strlen(m->to)};
    made.bytes = calloc(made.length + 1, 1);
    if (!made.bytes) die("out of memory", "a text");
    memcpy(made.bytes, t->bytes, m->at);
    strcpy(made.bytes + m->at, m->to);
    strcpy(made.bytes + m->at + strlen(m->to), t->bytes + m->at + m->length);
    return made;
}

static void print_line(const char *bytes, size_t at) {
    while (at > 0 && bytes[at - 1] != '\n') at--;
    while (bytes[at] == ' ') at++;
    for (; bytes[at] && bytes[at] != '\n'; at++) putchar(bytes[at] == '\t' ? ' ' : bytes[at]);
}

static void say(const char *path, const text *t, const mistake *m, const char *rule) {
    text made = with(t, m);
    int line = 1;
    for (size_t i = 0; i < m->at; i++) line += t->bytes[i] == '\n';
    printf("%s:%d\t%s\t", path, line, rule);
    print_line(t->bytes, m->at);
    putchar('\t');
    print_line(made.bytes, m->at);
    putchar('\n');
    free(made.bytes);
}

static void write_file(const char *path, const text *t) {
    FILE *out = fopen(path, "wb");
    if (!out || fwrite(t->bytes, 1, t->length, out) != t->length || fclose(out) != 0)
        die("cannot be written", path);
}

// splitmix64 (Steele, Lea, Flood 2014), from FNV-1a of the seed's text.
static uint64_t drawn(uint64_t *state, uint64_t below) {
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (x ^ x >> 31) % below;
}

static uint64_t state_of(const char *seed) {
    uint64_t state = 0xcbf29ce484222325u;
    for (; *seed; seed++) state = (state ^ (unsigned char)*seed) * 0x100000001b3u;
    return state;
}

static int draw(const char *seed, const char *out, int files, char **paths) {
    uint64_t state = state_of(seed), places[RULES] = {0};
    file f = scan(paths[drawn(&state, (uint64_t)files)]);
    for (size_t k = 0; k < f.mistakes; k++) places[f.mistake[k].rule]++;
    int rule = (int)drawn(&state, RULES);
    for (int tries = 0; !places[rule] && tries < RULES; tries++) rule = (rule + 1) % RULES;
    if (!places[rule]) die("no rule applies", f.path);
    uint64_t place = drawn(&state, places[rule]);
    for (size_t k = 0; k < f.mistakes; k++) {
        const mistake *m = &f.mistake[k];
        if (m->rule != rule || place-- != 0) continue;
        text made = with(&f.text, m);
        write_file(out, &made);
        say(f.path, &f.text, m, rule_names[rule]);
        return 0;
    }
    return 2;
}

static int replace(const char *out, const char *path, const char *from, char *to) {
    text t = read_file(path);
    const char *at = strstr(t.bytes, from);
    if (!at) die("does not hold the text to be replaced", path);
    if (strstr(at + 1, from)) die("holds the text to be replaced more than once", path);
    mistake m = {.at = (size_t)(at - t.bytes), .length = strlen(from), .to = to};
    text made = with(&t, &m);
    write_file(out, &made);
    say(path, &t, &m, "written");
    return 0;
}

static int list_all(int files, char **paths) {
    for (int i = 0; i < files; i++) {
        file f = scan(paths[i]);
        for (size_t k = 0; k < f.mistakes; k++)
            say(f.path, &f.text, &f.mistake[k], rule_names[f.mistake[k].rule]);
    }
    return 0;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "draw") == 0 && argc > 4) return draw(argv[2], argv[3], argc - 4, argv + 4);
    if (strcmp(what, "replace") == 0 && argc == 6)
        return replace(argv[2], argv[3], argv[4], argv[5]);
    if (strcmp(what, "list") == 0 && argc > 2) return list_all(argc - 2, argv + 2);
    fprintf(stderr,
            "usage: mutate draw SEED OUT FILE... | replace OUT FILE FROM TO | list FILE...\n");
    return 2;
}
