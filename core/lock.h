// Locks that the kernel releases when their process ends, however it ends.
//
// A lock says that a live process is at work on a file or folder. Everything that is written under
// a temporary name is locked, so that what a killed process left behind can be told from what is
// being written (folder_clean in core/files.h); brim_folder_lock (<brim/report.h>) holds one for a
// whole run.
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

// Takes the lock of what was just made under that name. False where somebody who looked for
// leftovers came between: it is lost, and another name is needed. True without locks, too.
bool lock_new(int descriptor, int at, const char *path);

// Takes the lock of something under a temporary name whose process is dead. False where it is
// alive, or where that cannot be known.
bool lock_leftover(int descriptor, int at, const char *path);

#endif
