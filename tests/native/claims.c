/* SPDX-License-Identifier: Apache-2.0
 *
 * The native code by itself, under sanitizers: launches that succeed and that fail at each stage, the
 * engine and its spawner threads, output in every direction, and plans that somebody has damaged.
 *
 * Each claim is a function; the name given as argument is run, and a failure says where. Nothing of a
 * claim is left: no child, no descriptor, no memory (LeakSanitizer looks at the end).
 */
#include "ringfence.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)

enum { HOOKS_MAX = 16, BLOCK_MAX = 65536 };

/* ---- making plans ---- */

struct draft {
    const char *argv[8];
    struct sup_hook hooks[HOOKS_MAX];
    const void *data[HOOKS_MAX];
    int hook_count;
};

static void add(struct draft *draft, struct sup_hook hook, const void *data, uint32_t size)
{
    hook.data_len = size;
    draft->hooks[draft->hook_count] = hook;
    draft->data[draft->hook_count++] = data;
}

static uint32_t put(char *block, uint32_t *at, const void *bytes, uint32_t size)
{
    CHECK(*at + size <= BLOCK_MAX);
    memcpy(block + *at, bytes, size);
    *at += size;
    return *at - size;
}

static uint32_t put_text(char *block, uint32_t *at, const char *text) { return put(block, at, text, (uint32_t)strlen(text) + 1); }

/* The block of a draft, on the heap in exactly its size, so that every byte beyond is noticed. */
static void *make_plan(const struct draft *draft, uint32_t *ret_size)
{
    static char block[BLOCK_MAX];
    memset(block, 0, sizeof block);
    struct sup_plan plan = {.magic = SUP_PLAN_MAGIC, .hook_count = (uint32_t)draft->hook_count, .pathc = 1, .envc = 2};
    plan.hooks_off = (sizeof plan + 7) / 8 * 8;
    plan.steps_off = plan.hooks_off + plan.hook_count * (uint32_t)sizeof(struct sup_hook);
    uint32_t at = plan.steps_off;
    struct sup_hook hooks[HOOKS_MAX];
    for (int i = 0; i < draft->hook_count; i++) {
        hooks[i] = draft->hooks[i];
        hooks[i].data_off = hooks[i].data_len == 0 ? 0 : put(block, &at, draft->data[i], hooks[i].data_len);
    }
    memcpy(block + plan.hooks_off, hooks, plan.hook_count * sizeof *hooks);
    plan.argv_off = at;
    for (; draft->argv[plan.argc] != NULL; plan.argc++)
        put_text(block, &at, draft->argv[plan.argc]);
    plan.env_off = put_text(block, &at, "PATH=/usr/bin:/bin");
    put_text(block, &at, "ONE=1");
    plan.paths_off = put_text(block, &at, draft->argv[0]);
    plan.size = at;
    memcpy(block, &plan, sizeof plan);
    void *made = malloc(at);
    CHECK(made != NULL);
    memcpy(made, block, at);
    *ret_size = at;
    return made;
}

static struct draft draft_of(const char *program, const char *a, const char *b)
{
    struct draft draft = {.argv = {program, a, b}};
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_SIGNALS, .a = -1}, NULL, 0);
    return draft;
}

static int open_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder != NULL);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

static void nothing_is_left(int descriptors)
{
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    CHECK(open_descriptors() == descriptors);
}

/* ---- one launch ---- */

static void spawned_and_reaped(void)
{
    uint32_t size;
    struct draft draft = draft_of("/bin/sh", "-c", "exit 7");
    void *plan = make_plan(&draft, &size);
    struct sup_child child;
    CHECK(sup_spawn(plan, size, -1, 0, &child) == 0);
    CHECK(child.pid > 0 && child.pidfd >= 0 && child.err == 0 && child.cgroup_fd == -1);
    CHECK(child.started_ns >= child.requested_ns && child.requested_ns > 0);
    siginfo_t info;
    CHECK(waitid(P_PID, (id_t)child.pid, &info, WEXITED) == 0);
    CHECK(info.si_code == CLD_EXITED && info.si_status == 7);
    close(child.pidfd);
    free(plan);
}

/* One hook that must fail: as what, and with which errno. */
static void fails(struct sup_hook hook, const void *data, uint32_t size_of_data, int error)
{
    int before = open_descriptors();
    struct draft draft = draft_of("/bin/true", NULL, NULL);
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_UMASK, .arg = 18}, NULL, 0);
    add(&draft, hook, data, size_of_data);
    uint32_t size;
    void *plan = make_plan(&draft, &size);
    struct sup_child child;
    CHECK(sup_spawn(plan, size, -1, 0, &child) == -error);
    if (child.stage != (int)hook.stage || child.err != error || child.index != 2 || child.pid != -1 || child.pidfd != -1) {
        fprintf(stderr, "stage %s err %d index %d\n", sup_stage_name(child.stage), child.err, child.index);
        exit(1);
    }
    free(plan);
    nothing_is_left(before);
}

static void each_stage_fails(void)
{
    static const char bits[8];
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    fails((struct sup_hook){.stage = SUP_STAGE_TERMINAL, .arg = null_fd}, NULL, 0, ENOTTY);
    fails((struct sup_hook){.stage = SUP_STAGE_OOM_SCORE_ADJUST}, "nonsense", 8, EINVAL);
    fails((struct sup_hook){.stage = SUP_STAGE_CPU_AFFINITY}, bits, sizeof bits, EINVAL);
    fails((struct sup_hook){.stage = SUP_STAGE_RLIMIT, .arg = 99}, NULL, 0, EINVAL);
    fails((struct sup_hook){.stage = SUP_STAGE_RLIMIT, .arg = 7, .a = 9, .b = 3}, NULL, 0, EINVAL);
    fails((struct sup_hook){.stage = SUP_STAGE_WORKING_DIRECTORY}, "/no/such/folder", 16, ENOENT);
    fails((struct sup_hook){.stage = SUP_STAGE_STDIO, .arg = 1, .a = 999}, NULL, 0, EBADF);
    fails((struct sup_hook){.stage = SUP_STAGE_STDIO, .arg = 777, .a = 777}, NULL, 0, EBADF);
    fails((struct sup_hook){.stage = SUP_STAGE_PASS_FD, .arg = 999}, NULL, 0, EBADF);
    fails((struct sup_hook){.stage = SUP_STAGE_PARENT_DEATH_SIGNAL, .arg = 9, .a = 1}, NULL, 0, EOWNERDEAD);
    fails((struct sup_hook){.stage = SUP_STAGE_PARENT_DEATH_SIGNAL, .arg = 999}, NULL, 0, EINVAL);
    fails((struct sup_hook){.stage = SUP_STAGE_SECCOMP, .a = 8, .b = 8}, "no program of the kernel", 24, EINVAL);
    close(null_fd);
}

static void harmless_hooks_succeed(void)
{
    uint32_t size;
    struct draft draft = draft_of("/bin/sh", "-c", "test \"$(umask)\" = 0077");
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_SESSION, .arg = 1}, NULL, 0);
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_CGROUP}, NULL, 0);
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_NICE, .arg = 3}, NULL, 0);
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_RLIMIT, .arg = 4, .a = 0, .b = 0}, NULL, 0);
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_UMASK, .arg = 077}, NULL, 0);
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_STDIO, .arg = 0, .a = 0}, NULL, 0);
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_CLOSE_FDS}, NULL, 0);
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_NO_NEW_PRIVILEGES}, NULL, 0);
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_PARENT_DEATH_SIGNAL, .arg = 9, .a = getpid()}, NULL, 0);
    void *plan = make_plan(&draft, &size);
    struct sup_child child;
    CHECK(sup_spawn(plan, size, -1, 0, &child) == 0);
    int status;
    CHECK(waitpid(child.pid, &status, 0) == child.pid && status == 0);
    close(child.pidfd);
    free(plan);
}

static void exec_fails_with_its_errno(void)
{
    const struct {
        const char *path;
        int error;
    } cases[] = {{"/no/such/program", ENOENT}, {"/etc/passwd/x", ENOENT}, {"/etc", EACCES}, {"/etc/passwd", EACCES}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int before = open_descriptors();
        struct draft draft = draft_of(cases[i].path, NULL, NULL);
        uint32_t size;
        void *plan = make_plan(&draft, &size);
        struct sup_child child;
        CHECK(sup_spawn(plan, size, -1, 0, &child) == -cases[i].error);
        CHECK(child.stage == SUP_STAGE_EXEC && child.pid == -1);
        free(plan);
        nothing_is_left(before);
    }
}

static void cgroup_steps_that_fail_undo_what_was_made(void)
{
    char folder[] = "/tmp/ringfence-native-XXXXXX";
    CHECK(mkdtemp(folder) != NULL);
    int root_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), before = open_descriptors();
    /* in a plain folder directories can be made and files are missing, so the write must fail */
    struct draft draft = draft_of("/bin/true", NULL, NULL);
    uint32_t size;
    char *plain = make_plan(&draft, &size);
    const char tail[] = "\0box\0box/memory.max\0001";
    uint32_t steps_at = (size + 7) / 8 * 8, strings_at = steps_at + 3 * (uint32_t)sizeof(struct sup_cgroup_step);
    char *block = calloc(1, strings_at + sizeof tail);
    memcpy(block, plain, size);
    struct sup_cgroup_step steps[3] = {{strings_at, 0, 0}, {strings_at + 1, 0, 0}, {strings_at + 5, strings_at + 20, 0}};
    memcpy(block + steps_at, steps, sizeof steps);
    memcpy(block + strings_at, tail, sizeof tail);
    struct sup_plan *plan = (void *)block;
    plan->step_count = 3;
    plan->steps_off = steps_at;
    plan->cgroup_leaf_off = strings_at + 1;
    plan->size = strings_at + (uint32_t)sizeof tail;
    struct sup_child child;
    CHECK(sup_plan_check(block, plan->size) == 0);
    CHECK(sup_spawn(block, plan->size, root_fd, 7, &child) == -ENOENT);
    CHECK(child.stage == SUP_STAGE_CGROUP_WRITE && child.index == 2 && child.cgroup_fd == -1);
    CHECK(faccessat(root_fd, "job-7", F_OK, 0) == -1);
    plan->step_count = 2; /* now the clone itself fails: the folder is no cgroup */
    CHECK(sup_spawn(block, plan->size, root_fd, 7, &child) < 0);
    CHECK(child.stage == SUP_STAGE_CLONE && child.cgroup_fd == -1);
    CHECK(faccessat(root_fd, "job-7", F_OK, 0) == -1);
    nothing_is_left(before);
    close(root_fd);
    rmdir(folder);
    free(block);
    free(plain);
}

/* ---- the engine ---- */

static struct sup_event events[64];

/* Poll until want events of kind came; returns how many came in all. */
static void await(struct sup_engine *engine, int kind, int want)
{
    int seen = 0;
    while (seen < want) {
        int n = sup_engine_poll(engine, events, 64, 20000000000ll);
        CHECK(n >= 0); /* 0: something moved that is nobody's event */
        for (int i = 0; i < n; i++)
            seen += events[i].kind == kind;
    }
}

static void spawner_threads_report_every_launch(void)
{
    enum { JOBS = 300, FAILING = 100 };
    uint32_t sizes[2];
    struct draft good = draft_of("/bin/sh", "-c", "exit 3"), bad = draft_of("/no/such/program", NULL, NULL);
    void *plans[2] = {make_plan(&good, &sizes[0]), make_plan(&bad, &sizes[1])};
    int before = open_descriptors();
    struct sup_engine *engine = sup_engine_new();
    CHECK(engine != NULL && sup_engine_start_spawners(engine, 4) == 0);
    for (int i = 0; i < JOBS; i++)
        CHECK(sup_engine_submit(engine, (uint64_t)i + 1, plans[i % 3 == 2], sizes[i % 3 == 2], -1, 0) == 0);
    int spawned = 0, failed = 0, exited = 0;
    static char state[JOBS + 1]; /* 1 spawned, 2 over */
    memset(state, 0, sizeof state);
    while (spawned + failed < JOBS || exited < JOBS - FAILING) {
        int n = sup_engine_poll(engine, events, 64, 20000000000ll);
        CHECK(n >= 0); /* 0: something moved that is nobody's event */
        for (int i = 0; i < n; i++) {
            uint64_t token = events[i].token;
            CHECK(token >= 1 && token <= JOBS);
            if (events[i].kind == SUP_EVENT_SPAWNED) {
                CHECK(state[token] == 0);
                state[token] = events[i].child.err == 0 ? 1 : 2;
                spawned += events[i].child.err == 0;
                failed += events[i].child.err == ENOENT;
            } else {
                CHECK(events[i].kind == SUP_EVENT_EXITED && state[token] == 1); /* never before SPAWNED */
                CHECK(events[i].code == 3 && events[i].detail == 0);
                state[token] = 2;
                exited++;
            }
        }
    }
    CHECK(failed == FAILING);
    sup_engine_free(engine);
    nothing_is_left(before);
    free(plans[0]);
    free(plans[1]);
}

static void an_engine_freed_in_the_middle_leaves_no_child(void)
{
    uint32_t size;
    struct draft draft = draft_of("/bin/sleep", "1000", NULL);
    void *plan = make_plan(&draft, &size);
    for (int round = 0; round < 20; round++) {
        int before = open_descriptors();
        struct sup_engine *engine = sup_engine_new();
        CHECK(engine != NULL && sup_engine_start_spawners(engine, 3) == 0);
        for (uint64_t i = 0; i < 6; i++)
            CHECK(sup_engine_submit(engine, i, plan, size, -1, 0) == 0);
        sup_engine_free(engine); /* finishes what was asked for, and ends what nobody took */
        nothing_is_left(before);
    }
    free(plan);
}

/* One that its engine cannot watch is ended, and what was made for it is undone. */
static void a_child_is_launched_and_watched_in_one_step_or_not_at_all(void)
{
    uint32_t size;
    int before = open_descriptors();
    struct draft draft = draft_of("/bin/sh", "-c", "exit 7");
    void *plan = make_plan(&draft, &size);
    struct sup_engine *engine = sup_engine_new();
    struct sup_child child;
    CHECK(sup_engine_launch(engine, 8, plan, size, -1, &child) == 0 && child.err == 0 && child.pid > 0);
    await(engine, SUP_EVENT_EXITED, 1);
    CHECK(events[0].token == 8 && events[0].code == 7);
    int set = sup_engine_fd(engine), kept = dup(set), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK(dup2(null, set) == set);
    CHECK(sup_engine_launch(engine, 9, plan, size, -1, &child) == -EINVAL);
    CHECK(child.err == EINVAL && child.stage == SUP_STAGE_CLONE && child.pid == -1 && child.pidfd == -1);
    CHECK(dup2(kept, set) == set && close(kept) == 0 && close(null) == 0);
    sup_engine_free(engine);
    free(plan);
    nothing_is_left(before);
}

static void exits_are_told_with_signal_and_usage(void)
{
    uint32_t size;
    struct draft draft = draft_of("/bin/sh", "-c", "kill -9 $$");
    void *plan = make_plan(&draft, &size);
    struct sup_engine *engine = sup_engine_new();
    struct sup_child child;
    CHECK(sup_spawn(plan, size, -1, 0, &child) == 0);
    CHECK(sup_engine_watch_child(engine, 42, child.pidfd, -1) == 0);
    await(engine, SUP_EVENT_EXITED, 1);
    CHECK(events[0].token == 42 && events[0].code == 9 && events[0].detail == 1 && events[0].maxrss_kib > 0);
    CHECK(events[0].time_ns >= child.started_ns);
    sup_engine_free(engine);
    free(plan);
}

/* A deadline that was taken back before it was due; a slow machine may need several turns. */
static struct sup_deadline *moved_in_time(struct sup_engine *engine, int pidfd)
{
    for (;;) {
        struct sup_deadline *deadline = sup_deadline_new(engine, pidfd, -1, 0);
        CHECK(deadline != NULL);
        uint64_t due_ns = sup_now() + 10000000u;
        sup_deadline_set(deadline, due_ns);
        sup_deadline_set(deadline, 0);
        if (sup_now() < due_ns)
            return deadline;
        sup_deadline_free(deadline);
    }
}

/* The process that sleeps overruns; the one that ended in time does not, although nobody reaped it before. */
static void an_engine_notes_who_ran_at_its_deadline(void)
{
    uint32_t size;
    int before = open_descriptors();
    struct draft draft = draft_of("/bin/sleep", "1000", NULL), quick_draft = draft_of("/bin/true", NULL, NULL);
    void *plan = make_plan(&draft, &size);
    struct sup_engine *engine = sup_engine_new();
    struct sup_child sleeper, quick;
    CHECK(sup_spawn(plan, size, -1, 0, &sleeper) == 0);
    free(plan);
    plan = make_plan(&quick_draft, &size);
    CHECK(sup_spawn(plan, size, -1, 0, &quick) == 0);
    free(plan);
    siginfo_t info;
    CHECK(waitid(P_PID, (id_t)quick.pid, &info, WEXITED | WNOWAIT) == 0);
    struct sup_deadline *far = sup_deadline_new(engine, sleeper.pidfd, -1, 0), *near = sup_deadline_new(engine, sleeper.pidfd, -1, 0);
    struct sup_deadline *ended = sup_deadline_new(engine, quick.pidfd, -1, 0), *moved = moved_in_time(engine, sleeper.pidfd);
    int32_t told[2], request[2];
    CHECK(sup_socketpair(told) == 0);
    struct sup_deadline *last = sup_deadline_of_helper(engine, told[0]);
    CHECK(far != NULL && near != NULL && ended != NULL && last != NULL);
    uint64_t now_ns = sup_now();
    sup_deadline_set(far, now_ns + 1000000000000u);
    sup_deadline_set(ended, now_ns + 20000000u);
    sup_deadline_set(near, now_ns + 20000000u);
    sup_deadline_set(last, now_ns + 30000000u);
    CHECK(read(told[1], request, sizeof request) == sizeof request); /* so the others were looked at, or are just now, under the lock */
    CHECK(sup_deadline_free(last) == 1 && sup_deadline_free(near) == 1 && sup_deadline_free(ended) == 0 && sup_deadline_free(far) == 0 && sup_deadline_free(moved) == 0);
    sup_engine_free(engine);
    kill(sleeper.pid, SIGKILL);
    CHECK(waitpid(sleeper.pid, NULL, 0) == sleeper.pid && waitpid(quick.pid, NULL, 0) == quick.pid);
    close(told[0]);
    close(told[1]);
    close(sleeper.pidfd);
    close(quick.pidfd);
    nothing_is_left(before);
}

static void a_helper_is_told_at_the_deadline_to_end_its_tree(void)
{
    int before = open_descriptors();
    struct sup_engine *engine = sup_engine_new();
    int32_t told[2], gone[2], request[2] = {0, 0};
    CHECK(sup_socketpair(told) == 0 && sup_socketpair(gone) == 0);
    struct sup_deadline *holds = sup_deadline_of_helper(engine, told[0]), *ended = sup_deadline_of_helper(engine, gone[0]);
    CHECK(holds != NULL && ended != NULL);
    close(gone[1]);
    uint64_t now_ns = sup_now();
    sup_deadline_set(ended, now_ns + 10000000u);
    sup_deadline_set(holds, now_ns + 20000000u);
    CHECK(read(told[1], request, sizeof request) == sizeof request && request[0] == SUP_REQUEST_KILL && sup_now() >= now_ns + 20000000u);
    CHECK(sup_deadline_free(holds) == 1 && sup_deadline_free(ended) == 0);
    sup_engine_free(engine);
    close(told[0]);
    close(told[1]);
    close(gone[0]);
    nothing_is_left(before);
}

static void readiness_and_signals(void)
{
    int before = open_descriptors(), pipe_fds[2];
    CHECK(pipe2(pipe_fds, O_CLOEXEC) == 0);
    struct sup_engine *engine = sup_engine_new();
    void *watch = sup_engine_watch_ready(engine, 5, pipe_fds[0]);
    CHECK(watch != NULL);
    CHECK(sup_engine_poll(engine, events, 64, 0) == 0);
    CHECK(write(pipe_fds[1], "x", 1) == 1);
    await(engine, SUP_EVENT_READY, 1);
    sup_engine_unwatch(engine, watch);
    CHECK(sup_engine_poll(engine, events, 64, 0) == 0);
    CHECK(sup_engine_watch_ready(engine, 5, 999) == NULL && errno == EBADF);
    CHECK(sup_engine_watch_signals(engine, 1ull << (SIGUSR1 - 1)) == 0);
    kill(getpid(), SIGUSR1);
    await(engine, SUP_EVENT_SIGNAL, 1);
    CHECK(events[0].code == SIGUSR1 && events[0].detail == getpid());
    watch = sup_engine_watch_ready(engine, 6, pipe_fds[0]); /* left for free */
    CHECK(watch != NULL);
    sup_engine_free(engine);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    nothing_is_left(before);
}

/* ---- output ---- */

struct job {
    struct sup_child child;
    struct sup_output *output;
    void *plan;
    int out, err, in; /* our ends */
};

static struct job start(struct sup_engine *engine, const char *script, uint64_t cap, int with_input)
{
    int out[2], err[2], in[2] = {-1, -1};
    CHECK(pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0);
    struct draft draft = draft_of("/bin/sh", "-c", script);
    if (with_input) {
        CHECK(pipe2(in, O_CLOEXEC) == 0);
        add(&draft, (struct sup_hook){.stage = SUP_STAGE_STDIO, .arg = 0, .a = in[0]}, NULL, 0);
    }
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_STDIO, .arg = 1, .a = out[1]}, NULL, 0);
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_STDIO, .arg = 2, .a = err[1]}, NULL, 0);
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_CLOSE_FDS}, NULL, 0);
    uint32_t size;
    struct job job = {.plan = make_plan(&draft, &size), .out = out[0], .err = err[0], .in = in[1]};
    CHECK(sup_spawn(job.plan, size, -1, 0, &job.child) == 0);
    CHECK(sup_engine_watch_child(engine, 1, job.child.pidfd, -1) == 0);
    close(out[1]);
    close(err[1]);
    if (with_input)
        close(in[0]);
    job.output = sup_output_new(engine, 1, cap);
    CHECK(job.output != NULL);
    return job;
}

static void end(struct job *job)
{
    sup_output_free(job->output);
    free(job->plan);
}

static void collected_output_is_exact(void)
{
    int before = open_descriptors();
    struct sup_engine *engine = sup_engine_new();
    struct job job = start(engine, "head -c 3000000 /dev/zero | tr '\\0' x; printf err >&2", UINT64_MAX, 0);
    CHECK(sup_output_collect(job.output, 1, job.out) == 0 && sup_output_collect(job.output, 2, job.err) == 0);
    CHECK(sup_output_collect(job.output, 3, 0) == -EINVAL);
    while (sup_output_open(job.output) > 0)
        CHECK(sup_engine_poll(engine, events, 64, 20000000000ll) >= 0);
    uint64_t size;
    const char *bytes = sup_output_bytes(job.output, 1, &size);
    CHECK(size == 3000000 && bytes[0] == 'x' && bytes[size - 1] == 'x' && sup_output_count(job.output, 1) == size);
    bytes = sup_output_bytes(job.output, 2, &size);
    CHECK(size == 3 && memcmp(bytes, "err", 3) == 0 && !sup_output_truncated(job.output));
    CHECK(sup_output_last_ns(job.output) > 0);
    end(&job);
    sup_engine_free(engine);
    waitpid(-1, NULL, 0);
    nothing_is_left(before);
}

static void output_over_the_cap_is_cut_and_told_once(void)
{
    struct sup_engine *engine = sup_engine_new();
    struct job job = start(engine, "head -c 100000 /dev/zero; head -c 100000 /dev/zero >&2", 5000, 0);
    CHECK(sup_output_collect(job.output, 1, job.out) == 0 && sup_output_collect(job.output, 2, job.err) == 0);
    await(engine, SUP_EVENT_OUTPUT_LIMIT, 1);
    kill(job.child.pid, SIGKILL);
    await(engine, SUP_EVENT_EXITED, 1);
    CHECK(sup_output_drain(job.output) == 1);
    uint64_t one, two;
    sup_output_bytes(job.output, 1, &one);
    sup_output_bytes(job.output, 2, &two);
    CHECK(one + two == 5000 && sup_output_truncated(job.output) && sup_output_count(job.output, 1) > 5000 - two);
    end(&job);
    sup_engine_free(engine);
}

static void a_feed_arrives_whole_and_a_reader_that_stops_is_no_error(void)
{
    enum { SIZE = 2000000 };
    char *bytes = malloc(SIZE);
    memset(bytes, 'y', SIZE);
    signal(SIGPIPE, SIG_IGN);
    for (int partial = 0; partial < 2; partial++) {
        struct sup_engine *engine = sup_engine_new();
        struct job job = start(engine, partial ? "head -c 10" : "wc -c", UINT64_MAX, 1);
        CHECK(sup_output_collect(job.output, 1, job.out) == 0 && sup_output_collect(job.output, 2, job.err) == 0);
        CHECK(sup_output_feed(job.output, job.in, bytes, SIZE) == 0);
        int exited = 0;
        while (sup_output_open(job.output) > 0 || !exited) {
            int n = sup_engine_poll(engine, events, 64, 20000000000ll);
            CHECK(n >= 0);
            for (int i = 0; i < n; i++)
                exited |= events[i].kind == SUP_EVENT_EXITED;
        }
        uint64_t size;
        const char *out = sup_output_bytes(job.output, 1, &size);
        CHECK(partial ? size == 10 : strtol(out, NULL, 10) == SIZE);
        end(&job);
        sup_engine_free(engine);
    }
    free(bytes);
}

/* A reader slower than the job: nothing is lost, and the job's end does not cut it off. */
static void relayed_output_waits_for_its_reader(void)
{
    for (int kind = 0; kind < 2; kind++) {
        int before = open_descriptors(), to[2];
        CHECK(kind == 0 ? pipe2(to, O_CLOEXEC) == 0 : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, to) == 0);
        struct sup_engine *engine = sup_engine_new();
        struct job job = start(engine, "head -c 1500000 /dev/zero", UINT64_MAX, 0);
        CHECK(sup_output_relay(job.output, 1, job.out, to[1]) == 0 && sup_output_collect(job.output, 2, job.err) == 0);
        uint64_t got = 0;
        char bytes[65536];
        CHECK(fcntl(to[0], F_SETFL, O_NONBLOCK) == 0);
        while (sup_output_open(job.output) + sup_output_pending(job.output) > 0 || got < 1500000) {
            CHECK(sup_engine_poll(engine, events, 64, 10000000) >= 0);
            ssize_t n = read(to[0], bytes, sizeof bytes);
            CHECK(n > 0 || errno == EAGAIN);
            got += n > 0 ? (uint64_t)n : 0;
        }
        CHECK(got == 1500000 && sup_output_count(job.output, 1) == got);
        CHECK((fcntl(to[1], F_GETFL) & O_NONBLOCK) == 0);
        end(&job);
        sup_engine_free(engine);
        close(to[0]);
        close(to[1]);
        waitpid(-1, NULL, 0);
        nothing_is_left(before);
    }
}

static void a_relays_reader_that_leaves_ends_the_stream(void)
{
    int to[2];
    signal(SIGPIPE, SIG_IGN);
    CHECK(pipe2(to, O_CLOEXEC) == 0);
    struct sup_engine *engine = sup_engine_new();
    struct job job = start(engine, "yes", UINT64_MAX, 0);
    CHECK(sup_output_relay(job.output, 1, job.out, to[1]) == 0 && sup_output_collect(job.output, 2, job.err) == 0);
    close(to[0]);
    await(engine, SUP_EVENT_EXITED, 1); /* the job's own write fails, as if it wrote there itself */
    end(&job);
    close(to[1]);
    sup_engine_free(engine);
}

/* A directory of its own, and its descriptor. */
static int make_folder(char *ret_path)
{
    strcpy(ret_path, "/tmp/ringfence-claims-XXXXXX");
    CHECK(mkdtemp(ret_path) != NULL);
    int fd = open(ret_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

/* Bytes of a file below the directory, which is removed; -1 when it is not there. */
static int64_t size_and_remove(int folder, const char *name)
{
    struct stat info;
    if (fstatat(folder, name, &info, 0) < 0)
        return -1;
    CHECK(unlinkat(folder, name, 0) == 0);
    return info.st_size;
}

static void captured_output_goes_to_files_of_the_right_size(void)
{
    for (int lines = 0; lines < 2; lines++) {
        int before = open_descriptors();
        char path[64];
        int folder = make_folder(path), keep = dup(folder);
        struct sup_engine *engine = sup_engine_new();
        struct job job = start(engine, "yes 1234567 | head -c 1000000; echo >&2", UINT64_MAX, 0);
        struct sup_capture plan = {.name = "out", .dir_fd = folder, .max_bytes = 300000, .keep = 9, .lines = lines};
        plan.fd = openat(folder, "out", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        CHECK(plan.fd >= 0 && sup_output_collect(job.output, 2, job.err) == 0);
        CHECK(sup_output_capture(job.output, 1, job.out, &plan) == 0);
        CHECK(sup_output_capture(job.output, 1, -1, &plan) == -EINVAL);
        while (sup_output_open(job.output) > 0)
            CHECK(sup_engine_poll(engine, events, 64, 20000000000ll) >= 0);
        int32_t error;
        CHECK(sup_output_count(job.output, 1) == 1000000 && sup_output_lost(job.output, 1, &error) == 0 && error == 0);
        end(&job);
        sup_engine_free(engine);
        int64_t full = lines ? (300000 - 65536 + 8) / 8 * 8 : 300000; /* the first line end there, of lines of 8 bytes */
        const char *names[] = {"out.4", "out.3", "out.2", "out.1", "out"};
        int64_t total = 0;
        for (int i = 0; i < 5; i++) {
            int64_t size = size_and_remove(keep, names[i]);
            CHECK(size == -1 || size == full || i == 4);
            total += size > 0 ? size : 0;
        }
        CHECK(total == 1000000);
        close(keep);
        rmdir(path);
        waitpid(-1, NULL, 0);
        nothing_is_left(before);
    }
}

/* Kept, in a file, and in a pipe that nobody reads: what the pipe did not take can be had at the end. */
static void one_stream_of_output_goes_to_several_places(void)
{
    int before = open_descriptors(), to[2];
    char path[64];
    int folder = make_folder(path), keep = dup(folder);
    struct sup_engine *engine = sup_engine_new();
    struct job job = start(engine, "head -c 100000 /dev/zero", UINT64_MAX, 0);
    struct sup_capture plan = {.name = "out", .dir_fd = folder, .max_bytes = UINT64_MAX};
    plan.fd = openat(folder, "out", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(pipe2(to, O_CLOEXEC) == 0 && sup_output_collect(job.output, 2, job.err) == 0);
    CHECK(sup_output_collect(job.output, 1, job.out) == 0 && sup_output_capture(job.output, 1, -1, &plan) == 0);
    CHECK(sup_output_pipe(job.output, 1, -1, to[1]) == 0 && sup_output_relay(job.output, 0, -1, 1) == -EINVAL);
    await(engine, SUP_EVENT_EXITED, 1);
    sup_output_drain(job.output);
    CHECK(sup_output_pending(job.output) == 1);
    uint64_t size, rest;
    sup_output_bytes(job.output, 1, &size);
    sup_output_rest(job.output, 1, &rest);
    CHECK(size == 100000 && rest > 0 && sup_output_pending(job.output) == 0);
    char bytes[65536];
    uint64_t got = 0;
    for (ssize_t n; (n = read(to[0], bytes, sizeof bytes)) > 0;)
        got += (uint64_t)n;
    CHECK(got + rest == size && size_and_remove(keep, "out") == 100000);
    end(&job);
    sup_engine_free(engine);
    close(to[0]);
    close(keep);
    rmdir(path);
    nothing_is_left(before);
}

static void freeing_in_the_middle_of_everything_is_safe(void)
{
    for (int round = 0; round < 30; round++) {
        int before = open_descriptors(), to[2];
        CHECK(pipe2(to, O_CLOEXEC) == 0);
        struct sup_engine *engine = sup_engine_new();
        struct job job = start(engine, "yes & yes >&2; wait", 1u << (10 + round % 12), 1);
        CHECK(sup_output_relay(job.output, 1, job.out, to[1]) == 0 && sup_output_collect(job.output, 2, job.err) == 0);
        CHECK(sup_output_feed(job.output, job.in, "x", 1) == 0);
        for (int i = 0; i < round; i++)
            CHECK(sup_engine_poll(engine, events, 64, 1000000) >= 0);
        if (round % 3 == 0)
            sup_output_drain(job.output);
        kill(job.child.pid, SIGKILL);
        end(&job);
        sup_engine_free(engine);
        while (waitpid(-1, NULL, 0) > 0)
            ;
        close(to[0]);
        close(to[1]);
        nothing_is_left(before);
    }
}

/* ---- damaged plans ---- */

static uint64_t seed = 88172645463325252ull;

static uint64_t chance(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static volatile uint64_t sum; /* so that nothing read is optimised away */

/* Read all that the two halves of a launch would read. */
static void read_plan(const char *block)
{
    const struct sup_plan *plan = (const void *)block;
    uint64_t vectors_size = sup_plan_vectors_size(plan);
    if (vectors_size > 1 << 20)
        return;
    void *vectors = malloc(vectors_size);
    struct sup_launch launch = {0};
    sup_plan_vectors(plan, vectors, &launch);
    char *const *lists[3] = {launch.argv, launch.envp, launch.paths};
    for (int i = 0; i < 3; i++)
        for (char *const *at = lists[i]; *at != NULL; at++)
            sum += strlen(*at);
    const struct sup_hook *hooks = (const void *)(block + plan->hooks_off);
    for (uint32_t i = 0; i < plan->hook_count; i++) {
        CHECK(hooks[i].stage < SUP_STAGE_EXEC);
        for (uint32_t n = 0; n < hooks[i].data_len; n++)
            sum += (uint64_t)block[hooks[i].data_off + n];
        if (hooks[i].stage == SUP_STAGE_WORKING_DIRECTORY)
            sum += strlen(block + hooks[i].data_off);
        if (hooks[i].stage == SUP_STAGE_CPU_AFFINITY)
            CHECK(hooks[i].data_len % 8 == 0);
    }
    const struct sup_cgroup_step *steps = (const void *)(block + plan->steps_off);
    for (uint32_t i = 0; i < plan->step_count; i++)
        sum += strlen(block + steps[i].path_off) + (steps[i].value_off ? strlen(block + steps[i].value_off) : 0) +
               (steps[i].expect_off ? strlen(block + steps[i].expect_off) : 0);
    if (plan->cgroup_leaf_off != 0)
        sum += strlen(block + plan->cgroup_leaf_off);
    free(vectors);
}

static void damaged_plans_are_refused_or_safe_to_read(void)
{
    struct draft draft = draft_of("/bin/true", "a", "bc");
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_WORKING_DIRECTORY}, "/tmp", 5);
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_OOM_SCORE_ADJUST}, "12", 2);
    uint32_t size;
    char *plan = make_plan(&draft, &size);
    CHECK(sup_plan_check(plan, size) == 0);
    read_plan(plan);
    uint64_t accepted = 0;
    for (int round = 0; round < 100000; round++) {
        uint32_t cut = chance() % 4 == 0 ? (uint32_t)(chance() % (size + 1)) : size;
        char *copy = malloc(cut ? cut : 1);
        memcpy(copy, plan, cut);
        for (uint64_t edits = chance() % 6; edits > 0 && cut >= 4; edits--) {
            uint64_t at = chance() % 2 ? chance() % (cut / 4) * 4 : chance() % (cut - 3);
            uint32_t word = chance() % 3 == 0 ? (uint32_t)chance() : chance() % 2 ? (uint32_t)(chance() % (size + 16)) : (uint32_t)(chance() % 4);
            memcpy(copy + at, &word, chance() % 2 ? 4 : 1);
        }
        if (chance() % 2 && cut >= sizeof(struct sup_plan)) { /* a size that agrees gets further */
            ((struct sup_plan *)(void *)copy)->size = cut;
            ((struct sup_plan *)(void *)copy)->magic = SUP_PLAN_MAGIC;
        }
        if (sup_plan_check(copy, cut) == 0) {
            accepted++;
            read_plan(copy);
        }
        free(copy);
    }
    CHECK(accepted > 1000);
    free(plan);
}

/* ---- small calls ---- */

/* ---- denied system calls ---- */

/* umask(2) is denied: asked about with a listener, else with EACCES. sh's umask makes two calls. */
static void *plan_without_umask(const char *script, uint32_t *ret_size)
{
#define ANSWER(value)                                                                                         \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),                                    \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_umask, 0, 1), BPF_STMT(BPF_RET | BPF_K, value), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
    static const struct sock_filter programs[] = {ANSWER(SECCOMP_RET_USER_NOTIF), ANSWER(SECCOMP_RET_ALLOW), ANSWER(SECCOMP_RET_ERRNO | EACCES)};
    struct draft draft = draft_of("/bin/sh", "-c", script);
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_NO_NEW_PRIVILEGES}, NULL, 0);
    add(&draft, (struct sup_hook){.stage = SUP_STAGE_SECCOMP, .a = 32, .b = 32}, programs, sizeof programs);
    return make_plan(&draft, ret_size);
}

static void spawn_watched(struct sup_engine *engine, const char *script, struct sup_child *child)
{
    uint32_t size;
    void *plan = plan_without_umask(script, &size);
    CHECK(sup_spawn(plan, size, -1, 0, child) == 0 && child->listener_fd >= 0);
    CHECK(sup_engine_watch_child(engine, 42, child->pidfd, -1) == 0);
    free(plan);
}

static void denied_calls_are_answered_and_counted(void)
{
    struct sup_engine *engine = sup_engine_new();
    struct sup_child child;
    uint8_t errnos[512];
    uint32_t architecture, number;
    memset(errnos, EPERM, sizeof errnos);
    spawn_watched(engine, "umask 022; umask 077; exit 5", &child);
    struct sup_denials *denials = sup_denials_new(engine, 7, child.listener_fd, errnos, sizeof errnos, 1000, 0);
    CHECK(denials != NULL);
    await(engine, SUP_EVENT_EXITED, 1);
    CHECK(events[0].code == 5 && events[0].detail == 0);
    CHECK(sup_denials_count(denials, __NR_umask) >= 2 && sup_denials_count(denials, __NR_umask) == sup_denials_total(denials));
    CHECK(!sup_denials_overflowed(denials) && !sup_denials_foreign(denials, &architecture, &number));
    CHECK(sup_denials_count(denials, 1u << 30) == 0);
    sup_denials_free(denials);
    sup_engine_free(engine);
}

static void a_flood_of_denied_calls_is_cut_and_the_job_goes_on(void)
{
    struct sup_engine *engine = sup_engine_new();
    struct sup_child child;
    spawn_watched(engine, "i=0; while [ $i -lt 50 ]; do umask 022; i=$((i+1)); done; exit 5", &child);
    struct sup_denials *denials = sup_denials_new(engine, 7, child.listener_fd, "", 0, 3, 0);
    CHECK(denials != NULL);
    await(engine, SUP_EVENT_EXITED, 1);
    CHECK(events[0].code == 5 && sup_denials_total(denials) == 3 && sup_denials_overflowed(denials));
    sup_denials_free(denials);
    sup_engine_free(engine);
}

static void a_denied_call_that_shall_end_the_job_is_an_event_and_never_answered(void)
{
    struct sup_engine *engine = sup_engine_new();
    struct sup_child child;
    spawn_watched(engine, "umask 022; exit 5", &child);
    struct sup_denials *denials = sup_denials_new(engine, 7, child.listener_fd, "", 0, 1000, 1);
    CHECK(denials != NULL);
    await(engine, SUP_EVENT_DENIED, 1);
    CHECK(events[0].token == 7 && events[0].code == __NR_umask && sup_denials_total(denials) == 1);
    CHECK(sup_pidfd_send_signal(child.pidfd, SIGKILL) == 0);
    await(engine, SUP_EVENT_EXITED, 1);
    CHECK(events[0].code == SIGKILL && events[0].detail == 1);
    sup_denials_free(denials);
    sup_engine_free(engine);
}

static void a_listener_that_is_gone_lets_calls_fail_and_the_job_go_on(void)
{
    struct sup_engine *engine = sup_engine_new();
    struct sup_child child;
    spawn_watched(engine, "umask 022; exit 5", &child);
    close(child.listener_fd);
    await(engine, SUP_EVENT_EXITED, 1);
    CHECK(events[0].code == 5);
    sup_engine_free(engine);
}

static void a_job_under_a_filter_is_undone_by_a_freed_engine(void)
{
    uint32_t size;
    void *plan = plan_without_umask("umask; sleep 1000", &size);
    int before = open_descriptors();
    struct sup_engine *engine = sup_engine_new();
    CHECK(engine != NULL && sup_engine_start_spawners(engine, 2) == 0);
    for (uint64_t i = 0; i < 4; i++)
        CHECK(sup_engine_submit(engine, i, plan, size, -1, 0) == 0);
    sup_engine_free(engine);
    nothing_is_left(before);
    free(plan);
}

static void small_files(void)
{
    char text[64];
    int folder = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(sup_read_at(folder, "comm", text, sizeof text) > 0);
    CHECK(sup_read_at(folder, "no-such-file", text, sizeof text) == -ENOENT);
    CHECK(sup_read_at(folder, "status", text, 10) == 10);
    CHECK(sup_write_at(folder, "comm", "other", 5) == 0);
    CHECK(sup_write_at(folder, "no-such-file", "x", 1) == -ENOENT);
    CHECK(sup_read_at(folder, "comm", text, sizeof text) == 6 && memcmp(text, "other\n", 6) == 0);
    close(folder);
    int pidfd = sup_pidfd_open(getpid());
    CHECK(pidfd >= 0 && sup_pidfd_send_signal(pidfd, 0) == 0);
    close(pidfd);
    CHECK(sup_pidfd_open(-1) == -EINVAL);
    CHECK(strcmp(sup_stage_name(-1), "unknown") == 0 && strcmp(sup_stage_name(SUP_STAGE_EXEC), "exec") == 0);
    CHECK(strcmp(sup_stage_name(sup_stage_count()), "unknown") == 0);
}

/* Send one packet with some copies of a descriptor. */
static void send_packet(int fd, const char *bytes, size_t size, int what, int copies)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(128 * sizeof(int))];
    } control = {0};
    struct iovec piece = {.iov_base = (void *)bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (copies > 0) {
        message.msg_control = control.room;
        message.msg_controllen = CMSG_SPACE((size_t)copies * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN((size_t)copies * sizeof(int))};
        for (int i = 0; i < copies; i++)
            memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &what, sizeof(int));
    }
    CHECK(sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)size);
}

/* Ordinary packets in one call; one with descriptors, or cut, ends it; then what follows, the end and an error. */
static void packets_are_received_together_up_to_a_special_one(void)
{
    int32_t fds[2];
    char *room = malloc(300); /* exactly what is announced, so that every byte beyond is noticed */
    struct sup_packets found;
    CHECK(sup_socketpair(fds) == 0 && room != NULL);
    CHECK(sup_receive_packets(fds[0], room, 300, 100, 0, &found) == SUP_PACKETS_NONE && found.plain == 0 && found.special == 0);
    send_packet(fds[1], "one", 3, 0, 0);
    send_packet(fds[1], "three", 5, 0, 0);
    send_packet(fds[1], "with", 4, 1, 3);
    send_packet(fds[1], "after", 5, 0, 0);
    CHECK(sup_receive_packets(fds[0], room, 300, 100, 1, &found) == SUP_PACKETS_MORE);
    CHECK(found.plain == 8 && found.special == 4 && found.fd_count == 3 && !found.cut && memcmp(room, "onethreewith", 12) == 0);
    for (int i = 0; i < found.fd_count; i++)
        CHECK(fcntl(found.fds[i], F_GETFD) == FD_CLOEXEC && close(found.fds[i]) == 0);
    CHECK(sup_receive_packets(fds[0], room, 300, 100, 0, &found) == SUP_PACKETS_NONE && found.plain == 5 && found.special == 0);
    send_packet(fds[1], room, 101, 0, 0);
    CHECK(sup_receive_packets(fds[0], room, 300, 100, 0, &found) == SUP_PACKETS_MORE && found.cut && found.special == 100);
    send_packet(fds[1], "x", 1, 1, 100);
    CHECK(sup_receive_packets(fds[0], room, 300, 100, 0, &found) == SUP_PACKETS_MORE && !found.cut && found.fd_count == 100);
    for (int i = 0; i < found.fd_count; i++)
        CHECK(close(found.fds[i]) == 0);
    for (int i = 0; i < 4; i++)
        send_packet(fds[1], room, 99, 0, 0);
    CHECK(sup_receive_packets(fds[0], room, 300, 100, 0, &found) == SUP_PACKETS_MORE && found.plain == 297); /* no room for one more */
    send_packet(fds[0], "never read", 10, 0, 0);
    CHECK(close(fds[1]) == 0); /* with something unread: a reset is pending, and what was sent before is still there */
    CHECK(sup_receive_packets(fds[0], room, 300, 100, 0, &found) == SUP_PACKETS_END && found.plain == 99);
    CHECK(sup_receive_packets(fds[0], room, 300, 100, 0, &found) == SUP_PACKETS_END && found.plain == 0);
    CHECK(close(fds[0]) == 0);
    CHECK(sup_receive_packets(fds[0], room, 300, 100, 0, &found) == -EBADF);
    free(room);
}

/* Where it may run, as the kernel tells it; returns how many processors that are. */
static int allowed(cpu_set_t *ret_set)
{
    CHECK(sched_getaffinity(0, sizeof *ret_set, ret_set) == 0);
    return CPU_COUNT(ret_set);
}

static void a_thread_is_kept_on_its_processor_and_let_go_again_unless_it_was_bound(void)
{
    cpu_set_t all, other, now;
    const int processors = allowed(&all);
    struct sup_affinity kept = {.size = 1};
    sup_stay(1, &kept); /* with one processor there is nothing to do, with an unknown number nothing to be known */
    sup_stay(0, &kept);
    sup_stay((uint32_t)processors + 1, &kept);
    CHECK(kept.size == 0 && allowed(&now) == processors);
    if (processors < 2)
        return;
    sup_stay((uint32_t)processors, &kept);
    CHECK(kept.size > 0 && allowed(&now) == 1 && CPU_ISSET(kept.processor, &now));
    sup_release(&kept);
    CHECK(allowed(&now) == processors && CPU_EQUAL(&now, &all));

    sup_stay((uint32_t)processors, &kept); /* and bound by somebody else meanwhile */
    CPU_ZERO(&other);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&other) == 0; i++)
        if (CPU_ISSET(i, &all) && i != (int)kept.processor)
            CPU_SET(i, &other);
    CHECK(sched_setaffinity(0, sizeof other, &other) == 0);
    sup_release(&kept);
    CHECK(allowed(&now) == 1 && CPU_EQUAL(&now, &other));
    sup_stay((uint32_t)processors, &kept); /* who is bound is left alone */
    CHECK(kept.size == 0 && allowed(&now) == 1 && CPU_EQUAL(&now, &other));
}

#define CLAIMS(X)                                                \
    X(spawned_and_reaped)                                        \
    X(each_stage_fails)                                          \
    X(harmless_hooks_succeed)                                    \
    X(exec_fails_with_its_errno)                                 \
    X(cgroup_steps_that_fail_undo_what_was_made)                 \
    X(spawner_threads_report_every_launch)                       \
    X(an_engine_freed_in_the_middle_leaves_no_child)             \
    X(a_child_is_launched_and_watched_in_one_step_or_not_at_all) \
    X(exits_are_told_with_signal_and_usage)                      \
    X(an_engine_notes_who_ran_at_its_deadline)                   \
    X(a_helper_is_told_at_the_deadline_to_end_its_tree)          \
    X(readiness_and_signals)                                     \
    X(collected_output_is_exact)                                 \
    X(output_over_the_cap_is_cut_and_told_once)                  \
    X(a_feed_arrives_whole_and_a_reader_that_stops_is_no_error)  \
    X(relayed_output_waits_for_its_reader)                       \
    X(a_relays_reader_that_leaves_ends_the_stream)               \
    X(captured_output_goes_to_files_of_the_right_size)           \
    X(one_stream_of_output_goes_to_several_places)               \
    X(freeing_in_the_middle_of_everything_is_safe)               \
    X(damaged_plans_are_refused_or_safe_to_read)                 \
    X(denied_calls_are_answered_and_counted)                     \
    X(a_flood_of_denied_calls_is_cut_and_the_job_goes_on)        \
    X(a_denied_call_that_shall_end_the_job_is_an_event_and_never_answered) \
    X(a_listener_that_is_gone_lets_calls_fail_and_the_job_go_on) \
    X(a_job_under_a_filter_is_undone_by_a_freed_engine)          \
    X(packets_are_received_together_up_to_a_special_one)         \
    X(a_thread_is_kept_on_its_processor_and_let_go_again_unless_it_was_bound) \
    X(small_files)

int main(int argc, char **argv)
{
#define RUN(name)                                     \
    if (argc > 1 && strcmp(argv[1], #name) == 0) {    \
        int before = open_descriptors();              \
        name();                                       \
        nothing_is_left(before);                      \
        return 0;                                     \
    }
    CLAIMS(RUN)
#define NAME(name) puts(#name);
    CLAIMS(NAME)
    return argc > 1;
}
