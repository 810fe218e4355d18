#include "benchmarks/report.h"

#include <errno.h>
#include <string.h>
#include "core/json.h"

report report_begin(const char *path, brim_error *err) {
    report r = {.text = {.err = err}, .path = path};
    if (path && !failed(err)) r.out = fopen(path, "w");
    if (path && !r.out) brim_fail(err, BRIM_IO, "%s cannot be written: %s", path, strerror(errno));
    report_open(&r, NULL, '{');
    return r;
}

static void put_name(report *r, const char *name) {
    if (r->comma) strbuf_puts(&r->text, ", ");
    if (name) {
        json_put_string(&r->text, name);
        strbuf_puts(&r->text, ": ");
    }
    r->comma = true;
}

void report_open(report *r, const char *name, char bracket) {
    put_name(r, name);
    if (!name && r->text.length > 1) strbuf_putc(&r->text, '\n');
    strbuf_putc(&r->text, bracket);
    r->comma = false;
}

void report_close(report *r, char bracket) {
    strbuf_putc(&r->text, bracket);
    r->comma = true;
}

void report_text(report *r, const char *name, const char *text) {
    put_name(r, name);
    json_put_string(&r->text, text);
}

void report_number(report *r, const char *name, double number) {
    put_name(r, name);
    json_put_f64(&r->text, number);
}

void report_machine(report *r, const device_traits *traits, const char *matmul_library) {
    report_text(r, "backend", traits->backend);
    report_text(r, "device", traits->name);
    report_text(r, "driver", traits->driver);
    report_text(r, "architecture", traits->architecture);
    report_number(r, "compute_units", traits->compute_units);
    report_number(r, "memory_bytes", (double)traits->memory_bytes);
    report_text(r, "matmul", matmul_library);
}

void report_end(report *r) {
    brim_error *err = r->text.err;
    report_close(r, '}');
    strbuf_putc(&r->text, '\n');
    bool whole = !r->out || failed(err) ||
                 fwrite(strbuf_text(&r->text), 1, r->text.length, r->out) == r->text.length;
    if (r->out && fclose(r->out) != 0) whole = false;
    if (!whole) brim_fail(err, BRIM_IO, "%s cannot be written: %s", r->path, strerror(errno));
    strbuf_free(&r->text);
}

void print_machine(const device_traits *traits, const char *matmul_library) {
    printf("%s (%s, %s%s%s): %d compute units, %.1f GiB\n", traits->name, traits->backend,
           traits->driver, *traits->architecture ? ", " : "", traits->architecture,
           traits->compute_units, (double)traits->memory_bytes / 0x1p30);
    printf("matrix products: %s\n", *matmul_library ? matmul_library : "Brim's own kernel");
}
