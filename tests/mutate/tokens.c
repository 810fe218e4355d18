#include "tokens.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NESTED = 64 };

void die(const char *what, const char *name) {
    fprintf(stderr, "mutate: %s: %s\n", name, what);
    exit(2);
}

void *grown(void *list, size_t count, size_t size) {
    bool full = (count & (count - 1)) == 0; // 0, and powers of two
    if (full) list = realloc(list, (count ? 2 * count : 1) * size);
    if (!list) die("out of memory", "a list");
    return list;
}

text read_file(const char *path) {
    FILE *in = fopen(path, "rb");
    if (!in) die("cannot be opened", path);
    fseek(in, 0, SEEK_END);
    text t = {.length = (size_t)ftell(in)};
    rewind(in);
    t.bytes = calloc(t.length + 1, 1);
    if (!t.bytes || fread(t.bytes, 1, t.length, in) != t.length) die("cannot be read", path);
    fclose(in);
    return t;
}

bool is(const file *f, size_t i, const char *what) {
    const token *t = &f->token[i];
    return t->length == strlen(what) && memcmp(f->text.bytes + t->at, what, t->length) == 0;
}

bool is_any(const file *f, size_t i, const char *const *list) {
    for (; *list; list++)
        if (is(f, i, *list)) return true;
    return false;
}

bool space_before(const file *f, size_t i) {
    return isspace((unsigned char)f->text.bytes[f->token[i].at - 1]);
}

bool space_after(const file *f, size_t i) {
    return isspace((unsigned char)f->text.bytes[f->token[i].at + f->token[i].length]);
}

static size_t sign_length(const char *s) {
    static const char *const longer[] = {"<<=", ">>=", "...", "->", "++", "--", "<<", ">>",
                                         "<=",  ">=",  "==",  "!=", "&&", "||", "+=", "-=",
                                         "*=",  "/=",  "%=",  "&=", "|=", "^=", "##", NULL};
    for (int i = 0; longer[i]; i++)
        if (strncmp(s, longer[i], strlen(longer[i])) == 0) return strlen(longer[i]);
    return 1;
}

static size_t literal_length(const char *s) {
    size_t n = 1;
    while (s[n] && s[n] != s[0]) n += s[n] == '\\' ? 2 : 1;
    return n + 1;
}

static size_t number_length(const char *s) {
    size_t n = 1;
    bool hex = s[0] == '0' && (s[1] == 'x' || s[1] == 'X');
    while (isalnum((unsigned char)s[n]) || s[n] == '.' ||
           (!hex && (s[n] == '+' || s[n] == '-') && (s[n - 1] == 'e' || s[n - 1] == 'E')))
        n++;
    return n;
}

static token *add_token(file *f, token_kind kind, size_t at, size_t length, bool in_macro) {
    f->token = grown(f->token, f->tokens, sizeof *f->token);
    f->token[f->tokens] = (token){.kind = kind, .at = at, .length = length, .in_macro = in_macro};
    return &f->token[f->tokens++];
}

static size_t line_end(const char *s, size_t at) {
    while (s[at] && !(s[at] == '\n' && s[at - 1] != '\\')) at++;
    return at;
}

// Behind "#define NAME(PARAMETERS)", or at the end of any other directive.
static size_t skip_directive(const char *s, size_t at, size_t *macro_end) {
    size_t end = line_end(s, at), i = at + 1;
    while (s[i] == ' ') i++;
    if (strncmp(s + i, "define ", 7) != 0) return end;
    for (i += 7; isalnum((unsigned char)s[i]) || s[i] == '_';) i++;
    if (s[i] == '(') i += strcspn(s + i, ")") + 1;
    *macro_end = end;
    return i;
}

static size_t skip_comment(const char *s, size_t at) {
    if (s[at + 1] == '/') return line_end(s, at);
    const char *end = strstr(s + at + 2, "*/");
    return end ? (size_t)(end + 2 - s) : at + strlen(s + at);
}

static void read_tokens(file *f) {
    const char *s = f->text.bytes;
    size_t macro_end = 0;
    bool line_start = true;
    add_token(f, SIGN, 0, 0, false);
    for (size_t i = 0; s[i];) {
        bool in_macro = i < macro_end;
        size_t length = 0;
        if (s[i] == '\n' || isspace((unsigned char)s[i]) || s[i] == '\\') {
            line_start |= s[i] == '\n';
            i++;
            continue;
        }
        if (s[i] == '#' && line_start && !in_macro) {
            i = skip_directive(s, i, &macro_end);
            continue;
        }
        line_start = false;
        if (s[i] == '/' && (s[i + 1] == '/' || s[i + 1] == '*')) {
            i = skip_comment(s, i);
            continue;
        }
        token_kind kind = SIGN;
        if (isalpha((unsigned char)s[i]) || s[i] == '_') {
            kind = NAME;
            while (isalnum((unsigned char)s[i + length]) || s[i + length] == '_') length++;
        } else if (isdigit((unsigned char)s[i]) ||
                   (s[i] == '.' && isdigit((unsigned char)s[i + 1]))) {
            kind = NUMBER;
            length = number_length(s + i);
        } else if (s[i] == '"' || s[i] == '\'') {
            kind = LITERAL;
            length = literal_length(s + i);
        } else {
            length = sign_length(s + i);
        }
        add_token(f, kind, i, length, in_macro);
        i += length;
    }
    add_token(f, SIGN, f->text.length, 0, false);
}

static void match_brackets(file *f) {
    size_t open[MOST_NESTED];
    int depth = 0;
    for (size_t i = 1; i + 1 < f->tokens; i++) {
        token *t = &f->token[i];
        if (i > 1 && !t->in_macro && f->token[i - 1].in_macro) depth = 0; // macros are outside
        if (t->kind != SIGN || t->length != 1) continue;
        char c = f->text.bytes[t->at];
        if (strchr("([{", c) && depth < MOST_NESTED) open[depth++] = i;
        if (!strchr(")]}", c) || depth == 0) continue;
        size_t begin = open[--depth];
        t->match = begin;
        f->token[begin].match = i;
        static const char *const heads[] = {"if", "for", "while", "switch", NULL};
        t->header = c == ')' && is_any(f, begin - 1, heads);
    }
}

// Is '{' at i that of a block of statements?
static bool opens_block(const file *f, size_t i) {
    static const char *const before[] = {"else", "do", ";", "{", "}", ":", NULL};
    if (is(f, i - 1, ")")) return space_before(f, i);
    return is_any(f, i - 1, before) && (!is(f, i - 1, "{") || f->token[i - 1].block);
}

static context inside(const file *f, size_t i, context around) {
    if (is(f, i - 1, "enum") || is(f, i - 2, "enum")) return ENUM;
    if (around == CODE) return CODE;
    if (around == OUTSIDE && is(f, i - 1, ")")) return CODE;
    return TABLE;
}

static bool starts_statement(const file *f, size_t i) {
    const token *before = &f->token[i - 1];
    if (is(f, i - 1, ";") || is(f, i - 1, "else") || is(f, i - 1, "do")) return true;
    if (is(f, i - 1, "{") || is(f, i - 1, "}")) return before->block;
    return before->header;
}

static void find_contexts(file *f) {
    context around[MOST_NESTED] = {OUTSIDE};
    int depth = 0, parens = 0;
    for (size_t i = 1; i + 1 < f->tokens; i++) {
        token *t = &f->token[i];
        t->in = t->in_macro ? CODE : around[depth];
        bool open = is(f, i, "{"), close = is(f, i, "}");
        if (is(f, i, "(")) parens++;
        if (is(f, i, ")") && parens) parens--;
        if (open) t->block = opens_block(f, i);
        if (close && t->match) t->block = f->token[t->match].block;
        t->statement = t->in == CODE && (!parens || is(f, i, "(")) && starts_statement(f, i);
        if (t->in_macro) continue;
        if (open && depth + 1 < MOST_NESTED) {
            around[depth + 1] = inside(f, i, around[depth]);
            depth++;
        }
        if (close && depth) depth--;
        if (!depth) parens = 0;
    }
}

file open_file(const char *path) {
    file f = {.path = path, .text = read_file(path)};
    read_tokens(&f);
    match_brackets(&f);
    find_contexts(&f);
    return f;
}
