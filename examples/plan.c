// Plans for a card that need not be there. See --help.
#include <stdio.h>
#include <string.h>
#include "plan_request.h"
#include "plan_table.h"

enum { NOTHING_FITS = 2, GPT2_VOCABULARY = 50257 };
static const int64_t gib = (int64_t)1 << 30, usual_ram = (int64_t)64 << 30;

// ---- one plan -----------------------------------------------------------------------------------

static void choose_model(plan_request *r, brim_error *err) {
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
    r->sequence = plan_sequence(o, &r->model);
    if (r->sequence > r->model.positions)
        brim_fail(err, BRIM_ARGUMENT, "--seq %lld is longer than the model's %lld positions",
                  (long long)r->sequence, (long long)r->model.positions);
}

static void print_request(const plan_request *r, const brim_trainer *trainer) {
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

static void one_plan(const plan_options *o, brim_shortfall *lacks, brim_error *err) {
    plan_request r = {.options = o, .ram = o->ram, .shortfall = lacks};
    if (strcmp(o->gpu, "measured") != 0) {
        r.gpu = gpu_preset_find(o->gpu, err);
        if (!r.ram) r.ram = usual_ram;
    }
    choose_model(&r, err);
    brim_trainer *trainer = err->status ? NULL : plan_make(&r, err);
    if (!trainer) return;
    print_request(&r, trainer);
    brim_trainer_explain(trainer, stdout);
    fflush(stdout);
    if (o->compare) brim_trainer_compare(trainer, stdout);
    brim_trainer_free(trainer);
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
    brim_shortfall lacks = {0};
    plan_options o;
    if (plan_options_parse(argc, argv, &o, &err) == BRIM_OK) {
        if (o.list)
            print_list();
        else if (o.table)
            plan_table_print(&o, &err);
        else
            one_plan(&o, &lacks, &err);
    }
    int status = brim_error_report(&err);
    bool fits = !lacks.vram_missing && !lacks.ram_missing && !lacks.disk_missing;
    return fits ? status : NOTHING_FITS;
}
