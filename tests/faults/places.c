#include "tests/faults/places.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const char __executable_start[];

static fault_site *met;
static int mets;

void places_add(const fault_site *site) {
    for (int i = 0; i < mets; i++)
        if (memcmp(met[i].frame, site->frame, sizeof site->frame) == 0) return;
    fault_site *grown = realloc(met, (size_t)(mets + 1) * sizeof *met);
    if (!grown) return;
    met = grown;
    met[mets++] = *site;
}

int places_counted(void) {
    return mets;
}

// ---- names --------------------------------------------------------------------------------------

typedef struct named {
    uintptr_t address;
    char name[64];
} named;

static named *names;
static size_t name_count;

static const char *find_name(uintptr_t address) {
    for (size_t i = 0; i < name_count; i++)
        if (names[i].address == address) return names[i].name;
    return NULL;
}

static void add_address(uintptr_t address) {
    if (!address || find_name(address)) return;
    named *grown = realloc(names, (name_count + 1) * sizeof *names);
    if (!grown) return;
    names = grown;
    names[name_count++] = (named){.address = address};
}

static unsigned long long in_file(uintptr_t address) {
    return (unsigned long long)(address - (uintptr_t)__executable_start);
}

// addr2line knows the names of static functions, too: two lines for each address, the name and the
// source. A return address lies behind its call.
void places_name(const fault_site *site, int sites) {
    size_t first = name_count;
    char list[] = "/tmp/brim-places-XXXXXX", command[100], line[200];
    for (int i = 0; i < sites; i++)
        for (int f = 0; f < FAULT_DEPTH; f++) add_address(site[i].frame[f]);
    int descriptor = mkstemp(list);
    FILE *out = descriptor < 0 ? NULL : fdopen(descriptor, "w");
    if (!out) return;
    for (size_t i = first; i < name_count; i++)
        fprintf(out, "0x%llx\n", in_file(names[i].address) - 1);
    fclose(out);
    snprintf(command, sizeof command, "addr2line -f -e /proc/%d/exe <%s", (int)getpid(), list);
    FILE *in = popen(command, "r");
    for (size_t i = 2 * first; in && i < 2 * name_count && fgets(line, sizeof line, in); i++) {
        line[strcspn(line, ".\n")] = '\0'; // f.part.0 is of f
        if (i % 2 == 0 && line[0] != '?')
            snprintf(names[i / 2].name, sizeof names->name, "%.60s", line);
    }
    if (in) pclose(in);
    unlink(list);
}

void place_text(const fault_site *site, char *text, size_t size) {
    size_t used = 0;
    text[0] = '\0';
    places_name(site, 1);
    for (int i = 0; i < FAULT_DEPTH && site->frame[i] && used < size - 100; i++) {
        const char *name = find_name(site->frame[i]);
        if (name && *name)
            used += (size_t)snprintf(text + used, size - used, "%s%s", used ? " < " : "", name);
    }
}

bool place_has(const fault_site *site, const char *function) {
    for (int i = 0; i < FAULT_DEPTH && site->frame[i]; i++) {
        const char *name = find_name(site->frame[i]);
        if (name && strcmp(name, function) == 0) return true;
    }
    return false;
}

// ---- a file of them -----------------------------------------------------------------------------

enum { LINE_SIZE = FAULT_DEPTH * 20 };

static char (*known)[LINE_SIZE];
static int knowns, known_depth;

static void line_of(char line[LINE_SIZE], const fault_site *site) {
    int length = 0;
    line[0] = '\0';
    for (int i = 0; i < known_depth && site->frame[i]; i++)
        length +=
            snprintf(line + length, (size_t)(LINE_SIZE - length), "%llx ", in_file(site->frame[i]));
}

static bool is_known(const char line[LINE_SIZE]) {
    for (int i = 0; i < knowns; i++)
        if (strcmp(known[i], line) == 0) return true;
    return false;
}

static bool add_known(const char line[LINE_SIZE]) {
    char(*grown)[LINE_SIZE] = realloc(known, (size_t)(knowns + 1) * sizeof *known);
    if (!grown) return false;
    known = grown;
    memcpy(known[knowns++], line, LINE_SIZE);
    return true;
}

void places_read(const char *file, int depth) {
    char line[LINE_SIZE] = "";
    FILE *in = fopen(file, "r");
    known_depth = depth;
    while (in && fgets(line, sizeof line, in)) {
        line[strcspn(line, "\n")] = '\0';
        add_known(line);
    }
    if (in) fclose(in);
}

bool places_known(const fault_site *site) {
    char line[LINE_SIZE];
    line_of(line, site);
    return is_known(line);
}

void places_write(const char *file) {
    char line[LINE_SIZE] = "";
    FILE *out = fopen(file, "a");
    for (int i = 0; out && i < mets; i++) {
        line_of(line, &met[i]);
        if (is_known(line) || !add_known(line)) continue;
        fprintf(out, "%s\n", line);
    }
    if (out) fclose(out);
}
