#define _POSIX_C_SOURCE 200809L
#include "core/plot.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/files.h"
#include "core/number.h"
#include "core/strbuf.h"
#include "core/utf8.h"

// Okabe and Ito's palette: told apart by people who see colours differently.
static const char *const colors[PLOT_MAX_SERIES] = {"#0072b2", "#d55e00", "#009e73",
                                                    "#cc79a7", "#e69f00", "#56b4e9"};

static const char ink[] = "#222222", faint_ink[] = "#666666", grid[] = "#e4e4e4";

enum {
    LEFT = 72,
    RIGHT = 72, // room for the last values
    TOP = 84,   // room for title and legend
    BOTTOM = 60,
    LABEL_DISTANCE = 15, // between the last values of two series
};

typedef struct axis {
    double low, high; // of the data, widened to ticks
    double step;      // between ticks
    double from, to;  // on the paper
} axis;

typedef struct chart {
    const plot_options *options;
    const plot_series *series;
    size_t count;
    int width, height;
    axis x, y;
    double last[PLOT_MAX_SERIES]; // the value at each line's end; NaN where there is no point
    strbuf *out;
} chart;

// Few points are better seen as they are.
static bool is_smoothed(const plot_series *s) {
    enum { LEAST_TO_SMOOTH = 100 };
    return s->smooth && s->count >= LEAST_TO_SMOOTH;
}

// --- axes ---

// Values beyond could overflow in the arithmetic below; no loss is that large.
static bool is_drawable(double value) {
    return fabs(value) < 1e300;
}

static bool is_point(const plot_series *s, size_t i) {
    return is_drawable(s->x[i]) && is_drawable(s->y[i]);
}

// 1, 2 or 5 times a power of ten, of which about `wanted` fit into the range.
static double nice_step(double range, int wanted) {
    double power = pow(10, floor(log10(range / wanted)));
    double rest = range / wanted / power;
    double factor = rest <= 1 ? 1 : rest <= 2 ? 2 : rest <= 5 ? 5 : 10;
    return factor * power;
}

static void choose_ticks(axis *a, int wanted, bool widen) {
    if (!(a->low <= a->high)) a->low = 0, a->high = 1; // no point at all
    double room = fabs(a->high) * 1e-6 + 1e-12;
    if (a->high - a->low < room) { // one value: put it in the middle
        double half = a->high == 0 ? 1 : fabs(a->high) * 0.5;
        a->low -= half;
        a->high += half;
    }
    a->step = nice_step(a->high - a->low, wanted);
    if (!widen) return;
    a->low = floor(a->low / a->step) * a->step;
    a->high = ceil(a->high / a->step) * a->step;
}

static void span(axis *a, double value) {
    if (value < a->low) a->low = value;
    if (value > a->high) a->high = value;
}

static void choose_axes(chart *c) {
    c->x = (axis){DBL_MAX, -DBL_MAX, 0, LEFT, c->width - RIGHT};
    c->y = (axis){DBL_MAX, -DBL_MAX, 0, c->height - BOTTOM, TOP};
    for (size_t s = 0; s < c->count; s++) {
        for (size_t i = 0; i < c->series[s].count; i++) {
            if (!is_point(&c->series[s], i)) continue;
            span(&c->x, c->series[s].x[i]);
            span(&c->y, c->series[s].y[i]);
        }
    }
    choose_ticks(&c->x, 8, false);
    if (c->options->whole_x && c->x.step < 1) c->x.step = 1;
    choose_ticks(&c->y, 6, true);
}

static double on_paper(const axis *a, double value) {
    return a->from + (value - a->low) / (a->high - a->low) * (a->to - a->from);
}

// --- text ---

static void put_escaped(strbuf *out, const char *text) {
    while (*text) {
        int length = utf8_length(text);
        if (length == 0)
            strbuf_puts(out, "\xef\xbf\xbd");
        else if (*text == '&')
            strbuf_puts(out, "&amp;");
        else if (*text == '<')
            strbuf_puts(out, "&lt;");
        else if (*text == '>')
            strbuf_puts(out, "&gt;");
        else if ((unsigned char)*text < 0x20)
            strbuf_putc(out, ' ');
        else
            strbuf_append(out, text, (size_t)length);
        text += length ? length : 1;
    }
}

// attributes come from this file, text from anywhere.
static void put_text(strbuf *out, double x, double y, const char *attributes, const char *text) {
    strbuf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, attributes);
    put_escaped(out, text);
    strbuf_puts(out, "</text>\n");
}

// A tick's number, without the noise of adding steps up: 0.3, not 0.30000000000000004.
static void tick_text(double value, double step, char text[NUMBER_TEXT]) {
    value = round(value / step) * step;
    int decimals = (int)-floor(log10(step) + 1e-9);
    bool plain = fabs(value) < 1e7 && decimals <= 6;
    if (!plain)
        snprintf(text, NUMBER_TEXT, "%.4g", value);
    else
        snprintf(text, NUMBER_TEXT, "%.*f", decimals > 0 ? decimals : 0, value + 0.0);
}

// --- the parts ---

static void put_head(chart *c) {
    strbuf_printf(c->out,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
                  "viewBox=\"0 0 %d %d\" font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', "
                  "Helvetica, Arial, sans-serif\" font-size=\"13\">\n"
                  "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
                  c->width, c->height, c->width, c->height);
    if (!c->options->title) return;
    put_text(c->out, LEFT, 34, "font-size=\"18\" font-weight=\"600\" fill=\"#222222\"",
             c->options->title);
}

static void put_legend(chart *c) {
    double x = LEFT;
    for (size_t s = 0; s < c->count; s++) {
        const char *mean = is_smoothed(&c->series[s]) ? " (running mean)" : "";
        strbuf name = {.err = c->out->err};
        strbuf_printf(&name, "%s%s", c->series[s].name, mean);
        strbuf_printf(c->out,
                      "<line x1=\"%.1f\" y1=\"56\" x2=\"%.1f\" y2=\"56\" stroke=\"%s\" "
                      "stroke-width=\"3\" stroke-linecap=\"round\"/>\n",
                      x, x + 18, colors[s]);
        put_text(c->out, x + 26, 60.5, "fill=\"#222222\"", strbuf_text(&name));
        x += 26 + 7.2 * (double)utf8_columns(strbuf_text(&name)) + 24;
        strbuf_free(&name);
    }
}

static void put_x_axis(chart *c) {
    const axis *a = &c->x;
    double bottom = c->y.from;
    strbuf_printf(c->out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n",
                  a->from, bottom, a->to, bottom, faint_ink);
    for (double tick = ceil(a->low / a->step); tick * a->step <= a->high * (1 + 1e-12); tick++) {
        char text[NUMBER_TEXT];
        double x = on_paper(a, tick * a->step);
        strbuf_printf(c->out,
                      "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n", x,
                      bottom, x, bottom + 5, faint_ink);
        tick_text(tick * a->step, a->step, text);
        put_text(c->out, x, bottom + 21, "text-anchor=\"middle\" fill=\"#666666\"", text);
    }
    if (!c->options->x_label) return;
    put_text(c->out, (a->from + a->to) / 2, c->height - 16,
             "text-anchor=\"middle\" fill=\"#222222\"", c->options->x_label);
}

static void put_y_axis(chart *c) {
    const axis *a = &c->y;
    int ticks = (int)round((a->high - a->low) / a->step);
    for (int i = 0; i <= ticks; i++) {
        char text[NUMBER_TEXT];
        double value = a->low + i * a->step, y = on_paper(a, value);
        if (i > 0) {
            strbuf_printf(c->out,
                          "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n",
                          c->x.from, y, c->x.to, y, grid);
        }
        tick_text(value, a->step, text);
        put_text(c->out, LEFT - 10, y + 4.5, "text-anchor=\"end\" fill=\"#666666\"", text);
    }
    if (!c->options->y_label) return;
    char attributes[128];
    double middle = (a->from + a->to) / 2;
    snprintf(attributes, sizeof attributes,
             "text-anchor=\"middle\" fill=\"%s\" transform=\"rotate(-90 20 %.1f)\"", ink, middle);
    put_text(c->out, 20, middle, attributes, c->options->y_label);
}

// --- the lines ---

// Of the points that fall on the same pixel column, the first, the least, the greatest and the last
// draw the same picture as all of them, so that a long run's file stays small.
typedef struct column {
    double x, first, low, high, last;
    size_t count;
} column;

static void put_column(strbuf *out, const column *k, bool *started) {
    double ys[4] = {k->first, k->low, k->high, k->last};
    int count = k->count == 1 ? 1 : 4;
    for (int i = 0; i < count; i++) {
        strbuf_printf(out, "%s%.1f %.1f", *started ? "L" : "M", k->x, ys[i]);
        *started = true;
    }
}

static void put_path(chart *c, const double *x, const double *y, size_t count, const char *style) {
    strbuf_puts(c->out, "<path d=\"");
    column k = {0};
    bool started = false;
    for (size_t i = 0; i < count; i++) {
        bool point = is_drawable(x[i]) && is_drawable(y[i]);
        double px = point ? round(on_paper(&c->x, x[i])) : 0;
        double py = point ? on_paper(&c->y, y[i]) : 0;
        if (k.count && (!point || px != k.x)) {
            put_column(c->out, &k, &started);
            k.count = 0;
            if (!point) started = false;
        }
        if (!point) continue;
        if (k.count == 0) k = (column){px, py, py, py, py, 0};
        k.low = fmin(k.low, py);
        k.high = fmax(k.high, py);
        k.last = py;
        k.count++;
    }
    if (k.count) put_column(c->out, &k, &started);
    strbuf_printf(c->out,
                  "\" fill=\"none\" stroke-linejoin=\"round\" stroke-linecap=\"round\" %s/>\n",
                  style);
}

static void put_dots(chart *c, const plot_series *s, const char *color) {
    for (size_t i = 0; i < s->count; i++) {
        if (!is_point(s, i)) continue;
        strbuf_printf(c->out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n",
                      on_paper(&c->x, s->x[i]), on_paper(&c->y, s->y[i]), color);
    }
}

// The mean of the points up to half a window before and behind each; gaps do not count. At the
// beginning, where a loss falls fast, the window reaches no farther forward than back. Points enter
// and leave a sum, so that a long run takes linear time.
static void running_mean(const plot_series *s, size_t half, double *out) {
    double sum = 0;
    size_t inside = 0, begin = 0, end = 0;
    for (size_t i = 0; i < s->count; i++) {
        size_t back = i < half ? i : half;
        size_t ahead = s->count - 1 - i < back ? s->count - 1 - i : back;
        for (; end <= i + ahead; end++) {
            if (is_point(s, end)) sum += s->y[end], inside++;
        }
        for (; begin < i - back; begin++) {
            if (is_point(s, begin)) sum -= s->y[begin], inside--;
        }
        out[i] = is_point(s, i) && inside ? sum / (double)inside : NAN;
    }
}

static double last_value(const plot_series *s, const double *y) {
    for (size_t i = s->count; i > 0; i--) {
        if (is_point(s, i - 1)) return y[i - 1];
    }
    return NAN;
}

static void put_mean(chart *c, size_t index, brim_error *err) {
    enum { WINDOWS = 50 }; // of the whole line
    const plot_series *s = &c->series[index];
    double *mean = brim_calloc_array(s->count, sizeof *mean, err);
    if (!mean) return;
    running_mean(s, s->count / WINDOWS / 2, mean);
    char style[64];
    snprintf(style, sizeof style, "stroke=\"%s\" stroke-width=\"2\"", colors[index]);
    put_path(c, s->x, mean, s->count, style);
    c->last[index] = last_value(s, mean);
    free(mean);
}

static void put_series(chart *c, size_t index, brim_error *err) {
    const plot_series *s = &c->series[index];
    bool smooth = is_smoothed(s);
    char style[128];
    snprintf(style, sizeof style, "stroke=\"%s\" stroke-width=\"%s\" stroke-opacity=\"%s\"",
             colors[index], smooth ? "1" : "2", smooth ? "0.3" : "1");
    put_path(c, s->x, s->y, s->count, style);
    c->last[index] = last_value(s, s->y);
    if (s->dots || s->count == 1) put_dots(c, s, colors[index]);
    if (smooth) put_mean(c, index, err);
}

// --- the last values, beside the lines' ends ---

typedef struct end_label {
    size_t series;
    double value, y;
} end_label;

static int compare_labels(const void *a, const void *b) {
    double x = ((const end_label *)a)->y, y = ((const end_label *)b)->y;
    return (x > y) - (x < y);
}

static size_t find_end_labels(const chart *c, end_label labels[PLOT_MAX_SERIES]) {
    size_t count = 0;
    for (size_t s = 0; s < c->count; s++) {
        if (isnan(c->last[s])) continue;
        labels[count++] = (end_label){s, c->last[s], on_paper(&c->y, c->last[s])};
    }
    return count;
}

static void put_end_labels(chart *c) {
    end_label labels[PLOT_MAX_SERIES];
    size_t count = find_end_labels(c, labels);
    qsort(labels, count, sizeof *labels, compare_labels);
    for (size_t i = 0; i < count; i++) {
        if (i > 0) labels[i].y = fmax(labels[i].y, labels[i - 1].y + LABEL_DISTANCE);
        char text[NUMBER_TEXT], attributes[64];
        snprintf(text, sizeof text, "%.4g", labels[i].value);
        snprintf(attributes, sizeof attributes, "font-weight=\"600\" fill=\"%s\"",
                 colors[labels[i].series]);
        put_text(c->out, c->x.to + 8, labels[i].y + 4.5, attributes, text);
    }
}

static void put_chart(chart *c, brim_error *err) {
    choose_axes(c);
    put_head(c);
    put_legend(c);
    put_y_axis(c);
    put_x_axis(c);
    for (size_t s = 0; s < c->count; s++) put_series(c, s, err);
    put_end_labels(c);
    strbuf_puts(c->out, "</svg>\n");
}

bool plot_write(const char *path, const plot_options *options, const plot_series *series,
                size_t count, brim_error *err) {
    if (failed(err)) return false;
    if (count > PLOT_MAX_SERIES) {
        brim_fail(err, BRIM_ARGUMENT, "%s: a chart of %zu series, expected at most %d", path, count,
                  PLOT_MAX_SERIES);
        return false;
    }
    strbuf out = {.err = err};
    chart c = {options, series, count, options->width, options->height, .out = &out};
    if (c.width <= 0) c.width = 960;
    if (c.height <= 0) c.height = 540;
    // SVG's numbers have a decimal point, whatever locale the program has chosen for this thread.
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t former = plain ? uselocale(plain) : (locale_t)0;
    put_chart(&c, err);
    if (plain) {
        uselocale(former);
        freelocale(plain);
    }
    file_replace(path, strbuf_text(&out), out.length, err);
    strbuf_free(&out);
    return !failed(err);
}
