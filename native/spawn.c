/* SPDX-License-Identifier: Apache-2.0
 *
 * The parent half of a launch: the cgroup steps, the clone, the child's report.
 *
 * CLONE_VM | CLONE_VFORK: the child borrows the parent's memory, so a spawn costs the same from a
 * 10 MiB and a 10 GiB parent, the calling thread sleeps until exec or exit, and the child's report
 * needs no pipe: it is written straight into this stack frame.
 */
#include "ringfence.h"
#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { CHILD_STACK_SIZE = 32 * 1024, CGROUP_FILE_MAX = 4096 };

static const char *const stage_names[] = {
#define SUP_STAGE_NAME(name, text) text,
    SUP_STAGES(SUP_STAGE_NAME)
#undef SUP_STAGE_NAME
};
_Static_assert(sizeof stage_names / sizeof *stage_names == SUP_STAGE_COUNT, "one name for every stage");

int sup_stage_count(void) { return SUP_STAGE_COUNT; }

const char *sup_stage_name(int stage) { return stage >= 0 && stage < SUP_STAGE_COUNT ? stage_names[stage] : "unknown"; }

uint64_t sup_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t sup_now(void) { return sup_now_ns(); }

static const char *text_at(const struct sup_plan *plan, uint32_t off) { return (const char *)plan + off; }

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define cleanup_close __attribute__((cleanup(close_fd)))

static void free_pointer(void *pointer) { free(*(void **)pointer); }
#define cleanup_free __attribute__((cleanup(free_pointer)))

/* ---- cgroup steps ---- */

/* Does some line of text hold every blank-separated word of expect? */
static int line_has_words(const char *line, size_t length, const char *expect)
{
    while (*expect != '\0') {
        size_t word = strcspn(expect, " ");
        int found = 0;
        for (size_t i = 0; !found && i + word <= length; i++)
            found = (i == 0 || line[i - 1] == ' ') && (i + word == length || line[i + word] == ' ') && memcmp(line + i, expect, word) == 0;
        if (!found)
            return 0;
        expect += word;
        expect += strspn(expect, " ");
    }
    return 1;
}

static int reads_back(const char *text, const char *expect)
{
    for (;;) {
        size_t length = strcspn(text, "\n");
        if (line_has_words(text, length, expect))
            return 1;
        if (text[length] == '\0')
            return 0;
        text += length + 1;
    }
}

static int verify_step(int root_fd, const char *path, const char *expect)
{
    char text[CGROUP_FILE_MAX];
    int64_t n = sup_read_at(root_fd, path, text, sizeof text - 1);
    if (n < 0)
        return (int)n;
    text[n] = '\0';
    return reads_back(text, expect) ? 0 : -ERANGE;
}

static int fail(struct sup_child *child, int stage, int err, int index)
{
    child->stage = stage;
    child->err = err;
    child->index = index;
    return -err;
}

/* "job-<number>", the job's own directory. */
static const char *job_directory(char name[32], uint64_t job)
{
    char *at = name + 31;
    *at = '\0';
    do
        *--at = (char)('0' + job % 10);
    while ((job /= 10) != 0);
    return memcpy(at - 4, "job-", 4);
}

static int make_job_directory(int root_fd, uint64_t job, int index, struct sup_child *child)
{
    char name[32];
    const char *directory = job_directory(name, job);
    if (mkdirat(root_fd, directory, 0755) < 0)
        return fail(child, SUP_STAGE_CGROUP_CREATE, errno, index);
    child->cgroup_fd = openat(root_fd, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return child->cgroup_fd < 0 ? fail(child, SUP_STAGE_CGROUP_CREATE, errno, index) : 0;
}

static int run_step(const struct sup_plan *plan, const struct sup_cgroup_step *step, int index, struct sup_child *child)
{
    const char *path = text_at(plan, step->path_off);
    if (step->value_off == 0)
        return mkdirat(child->cgroup_fd, path, 0755) < 0 ? fail(child, SUP_STAGE_CGROUP_CREATE, errno, index) : 0;
    const char *value = text_at(plan, step->value_off);
    int r = sup_write_at(child->cgroup_fd, path, value, strlen(value));
    if (r < 0)
        return fail(child, SUP_STAGE_CGROUP_WRITE, -r, index);
    if (step->expect_off == 0)
        return 0;
    r = verify_step(child->cgroup_fd, path, text_at(plan, step->expect_off));
    return r < 0 ? fail(child, SUP_STAGE_CGROUP_VERIFY, -r, index) : 0;
}

static const struct sup_cgroup_step *plan_steps(const struct sup_plan *plan) { return (const void *)text_at(plan, plan->steps_off); }

/* Remove the directories that the first count steps made, the job's own last, and close that one. */
static void remove_steps(const struct sup_plan *plan, uint32_t count, int root_fd, uint64_t job, int cgroup_fd)
{
    const struct sup_cgroup_step *steps = plan_steps(plan);
    while (cgroup_fd >= 0 && count-- > 1)
        if (steps[count].value_off == 0)
            unlinkat(cgroup_fd, text_at(plan, steps[count].path_off), AT_REMOVEDIR);
    if (cgroup_fd >= 0)
        close(cgroup_fd);
    char name[32];
    unlinkat(root_fd, job_directory(name, job), AT_REMOVEDIR);
}

void sup_remove_cgroup(const void *plan, int cgroup_root_fd, uint64_t job)
{
    char name[32];
    int cgroup_fd = openat(cgroup_root_fd, job_directory(name, job), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (cgroup_fd >= 0)
        remove_steps(plan, ((const struct sup_plan *)plan)->step_count, cgroup_root_fd, job, cgroup_fd);
}

static int run_steps(const struct sup_plan *plan, int root_fd, uint64_t job, struct sup_child *child)
{
    if (plan->step_count == 0)
        return 0;
    const struct sup_cgroup_step *steps = plan_steps(plan);
    int r = make_job_directory(root_fd, job, 0, child);
    if (r < 0 && child->err == EEXIST)
        return r; /* somebody else's: not ours to remove */
    uint32_t done = 1;
    while (r == 0 && done < plan->step_count && (r = run_step(plan, &steps[done], (int)done, child)) == 0)
        done++;
    if (r < 0) {
        remove_steps(plan, done, root_fd, job, child->cgroup_fd);
        child->cgroup_fd = -1;
    }
    return r;
}

/* ---- the clone ---- */

/* The highest descriptor that the child needs, or -1 when that cannot be told: hooks that open by path may name any. */
static long highest_needed(const struct sup_launch *launch)
{
    const struct sup_plan *plan = launch->plan;
    const struct sup_hook *hooks = (const void *)text_at(plan, plan->hooks_off);
    long most = STDERR_FILENO;
    if (launch->cgroup_procs_fd > most)
        most = launch->cgroup_procs_fd;
    if (launch->payload_fd > most)
        most = launch->payload_fd;
    if (launch->listener_socket > most)
        most = launch->listener_socket;
    for (char *const *path = launch->paths; *path != NULL; path++)
        if (strncmp(*path, "/proc/", 6) == 0 || strncmp(*path, "/dev/", 5) == 0)
            return -1;
    for (uint32_t i = 0; i < plan->hook_count; i++) {
        const struct sup_hook *hook = &hooks[i];
        if (hook->stage < SUP_STAGE_SIGNALS || hook->stage == SUP_STAGE_LANDLOCK || hook->stage == SUP_STAGE_WORKING_DIRECTORY)
            return -1;
        if (hook->stage == SUP_STAGE_STDIO && (long)hook->a > most)
            most = (long)hook->a;
        if ((hook->stage == SUP_STAGE_PASS_FD || hook->stage == SUP_STAGE_TERMINAL) && (long)hook->arg > most)
            most = (long)hook->arg;
    }
    return most;
}

struct start {
    const struct sup_launch *launch;
    long highest_fd;
};

/* Born with the parent's own table of descriptors, the child takes the lower end of it: copying all of it, and closing all of the
 * copy at exec, would cost every start in proportion to the jobs that live. It must not touch a descriptor before. */
static int run_unshared(void *argument)
{
    const struct start *start = argument;
    long r = sup_sys3(__NR_close_range, start->highest_fd + 1, ~0u, SUP_CLOSE_RANGE_UNSHARE);
    if (r < 0)
        r = sup_sys1(__NR_unshare, SUP_CLONE_FILES);
    if (r < 0) {
        start->launch->report->stage = SUP_STAGE_CLOSE_FDS;
        start->launch->report->err = (int32_t)-r;
        return 127;
    }
    return sup_child_run((void *)(uintptr_t)start->launch);
}

/* Born in leaf_fd by clone3; where that is missing (ENOSYS: old kernel or a container's filter), by
 * clone, and the child's cgroup hook joins through launch->cgroup_procs_fd. */
static long clone_child(struct sup_launch *launch, int leaf_fd, int *ret_pidfd, int *ret_into_cgroup)
{
    static _Thread_local _Alignas(16) char stack[CHILD_STACK_SIZE]; /* the caller's own may be hardly larger than that */
    uint64_t flags = SUP_CLONE_VM | SUP_CLONE_VFORK | SUP_CLONE_PIDFD | launch->namespaces;
    struct sup_clone_args args = {
        .flags = flags | SUP_CLONE_CLEAR_SIGHAND | (leaf_fd >= 0 ? SUP_CLONE_INTO_CGROUP : 0),
        .pidfd = (uint64_t)(uintptr_t)ret_pidfd,
        .exit_signal = SUP_SIGCHLD,
        .stack = (uint64_t)(uintptr_t)stack,
        .stack_size = sizeof stack,
        .cgroup = leaf_fd >= 0 ? (uint64_t)leaf_fd : 0,
    };
    *ret_into_cgroup = leaf_fd >= 0;
    struct start start = {.launch = launch, .highest_fd = highest_needed(launch)};
    long pid;
    if (start.highest_fd >= 0) {
        args.flags |= SUP_CLONE_FILES;
        pid = sup_clone_call(__NR_clone3, (long)&args, sizeof args, 0, 0, 0, run_unshared, &start);
    } else {
        pid = sup_clone_call(__NR_clone3, (long)&args, sizeof args, 0, 0, 0, sup_child_run, launch);
    }
    if (pid != -ENOSYS)
        return pid;
    if (leaf_fd >= 0) {
        launch->cgroup_procs_fd = openat(leaf_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
        if (launch->cgroup_procs_fd < 0)
            return -errno;
        *ret_into_cgroup = 2;
    }
    pid = sup_clone_call(__NR_clone, (long)(flags | SUP_SIGCHLD), (long)(stack + sizeof stack), (long)ret_pidfd, 0, 0, sup_child_run, launch);
    if (launch->cgroup_procs_fd >= 0)
        close(launch->cgroup_procs_fd);
    return pid;
}

/* The child must never run a handler of the parent's: all signals wait while the clone is under way. It begins on the parent's
 * processor. */
static long clone_in_place(struct sup_launch *launch, int leaf_fd, int *ret_pidfd, int *ret_into_cgroup)
{
    uint64_t all = ~0ull, before = 0;
    sup_sys4(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, &all, &before, 8);
    struct sup_affinity affinity;
    sup_stay(launch->plan->stay_processors, &affinity);
    launch->affinity = &affinity;
    long pid = clone_child(launch, leaf_fd, ret_pidfd, ret_into_cgroup);
    sup_release(&affinity);
    sup_sys4(__NR_rt_sigprocmask, 2, &before, 0, 8);
    return pid;
}

/* The cgroup to be born in, -1 for the parent's own: the job's own directory, or one below it, which ret_opened then holds. */
static int find_leaf(const struct sup_plan *plan, const struct sup_child *child, int *ret_leaf, int *ret_opened)
{
    *ret_leaf = plan->cgroup_leaf_off != 0 ? child->cgroup_fd : -1;
    if (plan->cgroup_leaf_off == 0 || *text_at(plan, plan->cgroup_leaf_off) == '\0')
        return 0;
    *ret_leaf = *ret_opened = openat(child->cgroup_fd, text_at(plan, plan->cgroup_leaf_off), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret_opened < 0 ? -errno : 0;
}

/* The listener of the child's filter: where the child sends it from, and once it has begun what came. */
struct handover {
    int ours, theirs;
};

static void close_handover(struct handover *handover)
{
    close_fd(&handover->ours);
    close_fd(&handover->theirs);
}
#define cleanup_handover __attribute__((cleanup(close_handover)))

static int wants_listener(const struct sup_plan *plan)
{
    const struct sup_hook *hooks = (const void *)text_at(plan, plan->hooks_off);
    for (uint32_t i = plan->hook_count; i-- > 0;)
        if (hooks[i].stage == SUP_STAGE_SECCOMP)
            return 1;
    return 0;
}

static int open_handover(const struct sup_plan *plan, struct handover *ret_handover)
{
    int32_t pair[2];
    if (!wants_listener(plan))
        return 0;
    int r = sup_socketpair(pair);
    if (r == 0)
        *ret_handover = (struct handover){.ours = pair[0], .theirs = pair[1]};
    return r;
}

static int receive_listener(struct handover *handover)
{
    struct sup_notice notice;
    int32_t fd = -1;
    if (handover->ours < 0)
        return -1;
    sup_receive(handover->ours, &notice, sizeof notice, 0, &fd); /* sent before the exec, so it is there by now, or never */
    return fd;
}

static int launch_child(const struct sup_plan *plan, uint32_t without, struct sup_child *child)
{
    cleanup_free void *vectors = malloc(sup_plan_vectors_size(plan));
    if (vectors == NULL)
        return fail(child, SUP_STAGE_PLAN, ENOMEM, 0);
    cleanup_close int opened_fd = -1, payload_fd = -1;
    int leaf_fd, found = find_leaf(plan, child, &leaf_fd, &opened_fd);
    if (found == 0 && plan->payload_off != 0) {
        payload_fd = openat(child->cgroup_fd, text_at(plan, plan->payload_off), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        found = payload_fd < 0 ? -errno : 0;
    }
    if (found < 0)
        return fail(child, SUP_STAGE_CGROUP_CREATE, -found, 0);
    cleanup_handover struct handover handover = {.ours = -1, .theirs = -1};
    int r = open_handover(plan, &handover);
    if (r < 0)
        return fail(child, SUP_STAGE_SECCOMP, -r, 0);
    struct sup_report report = {0};
    int64_t exec_time[2] = {0, 0};
    struct sup_launch launch = {.cgroup_procs_fd = -1, .payload_fd = payload_fd, .listener_socket = handover.theirs, .report = &report, .exec_time = exec_time};
    sup_plan_vectors(plan, vectors, &launch);
    launch.namespaces = plan->namespaces & ~without;
    int pidfd = -1, into = 0;
    long pid = clone_in_place(&launch, leaf_fd, &pidfd, &into);
    if (pid < 0)
        return fail(child, SUP_STAGE_CLONE, (int)-pid, 0);
    child->pid = (int32_t)pid;
    child->pidfd = pidfd;
    child->into_cgroup = into;
    child->started_ns = (uint64_t)exec_time[0] * 1000000000u + (uint64_t)exec_time[1];
    struct rusage own;
    child->spawner_rss_kib = getrusage(RUSAGE_SELF, &own) == 0 ? own.ru_maxrss : 0;
    if (report.err == 0) {
        child->listener_fd = receive_listener(&handover);
        return 0;
    }
    sup_reap(pidfd);
    close(pidfd);
    child->pid = child->pidfd = -1;
    return fail(child, report.stage, report.err, report.index);
}

static void start_child(struct sup_child *child)
{
    memset(child, 0, sizeof *child);
    child->pid = child->pidfd = child->cgroup_fd = child->listener_fd = -1;
    child->requested_ns = sup_now_ns();
}

int sup_prepare_cgroup(const void *block, uint64_t size, int cgroup_root_fd, uint64_t job, struct sup_child *child)
{
    start_child(child);
    if (sup_plan_check(block, size) < 0)
        return fail(child, SUP_STAGE_PLAN, EINVAL, 0);
    return run_steps(block, cgroup_root_fd, job, child);
}

int sup_spawn_without(const void *block, uint64_t size, int cgroup_root_fd, uint64_t job, uint32_t without, struct sup_child *child)
{
    int r = sup_prepare_cgroup(block, size, cgroup_root_fd, job, child);
    if (r < 0)
        return r;
    r = launch_child(block, without, child);
    if (r < 0 && child->cgroup_fd >= 0) {
        remove_steps(block, ((const struct sup_plan *)block)->step_count, cgroup_root_fd, job, child->cgroup_fd);
        child->cgroup_fd = -1;
    }
    return r;
}

int sup_spawn(const void *block, uint64_t size, int cgroup_root_fd, uint64_t job, struct sup_child *child)
{
    return sup_spawn_without(block, size, cgroup_root_fd, job, 0, child);
}

/* Runs in a forked, single-threaded child, so libc is allowed again. */
int sup_child_exec(const void *block, uint64_t size, int cgroup_procs_fd, int listener_socket, int report_fd)
{
    struct sup_report report = {.stage = SUP_STAGE_PLAN, .err = EINVAL};
    struct sup_launch launch = {.cgroup_procs_fd = cgroup_procs_fd, .payload_fd = -1, .listener_socket = listener_socket, .report = &report};
    if (sup_plan_check(block, size) == 0) {
        cleanup_free void *vectors = malloc(sup_plan_vectors_size(block));
        report.err = ENOMEM;
        if (vectors != NULL) {
            sup_plan_vectors(block, vectors, &launch);
            sup_child_run(&launch);
        }
    }
    return write(report_fd, (const void *)&report, sizeof report) == sizeof report ? -report.err : -EPIPE;
}
