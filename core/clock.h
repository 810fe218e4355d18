// Time for measuring: seconds since some fixed moment, never set back.
#ifndef BRIM_CORE_CLOCK_H
#define BRIM_CORE_CLOCK_H

double clock_seconds(void);

#endif
