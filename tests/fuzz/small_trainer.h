// A trainer made by hand, of four tensors and no device, for what checkpoints do to one.
#ifndef BRIM_FUZZ_SMALL_TRAINER_H
#define BRIM_FUZZ_SMALL_TRAINER_H

#include "optim/trainer.h"

// w f32 [2, 3] and b f32 [3] with states w/m f32 [2, 3] and b/codes i32 [3].
enum { SMALL_VALUES = 4, SMALL_PARAMETERS = 2, SMALL_BYTES = 72, SMALL_STATE_BYTES = 36 };

typedef struct small_trainer {
    brim_trainer trainer; // first
    brim_graph graph;
    graph_value value[SMALL_VALUES];
    value_id parameter[SMALL_PARAMETERS];
    unsigned char memory[SMALL_BYTES]; // of all values, in their order
} small_trainer;

small_trainer *small_trainer_create(void);
void small_trainer_free(small_trainer *s);

#endif
