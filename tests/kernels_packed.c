#include "tests/kernels_packed.h"

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/strbuf.h"

enum { MOST_IN_ONE = 16 };

static bool is_generated(const kernel_spec *k) {
    return !strcmp(k->file, "chain");
}

static void append_renamed(strbuf *out, const kernel_spec *k, int number) {
    strbuf_printf(out,
                  "#define %s %s__%d\n#define %s_body %s_body__%d\n%s#undef %s\n#undef %s_body\n",
                  k->name, k->name, number, k->name, k->name, number, k->source, k->name, k->name);
}

static void add_file_kernel(packed_kernels *out, const program *all, int first, bool *done) {
    const kernel_spec *k = &all->kernel[first];
    out->item[out->items++] = *k;
    for (int i = first; i < all->kernels; i++)
        done[i] = done[i] || (!strcmp(all->kernel[i].source, k->source) &&
                              !strcmp(all->kernel[i].defines, k->defines));
}

static void add_generated(packed_kernels *out, const program *all, int first, bool *done,
                          brim_error *err) {
    const kernel_spec *k = &all->kernel[first];
    strbuf text = {.err = err};
    for (int i = first, count = 0; i < all->kernels && count < MOST_IN_ONE; i++) {
        const kernel_spec *other = &all->kernel[i];
        if (done[i] || !is_generated(other) || strcmp(other->defines, k->defines)) continue;
        append_renamed(&text, other, count++);
        done[i] = true;
    }
    out->item[out->items] = *k;
    out->item[out->items++].source = arena_strdup(&out->memory, strbuf_text(&text), err);
    strbuf_free(&text);
}

brim_status pack_kernels(const program *all, packed_kernels *out, brim_error *err) {
    *out = (packed_kernels){0};
    bool *done = brim_calloc_array((size_t)all->kernels, sizeof *done, err);
    out->item = brim_calloc_array((size_t)all->kernels, sizeof *out->item, err);
    for (int i = 0; i < all->kernels && !failed(err); i++) {
        if (done[i]) continue;
        if (is_generated(&all->kernel[i]))
            add_generated(out, all, i, done, err);
        else
            add_file_kernel(out, all, i, done);
    }
    free(done);
    return err->status;
}

void packed_kernels_free(packed_kernels *packed) {
    free(packed->item);
    arena_free(&packed->memory);
}
