// A folder of checkpoints that a trainer is told to go on from. The input is text in parts, each of
// which ends with a line
// "%%": the file `latest`, the header of the training state, the header of the weights; and the
// bytes of both files' tensors. The lengths before the headers are made right, and so are the
// checksums, where the headers have a place for them: what they guard is what a stranger would have
// made.
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <brim/train.h>
#include "core/checksum.h"
#include "core/files.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/small_trainer.h"

// ---- the folder ---------------------------------------------------------------------------------

typedef struct part {
    char *bytes; // with a NUL behind them
    size_t size;
} part;

// What comes before the next "\n%%\n", or all that is left.
static part take_part(const uint8_t **data, size_t *size) {
    static const char mark[] = "\n%%\n";
    const size_t length = sizeof mark - 1;
    const uint8_t *end = *size ? memmem(*data, *size, mark, length) : NULL;
    part p = {.size = end ? (size_t)(end - *data) : *size};
    p.bytes = malloc(p.size + 1);
    FUZZ_CHECK(p.bytes, "no memory for a part");
    if (p.size) memcpy(p.bytes, *data, p.size);
    p.bytes[p.size] = '\0';
    size_t used = p.size + (end ? length : 0);
    *data += used, *size -= used;
    return p;
}

// The place behind a text in a header with so many bytes left in it; NULL where there is none.
static char *place_behind(const part *header, const char *text, size_t room) {
    char *found = header->size ? memmem(header->bytes, header->size, text, strlen(text)) : NULL;
    if (!found) return NULL;
    found += strlen(text);
    return (size_t)(header->bytes + header->size - found) >= room ? found : NULL;
}

// The weights' checksum, where the state says "i64 @" and enough blanks.
static void put_model_sum(part *state, const part *header, const part *data) {
    enum { DIGITS = 20 };
    char *at = place_behind(state, "\"model_checksum\":\"i64 ", DIGITS), digits[DIGITS + 1];
    if (!at || *at != '@') return;
    checksum sum = checksum_start();
    checksum_add(&sum, header->bytes, header->size);
    checksum_add(&sum, data->bytes, data->size);
    int64_t value = (int64_t)checksum_value(&sum);
    snprintf(digits, sizeof digits, value < 0 ? "-%019" PRIu64 : "%020" PRIu64,
             value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
    memcpy(at, digits, DIGITS);
}

static void put_own_sum(part *state, const part *data) {
    enum { DIGITS = 16 };
    char *at = place_behind(state, "\"brim.checksum\":\"", DIGITS), digits[DIGITS + 1];
    if (!at || *at != '@') return;
    memset(at, '0', DIGITS);
    checksum sum = checksum_start();
    checksum_add(&sum, state->bytes, state->size);
    checksum_add(&sum, data->bytes, data->size);
    snprintf(digits, sizeof digits, "%016" PRIx64, checksum_value(&sum));
    memcpy(at, digits, DIGITS);
}

static void write_tensors(const char *name, const part *header, const part *data) {
    size_t size = 8 + header->size + data->size;
    char *bytes = malloc(size);
    FUZZ_CHECK(bytes, "no memory for a file");
    uint64_t length = header->size;
    memcpy(bytes, &length, sizeof length);
    memcpy(bytes + 8, header->bytes, header->size);
    memcpy(bytes + 8 + header->size, data->bytes, data->size);
    fuzz_write(name, bytes, size);
    free(bytes);
}

// The tensors of the state come first in the data; SPLIT bytes, as the small trainer has them.
static void write_checkpoint(const uint8_t *data, size_t size) {
    part latest = take_part(&data, &size), state = take_part(&data, &size),
         model = take_part(&data, &size), all = take_part(&data, &size);
    size_t cut = all.size < SMALL_STATE_BYTES ? all.size : SMALL_STATE_BYTES;
    part state_data = {all.bytes, cut}, model_data = {all.bytes + cut, all.size - cut};
    put_model_sum(&state, &model, &model_data);
    put_own_sum(&state, &state_data);
    fuzz_write("run/latest", latest.bytes, latest.size);
    write_tensors("run/step-7/training_state.safetensors", &state, &state_data);
    write_tensors("run/step-7/model.safetensors", &model, &model_data);
    free(latest.bytes);
    free(state.bytes);
    free(model.bytes);
    free(all.bytes);
}

static void make_folders(void) {
    static bool made;
    if (made) return;
    mkdir(fuzz_path("run"), 0700);
    mkdir(fuzz_path("run/step-7"), 0700);
    fuzz_write("run/step-7/config.json", "{}", 2); // attached
    made = true;
}

// ---- what was read ------------------------------------------------------------------------------

static void check_progress(const brim_trainer *t) {
    const training_progress *p = &t->progress;
    FUZZ_CHECK(p->steps >= 0 && p->updates >= 0 && p->updates <= p->steps,
               "%lld updates in %lld steps", (long long)p->updates, (long long)p->steps);
    FUZZ_CHECK(p->steps < (int64_t)1 << 53, "%lld steps", (long long)p->steps);
    FUZZ_CHECK(p->scale.scale > 0 && isfinite(p->scale.scale), "a loss scale of %g",
               p->scale.scale);
    FUZZ_CHECK(p->scale.good_steps >= 0 && p->scale.good_steps <= p->steps, "good steps");
}

// Saved and resumed once more, it is the same.
static void check_saved(brim_trainer *t) {
    brim_error err = {0};
    brim_trainer_attach(t, "config.json", "{}", &err);
    brim_trainer_save(t, fuzz_path("again"), &err);
    FUZZ_CHECK(err.status == BRIM_OK, "what was read cannot be saved: %s", err.text);
    small_trainer *again = small_trainer_create();
    brim_trainer_resume(&again->trainer, fuzz_path("again"), &err);
    FUZZ_CHECK(err.status == BRIM_OK, "what was saved cannot be read: %s", err.text);
    const small_trainer *first = (const small_trainer *)t;
    FUZZ_CHECK(memcmp(first->memory, again->memory, sizeof first->memory) == 0, "other tensors");
    const training_progress *p = &t->progress, *q = &again->trainer.progress;
    FUZZ_CHECK(p->steps == q->steps && p->updates == q->updates &&
                   p->scale.scale == q->scale.scale && p->scale.good_steps == q->scale.good_steps,
               "other progress");
    for (const note *n = t->notes; n; n = n->next)
        FUZZ_CHECK(brim_trainer_noted(&again->trainer, n->name, n->value + 1) == n->value,
                   "the note %s is lost", n->name);
    small_trainer_free(again);
    brim_error ignored = {0};
    folder_remove(fuzz_path("again"), &ignored);
}

void fuzz_one(const uint8_t *data, size_t size) {
    enum { PER_BYTE = 128 };
    brim_error err = {0};
    make_folders();
    write_checkpoint(data, size);
    small_trainer *s = small_trainer_create();
    int64_t batch = 0;
    fuzz_begin(size, PER_BYTE);
    if (brim_checkpoint_micro_batch(fuzz_path("run"), &batch, &err) == BRIM_OK)
        FUZZ_CHECK(batch >= 1, "a micro-batch of %lld", (long long)batch);
    fuzz_error(&err);
    brim_trainer_resume(&s->trainer, fuzz_path("run"), &err);
    fuzz_end();
    if (!fuzz_error(&err)) {
        check_progress(&s->trainer);
        check_saved(&s->trainer);
    }
    small_trainer_free(s);
}
