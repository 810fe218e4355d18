#include "tests/recipe_shrink.h"

#include <string.h>
#include "core/dtype.h"
#include "tests/op_cases.h"

typedef struct shrinker {
    recipe best;
    recipe_fails *fails;
    void *user;
    int tries, tried;
} shrinker;

// Takes over a recipe that still fails.
static bool try_instead(shrinker *s, const recipe *r) {
    if (s->tried == s->tries || r->steps == 0 || memcmp(r, &s->best, sizeof *r) == 0) return false;
    s->tried++;
    if (!s->fails(r, s->user)) return false;
    s->best = *r;
    return true;
}

// Steps ------------------------------------------------------------------------------------------

static void count_readers(const recipe *r, int *readers) {
    memset(readers, 0, RECIPE_STEPS * sizeof *readers);
    for (int i = 0; i < r->steps; i++)
        for (int k = 0; k < recipe_rows[r->step[i].kind].operands; k++) readers[r->step[i].x[k]]++;
}

// Takes step i out, which nobody reads, and what was made for it alone.
static void take_out(const recipe *r, int i, bool *gone, int *readers) {
    gone[i] = true;
    for (int k = 0; k < recipe_rows[r->step[i].kind].operands; k++)
        if (--readers[r->step[i].x[k]] == 0) take_out(r, r->step[i].x[k], gone, readers);
}

static void close_up(recipe *r, const bool *gone) {
    int to[RECIPE_STEPS], steps = 0;
    for (int i = 0; i < r->steps; i++) {
        if (gone[i]) continue;
        to[i] = steps;
        recipe_step step = r->step[i];
        for (int k = 0; k < recipe_rows[step.kind].operands; k++) step.x[k] = to[step.x[k]];
        r->step[steps++] = step;
    }
    memset(&r->step[steps], 0, (size_t)(r->steps - steps) * sizeof *r->step);
    r->steps = steps;
}

static bool without_step(shrinker *s, int i) {
    recipe r = s->best;
    int readers[RECIPE_STEPS];
    bool gone[RECIPE_STEPS] = {false};
    count_readers(&r, readers);
    if (readers[i]) return false;
    take_out(&r, i, gone, readers);
    close_up(&r, gone);
    return try_instead(s, &r);
}

typedef struct types {
    shape shape[RECIPE_STEPS];
    brim_dtype dtype[RECIPE_STEPS];
} types;

static bool types_of(const recipe *r, types *out) {
    brim_error err = {0};
    brim_graph *g = brim_graph_create(&err);
    brim_value value[RECIPE_STEPS];
    for (int i = 0; i < r->steps && !failed(&err); i++) {
        value[i] = recipe_make_step(r, i, g, value);
        if (failed(&err)) break;
        out->shape[i] = g->value[value[i].id].shape;
        out->dtype[i] = g->value[value[i].id].dtype;
    }
    brim_graph_free(g);
    return !failed(&err);
}

// Replaces step i by `with`, and takes out what was made for it alone.
static bool replace_step(shrinker *s, int i, const recipe_step *with) {
    recipe r = s->best;
    int readers[RECIPE_STEPS];
    bool gone[RECIPE_STEPS] = {false};
    count_readers(&r, readers);
    take_out(&r, i, gone, readers);
    gone[i] = false;
    r.step[i] = *with;
    close_up(&r, gone);
    return try_instead(s, &r);
}

static bool leaf_instead(shrinker *s, int i, const types *t) {
    recipe_kind kind = s->best.step[i].kind;
    if (kind == STEP_input || kind == STEP_parameter) return false;
    recipe_step leaf = {.kind = STEP_input};
    leaf.n[LEAF_DTYPE] = t->dtype[i];
    leaf.n[LEAF_FILL] = dtype_is_float(t->dtype[i]) ? OP_CASE_FILL_POSITIVE : OP_CASE_FILL_BELOW;
    leaf.n[LEAF_ARGUMENT] = dtype_is_float(t->dtype[i]) ? 0 : 5;
    leaf.n[LEAF_RANK] = t->shape[i].rank;
    for (int k = 0; k < t->shape[i].rank; k++) leaf.n[LEAF_EXTENTS + k] = t->shape[i].dim[k];
    return replace_step(s, i, &leaf);
}

// Readers of step i read one of its operands.
static bool operand_instead(shrinker *s, int i, const types *t) {
    const recipe_step *step = &s->best.step[i];
    for (int k = 0; k < recipe_rows[step->kind].operands; k++) {
        int x = step->x[k];
        if (t->dtype[x] != t->dtype[i] || !shape_equal(&t->shape[x], &t->shape[i])) continue;
        recipe r = s->best;
        for (int j = i + 1; j < r.steps; j++)
            for (int o = 0; o < recipe_rows[r.step[j].kind].operands; o++)
                if (r.step[j].x[o] == i) r.step[j].x[o] = x;
        int readers[RECIPE_STEPS];
        bool gone[RECIPE_STEPS] = {false};
        count_readers(&r, readers);
        take_out(&r, i, gone, readers);
        close_up(&r, gone);
        if (try_instead(s, &r)) return true;
    }
    return false;
}

static bool fewer_steps(shrinker *s) {
    bool any = false;
    types t;
    for (int i = s->best.steps - 1; i >= 0; i--) {
        if (i >= s->best.steps || !types_of(&s->best, &t)) continue;
        any |= without_step(s, i) || leaf_instead(s, i, &t) || operand_instead(s, i, &t);
    }
    return any;
}

// Extents ----------------------------------------------------------------------------------------

// Sets numbers that are extents and equal `from` to `to`, wherever they are.
static bool change_extent(shrinker *s, int64_t from, int64_t to) {
    recipe r = s->best;
    for (int i = 0; i < r.steps; i++) {
        uint32_t extents = recipe_rows[r.step[i].kind].extents;
        for (int k = 0; k < RECIPE_NUMBERS; k++)
            if (extents >> k & 1 && r.step[i].n[k] == from) r.step[i].n[k] = to;
    }
    return try_instead(s, &r);
}

static bool smaller_extents(shrinker *s) {
    bool any = false;
    for (int i = 0; i < s->best.steps; i++) {
        uint32_t extents = recipe_rows[s->best.step[i].kind].extents;
        for (int k = 0; k < RECIPE_NUMBERS; k++) {
            int64_t from = s->best.step[i].n[k];
            if (!(extents >> k & 1) || from < 2) continue;
            any |= change_extent(s, from, 1) || (from > 2 && change_extent(s, from, 2)) ||
                   (from > 4 && change_extent(s, from, from / 2)) ||
                   (from > 3 && change_extent(s, from, from - 1));
        }
    }
    return any;
}

// One axis less of a leaf, where its extent is 1.
static bool fewer_axes(shrinker *s) {
    bool any = false;
    for (int i = 0; i < s->best.steps; i++) {
        recipe r = s->best;
        recipe_step *leaf = &r.step[i];
        if ((leaf->kind != STEP_input && leaf->kind != STEP_parameter) || leaf->n[LEAF_RANK] == 0 ||
            leaf->n[LEAF_EXTENTS] != 1)
            continue;
        memmove(&leaf->n[LEAF_EXTENTS], &leaf->n[LEAF_EXTENTS + 1],
                (RECIPE_NUMBERS - LEAF_EXTENTS - 1) * sizeof leaf->n[0]);
        leaf->n[RECIPE_NUMBERS - 1] = 0;
        leaf->n[LEAF_RANK]--;
        any |= try_instead(s, &r);
    }
    return any;
}

// Options ----------------------------------------------------------------------------------------

static bool simpler_options(shrinker *s) {
    bool any = false;
#define X(name, meaning)                                                                           \
    if (s->best.name) {                                                                            \
        recipe r = s->best;                                                                        \
        r.name = 0;                                                                                \
        any |= try_instead(s, &r);                                                                 \
    }
    RECIPE_OPTIONS(X)
#undef X
    return any;
}

int recipe_shrink(recipe *r, recipe_fails *fails, void *user, int tries) {
    shrinker s = {.best = *r, .fails = fails, .user = user, .tries = tries};
    bool changed = true;
    while (changed && s.tried < tries) {
        changed = fewer_steps(&s);
        changed |= simpler_options(&s);
        changed |= smaller_extents(&s);
        changed |= fewer_axes(&s);
    }
    *r = s.best;
    return s.tried;
}
