#include "graph/stay_times.h"

#include <stdlib.h>

static int by_use(const void *x, const void *y) {
    const timed_stay *a = x, *b = y;
    if (a->use != b->use) return a->use < b->use ? -1 : 1;
    return (a->index > b->index) - (a->index < b->index);
}

// The last position that starts at or before that time.
static int32_t position_at(const stream_times *t, double seconds, int32_t end) {
    int32_t low = 0, high = end;
    while (low < high) {
        int32_t middle = low + (high - low + 1) / 2;
        if (t->start[middle] <= seconds)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static double bytes_of(const timed_stay *x) {
    return (double)x->stay->place.bytes;
}

// From the last use back: when the copy for it has to begin.
static void find_beginnings(timed_stay *list, int32_t count, const stream_times *t, double rate,
                            int32_t end) {
    double next = t->start[end + 1];
    for (int32_t k = count - 1; k >= 0; k--) {
        double due = t->start[list[k].use];
        list[k].time = next = (due < next ? due : next) - bytes_of(&list[k]) / rate;
    }
}

void stays_fetch_ahead(timed_stay *list, int32_t count, const stream_times *t, memory_space space,
                       int32_t end) {
    qsort(list, (size_t)count, sizeof *list, by_use);
    find_beginnings(list, count, t, t->bytes_per_second[space + 1][space], end);
    double ahead = 0;
    for (int32_t k = 0, j = 0; k < count; k++) { // j: the first that may lie there unused beside k
        stay *s = list[k].stay;
        ahead += bytes_of(&list[k]);
        while (j < k && ahead > (double)t->ahead[space]) ahead -= bytes_of(&list[j++]);
        int32_t first = position_at(t, list[k].time, end);
        if (j > 0 && list[j - 1].use > first) first = list[j - 1].use;
        if (list[k].earliest > first) first = list[k].earliest;
        if (first >= s->first_use) continue;
        s->fetch_at = first;
        if (!s->whole) s->place.first = first;
    }
}

// From the first use on: when the copy behind it is done.
static void find_ends(timed_stay *list, int32_t count, const stream_times *t, double rate) {
    double free_at = 0;
    for (int32_t k = 0; k < count; k++) {
        double begins = t->start[list[k].use + 1];
        list[k].time = free_at = (begins > free_at ? begins : free_at) + bytes_of(&list[k]) / rate;
    }
}

void stays_hold_stored(timed_stay *list, int32_t count, const stream_times *t, memory_space space,
                       int32_t end) {
    qsort(list, (size_t)count, sizeof *list, by_use);
    find_ends(list, count, t, t->bytes_per_second[space][space + 1]);
    double held = 0;
    for (int32_t k = count - 1, j = count - 1; k >= 0; k--) {
        stay *s = list[k].stay;
        held += bytes_of(&list[k]);
        while (j > k && held > (double)t->ahead[space]) held -= bytes_of(&list[j--]);
        int32_t last = position_at(t, list[k].time, end);
        if (j < count - 1 && list[j + 1].use < last) last = list[j + 1].use;
        if (last > s->place.last) s->place.last = last;
    }
}
