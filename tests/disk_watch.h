// Looks on at what this process does to files (by the linker's --wrap; see CMakeLists.txt), and
// says what a loss of power could take. A name given by rename must be that of bytes that are on
// the disk, and must get there itself:
//
//   - of what is renamed, each file was synced after its last write, and each folder after its
//   files
//   - the folder of the new name is synced before the next rename, and before the end
//
//   1. disk_watch_begin()
//   2. the calls under test
//   3. disk_watch_end(&renames): NULL, or what is missing
#ifndef BRIM_TESTS_DISK_WATCH_H
#define BRIM_TESTS_DISK_WATCH_H

#include <stdbool.h>
#include <stddef.h>

void disk_watch_begin(void);
const char *disk_watch_end(int *renames);
const char *disk_watch_last(void); // the path that the last rename gave
int disk_watch_inherited(void);    // files opened without O_CLOEXEC

// From now on a call reads or writes at most so many bytes, and every second one is interrupted
// before it begins; 0: as they are.
void disk_most_at_once(size_t bytes);

// The file that is opened as the AT-th from now on gets descriptor 0. How many were opened since.
void disk_number_0(int at);
int disk_opened(void);

// Whether a call reads and writes nothing, without an error.
void disk_is_at_its_end(bool yes);

// Whether folders cannot be listed.
void disk_lists_nothing(bool yes);

// Whether the file system has only files with names, as some network ones.
void disk_has_names_only(bool yes);

#endif
