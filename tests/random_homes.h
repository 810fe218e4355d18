// Random decisions for a memory plan: homes, which updates run on the host, and times.
//
//   1. random_homes h;  random_homes_make(&h, &p, seed);      into p->request
//   2. planned_place(&p, &err); ...
//   3. random_homes_free(&h);
#ifndef BRIM_TEST_RANDOM_HOMES_H
#define BRIM_TEST_RANDOM_HOMES_H

#include "tests/planned.h"

typedef struct random_homes {
    memory_space *home;
    bool *on_host, *whole;
    double *start;
    stream_times times;
    int away;  // storages whose home is not on the device
    int hosts; // nodes that run on the host
} random_homes;

void random_homes_make(random_homes *h, planned *p, uint64_t seed);
void random_homes_free(random_homes *h);

#endif
