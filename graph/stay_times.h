// When stays are filled, and how long their bytes are taken by the way back: estimates, which
// change no result.
#ifndef BRIM_GRAPH_STAY_TIMES_H
#define BRIM_GRAPH_STAY_TIMES_H

#include "graph/memory_plan.h"

// A stay that is filled or written back, and the position of the use before which, or behind which,
// that is.
typedef struct timed_stay {
    stay *stay;
    int32_t index; // of the stay, for a fixed order
    int32_t use;
    int32_t earliest; // filled: no position before this
    double time;      // scratch: when its copy begins or ends
} timed_stay;

// Moves fetch_at of the stays of a space, and with it the start of their places, ahead of their
// first use: copies come one after another, each as late as it still is in time, and no more than
// times->ahead bytes before their use. `end` is the last position. The list is sorted.
void stays_fetch_ahead(timed_stay *list, int32_t count, const stream_times *times,
                       memory_space space, int32_t end);

// The same for the way back: places last until the copy is done.
void stays_hold_stored(timed_stay *list, int32_t count, const stream_times *times,
                       memory_space space, int32_t end);

#endif
