// Runs a command that may do anything, since it holds a mistake: it can write nowhere but below the
// folder named, and neither it nor what it started outlives this process, which ends with whoever
// started it.
//
//   cage SECONDS FOLDER REPORT COMMAND...
//
// FOLDER/tmp is its /tmp, where the system lets us have one of our own (as root, or in a user
// namespace); elsewhere, and where the folder is itself in /tmp, it can write to /tmp as well.
// REPORT is a file in which the command writes a line that begins "not ok" for a test that fails,
// as Check does by CK_TAP_LOG_FILE_NAME: the rest of the command is then not waited for.
//
// SECONDS are of processor time, of all that the command starts. A command that has done nothing
// for a minute, since it waits for what never comes, is not waited for either.
//
// Exit status: 0 all is well, 1 the command failed or a test did, 2 it ran past its time, 3 the
// cage itself cannot be made, since the kernel has no Landlock (Linux 5.13).
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FINE, FAILED, TOO_LONG, NO_CAGE };

static const uint64_t write_rights = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                                     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
                                     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                                     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                                     LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM;
// From a folder to another (ABI 2), and truncation (ABI 3): newer than some headers.
static const uint64_t refer_right = 1ull << 13, truncate_right = 1ull << 14;

static bool allow(int rules, const char *path, uint64_t rights) {
    struct landlock_path_beneath_attr below = {.allowed_access = rights,
                                               .parent_fd = open(path, O_PATH | O_CLOEXEC)};
    bool fine = below.parent_fd >= 0 &&
                syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &below, 0) == 0;
    if (below.parent_fd >= 0) close(below.parent_fd);
    return fine;
}

static bool write_text(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    bool fine = file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text);
    if (file >= 0) close(file);
    return fine;
}

// A user namespace in which we are who we were.
static bool user_namespace(void) {
    char users[64], groups[64];
    snprintf(users, sizeof users, "%u %u 1", (unsigned)geteuid(), (unsigned)geteuid());
    snprintf(groups, sizeof groups, "%u %u 1", (unsigned)getegid(), (unsigned)getegid());
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 &&
           write_text("/proc/self/setgroups", "deny") && write_text("/proc/self/uid_map", users) &&
           write_text("/proc/self/gid_map", groups);
}

static void own_tmp(const char *folder) {
    char path[4096];
    if (strncmp(folder, "/tmp/", 5) == 0) return;
    snprintf(path, sizeof path, "%s/tmp", folder);
    if ((unshare(CLONE_NEWNS) == 0 || user_namespace()) &&
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
        mount(path, "/tmp", NULL, MS_BIND, NULL);
}

// From here on this process, and those that it starts, write below the folders and to devices.
static bool confine(const char *folder) {
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    uint64_t rights = write_rights | (abi >= 2 ? refer_right : 0) | (abi >= 3 ? truncate_right : 0);
    struct landlock_ruleset_attr all = {.handled_access_fs = rights};
    int rules =
        abi < 1 ? -1
                : (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all.handled_access_fs, 0);
    if (rules < 0) return false;
    bool fine = allow(rules, "/dev", rights) && allow(rules, "/tmp", rights) &&
                allow(rules, folder, rights);
    fine = fine && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           syscall(SYS_landlock_restrict_self, rules, 0) == 0;
    close(rules);
    return fine;
}

// No core files, and no file that fills the disk.
static void limit(void) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){1ull << 32, 1ull << 32});
}

// What /proc says of a process.
typedef struct process {
    int parent, session;
    double seconds; // of processor time, with those of its children that have ended
} process;

static process look_at(const char *pid) {
    char path[300], line[1000];
    process p = {0};
    unsigned long long ticks[4] = {0};
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    FILE *stat = fopen(path, "r");
    if (!stat) return p;
    const char *rest = fgets(line, sizeof line, stat) ? strrchr(line, ')') : NULL;
    if (rest)
        sscanf(rest + 1, " %*c %d %*d %d %*d %*d %*u %*u %*u %*u %*u %llu %llu %llu %llu",
               &p.parent, &p.session, &ticks[0], &ticks[1], &ticks[2], &ticks[3]);
    fclose(stat);
    for (int i = 0; i < 4; i++) p.seconds += (double)ticks[i] / (double)sysconf(_SC_CLK_TCK);
    return p;
}

static double seconds_of_session(pid_t session) {
    double sum = 0;
    DIR *all = opendir("/proc");
    for (struct dirent *e; all && (e = readdir(all));) {
        if (e->d_name[0] < '0' || e->d_name[0] > '9') continue;
        process p = look_at(e->d_name);
        if (p.session == session) sum += p.seconds;
    }
    if (all) closedir(all);
    return sum;
}

// Children whose parents died are given to this process, so that killing children until there are
// none ends all descendants.
static void end_all(void) {
    do {
        DIR *all = opendir("/proc");
        for (struct dirent *e; all && (e = readdir(all));)
            if (look_at(e->d_name).parent == getpid()) kill((pid_t)atoi(e->d_name), SIGKILL);
        if (all) closedir(all);
        nanosleep(&(struct timespec){0, 2000000}, NULL);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    } while (waitpid(-1, NULL, WNOHANG) == 0);
}

static bool reports_failure(const char *report) {
    char line[4096];
    bool found = false;
    FILE *in = fopen(report, "r");
    while (in && !found && fgets(line, sizeof line, in)) found = strncmp(line, "not ok", 6) == 0;
    if (in) fclose(in);
    return found;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int watch(pid_t command, double seconds, const char *report) {
    enum { LOOKS = 10, IDLE_SECONDS = 60 }; // processor time is looked at less often than the rest
    double used = 0, since = now();         // when it last used some
    pid_t parent = getppid();
    for (int look = 0;; look++) {
        int status;
        pid_t ended = waitpid(-1, &status, WNOHANG);
        if (ended == command) return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? FINE : FAILED;
        if (ended > 0) continue;
        if (reports_failure(report)) return FAILED;
        if (getppid() != parent) return TOO_LONG;
        if (look % LOOKS == LOOKS - 1) {
            double before = used;
            used = seconds_of_session(command);
            if (used > before) since = now();
            if (used > seconds || now() > since + IDLE_SECONDS) return TOO_LONG;
        }
        nanosleep(&(struct timespec){0, 50000000}, NULL);
    }
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: cage SECONDS FOLDER REPORT COMMAND...\n");
        return NO_CAGE;
    }
    own_tmp(argv[2]);
    if (!confine(argv[2])) {
        fprintf(stderr, "cage: no Landlock, or no folder %s: %s\n", argv[2], strerror(errno));
        return NO_CAGE;
    }
    limit();
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    pid_t command = fork();
    if (command == 0) {
        setsid();
        execvp(argv[4], argv + 4);
        _exit(127);
    }
    int result = command > 0 ? watch(command, atof(argv[1]), argv[3]) : NO_CAGE;
    end_all();
    return result;
}
