/* SPDX-License-Identifier: Apache-2.0
 *
 * The init helper: builds the sandbox of one job and holds its process tree.
 *
 * A static program without libc, single-threaded and tiny. Born as process 1 of a pid namespace it builds the rest
 * of the sandbox (the plan's first hooks), and the kernel lets nothing of the tree outlive it; else it makes itself
 * the sub-reaper of whatever the job leaves behind (PR_SET_CHILD_SUBREAPER, Linux 3.4). It starts the job from the
 * plan block it is given, and ends every descendant when the job's main process ends, when told to, or when the
 * supervisor is gone (end of file on the control socket). It stands outside the job's limits: with a cgroup it puts
 * the job into another one at birth.
 *
 * argv: name, control descriptor, plan descriptor, descriptor of the job's cgroup or 0. The job's standard streams
 * are its own 0 to 2.
 */
#include "helper.h"
#include "plan.h"
#include "sandbox.h"
#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <stddef.h>

enum { PLAN_MAX = 4 << 20, TASKS_MAX = 65536, CHILD_STACK = 32 * 1024, SIG_KILL = 9, SIG_CONT = 18, SIG_STOP = 19 };

/* How long a tree is killed again and again; less than our supervisor waits for the end (runtime/clock.py). */
static const uint64_t END_PATIENCE_NS = 3000000000u;
enum { WAIT_NOHANG = 1, WAIT_EXITED = 4, POLL_IN = 1, TICKS = 100, NO_SIGNAL = 0x4000 /* MSG_NOSIGNAL */ };

struct timeval64 {
    int64_t seconds, microseconds;
};
struct usage64 { /* struct rusage, getrusage(2) */
    struct timeval64 user, system;
    int64_t maxrss, unused[3], minor_faults, rest[7], voluntary_switches, involuntary_switches;
};
struct child_info { /* the parts of siginfo_t that waitid(2) fills */
    int32_t signo, error, code, pad, pid, uid, status, rest[25];
};
struct task {
    int32_t pid, parent, threads;
    char state, ours;
    uint64_t ticks_user, ticks_system;
};

static char plan_block[PLAN_MAX] __attribute__((aligned(16)));
static char vectors[PLAN_MAX] __attribute__((aligned(16)));
static char child_stack[CHILD_STACK] __attribute__((aligned(16)));
static struct task tasks[TASKS_MAX];
static int control_fd, main_pid, is_process_1;
static struct usage64 reaped; /* of every child reaped here */

void *memset(void *to, int byte, size_t size);
void *memcpy(void *to, const void *from, size_t size);

void *memset(void *to, int byte, size_t size)
{
    for (char *at = to; size > 0; size--)
        *at++ = (char)byte;
    return to;
}

void *memcpy(void *to, const void *from, size_t size)
{
    char *at = to;
    for (const char *source = from; size > 0; size--)
        *at++ = *source++;
    return to;
}

static uint64_t now_ns(void)
{
    int64_t now[2] = {0, 0};
    sup_sys2(__NR_clock_gettime, 1 /* CLOCK_MONOTONIC */, now);
    return (uint64_t)now[0] * 1000000000u + (uint64_t)now[1];
}

static uint64_t micros(struct timeval64 t) { return (uint64_t)t.seconds * 1000000u + (uint64_t)t.microseconds; }

static void tell(struct sup_notice *notice)
{
    if (notice->time_ns == 0)
        notice->time_ns = now_ns();
    sup_sys3(__NR_write, control_fd, notice, sizeof *notice);
}

/* ---- the tree, from /proc ---- */

static const char *number(const char *text, uint64_t *ret)
{
    while (*text == ' ')
        text++;
    for (*ret = 0; *text >= '0' && *text <= '9'; text++)
        *ret = *ret * 10 + (uint64_t)(*text - '0');
    return text;
}

static const char *skip_words(const char *text, int count)
{
    for (; count > 0; count--) {
        while (*text == ' ')
            text++;
        while (*text != ' ' && *text != '\0')
            text++;
    }
    return text;
}

/* /proc/PID/stat, proc_pid_stat(5): the name may hold anything, so count from its last parenthesis. */
static int parse_stat(const char *text, long size, struct task *task)
{
    const char *at = text + size;
    while (at > text && *at != ')')
        at--;
    if (*at != ')')
        return 0;
    uint64_t parent, user, system, threads;
    task->state = at[2];
    at = number(at + 3, &parent);
    at = number(skip_words(at, 9), &user); /* fields 14 to 17: utime stime cutime cstime */
    at = number(at, &system);
    uint64_t child_user, child_system;
    at = number(at, &child_user);
    at = number(at, &child_system);
    number(skip_words(at, 2), &threads); /* 20 */
    task->parent = (int32_t)parent;
    task->threads = (int32_t)threads;
    task->ticks_user = user + child_user;
    task->ticks_system = system + child_system;
    return 1;
}

static int read_task(int proc_fd, const char *name, struct task *task)
{
    char path[32], text[1024];
    int length = 0;
    for (; name[length] != '\0' && length < 20; length++)
        path[length] = name[length];
    memcpy(path + length, "/stat", 6);
    long fd = sup_sys4(__NR_openat, proc_fd, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    long n = sup_sys3(__NR_read, fd, text, sizeof text - 1);
    sup_sys1(__NR_close, fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    uint64_t pid;
    number(name, &pid);
    task->pid = (int32_t)pid;
    task->ours = 0;
    return parse_stat(text, n, task);
}

static int read_tasks(void)
{
    long proc_fd = sup_sys4(__NR_openat, AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (proc_fd < 0)
        return 0;
    static char entries[32768] __attribute__((aligned(8)));
    int count = 0;
    for (;;) {
        long n = sup_sys3(__NR_getdents64, proc_fd, entries, sizeof entries);
        if (n <= 0)
            break;
        for (long at = 0; at < n;) {
            const char *entry = entries + at, *name = entry + 19;
            uint16_t length;
            memcpy(&length, entry + 16, sizeof length);
            if (name[0] >= '1' && name[0] <= '9' && count < TASKS_MAX && read_task((int)proc_fd, name, &tasks[count]))
                count++;
            at += length;
        }
    }
    sup_sys1(__NR_close, proc_fd);
    return count;
}

/* /proc lists processes in ascending order of their ids. */
static const struct task *find_task(int pid, int count)
{
    int low = 0, high = count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (tasks[middle].pid < pid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && tasks[low].pid == pid ? &tasks[low] : NULL;
}

/* Mark every descendant of this process; returns the number of entries in tasks. A parent mostly
 * stands before its children, so that one or two passes do. */
static int mark_tree(void)
{
    int count = read_tasks(), changed = 1, own = is_process_1 ? 1 : (int)sup_sys0(__NR_getpid);
    while (changed) {
        changed = 0;
        for (int i = 0; i < count; i++) {
            if (tasks[i].ours)
                continue;
            const struct task *parent = find_task(tasks[i].parent, count);
            if (tasks[i].parent == own || (parent != NULL && parent->ours))
                tasks[i].ours = (char)(changed = 1);
        }
    }
    return count;
}

/* Signal every living descendant. Returns how many were signalled that were not in want_state yet. Process 1 reaches all
 * others of its namespace in one call, which no fork escapes. */
static int signal_tree(int signal, char want_state)
{
    if (is_process_1) {
        sup_sys2(__NR_kill, -1, signal);
        return 0;
    }
    int count = mark_tree(), sent = 0;
    for (int i = 0; i < count; i++)
        if (tasks[i].ours && tasks[i].state != 'Z' && tasks[i].state != 'X' && sup_sys2(__NR_kill, tasks[i].pid, signal) == 0)
            sent += tasks[i].state != want_state;
    return sent;
}

static void usage(struct sup_notice *notice)
{
    int count = mark_tree();
    notice->tree_user_us = micros(reaped.user);
    notice->tree_system_us = micros(reaped.system);
    for (int i = 0; i < count; i++)
        if (tasks[i].ours) {
            notice->tree_user_us += tasks[i].ticks_user * (1000000 / TICKS);
            notice->tree_system_us += tasks[i].ticks_system * (1000000 / TICKS);
            notice->tasks += tasks[i].threads;
        }
}

/* ---- reaping and ending ---- */

static void add(struct timeval64 *to, struct timeval64 t)
{
    to->seconds += t.seconds;
    to->microseconds += t.microseconds;
}

/* Reap all that are dead; options 0 waits until none is left. Returns 0 when no child is left at all. */
static int reap(struct sup_notice *ended, int options)
{
    for (;;) {
        struct child_info info = {0};
        struct usage64 used = {.maxrss = 0};
        long r = sup_sys5(__NR_waitid, 0 /* P_ALL */, 0, &info, WAIT_EXITED | options, &used);
        if (r < 0)
            return r != -ECHILD;
        if (info.pid == 0)
            return 1;
        add(&reaped.user, used.user);
        add(&reaped.system, used.system);
        if (info.pid != main_pid)
            continue;
        ended->kind = SUP_NOTICE_ENDED;
        ended->pid = main_pid;
        ended->code = info.status;
        ended->detail = info.code == 1 ? 0 : info.code == 3 ? 2 : 1; /* CLD_EXITED, CLD_DUMPED, CLD_KILLED */
        ended->time_ns = now_ns();
        ended->user_us = micros(used.user);
        ended->system_us = micros(used.system);
        ended->voluntary_switches = used.voluntary_switches;
        ended->involuntary_switches = used.involuntary_switches;
        ended->maxrss_kib = used.maxrss;
        ended->minor_faults = used.minor_faults;
        main_pid = 0;
    }
}

static void nap(void)
{
    int64_t pause[2] = {0, 1000000};
    sup_sys2(__NR_nanosleep, pause, 0);
}

/* End every descendant: stop the whole tree first, so that nobody can fork away, then kill, and
 * repeat until no child is left. Returns how many remain when patience is at its end. */
static int end_tree(struct sup_notice *ended)
{
    if (is_process_1) { /* all are ours, none can escape, and the kernel reaps what is left when we end */
        signal_tree(SIG_KILL, 0);
        while (reap(ended, 0))
            ;
        return 0;
    }
    for (uint64_t begun = now_ns(); now_ns() - begun < END_PATIENCE_NS; nap()) {
        for (int i = 0; i < 50 && signal_tree(SIG_STOP, 'T') > 0; i++)
            ;
        signal_tree(SIG_KILL, 0);
        if (!reap(ended, WAIT_NOHANG))
            return 0;
    }
    int left = signal_tree(SIG_KILL, 0);
    if (main_pid != 0)
        ended->detail = -1; /* how it ends nobody knows */
    return left > 0 ? left : 1; /* who may not be signalled, as another user's, is left as well */
}

/* ---- starting ---- */

static int read_plan(int fd)
{
    uint64_t size = 0;
    for (;;) {
        long n = sup_sys4(__NR_pread64, fd, plan_block + size, PLAN_MAX - size, size);
        if (n < 0)
            return (int)n;
        if (n == 0)
            break;
        size += (uint64_t)n;
    }
    sup_sys1(__NR_close, fd);
    if (sup_plan_check(plan_block, size) < 0 || sup_plan_vectors_size((const void *)plan_block) > sizeof vectors)
        return -EINVAL;
    return 0;
}

/* The job, born in its own cgroup; where clone3 or CLONE_INTO_CGROUP is missing it joins by itself in its first hooks. */
static long clone_job(struct sup_launch *launch, int cgroup_fd)
{
    const uint64_t flags = SUP_CLONE_VM | SUP_CLONE_VFORK | launch->namespaces;
    if (cgroup_fd > 0) {
        struct sup_clone_args args = {
            .flags = flags | SUP_CLONE_INTO_CGROUP,
            .exit_signal = SUP_SIGCHLD,
            .stack = (uint64_t)(uintptr_t)child_stack,
            .stack_size = sizeof child_stack,
            .cgroup = (uint64_t)cgroup_fd,
        };
        long pid = sup_clone_call(__NR_clone3, (long)&args, sizeof args, 0, 0, 0, sup_child_run, launch);
        if (pid != -ENOSYS)
            return pid;
        long fd = sup_sys4(__NR_openat, cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC, 0);
        if (fd < 0)
            return fd;
        launch->cgroup_procs_fd = (int32_t)fd;
    }
    return sup_clone_call(__NR_clone, (long)(flags | SUP_SIGCHLD), (long)(child_stack + sizeof child_stack), 0, 0, 0, sup_child_run, launch);
}

/* Process 1 whose ids somebody else maps can do nothing before; 0 once they are. */
static long wait_mapped(const struct sup_plan *plan)
{
    const struct sup_hook *hooks = (const void *)((const char *)plan + plan->hooks_off);
    if (plan->setup_count == 0 || hooks[0].stage == SUP_STAGE_USER_MAP)
        return 0;
    struct sup_request request = {0, 0};
    long n = sup_sys3(__NR_read, control_fd, &request, sizeof request);
    return n == sizeof request && request.kind == SUP_REQUEST_MAPPED ? 0 : n < 0 ? n : -ECANCELED;
}

static int start(int cgroup_fd, struct sup_notice *notice)
{
    struct sup_report report = {0, 0, 0};
    int64_t exec_time[2] = {0, 0};
    struct sup_launch launch = {.signals_default = 1, .cgroup_procs_fd = -1, .payload_fd = -1, .listener_socket = control_fd, .report = &report, .exec_time = exec_time};
    sup_plan_vectors((const void *)plan_block, vectors, &launch);
    long mask = sup_sys1(__NR_umask, 0), pid = 0, mapped = wait_mapped(launch.plan);
    if (mapped < 0)
        report = (struct sup_report){SUP_STAGE_USER_MAP, (int32_t)-mapped, 0};
    int r = mapped < 0 ? -1 : sup_child_setup(&launch);
    sup_sys1(__NR_umask, mask);
    /* From here on nobody but the host's root can look into this process; before, /proc/self/uid_map would not be ours to
     * write, and the job shares our memory until its exec. A user namespace of its own keeps it from us until then. */
    const int later = ((const struct sup_plan *)(const void *)plan_block)->namespaces != 0;
    if (!later)
        sup_sys5(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    struct sup_affinity affinity = {.size = 0};
    if (r == 0)
        sup_stay(launch.plan->stay_processors, &affinity);
    launch.affinity = &affinity;
    if (r == 0)
        pid = clone_job(&launch, cgroup_fd);
    sup_roam(&affinity); /* nobody else binds a helper */
    if (pid < 0) {
        *notice = (struct sup_notice){.kind = SUP_NOTICE_FAILED, .stage = SUP_STAGE_CLONE, .err = (int32_t)-pid};
        return -1;
    }
    if (later)
        sup_sys5(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (report.err != 0) {
        *notice = (struct sup_notice){.kind = SUP_NOTICE_FAILED, .stage = report.stage, .err = report.err, .index = report.index};
        return -1;
    }
    if (cgroup_fd > 0)
        sup_sys1(__NR_close, cgroup_fd);
    main_pid = (int)pid;
    uint64_t started_ns = (uint64_t)exec_time[0] * 1000000000u + (uint64_t)exec_time[1];
    *notice = (struct sup_notice){.kind = SUP_NOTICE_STARTED, .pid = main_pid, .time_ns = started_ns};
    return 0;
}

/* ---- the end ---- */

/* Does the plan ask for what the job changed in an overlay (arg 16, see hook_overlay)? */
static int lists_changes(void)
{
    const struct sup_plan *plan = (const void *)plan_block;
    const struct sup_hook *hooks = (const void *)(plan_block + plan->hooks_off);
    for (uint32_t i = 0; i < plan->setup_count; i++)
        if (hooks[i].stage == SUP_STAGE_OVERLAY && hooks[i].arg & 16)
            return 1;
    return 0;
}

/* The root's file system, which /tmp and what overlays keep in memory are part of; statfs(2). */
static void measure_disk(struct sup_notice *ended)
{
    int64_t about[16] = {0}; /* struct statfs: type, size of a block, blocks, free, available, files, free files, ... */
    const struct sup_plan *plan = (const void *)plan_block;
    if (plan->setup_count == 0 || sup_sys2(__NR_statfs, "/", about) < 0)
        return;
    ended->disk_bytes = about[2] * about[1];
    ended->disk_free_bytes = about[3] * about[1];
    ended->disk_free_files = about[6];
}

static void tell_end(struct sup_notice *ended)
{
    measure_disk(ended);
    long fd = lists_changes() ? sup_take_changes() : -1;
    uint64_t before[2];
    if (fd >= 0)
        sup_raise_descriptors(before);
    if (fd < 0 || sup_hand_over(control_fd, ended, fd, NO_SIGNAL) < 0)
        tell(ended);
}

/* ---- the loop ---- */

static void serve(const struct sup_request *request)
{
    struct sup_notice notice = {.kind = SUP_NOTICE_USAGE};
    switch (request->kind) {
    case SUP_REQUEST_SIGNAL:
        if (main_pid != 0)
            sup_sys2(__NR_kill, main_pid, request->signal);
        break;
    case SUP_REQUEST_STOP:
        for (int i = 0; i < 50 && signal_tree(SIG_STOP, 'T') > 0; i++)
            ;
        break;
    case SUP_REQUEST_CONTINUE: signal_tree(SIG_CONT, 0); break;
    case SUP_REQUEST_USAGE:
        usage(&notice);
        tell(&notice);
        break;
    default: break;
    }
}

/* Until the main process has ended or the tree shall: 1 when the supervisor asked or is gone. */
static int watch(int signal_fd, struct sup_notice *ended)
{
    struct {
        int32_t fd;
        int16_t events, revents;
    } polled[2] = {{control_fd, POLL_IN, 0}, {signal_fd, POLL_IN, 0}};
    for (;;) {
        sup_sys5(__NR_ppoll, polled, 2, 0, 0, 0);
        if (polled[1].revents != 0) {
            char signals[1024];
            sup_sys3(__NR_read, signal_fd, signals, sizeof signals);
            reap(ended, WAIT_NOHANG);
            if (main_pid == 0)
                return 0;
        }
        if (polled[0].revents != 0) {
            struct sup_request request = {0, 0};
            long n = sup_sys3(__NR_read, control_fd, &request, sizeof request);
            if (n <= 0 || request.kind == SUP_REQUEST_KILL)
                return 1;
            serve(&request);
        }
    }
}

/* Every signal waits in a descriptor: a hostile job of the same user cannot make us do anything by one. Process 1 blocks no more than
 * it reads: the kernel drops what it has no handler for, but would queue what is blocked, at the cost of its user. */
static long block_signals(void)
{
    uint64_t child = 1ull << (SUP_SIGCHLD - 1), all = ~0ull;
    sup_sys4(__NR_rt_sigprocmask, 2, is_process_1 ? &child : &all, 0, 8);
    return sup_sys4(__NR_signalfd4, -1, &child, 8, O_CLOEXEC | O_NONBLOCK);
}

/* Close what is the job's: its streams, and descriptors passed to it, end when the job's processes let go of them. */
static void let_go(int signal_fd)
{
    unsigned low = (unsigned)(control_fd < signal_fd ? control_fd : signal_fd);
    unsigned high = (unsigned)(control_fd < signal_fd ? signal_fd : control_fd);
    long r = low > 0 ? sup_sys3(__NR_close_range, 0, low - 1, 0) : 0;
    if (r == 0 && high > low + 1)
        r = sup_sys3(__NR_close_range, low + 1, high - 1, 0);
    if (r == 0)
        r = sup_sys3(__NR_close_range, high + 1, ~0u, 0);
    for (unsigned fd = 0; r < 0 && fd < 4096; fd++) /* before Linux 5.9 */
        if (fd != low && fd != high)
            sup_sys1(__NR_close, fd);
}

__attribute__((noreturn)) static void quit(int status)
{
    for (;;)
        sup_sys1(__NR_exit_group, status);
}

__attribute__((noreturn, used)) void sup_init_main(long *stack);
void sup_init_main(long *stack)
{
    char **argv = (char **)(stack + 1);
    uint64_t control = 0, plan = 0, cgroup = 0;
    if (stack[0] != 4)
        quit(125);
    number(argv[1], &control);
    number(argv[2], &plan);
    number(argv[3], &cgroup);
    control_fd = (int)control;
    sup_sys5(__NR_prctl, PR_SET_NAME, "ringfence-init", 0, 0, 0); /* executed from a descriptor it has a number for a name */
    is_process_1 = sup_sys0(__NR_getpid) == 1;
    struct sup_notice notice = {.kind = SUP_NOTICE_FAILED, .stage = SUP_STAGE_HELPER};
    sup_sys3(__NR_fcntl, control_fd, F_SETFD, FD_CLOEXEC);
    if (cgroup != 0)
        sup_sys3(__NR_fcntl, (long)cgroup, F_SETFD, FD_CLOEXEC);
    long signal_fd = block_signals(), r = read_plan((int)plan);
    if (signal_fd < 0)
        r = signal_fd;
    if (r == 0 && !is_process_1)
        r = sup_sys5(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    notice.err = (int32_t)-r;
    if (r < 0 || start((int)cgroup, &notice) < 0) {
        tell(&notice);
        quit(1);
    }
    tell(&notice);
    let_go((int)signal_fd);
    struct sup_notice ended = {0};
    watch((int)signal_fd, &ended);
    ended.left = end_tree(&ended);
    ended.kind = SUP_NOTICE_ENDED;
    ended.tree_user_us = micros(reaped.user);
    ended.tree_system_us = micros(reaped.system);
    tell_end(&ended);
    quit(0);
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall sup_init_main\n\thlt\n");
#else
__asm__(".globl _start\n_start:\n\tmov x29, xzr\n\tmov x30, xzr\n\tmov x0, sp\n\tbl sup_init_main\n\tbrk #0\n");
#endif
