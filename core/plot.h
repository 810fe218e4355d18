// Line charts as SVG files: one chart, linear axes, up to six series, on white.
//
//   1. plot_series loss = {.name = "training", .x = steps, .y = losses, .count = n, .smooth =
//   true};
//   2. plot_write("loss.svg", &(plot_options){.title = "Loss", .x_label = "step", .y_label =
//   "nats"}, &loss, 1, err);
#ifndef BRIM_CORE_PLOT_H
#define BRIM_CORE_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include "core/error.h"

enum { PLOT_MAX_SERIES = 6 };

typedef struct plot_series {
    const char *name; // for the legend
    const double *x, *y;
    size_t count; // points; one with a coordinate that is not finite leaves a gap
    bool smooth;  // draw the points pale, and over them their running mean
    bool dots;    // mark each point, for series of few
} plot_series;

typedef struct plot_options {
    const char *title, *x_label, *y_label; // NULL: none
    int width, height;                     // 0: 960 x 540
    bool whole_x;                          // ticks at whole numbers only
} plot_options;

// Series share the axes, which span all points. Written atomically (core/files.h).
bool plot_write(const char *path, const plot_options *options, const plot_series *series,
                size_t count, brim_error *err);

#endif
