#include "tests/fuzz/small_trainer.h"

#include <stdlib.h>
#include <string.h>
#include "tests/fuzz/fuzz.h"

static const struct {
    const char *name;
    value_role role;
    brim_dtype dtype;
    shape shape;
    size_t offset, bytes;
} tensors[SMALL_VALUES] = {
    {"w", ROLE_PARAMETER, BRIM_F32, {2, {2, 3}}, 0, 24},
    {"b", ROLE_PARAMETER, BRIM_F32, {1, {3}}, 24, 12},
    {"w/m", ROLE_STATE, BRIM_F32, {2, {2, 3}}, 36, 24},
    {"b/codes", ROLE_STATE, BRIM_I32, {1, {3}}, 60, 12},
};

small_trainer *small_trainer_create(void) {
    small_trainer *s = calloc(1, sizeof *s);
    FUZZ_CHECK(s, "no memory for a trainer");
    for (int i = 0; i < SMALL_VALUES; i++)
        s->value[i] = (graph_value){.name = tensors[i].name,
                                    .role = tensors[i].role,
                                    .dtype = tensors[i].dtype,
                                    .shape = tensors[i].shape};
    s->graph = (brim_graph){.value = s->value, .values = SMALL_VALUES};
    for (int i = 0; i < SMALL_PARAMETERS; i++) s->parameter[i] = i;
    s->trainer.training.graph = &s->graph;
    s->trainer.parameter = s->parameter;
    s->trainer.parameters = SMALL_PARAMETERS;
    s->trainer.target.device = (backend_device *)s; // stands for one
    s->trainer.options.seed = 1;
    return s;
}

void small_trainer_free(small_trainer *s) {
    arena_free(&s->trainer.memory);
    free(s);
}

// ---- what checkpoints need of the rest of the library -------------------------------------------

brim_status brim_trainer_prepare(brim_trainer *t, brim_error *err) {
    (void)t;
    return err->status;
}

byte_range compiled_range(const compiled *c, value_id id) {
    (void)c;
    return (byte_range){.offset = (int64_t)tensors[id].offset, .bytes = (int64_t)tensors[id].bytes};
}

brim_status compiled_write_variable(const compiled *c, const compile_target *target, value_id id,
                                    const void *data, brim_error *err) {
    (void)target;
    small_trainer *s = (small_trainer *)((char *)c - offsetof(small_trainer, trainer.training));
    memcpy(s->memory + tensors[id].offset, data, tensors[id].bytes);
    return err->status;
}

brim_status device_read_range(const backend *api, backend_device *device, const byte_range *range,
                              void *data, brim_error *err) {
    (void)api;
    memcpy(data, ((const small_trainer *)device)->memory + range->offset, (size_t)range->bytes);
    return err->status;
}
