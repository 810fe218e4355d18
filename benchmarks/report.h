// A benchmark's figures as JSON, for scripts; what people read is printed beside it.
//
//   report r = report_begin(path, &err);                 NULL: nothing is written
//   report_text(&r, "device", name);
//   report_open(&r, "cases", '[');  report_open(&r, NULL, '{');  report_number(&r, "seconds", 0.1);
//   report_close(&r, '}');  report_close(&r, ']');
//   report_end(&r);
#ifndef BRIM_BENCHMARKS_REPORT_H
#define BRIM_BENCHMARKS_REPORT_H

#include "backends/backend.h"
#include "core/strbuf.h"

typedef struct report {
    strbuf text;
    bool comma;
    const char *path;
    FILE *out; // opened at the start: a mistake in its name is found before anything is measured
} report;

report report_begin(const char *path, brim_error *err);
// name is NULL for the elements of an array.
void report_open(report *r, const char *name, char bracket);
void report_close(report *r, char bracket);
void report_text(report *r, const char *name, const char *text);
void report_number(report *r, const char *name, double number);
// What the figures were measured on: device, driver, cores, the library for matrix products.
void report_machine(report *r, const device_traits *traits, const char *matmul_library);
void report_end(report *r);

// The same for people: one line.
void print_machine(const device_traits *traits, const char *matmul_library);

#endif
