// Trains a language model on the user's own text. See --help.
#include <float.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "model.h"
#include "sample.h"
#include "text_figures.h"
#include "train_gpt_model.h"
#include "train_gpt_options.h"

enum { EVALUATION_BATCHES = 16, SAMPLE_LENGTH = 256 };
static const double held_out_fraction = 0.02;

static volatile sig_atomic_t interrupted;

static void interrupt(int signal) {
    (void)signal;
    interrupted = 1;
}

static void catch_signals(void) {
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct sigaction before;
        sigaction(ends[i], NULL, &before);
        if (ends[i] == SIGHUP && before.sa_handler == SIG_IGN) continue; // nohup
        // Without SA_RESETHAND a second Ctrl-C could not end a run that hangs; without SA_RESTART
        // the first might interrupt a call that saves.
        int flags = (int)SA_RESETHAND | SA_RESTART;
        sigaction(ends[i], &(struct sigaction){.sa_handler = interrupt, .sa_flags = flags}, NULL);
    }
    signal(SIGPIPE,
           SIG_IGN); // that nobody reads the progress any more is no reason to lose the training
}

typedef struct run {
    train_options options;
    model_config config;
    brim_dataset *data;
    brim_loader train, held_out;
    brim_loader_options held_out_data;
    brim_trainer *trainer;
    brim_program *evaluation, *next;
    brim_lock *lock; // of the output folder
    brim_journal *log;
    brim_progress *progress;
    int32_t *tokens, *targets; // of a whole step
    int64_t steps;             // to do in all
    int64_t sample_length;     // tokens that the model sees while sampling
    double held_out_loss;      // of the last evaluation; NaN before it
    double seconds;            // of all steps but the first two, which warm up
    int64_t timed;
} run;

static void join(char out[4096], const char *dir, const char *file) {
    snprintf(out, 4096, "%s/%s", dir, file);
}

static bool is_text(const run *r) {
    return brim_dataset_kind_of(r->data) == BRIM_DATA_TEXT;
}

// ---- data ---------------------------------------------------------------------------------------

enum { CHUNK = 1 << 16 };

// Reads all data before the first step, so that a wrong token does not end a run that is well under
// way.
static void check_vocabulary(const run *r, brim_error *err) {
    int64_t count = brim_dataset_count(r->data), vocabulary = r->config.vocabulary, within;
    if (vocabulary >= brim_dataset_token_limit(r->data)) return;
    int32_t *chunk = malloc(CHUNK * sizeof *chunk);
    if (!chunk) brim_fail(err, BRIM_MEMORY, "no memory to read the data");
    for (int64_t at = 0; at < count && err->status == BRIM_OK; at += CHUNK) {
        int64_t n = count - at < CHUNK ? count - at : CHUNK;
        brim_dataset_read(r->data, at, chunk, n, err);
        for (int64_t i = 0; i < n && err->status == BRIM_OK; i++) {
            if (chunk[i] < vocabulary) continue;
            const char *file = brim_dataset_locate(r->data, at + i, &within);
            brim_fail(err, BRIM_FORMAT, "%s: token %lld is %d, beyond the vocabulary of %lld", file,
                      (long long)within, chunk[i], (long long)vocabulary);
        }
    }
    free(chunk);
}

// Sequences that are read at a time: a micro-batch, or where the planner chooses that, a whole
// step, so that the data's order does not depend on the plan.
static int64_t read_batch(const run *r) {
    return r->options.step_batch ? r->options.step_batch : r->options.batch;
}

static int64_t reads_in_step(const run *r) {
    return r->options.step_batch ? 1 : r->options.accumulate;
}

static void open_loaders(run *r, brim_error *err) {
    const train_options *o = &r->options;
    int64_t split = brim_dataset_count(r->data);
    if (!o->sequential &&
        !brim_loader_split(split, read_batch(r), o->sequence, held_out_fraction, &split, err))
        return;
    brim_loader_options all = {.data = r->data,
                               .batch = read_batch(r),
                               .sequence = o->sequence,
                               .end = split,
                               .sequential = o->sequential,
                               .seed = (uint64_t)o->seed,
                               .vocabulary = (int32_t)r->config.vocabulary};
    brim_loader_init(&r->train, &all, err);
    if (o->sequential || err->status) return;
    r->held_out_data = all;
    r->held_out_data.begin = split;
    r->held_out_data.end = 0;
    r->held_out_data.sequential = true;
}

static void choose_steps(run *r) {
    const train_options *o = &r->options;
    if (o->epochs) {
        int64_t batches = brim_loader_batches_per_epoch(&r->train) * o->epochs;
        r->steps = (batches + reads_in_step(r) - 1) / reads_in_step(r);
    } else {
        r->steps = o->steps ? o->steps : 1000;
    }
}

// ---- the trainer --------------------------------------------------------------------------------

// The library takes 0 for "the default"; on the command line it is meant.
static float not_the_default(double value) {
    return value > FLT_MIN ? (float)value : FLT_MIN;
}

// A micro-batch that the planner chose once stays: another would round differently.
static void keep_micro_batch(run *r, brim_error *err) {
    train_options *o = &r->options;
    if (o->resume && o->step_batch) brim_checkpoint_micro_batch(o->out, &o->batch, err);
    if (o->batch && o->step_batch % o->batch != 0)
        brim_fail(err, BRIM_ARGUMENT,
                  "--step-batch %lld is no multiple of the micro-batch of %lld that %s was trained "
                  "with",
                  (long long)o->step_batch, (long long)o->batch, o->out);
}

static brim_trainer *make_trainer(run *r, int64_t vram_bytes, brim_error *err) {
    const train_options *o = &r->options;
    return brim_trainer_create(
        model_build, &r->config,
        &(brim_trainer_options){.batch = o->batch,
                                .length = o->sequence,
                                .accumulate = o->accumulate,
                                .step_batch = o->step_batch,
                                .device = o->device,
                                .precision = (brim_precision)o->precision,
                                .seed = (uint64_t)o->seed,
                                .on_nan = (brim_on_nan)o->on_nan,
                                .vram_bytes = vram_bytes,
                                .ram_bytes = o->ram,
                                .disk = o->disk.bytes ? o->disk.folder : NULL,
                                .disk_bytes = o->disk.bytes,
                                .optimizer = {.kind = BRIM_ADAMW,
                                              .lr = (float)o->lr,
                                              .beta1 = not_the_default(o->beta1),
                                              .beta2 = not_the_default(o->beta2),
                                              .eps = not_the_default(o->eps),
                                              .weight_decay = (float)o->weight_decay,
                                              .clip = (float)o->clip,
                                              .states = (brim_states)o->states},
                                .schedule = {.kind = (brim_schedule_kind)o->schedule,
                                             .warmup = o->warmup,
                                             .steps = r->steps,
                                             .min_lr = (float)o->min_lr}},
        err);
}

// The budget that is a share of what a step would take with everything on the device.
static int64_t share_of_whole(run *r, brim_error *err) {
    brim_trainer *whole = make_trainer(r, 0, err);
    brim_trainer_info info = brim_trainer_describe(whole);
    brim_trainer_free(whole);
    return info.overhead_bytes + (int64_t)(r->options.vram.share * (double)info.device_bytes);
}

static void create_trainer(run *r, brim_error *err) {
    const memory_budget *vram = &r->options.vram;
    r->config.dropout = r->options.dropout;
    r->trainer = make_trainer(r, vram->share > 0 ? share_of_whole(r, err) : vram->bytes, err);
    if (err->status) return;
    brim_trainer_info info = brim_trainer_describe(r->trainer);
    r->options.batch = info.batch;
    r->options.accumulate = info.accumulate;
}

static void add_programs(run *r, brim_error *err) {
    const train_options *o = &r->options;
    if (!o->sequential) {
        r->held_out_data.batch = o->batch;
        brim_loader_init(&r->held_out, &r->held_out_data, err);
        r->evaluation =
            brim_trainer_program(r->trainer, model_build, &r->config, o->batch, o->sequence, err);
    }
    if (o->sample) {
        r->sample_length = o->sequence < SAMPLE_LENGTH ? o->sequence : SAMPLE_LENGTH;
        r->next = brim_trainer_program(r->trainer, model_build_next, &r->config, 1,
                                       r->sample_length, err);
    }
    char *config = model_config_text(&r->config, err);
    if (config) brim_trainer_attach(r->trainer, "config.json", config, err);
    free(config);
}

static void load_weights(run *r, brim_error *err) {
    const train_options *o = &r->options;
    char file[4096];
    if (o->init) {
        train_model_file(file, o->init, "model.safetensors", err);
        brim_trainer_load_model(r->trainer, file, model_prefix(&r->config), err);
    }
    if (o->resume && brim_trainer_resume(r->trainer, o->out, err) == BRIM_OK)
        brim_loader_restore(&r->train, brim_trainer_noted(r->trainer, "data_position", 0), err);
}

static void open_log(run *r, brim_error *err) {
    char file[4096];
    if (r->options.log)
        snprintf(file, sizeof file, "%s", r->options.log);
    else
        join(file, r->options.out, "log.jsonl");
    int64_t done = brim_trainer_describe(r->trainer).steps;
    r->log = brim_journal_open(file, done, err);
    r->progress = brim_progress_open(stdout, err);
}

// Before memory is reserved, which takes a while where it is much.
static void print_plan(const run *r) {
    brim_trainer_info info = brim_trainer_describe(r->trainer);
    printf("%s: %lld parameters, %lld layers of width %lld, %lld heads\n", info.device,
           (long long)info.parameters, (long long)r->config.layers, (long long)r->config.width,
           (long long)r->config.heads);
    if (r->options.explain || info.host_bytes > info.staging_bytes || info.recomputed)
        brim_trainer_explain(r->trainer, stdout);
    fflush(stdout);
}

static void print_ready(const run *r) {
    brim_trainer_info info = brim_trainer_describe(r->trainer);
    char arena[32];
    printf("device memory %s, planned and reserved; %d kernels, ready in %.2f s\n",
           brim_bytes_text(info.device_bytes, arena, sizeof arena), info.kernels,
           info.build_seconds);
    if (info.pinned_bytes < info.host_bytes)
        printf("the driver could not pin %s of main memory: copies of it pass through small pinned "
               "buffers\n",
               brim_bytes_text(info.host_bytes - info.pinned_bytes, arena, sizeof arena));
    if (info.warning) fprintf(stderr, "warning: %s\n", info.warning);
    fflush(stdout);
}

// ---- steps --------------------------------------------------------------------------------------

// The steps of the --seq option and of the whole step's arrays.
static int64_t micro_tokens(const run *r) {
    return r->options.batch * r->options.sequence;
}

static void one_step(run *r, brim_step_result *result, brim_error *err) {
    int64_t each = read_batch(r) * r->options.sequence, all = each * reads_in_step(r);
    for (int64_t m = 0; m < reads_in_step(r); m++)
        brim_loader_next(&r->train, r->tokens + m * each, r->targets + m * each, err);
    brim_trainer_feed(r->trainer, "tokens", r->tokens, (size_t)all * sizeof *r->tokens, err);
    brim_trainer_feed(r->trainer, "targets", r->targets, (size_t)all * sizeof *r->targets, err);
    brim_trainer_step(r->trainer, result, err);
    brim_trainer_note(r->trainer, "data_position", r->train.position, err);
}

static void evaluate(run *r, int64_t step, brim_error *err) {
    if (!r->evaluation) return;
    size_t bytes = (size_t)micro_tokens(r) * sizeof *r->tokens;
    int64_t batches = brim_loader_batches_per_epoch(&r->held_out);
    if (batches > EVALUATION_BATCHES) batches = EVALUATION_BATCHES;
    double sum = 0, count = 0;
    brim_loader_restore(&r->held_out, 0, err);
    for (int64_t i = 0; i < batches && err->status == BRIM_OK; i++) {
        double s = 0, n = 0;
        brim_loader_next(&r->held_out, r->tokens, r->targets, err);
        brim_program_feed(r->evaluation, "tokens", r->tokens, bytes, err);
        brim_program_feed(r->evaluation, "targets", r->targets, bytes, err);
        brim_program_run(r->evaluation, &s, &n, err);
        sum += s;
        count += n;
    }
    if (err->status) return;
    r->held_out_loss = sum / count;
    brim_journal_put(r->log, err, {"step", (double)step}, {"held_out_loss", r->held_out_loss});
    brim_progress_say(r->progress, "step %lld  held-out loss %.4f", (long long)step,
                      r->held_out_loss);
}

// What streaming cost in a step; "" where nothing streams.
static void streaming_text(const brim_step_result *s, char *text, size_t size) {
    int length = 0;
    text[0] = '\0';
    if (s->streaming_seconds > 0)
        length = snprintf(text, size, "  streaming %.0f%% hidden",
                          100 * s->hidden_seconds / s->streaming_seconds);
    double waited = 100 * s->waited_seconds / s->seconds;
    if (s->waited_for && waited >= 0.5)
        snprintf(text + length, size - (size_t)length, "%s waited %.0f%%, most for %s",
                 length ? "," : " ", waited, s->waited_for);
}

static void report_step(run *r, const brim_step_result *s, brim_error *err) {
    double tokens = (double)(micro_tokens(r) * r->options.accumulate) / s->seconds;
    brim_journal_put(r->log, err, {"step", (double)s->step}, {"loss", s->loss},
                     {"grad_norm", s->grad_norm}, {"lr", s->lr}, {"tokens_per_second", tokens},
                     {"loss_scale", s->loss_scale}, {"skipped", (double)s->skipped},
                     {"seconds", s->seconds}, {"streaming_seconds", s->streaming_seconds},
                     {"hidden_seconds", s->hidden_seconds}, {"waited_seconds", s->waited_seconds});
    char streaming[120];
    streaming_text(s, streaming, sizeof streaming);
    if (s->skipped)
        brim_progress_say(r->progress, "step %lld  skipped: %s%s", (long long)s->step,
                          s->not_finite ? "the first tensor that went bad is "
                                        : "gradients overflowed, the loss scale is halved",
                          s->not_finite ? s->not_finite : "");
    brim_progress_step(r->progress, s->step, r->steps, "loss %.4f  %.0f tokens/s%s", s->loss,
                       tokens, streaming);
}

static bool save(run *r, brim_error *err) {
    brim_journal_sync(r->log, err);
    return brim_trainer_save(r->trainer, r->options.out, err) == BRIM_OK;
}

// Nothing was changed: what was trained until then is kept, so that only the step is lost.
static void save_before_stop(run *r, bool saved, const brim_error *why) {
    brim_error failed = {0};
    if (why->status != BRIM_NOT_FINITE || brim_trainer_describe(r->trainer).steps == 0) return;
    if (!saved) save(r, &failed);
    if (!failed.status)
        printf(
            "the training before that step is in %s; --resume --on-nan skip goes on without it\n",
            r->options.out);
    else
        brim_error_report(&failed);
}

static bool due(int64_t every, int64_t step) {
    return every > 0 && step % every == 0;
}

static void train(run *r, brim_error *err) {
    int64_t step = brim_trainer_describe(r->trainer).steps, saved = step, evaluated = -1;
    while (step < r->steps && !interrupted && err->status == BRIM_OK) {
        brim_step_result s = {0};
        one_step(r, &s, err);
        if (err->status) break;
        step = s.step;
        report_step(r, &s, err);
        if (s.step > 2) r->seconds += s.seconds, r->timed++;
        if (due(r->options.eval_every, step)) evaluate(r, evaluated = step, err);
        if (due(r->options.save_every, step) && save(r, err)) saved = step;
    }
    brim_progress_end(r->progress);
    if (interrupted && err->status == BRIM_OK) printf("stopped at step %lld\n", (long long)step);
    save_before_stop(r, saved == step, err);
    if (saved != step) save(r, err);
    if (evaluated != step && !interrupted) evaluate(r, step, err);
}

// ---- the end ------------------------------------------------------------------------------------

static void print_time(const run *r) {
    brim_trainer_info info = brim_trainer_describe(r->trainer);
    bool planned = info.host_bytes > info.staging_bytes || info.recomputed;
    if (r->timed && planned && info.expected_seconds > 0)
        printf("a step took %.3g ms; the plan expected %.3g ms\n",
               1e3 * r->seconds / (double)r->timed, 1e3 * info.expected_seconds);
}

static void print_figures(run *r, brim_error *err) {
    double entropy;
    if (!is_text(r) || isnan(r->held_out_loss)) return;
    if (byte_entropy(r->data, &entropy, err)) return;
    printf("held-out loss %.3f bits a byte: %.3f of the entropy of single bytes (%.3f bits)\n",
           r->held_out_loss / log(2), r->held_out_loss / entropy, entropy / log(2));
    fflush(stdout); // sampling takes its time
}

static void print_sample(const run *r, const int32_t *tokens, int64_t count, brim_error *err) {
    if (!is_text(r)) {
        for (int64_t i = 0; i < count; i++) printf("%d%s", tokens[i], i + 1 < count ? " " : "\n");
        return;
    }
    char *text = malloc((size_t)count);
    if (!text) {
        brim_fail(err, BRIM_MEMORY, "no memory for the sample");
        return;
    }
    for (int64_t i = 0; i < count; i++) text[i] = (char)tokens[i];
    printf("-----\n%.*s\n-----\n", (int)count, text);
    known_words words;
    if (!interrupted && count_known_words(r->data, text, (size_t)count, &words, err) == BRIM_OK &&
        words.words > 0)
        printf("%d of the sample's %d words of 4 letters or more occur in the data (%.0f%%)\n",
               words.known, words.words, 100.0 * words.known / words.words);
    free(text);
}

static void sample(run *r, brim_error *err) {
    const train_options *o = &r->options;
    const char *prompt = o->prompt ? o->prompt : "\n";
    bool text = is_text(r);
    int64_t given = text ? (int64_t)strlen(prompt) : 1;
    int32_t *tokens = calloc((size_t)(given + o->sample), sizeof *tokens);
    if (!tokens) {
        brim_fail(err, BRIM_MEMORY, "no memory for a sample of %lld tokens", (long long)o->sample);
        return;
    }
    for (int64_t i = 0; i < given; i++) tokens[i] = text ? (unsigned char)prompt[i] : 0;
    sample_options how = {.program = r->next,
                          .length = r->sample_length,
                          .vocabulary = r->config.vocabulary,
                          .temperature = o->temperature,
                          .top_p = o->top_p,
                          .seed = (uint64_t)o->seed,
                          .stop = &interrupted};
    int64_t added = sample_tokens(&how, tokens, given, o->sample, err);
    if (added > 0 && err->status == BRIM_OK) print_sample(r, tokens + given, added, err);
    if (added < o->sample && err->status == BRIM_OK)
        printf("stopped at token %lld of the sample's %lld\n", (long long)added,
               (long long)o->sample);
    free(tokens);
}

static void finish(run *r, brim_error *err) {
    char file[4096];
    join(file, r->options.out, "loss.svg");
    brim_journal_plot(r->log, file, err);
    print_time(r);
    print_figures(r, err);
    if (r->options.sample && !interrupted && err->status == BRIM_OK) sample(r, err);
    if (err->status == BRIM_OK) printf("checkpoint, log and loss.svg are in %s\n", r->options.out);
}

static void start(run *r, brim_error *err) {
    train_options *o = &r->options;
    r->held_out_loss = NAN;
    r->data = brim_dataset_open(o->files, (size_t)o->file_count, err);
    if (err->status) return;
    if (o->prompt && !is_text(r))
        brim_fail(err, BRIM_ARGUMENT,
                  "--prompt needs text data; token files say nothing of the tokens' spelling");
    // Before anything of the folder is read: another run might still change it.
    r->lock = brim_folder_lock(o->out, err);
    if (!err->status) train_model_choose(o, is_text(r), &r->config, err);
    if (err->status) return;
    if (!o->sequence) o->sequence = r->config.positions;
    check_vocabulary(r, err);
    open_loaders(r, err);
    if (err->status) return;
    choose_steps(r);
    size_t tokens = (size_t)(read_batch(r) * reads_in_step(r) * o->sequence);
    r->tokens = calloc(tokens, sizeof *r->tokens);
    r->targets = calloc(tokens, sizeof *r->targets);
    if (!r->tokens || !r->targets)
        brim_fail(err, BRIM_MEMORY, "no memory for %zu tokens a step", tokens);
    keep_micro_batch(r, err);
    if (!err->status) create_trainer(r, err);
    if (o->plan || err->status) return;
    add_programs(r, err);
    if (!err->status) print_plan(r);
    brim_trainer_prepare(r->trainer, err);
    load_weights(r, err);
    open_log(r, err);
}

static void end(run *r) {
    brim_progress_close(r->progress);
    brim_journal_close(r->log);
    brim_trainer_free(r->trainer);
    brim_dataset_close(r->data);
    brim_folder_unlock(r->lock);
    free(r->tokens);
    free(r->targets);
    free(r->options.files);
}

int main(int argc, char **argv) {
    brim_error err = {0};
    run r = {0};
    if (train_options_parse(argc, argv, &r.options, &err) == BRIM_OK) start(&r, &err);
    if (err.status == BRIM_OK && r.options.plan) {
        brim_trainer_explain(r.trainer, stdout);
    } else if (err.status == BRIM_OK) {
        catch_signals();
        print_ready(&r);
        train(&r, &err);
        if (err.status == BRIM_OK) finish(&r, &err);
    }
    end(&r);
    return brim_error_report(&err);
}
