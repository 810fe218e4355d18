#include "benchmarks/ptxas_log.h"

#include <stdio.h>
#include <string.h>

// "ptxas info    : Function properties for NAME"; the name ends its line, or is quoted.
static const char *find_function(const char *log, const char *entry) {
    static const char marker[] = "Function properties for ";
    size_t length = strlen(entry);
    for (const char *at = log; at && (at = strstr(at, marker));) {
        at += strlen(marker);
        at += *at == '\'';
        if (!strncmp(at, entry, length) && strchr("'\r\n ", at[length])) return at + length;
    }
    return NULL;
}

bool ptxas_log_find(const char *log, const char *entry, kernel_resources *out) {
    *out = (kernel_resources){0};
    const char *at = find_function(log, entry);
    const char *numbers = at ? strchr(at, '\n') : NULL;
    if (!numbers) return false;
    numbers += strcspn(numbers, "0123456789");
    if (sscanf(numbers, "%d bytes stack frame, %d bytes spill stores, %d bytes spill loads",
               &out->stack_bytes, &out->spill_stores, &out->spill_loads) != 3)
        return false;
    const char *used = strstr(numbers, "Used ");
    if (!used || sscanf(used, "Used %d registers", &out->registers) != 1) return false;
    // "Used 26 registers, used 1 barriers, 1024 bytes smem, 372 bytes cmem[0]"
    size_t line = strcspn(used, "\n");
    for (const char *part = used; (part = strchr(part, ',')) && part < used + line; part++) {
        int bytes, end = 0;
        if (sscanf(part, ", %d bytes smem%n", &bytes, &end) == 1 && end) out->shared_bytes = bytes;
    }
    return true;
}
