// JSON that is read: a config.json, or a log of a run. The first byte says which.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cjson/cJSON.h>
#include "core/journal.h"
#include "core/json.h"
#include "core/utf8.h"
#include "examples/model.h"
#include "tests/fuzz/fuzz.h"

enum { PER_BYTE = 128, CONFIG_BUFFER = 2 << 20 };

// ---- config.json --------------------------------------------------------------------------------

static void check_config(const uint8_t *data, size_t size) {
    brim_error err = {0};
    model_config config = {0}, again = {0};
    const char *path = fuzz_file(data, size);
    fuzz_begin(size + CONFIG_BUFFER / PER_BYTE, PER_BYTE);
    model_config_read(path, &config, &err);
    fuzz_end();
    if (fuzz_error(&err)) return;
    FUZZ_CHECK(model_parameters(&config) > 0, "a model of no parameters");
    FUZZ_CHECK(model_architecture_name(config.architecture) && model_prefix(&config), "no name");
    char *text = model_config_text(&config, &err);
    FUZZ_CHECK(text, "what was read cannot be written: %s", err.text);
    model_config_read(fuzz_file(text, strlen(text)), &again, &err);
    FUZZ_CHECK(err.status == BRIM_OK, "what was written cannot be read: %s", err.text);
    if (!config.kv_heads && config.architecture == MODEL_LLAMA) config.kv_heads = config.heads;
    if (!config.head_size && config.architecture == MODEL_LLAMA)
        config.head_size = config.width / config.heads;
    FUZZ_CHECK(memcmp(&config, &again, sizeof config) == 0, "written and read, it differs");
    cJSON_free(text);
}

// ---- logs ---------------------------------------------------------------------------------------

static bool is_utf8(const char *text) {
    while (*text) {
        int length = utf8_length(text);
        if (length == 0) return false;
        text += length;
    }
    return true;
}

static void check_plot(const brim_journal *journal) {
    brim_error err = {0};
    size_t size;
    FUZZ_CHECK(brim_journal_plot(journal, fuzz_path("loss.svg"), &err), "%s", err.text);
    char *svg = fuzz_read("loss.svg", &size);
    FUZZ_CHECK(strlen(svg) == size && is_utf8(svg), "a picture that is no text");
    FUZZ_CHECK(!strstr(svg, "nan") && !strstr(svg, "inf"), "a picture with nan or inf");
    free(svg);
}

// The last line, of text and number, reads back as it was put.
static void check_line(brim_journal *journal, const char *text, double number) {
    brim_error err = {0};
    size_t size;
    brim_journal_note(journal, "note", text, &err);
    brim_journal_write(journal, &(brim_field){text, number}, 1, &err);
    FUZZ_CHECK(err.status == BRIM_OK, "%s", err.text);
    char *log = fuzz_read("log.jsonl", &size);
    char *end = log + size - 1;
    FUZZ_CHECK(*end == '\n', "a line without an end");
    *end = '\0';
    char *last = memrchr(log, '\n', size - 1); // a line before may hold a NUL
    FUZZ_CHECK(last, "one line where two were put");
    cJSON *object = cJSON_Parse(last + 1);
    const cJSON *item = object ? object->child : NULL;
    FUZZ_CHECK(item && !item->next, "a line that is not one field: %s", last + 1);
    if (is_utf8(text)) FUZZ_CHECK(strcmp(item->string, text) == 0, "a name differs");
    if (isfinite(number))
        FUZZ_CHECK(cJSON_IsNumber(item) && item->valuedouble == number, "a number differs");
    else
        FUZZ_CHECK(cJSON_IsNull(item), "a number that JSON lacks");
    cJSON_Delete(object);
    free(log);
}

static void check_log(const uint8_t *data, size_t size) {
    enum { HEAD = 16 };
    if (size < HEAD) return;
    brim_error err = {0};
    int64_t last_step = data[0];
    double number;
    memcpy(&number, data + 8, sizeof number);
    data += HEAD, size -= HEAD;
    char *text = fuzz_line(&data, &size);
    fuzz_write("log.jsonl", data, size);
    fuzz_begin(size, PER_BYTE);
    brim_journal *journal = brim_journal_open(fuzz_path("log.jsonl"), last_step, &err);
    fuzz_end();
    FUZZ_CHECK(!journal == fuzz_error(&err), "a log or an error");
    if (journal) {
        journal_column column = {.name = "loss"};
        FUZZ_CHECK(journal_read(journal_path(journal), &column, 1, &err), "%s", err.text);
        for (size_t i = 0; i < column.count; i++)
            FUZZ_CHECK(column.steps[i] <= (double)last_step, "a later line was kept");
        journal_column_free(&column);
        check_plot(journal);
        check_line(journal, text, number);
    }
    brim_journal_close(journal);
    free(text);
}

void fuzz_one(const uint8_t *data, size_t size) {
    if (size < 1) return;
    if (data[0] & 1)
        check_log(data + 1, size - 1);
    else
        check_config(data + 1, size - 1);
}
