// A program of ours, over and over: each time one of the calls that it makes of the system fails
// (faults.h). It must then say so in one line and end with status 1, or find another way and come
// to the same results; in either case soon, and without keeping what it has taken.
//
// The program's own main is called in a child process for each call. See usage().
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cjson/cJSON.h>
#include "tests/faults/faults.h"
#include "tests/faults/places.h"

enum { MOST_JOBS = 16, MOST_FILES = 8, MOST_ARGUMENTS = 100, PATH_SIZE = 500, TEXT_SIZE = 4000 };

int __real_main(int argc, char **argv);
int __wrap_main(int argc, char **argv);

static const char *const kind_names[] = {
#define X(kind, name) name,
    FAULT_KINDS_LIST(X)
#undef X
};

typedef struct job {
    pid_t child; // 0: none
    fault_state *state;
    double begun, seconds; // seconds: from the fault to the end
    bool killed;
} job;

static struct {
    unsigned kinds;
    const char *calls; // NULL: all
    fault_manner manner;
    bool each, lasting, verbose;
    int64_t most, seed, jobs, depth;
    double seconds;                              // from the fault to an end with an error
    const char *folder, *again, *except, *known; // NULL: none
    const char *same[MOST_FILES], *work;         // work: a folder for the runs' folders
    int files, argc;
    char **argv;
} options = {.kinds = ~0u, .seed = 1, .depth = FAULT_DEPTH, .seconds = 5};

static struct { int64_t struck, missed, errors, others, resumed, wrong; } count;

static int usage(const char *name) {
    printf("usage: %s [OPTION...] -- ARGUMENT...\n"
           "  --kinds LIST     which calls fail: memory,map,thread,file,library,driver (all)\n"
           "  --calls LIST     of these kinds, only calls of these names: pread,pwrite\n"
           "  --how MANNER     error, part (a read or write does half) or interrupt (EINTR)\n"
           "  --each           every one of them; otherwise the first from each place\n"
           "  --depth N        frames of the stack that make a place (10)\n"
           "  --most N         no more than N of these, drawn by --seed N (1)\n"
           "  --lasting        all calls after it fail too\n"
           "  --folder DIR     each run starts in a copy of that folder\n"
           "  --same FILE      must be as without the fault where a run succeeds (always where it\n"
           "                   does not even without one); up to 8\n"
           "  --except NAME    not where a function of that name is being called\n"
           "  --known FILE     not from places that are listed there; others are added\n"
           "  --again OPTION   after a run that failed another one, with that option where there\n"
           "                   is a folder */step-N, must succeed\n"
           "  --seconds N      from the fault to an end with an error, at most (5)\n"
           "  --load LIBRARY   once, before all runs, which saves them time\n"
           "  --jobs N         at a time (the number of cores)\n"
           "  --verbose        a line for each run\n",
           name);
    return 2;
}

static bool refused; // the undisturbed run ends with an error
static fault_state *undisturbed;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(2);
}

// ---- folders ------------------------------------------------------------------------------------

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *ftw) {
    (void)s, (void)kind, (void)ftw;
    return remove(path);
}

static void remove_folder(const char *path) {
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void path_of(char path[PATH_SIZE], int slot, const char *file) {
    snprintf(path, PATH_SIZE, "%s/run-%d%s%s", options.work, slot, *file ? "/" : "", file);
}

// An empty folder for a run, or a copy of --folder.
static void make_folder(int slot) {
    char path[PATH_SIZE], command[3 * PATH_SIZE];
    path_of(path, slot, "");
    remove_folder(path);
    if (options.folder) {
        snprintf(command, sizeof command, "cp -r '%s' '%s'", options.folder, path);
        if (system(command) != 0) die(command);
    } else if (mkdir(path, 0777) != 0) {
        die(path);
    }
}

static char *read_file(const char *path, size_t *bytes) {
    FILE *in = fopen(path, "rb");
    char *text = NULL;
    size_t room = 0;
    *bytes = 0;
    if (!in) return NULL;
    for (size_t got = 1; got; *bytes += got) {
        if (room < *bytes + TEXT_SIZE) text = realloc(text, room = 2 * room + TEXT_SIZE);
        got = text ? fread(text + *bytes, 1, room - *bytes - 1, in) : 0;
    }
    if (text) text[*bytes] = '\0';
    fclose(in);
    return text;
}

static bool same_file(int slot, const char *file) {
    char path[PATH_SIZE];
    size_t bytes, expected_bytes;
    path_of(path, slot, file);
    char *got = read_file(path, &bytes);
    path_of(path, -1, file);
    char *expected = read_file(path, &expected_bytes);
    bool same = got && expected && bytes == expected_bytes && memcmp(got, expected, bytes) == 0;
    free(got);
    free(expected);
    return same;
}

// ---- one run ------------------------------------------------------------------------------------

static void redirect(int descriptor, const char *file) {
    int to = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (to < 0 || dup2(to, descriptor) < 0) die(file);
}

static bool has_checkpoint(void) {
    glob_t found;
    bool has = glob("*/step-*[0-9]", GLOB_ONLYDIR, NULL, &found) == 0;
    if (has) globfree(&found);
    return has;
}

static void run_program(int slot, fault_state *state, bool again) {
    char path[PATH_SIZE], *argv[MOST_ARGUMENTS + 3] = {options.argv[0]};
    path_of(path, slot, "");
    if (chdir(path) != 0) die(path);
    memcpy(argv, options.argv, (size_t)options.argc * sizeof *argv);
    int argc = options.argc;
    if (again && has_checkpoint()) argv[argc++] = (char *)options.again;
    redirect(STDOUT_FILENO, "stdout.log");
    redirect(STDERR_FILENO, again ? "again.log" : "stderr.log");
    cJSON_InitHooks(&(cJSON_Hooks){malloc, free}); // the wrapped ones
    faults_arm(state);
    int status = __real_main(argc, argv);
    faults_look(state);
    state->returned = true;
    exit(status);
}

static void reset(fault_state *s, int64_t fail_at) {
    s->kinds = options.kinds;
    s->only = options.calls;
    s->manner = options.manner;
    s->lasting = options.lasting;
    s->depth = options.depth;
    s->fail_at = fail_at;
    s->calls = 0;
    s->struck = s->returned = s->listing = s->tracing = false;
    s->left = 0;
    memset(s->place, 0, sizeof s->place);
}

static void begin(job *j, int slot, bool again) {
    fflush(NULL);
    j->killed = false;
    j->begun = now();
    j->child = fork();
    if (j->child < 0) die("fork");
    if (j->child == 0) run_program(slot, j->state, again);
}

// Its status, or -1 while it runs. Another way may take its time: kernels that are compiled again.
static int poll_job(job *j) {
    enum { LONGEST = 60 };
    int status;
    const fault_state *s = j->state;
    double since = s->struck ? s->when : j->begun;
    if (waitpid(j->child, &status, WNOHANG) == j->child) {
        j->child = 0;
        j->seconds = now() - since;
        return status;
    }
    if (now() - since > LONGEST && !j->killed) {
        j->killed = true;
        kill(j->child, SIGKILL);
    }
    return -1;
}

static int wait_for(job *j) {
    int status;
    while ((status = poll_job(j)) < 0) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return status;
}

// ---- what is right ------------------------------------------------------------------------------

// One line that begins with "error: ", besides progress and what the stand-in for CUDA says.
static bool is_one_error(int slot, const char *file, char text[TEXT_SIZE]) {
    char path[PATH_SIZE];
    size_t bytes;
    path_of(path, slot, file);
    char *all = read_file(path, &bytes), *rest = all, *line;
    int errors = 0, others = 0;
    text[0] = '\0';
    while (all && (line = strsep(&rest, "\n"))) {
        bool other = strncmp(line, "cuda_on_cpu", 11) == 0 || strncmp(line, "step ", 5) == 0;
        if (!*line || other) continue;
        *(strncmp(line, "error: ", 7) == 0 ? &errors : &others) += 1;
        snprintf(text + strlen(text), TEXT_SIZE - strlen(text), "\n    %s", line);
    }
    free(all);
    return errors == 1 && others == 0;
}

static bool same_files(int slot) {
    for (int i = 0; i < options.files; i++)
        if (!same_file(slot, options.same[i])) return false;
    return true;
}

// NULL, or what is wrong with a run that has ended.
static const char *judge(const job *j, int slot, int status, char text[TEXT_SIZE]) {
    bool one_error = is_one_error(slot, "stderr.log", text);
    if (j->killed) return "it does not end";
    if (WIFSIGNALED(status)) return strsignal(WTERMSIG(status));
    if (!j->state->returned) return "main does not return";
    if (WEXITSTATUS(status) > 1) return "its status is neither 0 nor 1";
    bool fails = WEXITSTATUS(status) == 1;
    if (fails && !one_error) return "its status is 1 and it says not one error";
    if (fails && j->seconds > options.seconds) return "it takes long to fail";
    if (j->state->left) return "it keeps what it has taken";
    if (!fails && refused) return "it succeeds where it must not";
    if (fails != refused || j->state->hit.kind == FAULT_LIBRARY) return NULL;
    return same_files(slot) ? NULL : "it leaves other results";
}

static const char *judge_again(job *j, int slot, char text[TEXT_SIZE]) {
    j->state->fail_at = 0;
    j->state->lasting = false;
    begin(j, slot, true);
    int status = wait_for(j);
    count.resumed++;
    bool fails = j->killed || !WIFEXITED(status) || WEXITSTATUS(status);
    if (fails) is_one_error(slot, "again.log", text);
    if (fails) return "the run after it fails";
    return same_files(slot) ? NULL : "the run after it has other results";
}

static void tell(const job *j, int64_t n, const char *wrong, const char *text) {
    const fault_site *hit = &j->state->hit;
    char place[TEXT_SIZE];
    place_text(hit, place, sizeof place);
    printf("%s call %lld, %s at %s: %s%s\n", wrong ? "WRONG" : "     ", (long long)n,
           n ? hit->call : "none", place, wrong ? wrong : "fine", text);
    for (int i = 0; i < j->state->left && i < FAULT_MOST_LEFT && wrong; i++) {
        place_text(&j->state->leftover[i], place, sizeof place);
        printf("    kept: %s at %s\n", j->state->leftover[i].call, place);
    }
    fflush(stdout);
}

// The same place by the stack, since its number differs from run to run: plans follow what was
// measured, and threads take turns.
static int find_place(job *j, int slot, int64_t n) {
    for (int i = 0; i < undisturbed->sites && !options.each; i++) {
        const fault_site *site = &undisturbed->site[i];
        if (site->first != n) continue;
        make_folder(slot);
        reset(j->state, n);
        memcpy(j->state->place, site->frame, sizeof site->frame);
        begin(j, slot, false);
        return wait_for(j);
    }
    return 0;
}

static bool is_missed(const job *j, int status) {
    return !j->state->struck && !j->killed && WIFEXITED(status) && WEXITSTATUS(status) == refused;
}

static void end(job *j, int slot, int status) {
    char text[TEXT_SIZE];
    int64_t n = j->state->fail_at;
    if (is_missed(j, status)) status = find_place(j, slot, n);
    if (is_missed(j, status)) {
        count.missed++;
        return;
    }
    if (j->state->left && !j->state->tracing) { // once more, to know what
        make_folder(slot);
        reset(j->state, n);
        j->state->tracing = true;
        begin(j, slot, false);
        status = wait_for(j);
    }
    const char *wrong = judge(j, slot, status, text);
    bool failed = WIFEXITED(status) && WEXITSTATUS(status) == 1;
    if (!wrong && failed && options.again) wrong = judge_again(j, slot, text);
    count.struck++;
    *(wrong ? &count.wrong : failed ? &count.errors : &count.others) += 1;
    places_add(&j->state->hit);
    if (wrong || options.verbose) tell(j, n, wrong, text);
}

// ---- all runs -----------------------------------------------------------------------------------

static fault_state *new_state(void) {
    fault_state *s =
        mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED) die("mmap");
    return s;
}

// Without a fault: what the others are compared with, and where calls are made. Twice, since the
// first fills caches.
static void run_undisturbed(void) {
    fault_state *s = undisturbed;
    job j = {.state = s};
    char text[TEXT_SIZE];
    for (int i = 0; i < 2; i++) {
        make_folder(-1);
        reset(s, 0);
        s->listing = s->tracing = true;
        s->sites = 0;
        begin(&j, -1, false);
        int status = wait_for(&j);
        refused = WIFEXITED(status) && WEXITSTATUS(status) == 1;
        const char *wrong = judge(&j, -1, status, text);
        if (!wrong) continue;
        printf("without any fault:\n");
        tell(&j, 0, wrong, text);
        exit(1);
    }
}

// A call that is left out, by the place of its first call.
static bool is_left_out(const fault_site *site) {
    if (options.known && places_known(site)) return true;
    return options.except && place_has(site, options.except);
}

static int64_t choose(int64_t **chosen) {
    int64_t most = options.each ? undisturbed->calls : undisturbed->sites, all = 0;
    int64_t *list = calloc((size_t)most + 1, sizeof *list);
    if (!list) die("calloc");
    for (int64_t i = 0; options.each && i < most; i++) list[all++] = i + 1;
    for (int64_t i = 0; !options.each && i < most; i++)
        if (!is_left_out(&undisturbed->site[i])) list[all++] = undisturbed->site[i].first;
    *chosen = list;
    if (!options.most || options.most >= all) return all;
    uint64_t random = (uint64_t)options.seed;
    for (int64_t i = 0; i < options.most; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        int64_t other = i + (int64_t)((random >> 33) % (uint64_t)(all - i)), kept = list[i];
        list[i] = list[other];
        list[other] = kept;
    }
    return options.most;
}

static void run_all(const int64_t *chosen, int64_t runs) {
    job jobs[MOST_JOBS] = {{0}};
    int64_t next = 0, done = 0;
    for (int slot = 0; slot < options.jobs; slot++) jobs[slot].state = new_state();
    while (done < runs) {
        bool idle = true;
        for (int slot = 0; slot < options.jobs; slot++) {
            job *j = &jobs[slot];
            int status = j->child ? poll_job(j) : -1;
            if (status >= 0) end(j, slot, status), done++, idle = false;
            if (j->child || next == runs) continue;
            make_folder(slot);
            reset(j->state, chosen[next++]);
            begin(j, slot, false);
        }
        if (idle) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

// ---- the command line ---------------------------------------------------------------------------

static bool read_kinds(const char *list) {
    options.kinds = 0;
    for (int i = 0; i < FAULT_KINDS; i++)
        if (strstr(list, kind_names[i])) options.kinds |= 1u << i;
    return options.kinds != 0;
}

static bool read_manner(const char *name) {
    static const char *const manners[] = {"error", "part", "interrupt"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(name, manners[i]) != 0) continue;
        options.manner = (fault_manner)i;
        return true;
    }
    return false;
}

// The number of arguments that were used; 0: it is none of ours.
static int take_option(const char *name, const char *value) {
    struct {
        const char *name;
        bool *flag;
    } flags[] = {{"--each", &options.each},
                 {"--lasting", &options.lasting},
                 {"--verbose", &options.verbose}};
    struct {
        const char *name;
        int64_t *number;
    } numbers[] = {{"--most", &options.most},
                   {"--seed", &options.seed},
                   {"--jobs", &options.jobs},
                   {"--depth", &options.depth}};
    struct {
        const char *name;
        const char **text;
    } texts[] = {{"--folder", &options.folder}, {"--again", &options.again},
                 {"--except", &options.except}, {"--known", &options.known},
                 {"--calls", &options.calls},   {"--same", &options.same[options.files]}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (strcmp(name, flags[i].name) == 0) return *flags[i].flag = true, 1;
    if (!value) return 0;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strcmp(name, numbers[i].name) == 0) return *numbers[i].number = atoll(value), 2;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strcmp(name, texts[i].name) != 0) continue;
        *texts[i].text = value;
        options.files +=
            texts[i].text == &options.same[options.files] && options.files < MOST_FILES - 1;
        return 2;
    }
    // Its pages are shared by all runs then. Where it is not there, the program will say so.
    if (strcmp(name, "--load") == 0) return dlopen(value, RTLD_LAZY), 2;
    if (strcmp(name, "--seconds") == 0) return options.seconds = atof(value), 2;
    if (strcmp(name, "--how") == 0) return read_manner(value) ? 2 : 0;
    return strcmp(name, "--kinds") == 0 && read_kinds(value) ? 2 : 0;
}

static bool parse(int argc, char **argv) {
    int at = 1, used = 1;
    while (at < argc && strcmp(argv[at], "--") != 0 && used)
        at += used = take_option(argv[at], argv[at + 1]);
    if (at >= argc || !used || argc - at > MOST_ARGUMENTS) return false;
    argv[at] = argv[0];
    options.argv = argv + at;
    options.argc = argc - at;
    if (options.jobs < 1) options.jobs = sysconf(_SC_NPROCESSORS_ONLN);
    if (options.depth < 1 || options.depth > FAULT_DEPTH) return false;
    if (options.jobs > MOST_JOBS) options.jobs = MOST_JOBS;
    return true;
}

int __wrap_main(int argc, char **argv) {
    char work[] = "/tmp/brim-faults-XXXXXX";
    int64_t *chosen;
    if (!parse(argc, argv)) return usage(argv[0]);
    options.work = mkdtemp(work);
    if (!options.work) die(work);
    undisturbed = new_state();
    if (options.known) places_read(options.known, (int)options.depth);
    run_undisturbed();
    places_name(undisturbed->site, undisturbed->sites);
    int64_t runs = choose(&chosen);
    run_all(chosen, runs);
    if (options.known) places_write(options.known);
    remove_folder(work);
    free(chosen);
    printf("%lld calls from %d places, %lld made to fail at %d: %lld errors, %lld other ways, %lld "
           "did not come; %lld runs after them; %lld wrong\n",
           (long long)undisturbed->calls, undisturbed->sites, (long long)count.struck,
           places_counted(), (long long)count.errors, (long long)count.others,
           (long long)count.missed, (long long)count.resumed, (long long)count.wrong);
    return count.wrong || count.missed > runs / 10 || !count.struck;
}
