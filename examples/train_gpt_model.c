#include "train_gpt_model.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

enum { TEXT_VOCABULARY = 256, GPT2_VOCABULARY = 50257 };

// ---- folders ------------------------------------------------------------------------------------

// True where a folder holds anything that a run has saved, even if it broke off before it wrote
// "latest".
static bool holds_checkpoints(const char *dir, brim_error *err) {
    errno = 0;
    DIR *folder = opendir(dir);
    bool found = false, none = !folder && (errno == ENOENT || errno == ENOTDIR);
    for (struct dirent *entry; folder && !found && (entry = readdir(folder));)
        found = strcmp(entry->d_name, "latest") == 0 || strncmp(entry->d_name, "step-", 5) == 0;
    if (errno && !found && !none) // it may hold what would be written over
        brim_fail(err, BRIM_IO, "folder %s cannot be read: %s", dir, strerror(errno));
    if (folder) closedir(folder);
    return found;
}

brim_status train_model_file(char out[TRAIN_PATH], const char *dir, const char *file,
                             brim_error *err) {
    if (holds_checkpoints(dir, err))
        brim_checkpoint_file(out, TRAIN_PATH, dir, file, err);
    else
        snprintf(out, TRAIN_PATH, "%s/%s", dir, file);
    return err->status;
}

// A run goes on in a folder that holds checkpoints, and begins in one that holds none.
static bool check_folder(const train_options *o, brim_error *err) {
    bool holds = holds_checkpoints(o->out, err);
    if (err->status) return false;
    if (o->resume && !holds)
        brim_fail(err, BRIM_ARGUMENT,
                  "--resume: %s holds no checkpoint, so there is nothing to go on from", o->out);
    if (!o->resume && holds)
        brim_fail(err, BRIM_ARGUMENT,
                  "%s holds checkpoints of an earlier run; give --resume, or another --out",
                  o->out);
    return err->status == BRIM_OK;
}

// ---- sizes --------------------------------------------------------------------------------------

static int64_t or_else(int64_t given, int64_t otherwise) {
    return given ? given : otherwise;
}

static void fresh_config(const train_options *o, bool text, model_config *out, brim_error *err) {
    model_config c = o->sizes;
    c.architecture = o->architecture > 0 ? (model_architecture)o->architecture : MODEL_GPT2;
    c.positions = o->sequence;
    if (!c.vocabulary) c.vocabulary = text ? TEXT_VOCABULARY : GPT2_VOCABULARY;
    *out = model_config_complete(&c);
    model_config_check(out, err);
}

typedef struct given_size {
    const char *option;
    int64_t given, kept;
} given_size;

// What the command line says of sizes must agree with what is continued.
static void check_given(const train_options *o, const model_config *c, const char *file,
                        brim_error *err) {
    const model_config *given = &o->sizes;
    int64_t ffn = c->architecture == MODEL_LLAMA ? c->ffn : 4 * c->width;
    const given_size sizes[] = {{"layers", given->layers, c->layers},
                                {"heads", given->heads, c->heads},
                                {"kv-heads", given->kv_heads, or_else(c->kv_heads, c->heads)},
                                {"dim", given->width, c->width},
                                {"ffn", given->ffn, ffn},
                                {"vocab", given->vocabulary, c->vocabulary}};
    int architecture = o->architecture;
    if (architecture >= 0 && architecture != (int)c->architecture)
        brim_fail(err, BRIM_ARGUMENT, "--arch %s contradicts %s, which says %s",
                  model_architecture_name((model_architecture)architecture), file,
                  model_architecture_name(c->architecture));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].given && sizes[i].given != sizes[i].kept)
            brim_fail(err, BRIM_ARGUMENT, "--%s %lld contradicts %s, which says %lld",
                      sizes[i].option, (long long)sizes[i].given, file, (long long)sizes[i].kept);
}

brim_status train_model_choose(const train_options *o, bool text, model_config *out,
                               brim_error *err) {
    char file[TRAIN_PATH];
    if (err->status || !check_folder(o, err)) return err->status;
    if (!o->init && !o->resume) {
        fresh_config(o, text, out, err);
        return err->status;
    }
    if (o->init)
        train_model_file(file, o->init, "config.json", err);
    else
        brim_checkpoint_file(file, sizeof file, o->out, "config.json", err);
    if (err->status || model_config_read(file, out, err)) return err->status;
    check_given(o, out, file, err);
    if (o->sequence > out->positions)
        brim_fail(err, BRIM_ARGUMENT, "--seq %lld is longer than the model's %lld positions (%s)",
                  (long long)o->sequence, (long long)out->positions, file);
    return err->status;
}
