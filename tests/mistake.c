#include "tests/mistake.h"

#include <string.h>

static const char *wrong_from, *wrong_to;
static int places;
static const backend *real;
static backend with_mistake;

static void put_in(arena *memory, kernel_spec *kernel, brim_error *err) {
    char *text = arena_strdup(memory, "", err);
    const char *at = kernel->source, *found;
    while (text && (found = strstr(at, wrong_from))) {
        text = arena_printf(memory, err, "%s%.*s%s", text, (int)(found - at), at, wrong_to);
        at = found + strlen(wrong_from);
        places++;
    }
    if (text && at != kernel->source) kernel->source = arena_printf(memory, err, "%s%s", text, at);
}

static brim_status load_with_mistake(backend_device *device, const program *p, loaded_program **out,
                                     brim_error *err) {
    program *changed = (program *)p; // made by the harness for this load alone
    for (int32_t i = 0; i < p->kernels; i++) put_in(changed->memory, &changed->kernel[i], err);
    return real->load(device, p, out, err);
}

void mistake_begin(harness *h, const char *from, const char *to) {
    wrong_from = from;
    wrong_to = to;
    places = 0;
    real = h->backend;
    with_mistake = *real;
    with_mistake.load = load_with_mistake;
    h->backend = &with_mistake;
}

int mistake_places(void) {
    return places;
}

void mistake_end(harness *h) {
    h->backend = real;
}
