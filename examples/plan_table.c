#include "plan_table.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "plan_request.h"

static const int64_t gib = (int64_t)1 << 30;

// Rows and columns are presets that are asked for by name, or all. Cells are made by a thread for
// each core, in the order in which they are printed.
enum { MOST_PRESETS = 64, MOST_THREADS = 64 };

// A cell: GiB, or what lacks even with the most that is tried.
enum { NOT_YET = 0, NO_VRAM = -1, NO_RAM = -2, NO_DISK = -3 };
static const char *const lacks[] = {[-NO_VRAM] = "vram", [-NO_RAM] = "ram", [-NO_DISK] = "disk"};

typedef struct table {
    const plan_options *options;
    const gpu_preset *gpu[MOST_PRESETS];
    const model_preset *model[MOST_PRESETS];
    int gpus, models;
    int like[MOST_PRESETS]; // the first row whose card takes the same plans, perhaps at another
                            // speed

    pthread_mutex_t lock; // of what follows
    pthread_cond_t news;
    int cell[MOST_PRESETS * MOST_PRESETS];
    int taken, done;
    brim_error err; // the first; no cell is begun after it
} table;

static void choose_presets(table *t, brim_error *err) {
    const plan_options *o = t->options;
    if (o->gpu)
        t->gpu[t->gpus++] = gpu_preset_find(o->gpu, err);
    else
        while (t->gpus < MOST_PRESETS && (t->gpu[t->gpus] = gpu_preset_at(t->gpus))) t->gpus++;
    if (o->model)
        t->model[t->models++] = model_preset_find(o->model, err);
    else
        while (t->models < MOST_PRESETS && (t->model[t->models] = model_preset_at(t->models)))
            t->models++;
}

// What fits is a matter of memory and of the API alone.
static void find_alike(table *t) {
    for (int i = 0; i < t->gpus; i++) {
        int j = 0;
        while (t->gpu[j]->memory_mib != t->gpu[i]->memory_mib || t->gpu[j]->cuda != t->gpu[i]->cuda)
            j++;
        t->like[i] = j;
    }
}

// ---- cells --------------------------------------------------------------------------------------

// Masters in f32 and two states in f32 or 8 bits have to lie somewhere. Where that alone is too
// much, which is quickly told, the planner need not be asked.
static bool has_room(const plan_request *r) {
    int64_t least_bytes = r->options->states == BRIM_STATES_Q8 ? 4 + 1 + 1 : 4 + 4 + 4;
    int64_t room = (r->gpu->memory_mib << 20) + r->ram + r->options->disk.bytes;
    return least_bytes * model_parameters(&r->model) <= room;
}

// The amount where that is enough, else what lacks.
static int try_ram(plan_request *r, int ram_gib, brim_error *err) {
    brim_error missing = {0};
    brim_shortfall shortfall = {0};
    r->ram = ram_gib * gib;
    r->shortfall = &shortfall;
    if (!has_room(r)) return NO_RAM;
    brim_trainer *trainer = plan_make(r, &missing);
    brim_trainer_free(trainer);
    if (!missing.status) return ram_gib;
    if (shortfall.vram_missing) return NO_VRAM;
    if (shortfall.disk_missing) return NO_DISK;
    if (!shortfall.ram_missing) brim_fail(err, missing.status, "%s", missing.text);
    return NO_RAM;
}

static int least_ram(plan_request *r, brim_error *err) {
    static const int sizes[] = {32, 64, 128};
    int cell = NO_RAM;
    for (int i = 0; i < 3 && cell < 0 && !err->status; i++) cell = try_ram(r, sizes[i], err);
    return cell;
}

static int make_cell(const table *t, int index, brim_error *err) {
    plan_request r = {.options = t->options,
                      .gpu = t->gpu[index / t->models],
                      .model = t->model[index % t->models]->config};
    r.sequence = plan_sequence(t->options, &r.model);
    if (r.sequence > r.model.positions) r.sequence = r.model.positions;
    return least_ram(&r, err);
}

static void *make_cells(void *user) {
    table *t = user;
    pthread_mutex_lock(&t->lock);
    while (t->taken < t->gpus * t->models && !t->err.status) {
        int index = t->taken++, row = index / t->models, cell = NO_RAM;
        brim_error err = {0};
        if (t->like[row] == row) {
            pthread_mutex_unlock(&t->lock);
            cell = make_cell(t, index, &err);
            pthread_mutex_lock(&t->lock);
        }
        t->cell[index] = cell;
        t->done++;
        if (err.status && !t->err.status) t->err = err;
        pthread_cond_signal(&t->news);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static int start_threads(table *t, pthread_t thread[MOST_THREADS]) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int wanted = cores < 1 ? 1 : cores < MOST_THREADS ? (int)cores : MOST_THREADS, started = 0;
    while (started < wanted && pthread_create(&thread[started], NULL, make_cells, t) == 0)
        started++;
    if (started == 0) make_cells(t);
    return started;
}

// ---- printing -----------------------------------------------------------------------------------

static int column_width(const model_preset *model) {
    return (int)strlen(model->name) + 2;
}

static void print_head(const table *t) {
    printf("GiB of host memory that training with steps of %lld tokens needs: 32, 64, 128; or what "
           "lacks with 128\n%-14s",
           (long long)t->options->step_tokens, "");
    for (int i = 0; i < t->models; i++) printf("%*s", column_width(t->model[i]), t->model[i]->name);
    printf("\n");
    fflush(stdout);
}

static bool is_complete(const table *t, int row) {
    for (int i = 0; i < t->models; i++)
        if (t->cell[t->like[row] * t->models + i] == NOT_YET) return false;
    return true;
}

static void print_row(const table *t, int row) {
    char text[64];
    snprintf(text, sizeof text, "%s %lldG", t->gpu[row]->name,
             (long long)t->gpu[row]->memory_mib >> 10);
    printf("%-14s", text);
    for (int i = 0; i < t->models; i++) {
        int cell = t->cell[t->like[row] * t->models + i];
        snprintf(text, sizeof text, "%d", cell);
        printf("%*s", column_width(t->model[i]), cell > 0 ? text : lacks[-cell]);
    }
    printf("\n");
    fflush(stdout);
}

// Shows rows as they are ready. Called with the lock held.
static void watch(table *t, brim_progress *progress) {
    int all = t->gpus * t->models, rows = 0;
    while (rows < t->gpus && !t->err.status) {
        int done = t->done;
        brim_progress_step(progress, done, all, "%d cards, %d models", t->gpus, t->models);
        if (is_complete(t, rows)) brim_progress_end(progress);
        while (rows < t->gpus && is_complete(t, rows)) print_row(t, rows++);
        if (rows < t->gpus && t->done == done) pthread_cond_wait(&t->news, &t->lock);
    }
}

brim_status plan_table_print(const plan_options *options, brim_error *err) {
    table t = {
        .options = options, .lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER};
    choose_presets(&t, err);
    brim_progress *progress = brim_progress_open(stderr, err);
    if (!err->status) {
        find_alike(&t);
        pthread_t thread[MOST_THREADS];
        print_head(&t);
        int threads = start_threads(&t, thread);
        pthread_mutex_lock(&t.lock);
        watch(&t, progress);
        pthread_mutex_unlock(&t.lock);
        for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
        if (t.err.status) *err = t.err;
    }
    brim_progress_close(progress);
    return err->status;
}
