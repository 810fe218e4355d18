// Locks that the kernel releases when their process ends, however it ends.
//
// A lock says that a live process is at work on a file or folder: brim_folder_lock
// (<brim/report.h>) holds one for a whole run.
#ifndef BRIM_CORE_LOCK_H
#define BRIM_CORE_LOCK_H

#include <stdbool.h>

typedef enum lock_result {
    LOCK_TAKEN,
    LOCK_HELD,       // somebody else has it
    LOCK_UNAVAILABLE // the file system offers no locks (some network ones)
} lock_result;

// Takes the lock of an open file or folder, without waiting. Closing the descriptor, and all its
// copies, releases it.
lock_result lock_try(int descriptor);

// True where path, in the open folder `at` (or AT_FDCWD), still names what the descriptor has open:
// somebody may have removed or renamed it before the lock was taken.
bool lock_names(int descriptor, int at, const char *path);

#endif
