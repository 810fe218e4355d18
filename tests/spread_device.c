#include "tests/spread_device.h"

#include <string.h>
#include "tests/spread_program.h"

enum { MOST_WAITS = 1 << 12 };

static spread_device *opened;

static void drop_wait(spread_device *s, program *p) {
    static spread_wait wait[MOST_WAITS];
    s->matter = spread_waits(p, wait, MOST_WAITS);
    if (s->drop < 0 || s->drop >= s->matter) return;
    const program_record *r = &p->record[wait[s->drop].record];
    queue_id awaited = p->record[r->wait[wait[s->drop].wait]].queue;
    spread_drop(p, wait[s->drop]);
    program_verify(p, &s->verdict);
    s->drop = -1;
    if (s->dropped) s->dropped(awaited);
}

static brim_status load(backend_device *device, const program *p, loaded_program **out,
                        brim_error *err) {
    spread_device *s = opened;
    program *changed = (program *)p; // made for this load alone
    if (spread_program(changed, s->seed, err)) return err->status;
    for (int32_t i = 0; i < p->records; i++) {
        s->queues[p->record[i].queue]++;
        s->waits += p->record[i].waits;
    }
    drop_wait(s, changed);
    return s->real->load(device, p, out, err);
}

brim_status spread_device_open(spread_device *s, const char *name, const device_settings *settings,
                               uint32_t seed, backend_device **device, brim_error *err) {
    memset(s, 0, sizeof *s);
    s->seed = seed;
    s->drop = -1;
    if (backend_open(name, settings, &s->real, device, err)) return err->status;
    s->front = *s->real;
    s->front.load = load;
    opened = s;
    return BRIM_OK;
}
