#define _POSIX_C_SOURCE 200809L
#include <brim/report.h>

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "core/alloc.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/units.h"
#include "core/utf8.h"

enum { TEXT_SIZE = 512, BAR_WIDTH = 24, DEFAULT_COLUMNS = 80 };

static const double terminal_interval = 0.1, plain_interval = 5; // seconds between two lines

struct brim_progress {
    FILE *out;
    bool terminal;
    size_t drawn;        // columns of the line that stands on the terminal
    bool started;        // the two below are set
    double start_time;   // of the first step that was shown
    int64_t start_steps; // done by then; a resumed run does not begin at 0
    double next_time;
    char line[TEXT_SIZE]; // the newest, to be drawn again below a line that stays
};

brim_progress *brim_progress_open(FILE *out, brim_error *err) {
    brim_progress *progress = brim_calloc(sizeof *progress, err);
    if (!progress) return NULL;
    progress->out = out;
    progress->terminal = isatty(fileno(out)) == 1;
    return progress;
}

void brim_progress_close(brim_progress *progress) {
    if (!progress) return;
    brim_progress_end(progress);
    free(progress);
}

static size_t terminal_columns(const brim_progress *progress) {
    struct winsize size;
    if (ioctl(fileno(progress->out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
        return DEFAULT_COLUMNS;
    }
    return size.ws_col;
}

// Blanks, not an escape sequence, so that a terminal without any works too.
static void erase(brim_progress *progress) {
    if (progress->drawn == 0) return;
    fprintf(progress->out, "\r%*s\r", (int)progress->drawn, "");
    progress->drawn = 0;
}

// The last column stays free: in it, some terminals would begin a new line.
static void draw(brim_progress *progress) {
    size_t room = terminal_columns(progress) - 1;
    size_t bytes = utf8_prefix(progress->line, room), columns = utf8_columns(progress->line);
    if (columns > room) columns = room;
    int blanks = progress->drawn > columns ? (int)(progress->drawn - columns) : 0;
    fprintf(progress->out, "\r%.*s%*s", (int)bytes, progress->line, blanks, "");
    progress->drawn = columns + (size_t)blanks;
    fflush(progress->out);
}

static void put_bar(char bar[BAR_WIDTH + 3], int64_t done, int64_t total) {
    double share = total > 0 ? (double)done / (double)total : 0;
    int full = share >= 1 ? BAR_WIDTH : share > 0 ? (int)(share * BAR_WIDTH) : 0;
    memset(bar, '.', BAR_WIDTH + 2);
    memset(bar + 1, '=', (size_t)full);
    if (full > 0 && full < BAR_WIDTH) bar[full] = '>';
    bar[0] = '[';
    bar[BAR_WIDTH + 1] = ']';
    bar[BAR_WIDTH + 2] = '\0';
}

// ", 3 min 05 s left", from the speed since the first step that was shown; nothing before there is
// one.
static void put_time_left(const brim_progress *progress, char text[UNITS_TEXT + 16], int64_t done,
                          int64_t total, double now) {
    int64_t made = done - progress->start_steps;
    text[0] = '\0';
    if (made <= 0 || done >= total) return;
    double left = (now - progress->start_time) / (double)made * (double)(total - done);
    char duration[UNITS_TEXT];
    snprintf(text, UNITS_TEXT + 16, "  %s left", format_seconds(left, duration));
}

static void make_line(brim_progress *progress, int64_t done, int64_t total, double now,
                      const char *format, va_list arguments) {
    char bar[BAR_WIDTH + 3], left[UNITS_TEXT + 16], text[TEXT_SIZE / 2];
    put_bar(bar, done, total);
    put_time_left(progress, left, done, total, now);
    if (vsnprintf(text, sizeof text, format, arguments) < 0) text[0] = '\0';
    snprintf(progress->line, sizeof progress->line, "%s %lld/%lld  %s%s",
             progress->terminal ? bar : "step", (long long)done, (long long)total, text, left);
}

void brim_progress_step(brim_progress *progress, int64_t done, int64_t total, const char *format,
                        ...) {
    if (!progress) return;
    double now = clock_seconds();
    if (!progress->started) {
        progress->started = true;
        progress->start_time = now;
        progress->start_steps = done;
    } else if (now < progress->next_time && done != total) {
        return;
    }
    progress->next_time = now + (progress->terminal ? terminal_interval : plain_interval);
    va_list arguments;
    va_start(arguments, format);
    make_line(progress, done, total, now, format, arguments);
    va_end(arguments);
    if (progress->terminal) {
        draw(progress);
    } else {
        fprintf(progress->out, "%s\n", progress->line);
        fflush(progress->out);
    }
}

void brim_progress_say(brim_progress *progress, const char *format, ...) {
    if (!progress) return;
    bool redraw = progress->drawn > 0;
    erase(progress);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(progress->out, format, arguments);
    va_end(arguments);
    fputc('\n', progress->out);
    if (redraw) draw(progress);
    fflush(progress->out);
}

void brim_progress_end(brim_progress *progress) {
    if (!progress) return;
    erase(progress);
    fflush(progress->out);
}
