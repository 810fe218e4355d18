// Tensors by name: parameters, and states as "NAME/m".
#include <stdlib.h>
#include <string.h>
#include "core/dtype.h"
#include "optim/trainer.h"

int brim_trainer_tensor_count(const brim_trainer *t) {
    return t ? t->parameters : 0;
}

bool brim_trainer_tensor_info(const brim_trainer *t, int index, brim_tensor_info *out) {
    if (!t || index < 0 || index >= t->parameters) return false;
    const graph_value *v = &t->training.graph->value[t->parameter[index]];
    *out = (brim_tensor_info){.name = v->name,
                              .rank = v->shape.rank,
                              .elements = shape_elements(&v->shape),
                              .frozen = v->update < 0};
    memcpy(out->dim, v->shape.dim, sizeof out->dim);
    return true;
}

// The parameter or state of that name; false, with an error that names it, where there is none, or
// where count differs.
static bool locate(brim_trainer *t, const char *name, size_t count, value_id *id, brim_error *err) {
    if (brim_trainer_prepare(t, err)) return false;
    *id = compiled_variable(&t->training, name);
    const graph_value *v = *id < 0 ? NULL : &t->training.graph->value[*id];
    if (!v || (v->role != ROLE_PARAMETER && v->role != ROLE_STATE) || v->dtype != BRIM_F32) {
        brim_fail(err, BRIM_ARGUMENT, "there is no tensor named \"%s\"", name);
        return false;
    }
    bool fits = (size_t)shape_elements(&v->shape) == count;
    char dims[128];
    if (!fits)
        brim_fail(err, BRIM_SHAPE, "tensor \"%s\" is %s, %lld elements; %zu were given", name,
                  shape_print(&v->shape, dims, sizeof dims), (long long)shape_elements(&v->shape),
                  count);
    return fits;
}

brim_status brim_trainer_read(brim_trainer *t, const char *name, float *data, size_t count,
                              brim_error *err) {
    value_id id;
    if (!locate(t, name, count, &id, err)) return err->status;
    byte_range range = compiled_range(&t->training, id);
    return device_read_range(t->target.backend, t->target.device, &range, data, err);
}

brim_status brim_trainer_write(brim_trainer *t, const char *name, const float *data, size_t count,
                               brim_error *err) {
    value_id id;
    if (!locate(t, name, count, &id, err)) return err->status;
    return compiled_write_variable(&t->training, &t->target, id, data, err);
}

brim_status brim_program_read(brim_program *p, const char *output, float *data, size_t count,
                              brim_error *err) {
    if (failed(err)) return err->status;
    const graph_value *v;
    const void *from = compiled_result(&p->compiled, &p->trainer->target, output, &v);
    if (!from)
        return brim_fail(err, BRIM_ARGUMENT, "the program has no output named \"%s\"", output);
    if ((size_t)shape_elements(&v->shape) != count)
        return brim_fail(err, BRIM_SHAPE, "output \"%s\" has %lld elements; %zu were asked for",
                         output, (long long)shape_elements(&v->shape), count);
    dtype_to_f32(v->dtype, from, data, count);
    return BRIM_OK;
}
