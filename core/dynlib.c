#define _POSIX_C_SOURCE 200809L
#include "core/dynlib.h"

#include <dlfcn.h>
#include <string.h>
#include "core/strbuf.h"

// ISO C has no conversion from an object pointer to a function pointer; POSIX promises that the
// bytes are the same.
static void set_slot(void *functions, const dynlib_symbol *symbol, void *address) {
    memcpy((char *)functions + symbol->slot, &address, sizeof address);
}

static void clear_slots(const dynlib_table *table, void *functions) {
    for (size_t i = 0; i < table->count; i++) set_slot(functions, &table->symbols[i], NULL);
}

// The first required symbol that is missing, or NULL.
static const char *load_symbols(void *handle, const dynlib_table *table, void *functions) {
    for (size_t i = 0; i < table->count; i++) {
        const dynlib_symbol *symbol = &table->symbols[i];
        void *address = dlsym(handle, symbol->name);
        if (!address && symbol->required) return symbol->name;
        set_slot(functions, symbol, address);
    }
    return NULL;
}

static void *open_candidate(const char *name, const dynlib_table *table, void *functions,
                            strbuf *reasons) {
    const char *separator = reasons->length ? "; " : "";
    // Drivers and OpenMP runtimes leave threads and exit handlers behind: their code stays mapped.
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle) {
        const char *reason = dlerror();
        strbuf_printf(reasons, "%s%s", separator, reason ? reason : name);
        return NULL;
    }
    const char *missing = load_symbols(handle, table, functions);
    if (!missing) return handle;
    strbuf_printf(reasons, "%s%s: it has no symbol %s", separator, name, missing);
    dlclose(handle);
    return NULL;
}

bool dynlib_open(dynlib *library, const dynlib_table *table, void *functions, brim_error *err) {
    if (failed(err)) return false;
    *library = (dynlib){0};
    brim_error short_of_memory = {0};
    strbuf reasons = {.err = &short_of_memory};
    for (const char *const *name = table->candidates; *name && !library->handle; name++) {
        clear_slots(table, functions);
        *library = (dynlib){open_candidate(*name, table, functions, &reasons), *name};
    }
    bool opened = library->handle != NULL;
    if (!opened) {
        clear_slots(table, functions);
        *library = (dynlib){0};
        if (failed(&short_of_memory)) *err = short_of_memory;
        brim_fail(err, BRIM_DEVICE, "%s cannot be loaded: %s", table->purpose,
                  strbuf_text(&reasons));
    }
    strbuf_free(&reasons);
    return opened;
}

void dynlib_close(dynlib *library) {
    if (library->handle) dlclose(library->handle);
    *library = (dynlib){0};
}
