// Trains a small classifier on two spirals. The whole API in one page: builder, layers, loss, options, step, save.
#include <brim/brim.h>
#include <math.h>
#include <stdlib.h>

enum { BATCH = 256, STEPS = 600 };

// The model: called by the trainer with an empty graph.
static brim_loss build(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length, (void)user;
    brim_value x = brim_input(g, "points", BRIM_F32, batch, 2);
    brim_value label = brim_input(g, "labels", BRIM_I32, batch);
    x = brim_relu(brim_linear(x, "hidden1", 64));
    x = brim_relu(brim_linear(x, "hidden2", 64));
    brim_value logits = brim_linear(x, "out", 2);
    brim_output(logits, "logits");
    return brim_cross_entropy(logits, label, -100);
}

// Two interleaved spirals with a little noise.
static void spirals(float points[][2], int32_t *labels) {
    for (int i = 0; i < BATCH; i++) {
        double t = rand() / (double)RAND_MAX, noise = 0.02 * (rand() / (double)RAND_MAX - 0.5);
        labels[i] = rand() & 1;
        double angle = 3 * 3.14159265 * t + 3.14159265 * labels[i];
        points[i][0] = (float)((t + noise) * cos(angle));
        points[i][1] = (float)((t + noise) * sin(angle));
    }
}

int main(void) {
    brim_error err = {0};
    brim_trainer *trainer = brim_trainer_create(build, NULL, &(brim_trainer_options){
        .batch = BATCH,
        .optimizer = {.kind = BRIM_ADAMW, .lr = 1e-2f, .clip = 1},
        .schedule = {.kind = BRIM_COSINE, .warmup = 20, .steps = STEPS},
    }, &err);
    brim_program *test = brim_trainer_program(trainer, build, NULL, BATCH, 0, &err);

    float points[BATCH][2], logits[BATCH][2];
    int32_t labels[BATCH];
    brim_step_result r = {0};
    while (!err.status && r.step < STEPS) {
        spirals(points, labels);
        brim_trainer_feed(trainer, "points", points, sizeof points, &err);
        brim_trainer_feed(trainer, "labels", labels, sizeof labels, &err);
        brim_trainer_step(trainer, &r, &err);
        if (r.step % 100 == 0) printf("step %3d  loss %.4f\n", (int)r.step, r.loss);
    }

    spirals(points, labels);
    brim_program_feed(test, "points", points, sizeof points, &err);
    brim_program_feed(test, "labels", labels, sizeof labels, &err);
    brim_program_run(test, NULL, NULL, &err);
    brim_program_read(test, "logits", logits[0], 2 * BATCH, &err);
    int right = 0;
    for (int i = 0; i < BATCH; i++) right += (logits[i][1] > logits[i][0]) == labels[i];
    if (!err.status) printf("%d of %d new points are classified right\n", right, BATCH);
    brim_trainer_save(trainer, "out/mlp", &err);
    brim_trainer_free(trainer);
    return brim_error_report(&err);
}
