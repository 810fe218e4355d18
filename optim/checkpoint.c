// Checkpoints: DIR/step-N/{model.safetensors, training_state.safetensors, attached files}, and
// DIR/latest.
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "core/alloc.h"
#include "core/checksum.h"
#include "core/dtype.h"
#include "core/files.h"
#include "core/safetensors.h"
#include "core/statefile.h"
#include "core/strbuf.h"
#include "optim/trainer.h"

enum { PATH_BYTES = 4096, FORMAT_VERSION = 2, LARGEST_ATTACHMENT = 64 << 20 };
static const char model_file[] = "model.safetensors", state_file[] = "training_state.safetensors";
static const char note_prefix[] = "note.", file_prefix[] = "file.";
enum { MOST_NOTES = 1000, LONGEST_NOTE = 200 };
static const char *const optimizer_names[] = {[BRIM_ADAMW] = "adamw", [BRIM_SGD] = "sgd"};
static const char *const states_names[] = {[BRIM_STATES_F32] = "f32", [BRIM_STATES_Q8] = "q8"};

static bool join(char out[PATH_BYTES], const char *dir, const char *file, brim_error *err) {
    if (snprintf(out, PATH_BYTES, "%s/%s", dir, file) < PATH_BYTES) return true;
    brim_fail(err, BRIM_ARGUMENT, "the path %.200s... is longer than %d bytes", dir, PATH_BYTES);
    return false;
}

// ---- attachments and notes ----------------------------------------------------------------------

// The name of a file in a checkpoint, and of nothing elsewhere.
static bool can_be_attached(const char *file) {
    return *file && !strchr(file, '/') && *file != '.' && strcmp(file, model_file) != 0 &&
           strcmp(file, state_file) != 0;
}

brim_status brim_trainer_attach(brim_trainer *t, const char *file, const char *text,
                                brim_error *err) {
    if (failed(err)) return err->status;
    if (!can_be_attached(file) || strlen(text) > LARGEST_ATTACHMENT)
        return brim_fail(err, BRIM_ARGUMENT, "a checkpoint cannot hold a file named \"%s\"", file);
    attachment *a = arena_alloc(&t->memory, sizeof *a, err);
    if (!a) return err->status;
    *a = (attachment){arena_strdup(&t->memory, file, err), arena_strdup(&t->memory, text, err),
                      t->attachments};
    if (!failed(err)) t->attachments = a;
    return err->status;
}

static note *find_note(const brim_trainer *t, const char *name) {
    for (note *n = t->notes; n; n = n->next)
        if (strcmp(n->name, name) == 0) return n;
    return NULL;
}

brim_status brim_trainer_note(brim_trainer *t, const char *name, int64_t value, brim_error *err) {
    if (failed(err)) return err->status;
    note *n = find_note(t, name);
    if (!n && (strlen(name) > LONGEST_NOTE || t->note_count == MOST_NOTES))
        return brim_fail(err, BRIM_ARGUMENT,
                         "\"%.60s\" cannot be noted: a checkpoint has at most %d notes, with names "
                         "of at most %d bytes",
                         name, MOST_NOTES, LONGEST_NOTE);
    if (!n) {
        n = arena_alloc(&t->memory, sizeof *n, err);
        const char *copy = arena_strdup(&t->memory, name, err);
        if (failed(err)) return err->status;
        *n = (note){copy, 0, t->notes};
        t->notes = n;
        t->note_count++;
    }
    n->value = value;
    return BRIM_OK;
}

int64_t brim_trainer_noted(const brim_trainer *t, const char *name, int64_t otherwise) {
    const note *n = t ? find_note(t, name) : NULL;
    return n ? n->value : otherwise;
}

// ---- tensors ------------------------------------------------------------------------------------

// Reads a variable, of four bytes an element, from its home; the caller frees it. NULL on error.
static float *fetch(brim_trainer *t, value_id id, size_t *bytes, brim_error *err) {
    const compiled *c = &t->training;
    size_t count = (size_t)shape_elements(&c->graph->value[id].shape);
    float *data = brim_calloc_array(count, sizeof *data, err);
    *bytes = count * sizeof *data;
    byte_range range = compiled_range(c, id);
    if (data && device_read_range(t->target.backend, t->target.device, &range, data, err)) {
        free(data);
        data = NULL;
    }
    return data;
}

static const graph_value *value_at(const brim_trainer *t, value_id id) {
    return &t->training.graph->value[id];
}

static bool next_state(const brim_trainer *t, value_id *id) {
    for (; *id < t->training.graph->values; ++*id)
        if (value_at(t, *id)->role == ROLE_STATE) return true;
    return false;
}

// ---- save ---------------------------------------------------------------------------------------

static void write_parameters(brim_trainer *t, safetensors_writer *w, checksum *sum,
                             brim_error *err) {
    for (int i = 0; i < t->parameters && !failed(err); i++) {
        size_t bytes;
        float *data = fetch(t, t->parameter[i], &bytes, err);
        if (!data) return;
        checksum_add(sum, data, bytes);
        safetensors_write(w, value_at(t, t->parameter[i])->name, data, bytes, err);
        free(data);
    }
}

static void save_model(brim_trainer *t, const char *path, checksum *sum, brim_error *err) {
    safetensors_entry *entries = brim_calloc_array((size_t)t->parameters, sizeof *entries, err);
    file_writer *out = file_create(path, err);
    for (int i = 0; entries && i < t->parameters; i++) {
        const graph_value *v = value_at(t, t->parameter[i]);
        entries[i] = (safetensors_entry){.name = v->name, .dtype = BRIM_F32, .dims = v->shape.rank};
        memcpy(entries[i].shape, v->shape.dim, sizeof entries[i].shape);
    }
    safetensors_writer *w =
        failed(err) ? NULL : safetensors_begin(out, entries, (size_t)t->parameters, NULL, 0, err);
    if (w) {
        size_t bytes;
        const char *header = safetensors_written_header(w, &bytes);
        checksum_add(sum, header, bytes);
        write_parameters(t, w, sum, err);
        safetensors_end(w, err);
    }
    file_commit(out, err);
    free(entries);
}

static uint64_t sum_of(const void *data, size_t bytes) {
    checksum sum = checksum_start();
    checksum_add(&sum, data, bytes);
    return checksum_value(&sum);
}

static void put_prefixed(state_writer *w, const char *prefix, const char *name, int64_t value,
                         brim_error *err) {
    strbuf full = {.err = err};
    strbuf_printf(&full, "%s%s", prefix, name);
    state_put_i64(w, strbuf_text(&full), value, err);
    strbuf_free(&full);
}

static void put_numbers(const brim_trainer *t, state_writer *w, uint64_t model_sum,
                        brim_error *err) {
    const training_progress *p = &t->progress;
    state_put_i64(w, "version", FORMAT_VERSION, err);
    state_put_text(w, "optimizer", optimizer_names[t->options.optimizer.kind], err);
    state_put_text(w, "states", states_names[t->options.optimizer.states], err);
    state_put_i64(w, "steps", p->steps, err);
    state_put_i64(w, "updates", p->updates, err);
    state_put_f64(w, "loss_scale", p->scale.scale, err);
    state_put_i64(w, "loss_scale_good_steps", p->scale.good_steps, err);
    state_put_i64(w, "seed", (int64_t)t->options.seed, err);
    state_put_i64(w, "micro_batch", t->options.batch, err);
    state_put_i64(w, "model_checksum", (int64_t)model_sum, err);
    for (const note *n = t->notes; n; n = n->next)
        put_prefixed(w, note_prefix, n->name, n->value, err);
    for (const attachment *a = t->attachments; a; a = a->next)
        put_prefixed(w, file_prefix, a->file, (int64_t)sum_of(a->text, strlen(a->text)), err);
}

static void save_state(brim_trainer *t, const char *path, uint64_t model_sum, brim_error *err) {
    state_writer *w = state_create(path, err);
    put_numbers(t, w, model_sum, err);
    for (value_id id = 0; next_state(t, &id) && !failed(err); id++) {
        const graph_value *v = value_at(t, id);
        state_declare(w, v->name, v->dtype, v->shape.rank, v->shape.dim, err);
    }
    for (value_id id = 0; next_state(t, &id) && !failed(err); id++) {
        size_t bytes;
        float *data = fetch(t, id, &bytes, err);
        if (data) state_write(w, value_at(t, id)->name, data, bytes, err);
        free(data);
    }
    state_commit(w, err);
}

static void save_files(brim_trainer *t, const char *folder, brim_error *err) {
    char path[PATH_BYTES];
    checksum model_sum = checksum_start();
    if (join(path, folder, model_file, err)) save_model(t, path, &model_sum, err);
    if (join(path, folder, state_file, err)) save_state(t, path, checksum_value(&model_sum), err);
    for (const attachment *a = t->attachments; a && !failed(err); a = a->next)
        if (join(path, folder, a->file, err)) file_replace(path, a->text, strlen(a->text), err);
}

brim_status brim_trainer_save(brim_trainer *t, const char *dir, brim_error *err) {
    if (brim_trainer_prepare(t, err)) return err->status;
    char name[40], path[PATH_BYTES];
    snprintf(name, sizeof name, "step-%lld", (long long)t->progress.steps);
    if (!folder_make(dir, 0777, err) || !join(path, dir, name, err)) return err->status;
    folder_clean(dir);
    folder_writer *folder = folder_create(path, err);
    if (!folder) return err->status;
    save_files(t, folder_path(folder), err);
    folder_commit(folder, true, err);
    if (failed(err) || !join(path, dir, "latest", err)) return err->status;
    strcat(name, "\n");
    file_replace(path, name, strlen(name), err);
    return err->status;
}

// ---- resume -------------------------------------------------------------------------------------

// Also where that cannot be found out: whoever reads it then says why.
static bool exists(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

// The checkpoint of the highest step. A run that was killed during its first save may have one and
// no `latest`; a checkpoint has its name only once it is whole.
static bool highest_step(char name[40], const char *dir) {
    DIR *folder = opendir(dir);
    long long highest = -1, step;
    errno = 0;
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char rest;
        if (sscanf(entry->d_name, "step-%lld%c", &step, &rest) == 1 && step > highest)
            highest = step;
    }
    if (errno) highest = -1; // what was not read may be higher
    if (folder) closedir(folder);
    snprintf(name, 40, "step-%lld", highest);
    return highest >= 0;
}

// Whether a file's text is "step-N", with or without the end of the line, which is cut off.
static bool is_checkpoint_name(char *text, size_t size) {
    long long step;
    char end, rest;
    if (strlen(text) != size) return false;
    int read = sscanf(text, "step-%lld%c%c", &step, &end, &rest);
    text[strcspn(text, "\n")] = '\0';
    return read == 1 || (read == 2 && end == '\n');
}

// The name in DIR/latest must be that of a folder in DIR: a checkpoint decides no other path.
static brim_status newest(char out[PATH_BYTES], const char *dir, brim_error *err) {
    char path[PATH_BYTES], name[40];
    size_t size;
    if (!join(path, dir, "latest", err)) return err->status;
    if (!exists(path) && highest_step(name, dir)) {
        join(out, dir, name, err);
        return err->status;
    }
    char *text = file_read(path, 256, &size, err);
    if (!text) return err->status;
    if (is_checkpoint_name(text, size))
        join(out, dir, text, err);
    else
        brim_fail(err, BRIM_FORMAT,
                  "%s says \"%.40s\"; expected the name of a checkpoint, step-N, and no more", path,
                  text);
    free(text);
    return err->status;
}

static brim_status checkpoint_folder(char out[PATH_BYTES], const char *dir, brim_error *err) {
    if (failed(err)) return err->status;
    if (!join(out, dir, model_file, err)) return err->status;
    if (exists(out)) {
        out[strlen(dir)] = '\0';
        return BRIM_OK;
    }
    return newest(out, dir, err);
}

brim_status brim_checkpoint_file(char *path, size_t size, const char *dir, const char *file,
                                 brim_error *err) {
    char folder[PATH_BYTES], full[PATH_BYTES];
    if (checkpoint_folder(folder, dir, err) || !join(full, folder, file, err)) return err->status;
    if (snprintf(path, size, "%s", full) >= (int)size)
        return brim_fail(err, BRIM_ARGUMENT, "the path %.200s... is longer than %zu bytes", full,
                         size);
    return BRIM_OK;
}

brim_status brim_checkpoint_micro_batch(const char *dir, int64_t *batch, brim_error *err) {
    char path[PATH_BYTES];
    if (brim_checkpoint_file(path, sizeof path, dir, state_file, err)) return err->status;
    state_reader *r = state_open(path, err);
    if (!r) return err->status;
    int64_t stored = state_i64(r, "micro_batch", err);
    state_close(r);
    if (!failed(err) && stored < 1)
        return brim_fail(err, BRIM_FORMAT, "%s: micro_batch is %lld; expected at least 1", path,
                         (long long)stored);
    if (!failed(err)) *batch = stored;
    return err->status;
}

static void load_tensor(brim_trainer *t, value_id id, const safetensors *file, const char *name,
                        brim_error *err) {
    const graph_value *v = value_at(t, id);
    const safetensors_tensor *found =
        safetensors_expect(file, name, v->shape.rank, v->shape.dim, err);
    if (!found) return;
    float *data = brim_calloc_array(found->count, sizeof *data, err);
    if (!data) return;
    dtype_to_f32(found->dtype, found->data, data, found->count);
    compiled_write_variable(&t->training, &t->target, id, data, err);
    free(data);
}

// A parameter's name in a file that may have, or lack, the prefix.
static const char *name_in_file(const safetensors *file, const char *name, const char *prefix,
                                char buffer[512]) {
    if (safetensors_find(file, name) || !prefix) return name;
    size_t length = strlen(prefix);
    if (strncmp(name, prefix, length) == 0 && safetensors_find(file, name + length))
        return name + length;
    snprintf(buffer, 512, "%s%s", prefix, name);
    return safetensors_find(file, buffer) ? buffer : name;
}

brim_status brim_trainer_load_model(brim_trainer *t, const char *path, const char *prefix,
                                    brim_error *err) {
    if (brim_trainer_prepare(t, err)) return err->status;
    safetensors *file = safetensors_open(path, err);
    if (!file) return err->status;
    for (int i = 0; i < t->parameters && !failed(err); i++) {
        char buffer[512];
        load_tensor(t, t->parameter[i], file,
                    name_in_file(file, value_at(t, t->parameter[i])->name, prefix, buffer), err);
    }
    safetensors_close(file);
    return err->status;
}

static void check_model_sum(const char *path, uint64_t expected, brim_error *err) {
    safetensors *file = safetensors_open(path, err);
    if (!file) return;
    size_t header_bytes, bytes;
    const char *header = safetensors_header(file, &header_bytes);
    const void *data = safetensors_data(file, &bytes);
    checksum sum = checksum_start();
    checksum_add(&sum, header, header_bytes);
    checksum_add(&sum, data, bytes);
    if (checksum_value(&sum) != expected)
        brim_fail(
            err, BRIM_FORMAT,
            "%s is damaged, or not of this checkpoint: its checksum differs from the one in %s",
            path, state_file);
    safetensors_close(file);
}

// A file that was attached. Its name comes from a file, and leads nowhere else.
static void check_attached(const char *folder, const char *name, uint64_t expected,
                           brim_error *err) {
    char path[PATH_BYTES];
    size_t bytes;
    if (failed(err)) return;
    if (!can_be_attached(name)) {
        brim_fail(err, BRIM_FORMAT, "%s/%s names \"%.100s\", which is no file of a checkpoint",
                  folder, state_file, name);
        return;
    }
    char *text =
        join(path, folder, name, err) ? file_read(path, LARGEST_ATTACHMENT, &bytes, err) : NULL;
    if (text && sum_of(text, bytes) != expected)
        brim_fail(err, BRIM_FORMAT,
                  "%s is damaged or was changed: its checksum differs from the one in %s", path,
                  state_file);
    free(text);
}

static void check_attachments(const char *folder, const state_reader *r, brim_error *err) {
    size_t prefix = sizeof file_prefix - 1;
    const char *name;
    for (size_t i = 0; (name = state_name_at(r, i)) && !failed(err); i++)
        if (strncmp(name, file_prefix, prefix) == 0)
            check_attached(folder, name + prefix, (uint64_t)state_i64(r, name, err), err);
}

static void restore_notes(brim_trainer *t, const state_reader *r, brim_error *err) {
    const char *name;
    for (size_t i = 0; (name = state_name_at(r, i)) && !failed(err); i++)
        if (strncmp(name, note_prefix, sizeof note_prefix - 1) == 0)
            brim_trainer_note(t, name + sizeof note_prefix - 1, state_i64(r, name, err), err);
}

static void check_numbers(const brim_trainer *t, const state_reader *r, const char *path,
                          brim_error *err) {
    int64_t version = state_i64(r, "version", err);
    const char *optimizer = state_text(r, "optimizer", err),
               *own = optimizer_names[t->options.optimizer.kind];
    int64_t seed = state_i64(r, "seed", err);
    const char *states = state_text(r, "states", err),
               *own_states = states_names[t->options.optimizer.states];
    if (failed(err)) return;
    if (version != FORMAT_VERSION)
        brim_fail(err, BRIM_FORMAT, "%s has version %lld; this library reads %d", path,
                  (long long)version, FORMAT_VERSION);
    if (strcmp(optimizer, own) != 0)
        brim_fail(err, BRIM_ARGUMENT, "%s was saved by optimizer %s; this trainer's is %s", path,
                  optimizer, own);
    if (strcmp(states, own_states) != 0)
        brim_fail(err, BRIM_ARGUMENT,
                  "%s was saved with optimizer states in %s; this trainer's are %s", path, states,
                  own_states);
    if (seed != (int64_t)t->options.seed)
        brim_fail(err, BRIM_ARGUMENT, "%s was saved with seed %lld; this trainer's is %lld", path,
                  (long long)seed, (long long)t->options.seed);
}

// Numbers that a training comes to. The checksum guards against damage, not against what somebody
// wrote.
static training_progress read_progress(const state_reader *r, const char *path, brim_error *err) {
    const int64_t most_steps = (int64_t)1 << 53;
    training_progress p = {
        .steps = state_i64(r, "steps", err),
        .updates = state_i64(r, "updates", err),
        .scale = {state_f64(r, "loss_scale", err), state_i64(r, "loss_scale_good_steps", err)}};
    if (p.steps < 0 || p.steps > most_steps || p.updates < 0 || p.updates > p.steps)
        brim_fail(err, BRIM_FORMAT, "%s: %lld updates in %lld steps; expected 0 up to the steps",
                  path, (long long)p.updates, (long long)p.steps);
    if (!(p.scale.scale > 0 && isfinite(p.scale.scale)) || p.scale.good_steps < 0 ||
        p.scale.good_steps > p.steps)
        brim_fail(
            err, BRIM_FORMAT,
            "%s: a loss scale of %g for %lld of %lld steps; expected a number above 0, and no "
            "more steps than there were",
            path, p.scale.scale, (long long)p.scale.good_steps, (long long)p.steps);
    return p;
}

static void restore_states(brim_trainer *t, const state_reader *r, brim_error *err) {
    for (value_id id = 0; next_state(t, &id) && !failed(err); id++) {
        const graph_value *v = value_at(t, id);
        const void *data = state_tensor(r, v->name, v->dtype, v->shape.rank, v->shape.dim, err);
        if (data) compiled_write_variable(&t->training, &t->target, id, data, err);
    }
}

brim_status brim_trainer_resume(brim_trainer *t, const char *dir, brim_error *err) {
    char folder[PATH_BYTES], model[PATH_BYTES], path[PATH_BYTES];
    if (brim_trainer_prepare(t, err) || checkpoint_folder(folder, dir, err)) return err->status;
    if (!join(path, folder, state_file, err) || !join(model, folder, model_file, err))
        return err->status;
    state_reader *r = state_open(path, err);
    if (!r) return err->status;
    check_numbers(t, r, path, err);
    check_attachments(folder, r, err);
    training_progress progress = read_progress(r, path, err);
    if (!failed(err)) check_model_sum(model, (uint64_t)state_i64(r, "model_checksum", err), err);
    if (!failed(err)) brim_trainer_load_model(t, model, NULL, err);
    if (!failed(err)) restore_states(t, r, err);
    if (!failed(err)) restore_notes(t, r, err);
    if (!failed(err)) t->progress = progress;
    state_close(r);
    return err->status;
}
