// Lists the devices that Brim can train on, and says why others are missing.
#include <argp.h>
#include <brim/brim.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *argp_program_version = "devices (Brim) 0.1.0";

static const char description[] =
    "Lists the devices that Brim can train on, and says why others are missing.\v"
    "An id (opencl:0) is what --device takes elsewhere. The exit status is 0 where at least one "
    "device can be used.";

static const struct argp_option options[] = {
    {"json", 'j', 0, 0, "print a JSON array", 0},
    {0},
};

static error_t parse(int key, char *argument, struct argp_state *state) {
    if (key == ARGP_KEY_INIT)
        state->err_stream = NULL; // a mistake gets one line: argp would add another
    else if (key == 'j')
        *(bool *)state->input = true;
    else if (key == ARGP_KEY_ARG) {
        fprintf(stderr, "%s: unexpected argument '%s'\n", state->name, argument);
        return EINVAL;
    } else
        return ARGP_ERR_UNKNOWN;
    return 0;
}

static double gib(int64_t bytes) {
    return (double)bytes / (1 << 30);
}

static void print_row(const brim_device_info *d) {
    if (d->problem[0]) {
        printf("%-9s not available: %s\n", d->id, d->problem);
        return;
    }
    printf("%-9s %s%s%s%s\n", d->id, d->name, d->architecture[0] ? ", " : "", d->architecture,
           d->cpu ? " (CPU)" : "");
    printf("          driver           %s\n", d->driver);
    printf("          memory           %.1f GiB", gib(d->memory_bytes));
    if (d->free_bytes >= 0) printf(", %.1f GiB free", gib(d->free_bytes));
    printf("\n          compute units    %d; vectors of %d, groups of %d\n", d->compute_units,
           d->vector, d->group);
    printf("          matrix products  %s\n", d->matmul[0] ? d->matmul : "Brim's own kernel");
    printf("          arithmetic       %s\n",
           d->exact_f32 ? "IEEE 754 in f32: updates on the host give the same bits"
                        : "not exact in f32 (division, square root or denormals): updates stay "
                          "on one side");
}

static cJSON *json_row(const brim_device_info *d) {
    cJSON *row = cJSON_CreateObject();
    cJSON_AddStringToObject(row, "id", d->id);
    cJSON_AddStringToObject(row, "backend", d->backend);
    cJSON_AddBoolToObject(row, "available", d->problem[0] == '\0');
    if (d->problem[0]) {
        cJSON_AddStringToObject(row, "problem", d->problem);
        return row;
    }
    cJSON_AddStringToObject(row, "name", d->name);
    cJSON_AddStringToObject(row, "driver", d->driver);
    cJSON_AddStringToObject(row, "architecture", d->architecture);
    cJSON_AddBoolToObject(row, "cpu", d->cpu);
    cJSON_AddNumberToObject(row, "memory_bytes", (double)d->memory_bytes);
    if (d->free_bytes >= 0) cJSON_AddNumberToObject(row, "free_bytes", (double)d->free_bytes);
    cJSON_AddNumberToObject(row, "compute_units", d->compute_units);
    cJSON_AddNumberToObject(row, "vector", d->vector);
    cJSON_AddNumberToObject(row, "group", d->group);
    cJSON_AddStringToObject(row, "matmul", d->matmul);
    cJSON_AddBoolToObject(row, "exact_f32", d->exact_f32);
    return row;
}

static int print_json(const brim_device_info *list, int rows) {
    cJSON *array = cJSON_CreateArray();
    for (int i = 0; i < rows; i++) cJSON_AddItemToArray(array, json_row(&list[i]));
    char *text = cJSON_Print(array);
    if (text) puts(text);
    cJSON_free(text);
    cJSON_Delete(array);
    return text ? 0 : 1;
}

int main(int argc, char **argv) {
    static const struct argp parser = {options, parse, NULL, description, NULL, NULL, NULL};
    bool json = false;
    if (argp_parse(&parser, argc, argv, 0, NULL, &json)) return 2;
    brim_error err = {0};
    brim_device_info *list = NULL;
    int rows = brim_device_list(&list, &err);
    int usable = 0, failure = 0;
    for (int i = 0; i < rows; i++) usable += list[i].problem[0] == '\0';
    if (json) failure = print_json(list, rows);
    for (int i = 0; i < rows && !json; i++) print_row(&list[i]);
    free(list);
    if (err.status != BRIM_OK) return brim_error_report(&err);
    return failure || usable == 0;
}
