#include "plan_request.h"

// What an NVMe drive keeps up once its fast cache is full: presets know nothing of the PC's disk.
static const double disk_read = 3e9, disk_write = 1.5e9;

int64_t plan_sequence(const plan_options *o, const model_config *c) {
    if (o->sequence) return o->sequence;
    return c->positions < USUAL_SEQUENCE ? c->positions : USUAL_SEQUENCE;
}

static brim_status check_request(const plan_request *r, brim_error *err) {
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

brim_trainer *plan_make(plan_request *r, brim_error *err) {
    const plan_options *o = r->options;
    if (check_request(r, err)) return NULL;
    brim_rates rates = {0};
    if (r->gpu) rates = gpu_preset_rates(r->gpu);
    if (o->disk.bytes) rates.disk_read = disk_read, rates.disk_write = disk_write;
    return brim_trainer_create(
        model_build, &r->model,
        &(brim_trainer_options){.batch = o->batch,
                                .length = r->sequence,
                                .step_batch = o->step_tokens / r->sequence,
                                .shortfall = r->shortfall,
                                .paper = r->gpu ? &rates : NULL,
                                .device = r->gpu ? r->gpu->cuda ? "cuda" : "opencl" : o->device,
                                .vram_bytes = o->vram,
                                .ram_bytes = r->ram,
                                .disk = o->disk.bytes ? o->disk.folder : NULL,
                                .disk_bytes = o->disk.bytes,
                                .precision = (brim_precision)o->precision,
                                // The usual optimizer of such models: AdamW with clipping.
                                .optimizer = {.weight_decay = 0.1f,
                                              .clip = 1,
                                              .states = (brim_states)o->states}},
        err);
}
