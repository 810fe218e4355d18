#include "command_line.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_KEY = 1000 }; // beyond all characters: no short options

void command_line_list(const option_row *rows, int count, struct argp_option *list) {
    for (int i = 0; i < count; i++)
        list[i] =
            (struct argp_option){rows[i].name, FIRST_KEY + i, rows[i].argument, 0, rows[i].help, 0};
}

static void take_number(const option_row *row, const char *text, void *field, brim_error *err) {
    bool whole = row->kind == OPTION_INTEGER;
    char *end;
    errno = 0;
    double value = whole ? (double)strtoll(text, &end, 10) : strtod(text, &end);
    if (end == text || *end || errno || !(value >= row->low && value <= row->high))
        brim_fail(err, BRIM_ARGUMENT, "option --%s is \"%s\"; expected %s from %g to %g", row->name,
                  text, whole ? "a whole number" : "a number", row->low, row->high);
    else if (whole)
        *(int64_t *)field = strtoll(text, NULL, 10);
    else
        *(double *)field = value;
}

static void take_bytes(const option_row *row, const char *text, int64_t *field, brim_error *err) {
    char name[64], low[32], high[32];
    snprintf(name, sizeof name, "--%s", row->name);
    if (!brim_bytes_parse(text, name, field, err)) return;
    if (!((double)*field >= row->low && (double)*field <= row->high))
        brim_fail(err, BRIM_ARGUMENT, "option --%s is \"%s\"; expected %s to %s", row->name, text,
                  brim_bytes_text((int64_t)row->low, low, sizeof low),
                  brim_bytes_text((int64_t)row->high, high, sizeof high));
}

static void take_budget(const option_row *row, const char *text, memory_budget *field,
                        brim_error *err) {
    char *end;
    double percent = strtod(text, &end);
    if (end == text || strcmp(end, "%") != 0) {
        take_bytes(row, text, &field->bytes, err);
        return;
    }
    field->share = percent / 100;
    if (!(percent > 0 && percent <= 100))
        brim_fail(err, BRIM_ARGUMENT, "option --%s is \"%s\"; expected more than 0%% to 100%%",
                  row->name, text);
}

// The folder's own name may have colons.
static void take_disk(const option_row *row, const char *text, disk_share *field, brim_error *err) {
    const char *colon = strrchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : 0;
    if (length == 0 || length >= sizeof field->folder) {
        brim_fail(err, BRIM_ARGUMENT, "option --%s is \"%.60s\"; expected DIR:SIZE", row->name, text);
        return;
    }
    memcpy(field->folder, text, length);
    field->folder[length] = '\0';
    take_bytes(row, colon + 1, &field->bytes, err);
}

static void take_choice(const option_row *row, const char *text, int *field, brim_error *err) {
    char list[256] = "";
    for (int i = 0; row->choices[i]; i++) {
        if (strcmp(text, row->choices[i]) == 0) {
            *field = i;
            return;
        }
        size_t used = strlen(list);
        const char *between = i == 0 ? "" : row->choices[i + 1] ? ", " : " or ";
        snprintf(list + used, sizeof list - used, "%s%s", between, row->choices[i]);
    }
    brim_fail(err, BRIM_ARGUMENT, "option --%s is \"%s\"; expected %s", row->name, text, list);
}

bool command_line_take(const option_row *rows, int count, int key, const char *text, void *options,
                       brim_error *err) {
    if (key < FIRST_KEY || key >= FIRST_KEY + count) return false;
    const option_row *row = &rows[key - FIRST_KEY];
    void *field = (char *)options + row->offset;
    switch (row->kind) {
    case OPTION_INTEGER:
    case OPTION_REAL:
        take_number(row, text, field, err);
        break;
    case OPTION_TEXT:
        *(const char **)field = text;
        break;
    case OPTION_BYTES:
        take_bytes(row, text, field, err);
        break;
    case OPTION_BUDGET:
        take_budget(row, text, field, err);
        break;
    case OPTION_DISK:
        take_disk(row, text, field, err);
        break;
    case OPTION_CHOICE:
        take_choice(row, text, field, err);
        break;
    case OPTION_SWITCH:
        *(bool *)field = true;
        break;
    }
    return true;
}
