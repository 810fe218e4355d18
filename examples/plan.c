// Plans for a card that need not be there. See --help.
#include <stdio.h>
#include <string.h>
#include "plan_options.h"
#include "presets.h"

enum { NOTHING_FITS = 2, GPT2_VOCABULARY = 50257, USUAL_SEQUENCE = 2048 };
static const int64_t gib = (int64_t)1 << 30;
static const int64_t usual_ram = (int64_t)64 << 30;

// What an NVMe drive keeps up once its fast cache is full: presets know nothing of the PC's disk.
static const double disk_read = 3e9, disk_write = 1.5e9;

// One question to the planner.
typedef struct request {
    const plan_options *options;
    const gpu_preset *gpu; // NULL: this machine's device
    model_config model;
    int64_t ram, sequence;
} request;

static brim_status check_request(const request *r, brim_error *err) {
    const plan_options *o = r->options;
    if (o->step_tokens % r->sequence != 0)
        brim_fail(err, BRIM_ARGUMENT, "--tokens-per-step %lld is no multiple of %lld, a sequence",
                  (long long)o->step_tokens, (long long)r->sequence);
    else if (o->batch && o->step_tokens / r->sequence % o->batch != 0)
        brim_fail(err, BRIM_ARGUMENT, "--batch %lld does not divide the step's %lld sequences",
                  (long long)o->batch, (long long)(o->step_tokens / r->sequence));
    if (r->gpu && o->vram > r->gpu->memory_mib << 20)
        brim_fail(err, BRIM_ARGUMENT, "--vram %lld bytes are more than %s has: %lld",
                  (long long)o->vram, r->gpu->title, (long long)r->gpu->memory_mib << 20);
    return err->status;
}

// NULL where the error says what is missing.
static brim_trainer *plan(request *r, brim_error *err) {
    const plan_options *o = r->options;
    if (check_request(r, err)) return NULL;
    brim_rates rates = {0};
    if (r->gpu) rates = gpu_preset_rates(r->gpu);
    if (o->disk) rates.disk_read = disk_read, rates.disk_write = disk_write;
    return brim_trainer_create(
        model_build, &r->model,
        &(brim_trainer_options){.batch = o->batch,
                                .length = r->sequence,
                                .step_batch = o->step_tokens / r->sequence,
                                .paper = r->gpu ? &rates : NULL,
                                .device = r->gpu ? r->gpu->cuda ? "cuda" : "opencl" : o->device,
                                .vram_bytes = o->vram,
                                .ram_bytes = r->ram,
                                .disk = o->disk ? o->disk_folder : NULL,
                                .disk_bytes = o->disk_bytes,
                                .precision = (brim_precision)o->precision,
                                // The usual optimizer of such models: AdamW with clipping.
                                .optimizer = {.weight_decay = 0.1f, .clip = 1}},
        err);
}

static int64_t sequence_of(const plan_options *o, const model_config *c) {
    if (o->sequence) return o->sequence;
    return c->positions < USUAL_SEQUENCE ? c->positions : USUAL_SEQUENCE;
}

// One plan
// ------------------------------------------------------------------------------------------------

static void choose_model(request *r, brim_error *err) {
    const plan_options *o = r->options;
    if (o->model) {
        const model_preset *preset = model_preset_find(o->model, err);
        if (preset) r->model = preset->config;
    } else {
        model_config c = o->sizes;
        c.architecture = o->architecture == MODEL_GPT2 ? MODEL_GPT2 : MODEL_LLAMA;
        c.positions = o->sequence ? o->sequence : USUAL_SEQUENCE;
        if (!c.vocabulary) c.vocabulary = GPT2_VOCABULARY;
        r->model = model_config_complete(&c);
        model_config_check(&r->model, err);
    }
    if (err->status) return;
    r->sequence = sequence_of(o, &r->model);
    if (r->sequence > r->model.positions)
        brim_fail(err, BRIM_ARGUMENT, "--seq %lld is longer than the model's %lld positions",
                  (long long)r->sequence, (long long)r->model.positions);
}

static void print_request(const request *r, const brim_trainer *trainer) {
    static const char *const precisions[] = {"f32", "bf16", "f16"};
    const plan_options *o = r->options;
    char ram[32] = "this machine's RAM";
    if (r->ram) brim_bytes_text(r->ram, ram, sizeof ram);
    printf("%s: %.3g parameters, AdamW, %s, %lld tokens a step (%lld sequences of %lld)\n",
           o->model ? o->model : "model", (double)model_parameters(&r->model),
           precisions[o->precision], (long long)o->step_tokens,
           (long long)(o->step_tokens / r->sequence), (long long)r->sequence);
    printf("%s", brim_trainer_describe(trainer).device);
    if (r->gpu)
        printf(" (%lld GiB, %.0f GB/s, PCIe %d x%d, %d W)",
               (long long)(r->gpu->memory_mib << 20) / gib, r->gpu->memory_gb,
               r->gpu->pcie_generation, r->gpu->pcie_lanes, r->gpu->watts);
    printf(", host memory: %s\n", ram);
}

static void one_plan(const plan_options *o, brim_error *err) {
    request r = {.options = o, .ram = o->ram};
    if (strcmp(o->gpu, "measured") != 0) {
        r.gpu = gpu_preset_find(o->gpu, err);
        if (!r.ram) r.ram = usual_ram;
    }
    choose_model(&r, err);
    brim_trainer *trainer = err->status ? NULL : plan(&r, err);
    if (!trainer) return;
    print_request(&r, trainer);
    brim_trainer_explain(trainer, stdout);
    brim_trainer_free(trainer);
}

// The table
// -----------------------------------------------------------------------------------------------

static bool fits(request *r, int64_t ram_gib, brim_error *err) {
    brim_error missing = {0};
    r->ram = ram_gib * gib;
    brim_trainer *trainer = plan(r, &missing);
    brim_trainer_free(trainer);
    if (missing.status && missing.status != BRIM_MEMORY)
        brim_fail(err, missing.status, "%s", missing.text);
    return !missing.status;
}

// The least of 32, 64 and 128 that does; 0 where none does.
static int least_ram(request *r, brim_error *err) {
    static const int sizes[] = {32, 64, 128};
    if (!fits(r, 128, err)) return 0; // most of what fits nowhere needs no further plan
    for (int i = 0; i < 2; i++)
        if (fits(r, sizes[i], err)) return sizes[i];
    return 128;
}

// Rows and columns of the table: presets that are asked for by name, or all.
enum { MOST_PRESETS = 64 };
typedef struct table {
    const gpu_preset *gpu[MOST_PRESETS];
    const model_preset *model[MOST_PRESETS];
    int gpus, models;
} table;

static table choose_presets(const plan_options *o, brim_error *err) {
    table t = {0};
    if (o->gpu)
        t.gpu[t.gpus++] = gpu_preset_find(o->gpu, err);
    else
        while (t.gpus < MOST_PRESETS && (t.gpu[t.gpus] = gpu_preset_at(t.gpus))) t.gpus++;
    if (o->model)
        t.model[t.models++] = model_preset_find(o->model, err);
    else
        while (t.models < MOST_PRESETS && (t.model[t.models] = model_preset_at(t.models)))
            t.models++;
    return t;
}

static int column_width(const model_preset *model) {
    return (int)strlen(model->name) + 2;
}

static void print_row(const table *t, const gpu_preset *gpu, const int least[]) {
    char name[64];
    snprintf(name, sizeof name, "%s %lldG", gpu->name, (long long)gpu->memory_mib >> 10);
    printf("%-14s", name);
    for (int i = 0; i < t->models; i++) {
        char cell[16] = "-";
        if (least[i]) snprintf(cell, sizeof cell, "%d", least[i]);
        printf("%*s", column_width(t->model[i]), cell);
    }
    printf("\n");
    fflush(stdout);
}

static void print_head(const table *t, const plan_options *o) {
    printf(
        "GiB of host memory that training with steps of %lld tokens needs: 32, 64, 128, or more (-)"
        "\n%-14s",
        (long long)o->step_tokens, "");
    for (int i = 0; i < t->models; i++) printf("%*s", column_width(t->model[i]), t->model[i]->name);
    printf("\n");
    fflush(stdout);
}

static int cell(const plan_options *o, const gpu_preset *gpu, const model_preset *model,
                brim_error *err) {
    request r = {.options = o, .gpu = gpu, .model = model->config};
    r.sequence = sequence_of(o, &r.model);
    if (r.sequence > r.model.positions) r.sequence = r.model.positions;
    return least_ram(&r, err);
}

static void print_table(const plan_options *o, brim_error *err) {
    table t = choose_presets(o, err);
    if (err->status) return;
    brim_progress *progress = brim_progress_open(stderr, err);
    print_head(&t, o);
    int64_t done = 0, all = (int64_t)t.gpus * t.models;
    for (int g = 0; g < t.gpus && !err->status; g++) {
        int least[MOST_PRESETS];
        for (int i = 0; i < t.models && !err->status; i++) {
            least[i] = cell(o, t.gpu[g], t.model[i], err);
            brim_progress_step(progress, ++done, all, "%s on %s", t.model[i]->name, t.gpu[g]->name);
        }
        brim_progress_end(progress);
        if (!err->status) print_row(&t, t.gpu[g], least);
    }
    brim_progress_close(progress);
}

static void print_list(void) {
    printf("%-12s %14s  %s\n", "model", "parameters", "sizes as in");
    for (int i = 0; model_preset_at(i); i++) {
        const model_preset *p = model_preset_at(i);
        printf("%-12s %14lld  %s\n", p->name, (long long)p->parameters, p->repository);
    }
    printf("\n%-12s %8s %8s %9s %9s %9s %6s\n", "gpu", "GiB", "GB/s", "TFLOP/s", "in f32", "PCIe",
           "W");
    for (int i = 0; gpu_preset_at(i); i++) {
        const gpu_preset *p = gpu_preset_at(i);
        printf("%-12s %8lld %8.0f %9.1f %9.1f %5d x%-2d %6d  %s\n", p->name,
               (long long)p->memory_mib >> 10, p->memory_gb, p->tflops_16, p->tflops_32,
               p->pcie_generation, p->pcie_lanes, p->watts, p->title);
    }
}

int main(int argc, char **argv) {
    brim_error err = {0};
    plan_options o;
    if (plan_options_parse(argc, argv, &o, &err) == BRIM_OK) {
        if (o.list)
            print_list();
        else if (o.table)
            print_table(&o, &err);
        else
            one_plan(&o, &err);
    }
    int status = brim_error_report(&err);
    return err.status == BRIM_MEMORY ? NOTHING_FITS : status;
}
