// Dynamic loss scaling for f16 (Micikevicius et al. 2018): halve and skip the step where gradients
// overflow, double after `interval` good steps.
#ifndef BRIM_OPTIM_LOSS_SCALE_H
#define BRIM_OPTIM_LOSS_SCALE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct loss_scale {
    double scale;
    int64_t good_steps; // since the last change
} loss_scale;

enum { LOSS_SCALE_INTERVAL = 2000 };

static inline loss_scale loss_scale_start(void) {
    return (loss_scale){.scale = 1024};
}

static inline bool loss_scale_can_fall(loss_scale s) {
    return s.scale > 1.0 / 65536;
}

static inline loss_scale loss_scale_next(loss_scale s, bool overflowed) {
    const double most = 65536.0 * 256;
    if (overflowed) return (loss_scale){.scale = loss_scale_can_fall(s) ? s.scale / 2 : s.scale};
    if (s.good_steps + 1 < LOSS_SCALE_INTERVAL) return (loss_scale){s.scale, s.good_steps + 1};
    return (loss_scale){.scale = s.scale < most ? s.scale * 2 : most};
}

#endif
