// Reads and writes tensors by name, freezes a group of parameters, and gives another a learning rate of its own.
#include <brim/brim.h>
#include <stdlib.h>

enum { BATCH = 32, IN = 8, WIDE = 16 };

// A teacher's answers are fed as targets; the student is a frozen layer and a trained one.
static brim_loss build(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length, (void)user;
    brim_value x = brim_input(g, "x", BRIM_F32, batch, IN);
    brim_value y = brim_input(g, "y", BRIM_F32, batch, 1);
    brim_value h = brim_tanh(brim_linear(x, "features", WIDE));
    return brim_mse(brim_linear(h, "head", 1), y);
}

int main(void) {
    brim_error err = {0};
    const brim_parameter_group groups[] = {
        {.pattern = "features.*", .frozen = true},
        {.pattern = "head.bias", .lr_scale = 10},
    };
    brim_trainer *t = brim_trainer_create(build, NULL, &(brim_trainer_options){
        .batch = BATCH, .optimizer = {.lr = 0.03f}, .groups = groups, .group_count = 2}, &err);

    for (int i = 0; i < brim_trainer_tensor_count(t); i++) {
        brim_tensor_info info;
        brim_trainer_tensor_info(t, i, &info);
        printf("%-16s %4lld elements%s\n", info.name, (long long)info.elements, info.frozen ? "  frozen" : "");
    }

    float bias = 1, before[IN * WIDE], after[IN * WIDE];
    brim_trainer_write(t, "head.bias", &bias, 1, &err);
    brim_trainer_read(t, "features.weight", before, IN * WIDE, &err);
    brim_step_result r = {0};
    while (!err.status && r.step < 200) {
        float x[BATCH][IN], y[BATCH] = {0};
        for (int b = 0; b < BATCH; b++)
            for (int i = 0; i < IN; i++) y[b] += (x[b][i] = (float)(rand() / (double)RAND_MAX) - 0.5f);
        brim_trainer_feed(t, "x", x, sizeof x, &err);
        brim_trainer_feed(t, "y", y, sizeof y, &err);
        brim_trainer_step(t, &r, &err);
    }
    brim_trainer_read(t, "features.weight", after, IN * WIDE, &err);
    brim_trainer_read(t, "head.bias", &bias, 1, &err);
    int changed = 0;
    for (int i = 0; i < IN * WIDE; i++) changed += before[i] != after[i];
    if (!err.status) printf("loss %.5f; %d frozen values changed; bias went from 1 to %.4f\n", r.loss, changed, bias);
    brim_trainer_free(t);
    return brim_error_report(&err);
}
