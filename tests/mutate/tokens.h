// C texts as tokens that know where they stand, for the rules of mutate.c.
//
// The texts are formatted by clang-format. So "a * b" is a product and "a *b" a pointer; ") {"
// opens a block and "){" a literal.
#ifndef BRIM_TESTS_MUTATE_TOKENS_H
#define BRIM_TESTS_MUTATE_TOKENS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct text {
    char *bytes; // with a NUL behind
    size_t length;
} text;

// Where a token stands.
typedef enum context { OUTSIDE, TABLE, ENUM, CODE } context;
typedef enum token_kind { NAME, NUMBER, LITERAL, SIGN } token_kind;

typedef struct token {
    token_kind kind;
    size_t at, length;
    size_t match; // of a bracket: the token that closes or opens it; 0: none
    context in;
    bool header;    // ')' of if, for, while, switch
    bool statement; // starts one
    bool block;     // '{' of a block rather than of a literal or table; '}' likewise
    bool in_macro;
} token;

typedef struct file {
    const char *path;
    text text;
    token *token; // token[0] and the last one are empty, so that each has neighbours
    size_t tokens;
    struct mistake *mistake; // what the rules found
    size_t mistakes;
} file;

// Both end the program where the file cannot be read.
text read_file(const char *path);
file open_file(const char *path); // with its tokens; no mistakes yet

bool is(const file *f, size_t i, const char *what);
bool is_any(const file *f, size_t i, const char *const *list); // NULL ends the list
bool space_before(const file *f, size_t i);
bool space_after(const file *f, size_t i);

void die(const char *what, const char *name);
// Room for one element more than `count`; ends the program where there is none.
void *grown(void *list, size_t count, size_t size);

#endif
