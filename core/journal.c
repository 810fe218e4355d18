#define _POSIX_C_SOURCE 200809L
#include "core/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cjson/cJSON.h>
#include "core/alloc.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/mapfile.h"

struct brim_journal {
    char *path;
    int descriptor;
    strbuf line;
};

// --- reading lines ---

typedef struct line_reader {
    const char *path, *next, *end;
    size_t number;
} line_reader;

typedef struct log_line {
    const char *text;
    size_t length; // with its newline
    cJSON *object;
} log_line;

// The object that makes up a whole line; NULL where it is anything else.
static cJSON *parse_line(const char *text, size_t length) {
    const char *end = NULL;
    cJSON *object = cJSON_ParseWithLengthOpts(text, length, &end, false);
    while (object && end < text + length && strchr(" \t\r\n", *end)) end++;
    if (cJSON_IsObject(object) && end == text + length) return object;
    cJSON_Delete(object);
    return NULL;
}

// The next line, whose object the caller deletes. False at the end, at a last line without a
// newline (a crash wrote only its beginning, and next stays there), and with err set where a line
// is no JSON object.
static bool next_line(line_reader *reader, log_line *out, brim_error *err) {
    size_t left = (size_t)(reader->end - reader->next);
    const char *newline = left ? memchr(reader->next, '\n', left) : NULL;
    if (!newline) return false;
    reader->number++;
    *out = (log_line){reader->next, (size_t)(newline + 1 - reader->next), NULL};
    out->object = parse_line(out->text, out->length);
    if (!out->object) {
        brim_fail(err, BRIM_FORMAT, "%s: line %zu is not a JSON object; is this a log?",
                  reader->path, reader->number);
        return false;
    }
    reader->next = newline + 1;
    return true;
}

static bool number_of(const cJSON *object, const char *name, double *value) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!cJSON_IsNumber(item)) return false;
    *value = item->valuedouble;
    return true;
}

// --- opening ---

// Collects the lines to keep. False with err set where the file is no log.
static bool choose_lines(const mapfile *file, const char *path, int64_t last_step, strbuf *kept,
                         brim_error *err) {
    const char *start = (const char *)file->data;
    line_reader reader = {path, start, start + file->size, 0};
    log_line current;
    while (next_line(&reader, &current, err)) {
        double step = 0;
        bool later = number_of(current.object, "step", &step) && step > (double)last_step;
        if (!later) strbuf_append(kept, current.text, current.length);
        cJSON_Delete(current.object);
    }
    if (!failed(err) && reader.next < reader.end && *reader.next != '{') {
        brim_fail(err, BRIM_FORMAT, "%s: line %zu is not a JSON object; is this a log?", path,
                  reader.number + 1);
    }
    return !failed(err);
}

static void drop_later_lines(const char *path, int64_t last_step, brim_error *err) {
    struct stat status;
    if (stat(path, &status) != 0 && errno == ENOENT) return;
    mapfile file;
    if (!mapfile_open(&file, path, err)) return;
    strbuf kept = {.err = err};
    if (choose_lines(&file, path, last_step, &kept, err) && kept.length < file.size) {
        file_replace(path, strbuf_text(&kept), kept.length, err);
    }
    strbuf_free(&kept);
    mapfile_close(&file);
}

static void open_for_append(brim_journal *journal, brim_error *err) {
    if (failed(err)) return;
    journal->descriptor = open(journal->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (journal->descriptor >= 0) return;
    brim_fail(err, BRIM_IO, "%s cannot be opened: %s", journal->path, strerror(errno));
}

brim_journal *brim_journal_open(const char *path, int64_t last_step, brim_error *err) {
    brim_journal *journal = brim_calloc(sizeof *journal, err);
    if (!journal) return NULL;
    journal->descriptor = -1;
    journal->path = brim_strdup(path, err);
    if (journal->path) drop_later_lines(path, last_step, err);
    open_for_append(journal, err);
    if (!failed(err)) return journal;
    brim_journal_close(journal);
    return NULL;
}

void brim_journal_close(brim_journal *journal) {
    if (!journal) return;
    if (journal->descriptor >= 0) close(journal->descriptor);
    strbuf_free(&journal->line);
    free(journal->path);
    free(journal);
}

// --- writing ---

static bool write_all(const brim_journal *journal, brim_error *err) {
    const char *bytes = journal->line.text;
    size_t left = journal->line.length;
    while (left > 0) {
        ssize_t count = write(journal->descriptor, bytes, left);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) {
            brim_fail(err, BRIM_IO, "%s cannot be written: %s", journal->path,
                      count < 0 ? strerror(errno) : "the system takes no more");
            return false;
        }
        bytes += count;
        left -= (size_t)count;
    }
    return true;
}

static strbuf *start_line(brim_journal *journal, brim_error *err) {
    strbuf_clear(&journal->line);
    journal->line.err = err;
    strbuf_putc(&journal->line, '{');
    return &journal->line;
}

static bool end_line(brim_journal *journal, brim_error *err) {
    strbuf_puts(&journal->line, "}\n");
    return !failed(err) && write_all(journal, err);
}

bool brim_journal_write(brim_journal *journal, const brim_field *fields, size_t count,
                        brim_error *err) {
    if (failed(err) || !journal) return false;
    strbuf *line = start_line(journal, err);
    for (size_t i = 0; i < count; i++) {
        if (i) strbuf_puts(line, ", ");
        json_put_string(line, fields[i].name);
        strbuf_puts(line, ": ");
        json_put_f64(line, fields[i].value);
    }
    return end_line(journal, err);
}

bool brim_journal_note(brim_journal *journal, const char *name, const char *text, brim_error *err) {
    if (failed(err) || !journal) return false;
    strbuf *line = start_line(journal, err);
    json_put_string(line, name);
    strbuf_puts(line, ": ");
    json_put_string(line, text);
    return end_line(journal, err);
}

// A pipe or a terminal cannot be synced, and need not.
bool brim_journal_sync(brim_journal *journal, brim_error *err) {
    if (failed(err) || !journal) return false;
    if (fsync(journal->descriptor) == 0 || errno == EINVAL || errno == EROFS) return true;
    brim_fail(err, BRIM_IO, "%s cannot be written: %s", journal->path, strerror(errno));
    return false;
}

// --- reading back ---

static bool append_value(journal_column *column, double step, double value, brim_error *err) {
    if (!brim_grow((void **)&column->steps, &column->step_capacity, column->count + 1,
                   sizeof *column->steps, err) ||
        !brim_grow((void **)&column->values, &column->capacity, column->count + 1,
                   sizeof *column->values, err)) {
        return false;
    }
    column->steps[column->count] = step;
    column->values[column->count++] = value;
    return true;
}

bool journal_read(const char *path, journal_column *columns, size_t count, brim_error *err) {
    mapfile file;
    if (!mapfile_open(&file, path, err)) return false;
    const char *start = (const char *)file.data;
    line_reader reader = {path, start, start + file.size, 0};
    log_line current;
    while (next_line(&reader, &current, err)) {
        double step, value;
        bool has_step = number_of(current.object, "step", &step);
        for (size_t i = 0; has_step && i < count; i++) {
            if (!number_of(current.object, columns[i].name, &value)) continue;
            append_value(&columns[i], step, value, err);
        }
        cJSON_Delete(current.object);
    }
    mapfile_close(&file);
    return !failed(err);
}

void journal_column_free(journal_column *column) {
    free(column->steps);
    free(column->values);
    *column = (journal_column){.name = column->name};
}

const char *journal_path(const brim_journal *journal) {
    return journal->path;
}
