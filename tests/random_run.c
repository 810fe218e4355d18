#include "tests/random_run.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/philox.h"

enum { LATE_MICROSECONDS = 1500, MOST_MICROSECONDS = 200 };

// ---- late tasks ---------------------------------------------------------------------------------

static atomic_int held = QUEUE_COUNT;
static atomic_uint held_seed, draws;

void random_run_hold(queue_id queue, uint32_t seed) {
    held = (int)queue;
    held_seed = seed;
}

void random_run_before_task(queue_id queue) {
    if (held == QUEUE_COUNT) {
        uint32_t x = philox_at(held_seed, 4, draws++).v[0];
        if (x % 4 == 0) usleep(x / 4 % MOST_MICROSECONDS);
    } else if (held == (int)queue) {
        usleep(LATE_MICROSECONDS);
    }
}

// ---- running ------------------------------------------------------------------------------------

// One of two sections is stepped through, by every third seed.
static void run_section(const random_target *t, loaded_program *loaded, uint8_t section,
                        int32_t micro_batch, bool stepped, brim_error *err) {
    if (stepped)
        t->api->step_through(loaded, section, micro_batch, NULL, err);
    else
        t->api->run(loaded, section, micro_batch, err);
}

static void run_sections(const random_target *t, loaded_program *const *loaded, program *const *p,
                         int programs, int sections, uint32_t seed, uint8_t *const memory[SPACES],
                         brim_error *err) {
    int which = 0;
    int32_t micro_batch = 0;
    for (int i = 0; i < sections && !failed(err); i++) {
        uint8_t section = micro_batch_section(p[which], micro_batch);
        run_section(t, loaded[which], section, micro_batch, seed % 3 == 0 && i % 2, err);
        random_program_interpret(p[which], section, micro_batch, memory);
        if (++micro_batch < p[which]->micro_batches) continue;
        micro_batch = 0;
        which = (which + 1) % programs;
    }
    t->api->finish(t->device, err);
}

// Runs of odd seeds are timed, which must not change what they do.
static void time_runs(const random_target *t, loaded_program *const *loaded, int programs,
                      uint32_t seed, brim_error *err) {
    run_stalls stalls;
    for (int i = 0; i < programs && seed % 2 && !failed(err); i++)
        t->api->stalls(loaded[i], &stalls, err);
}

// All bytes of a space, in two parts.
static void move_space(const random_target *t, memory_space space, bool write, uint8_t *data,
                       int64_t bytes, brim_error *err) {
    int64_t first = bytes / 3;
    const byte_range part[] = {{space, 0, first}, {space, first, bytes - first}};
    for (int i = 0; i < 2; i++) {
        if (write)
            device_write_range(t->api, t->device, &part[i], data + part[i].offset, err);
        else
            device_read_range(t->api, t->device, &part[i], data + part[i].offset, err);
    }
}

static const char *compare(const random_target *t, uint8_t *const memory[SPACES],
                           int64_t bytes, brim_error *err) {
    static char difference[120];
    uint8_t *there = malloc((size_t)bytes);
    difference[0] = '\0';
    for (int s = 0; s < SPACES && !*difference && !failed(err); s++) {
        move_space(t, (memory_space)s, false, there, bytes, err);
        for (int64_t i = 0; i < bytes && !*difference && !failed(err); i++)
            if (there[i] != memory[s][i])
                snprintf(difference, sizeof difference, "byte %lld of the %s space is %d, not %d",
                         (long long)i, space_name((memory_space)s), there[i], memory[s][i]);
    }
    free(there);
    return difference;
}

const char *random_run(const random_target *t, program *const *p, int programs, int sections,
                       uint32_t seed, brim_error *err) {
    int64_t bytes = p[0]->device_bytes;
    uint8_t *memory[SPACES];
    loaded_program *loaded[RANDOM_MOST_PROGRAMS] = {NULL};
    for (int s = 0; s < SPACES; s++) {
        memory[s] = malloc((size_t)bytes);
        for (int64_t i = 0; i < bytes; i++)
            memory[s][i] = (uint8_t)philox_at(seed, 10 + (uint64_t)s, (uint64_t)i).v[0];
        move_space(t, (memory_space)s, true, memory[s], bytes, err);
    }
    for (int i = 0; i < programs; i++) t->api->load(t->device, p[i], &loaded[i], err);
    time_runs(t, loaded, programs, seed, err);
    if (!failed(err)) run_sections(t, loaded, p, programs, sections, seed, memory, err);
    time_runs(t, loaded, programs, seed, err);
    const char *difference = compare(t, memory, bytes, err);
    for (int i = 0; i < programs; i++) t->api->unload(loaded[i]);
    for (int s = 0; s < SPACES; s++) free(memory[s]);
    return difference;
}
