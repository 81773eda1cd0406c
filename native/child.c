/* SPDX-License-Identifier: Apache-2.0
 *
 * THE CHILD HALF: what runs between clone and exec.
 *
 * It may share its parent's memory (vfork semantics) and any thread of the parent may have held any
 * lock when it was born. So: raw system calls only, no libc, no allocation, no writes but to its own
 * stack and the report. Hooks run in the order of the plan; the first that fails ends the child.
 */
#include "plan.h"
#include "sandbox.h"
#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>

#define SUP_TIOCSCTTY 0x540E
#define SUP_SIG_SETMASK 2
#define SUP_SIGNAL_COUNT 64

struct kernel_sigaction {
    uint64_t handler, flags, restorer, mask;
};

/* a: bit n-1 set for every signal n whose disposition becomes the default; b: the mask to install. */
static long hook_signals(const struct sup_launch *launch, const struct sup_hook *hook)
{
    struct kernel_sigaction action = {0};
    for (int n = 1; n <= SUP_SIGNAL_COUNT && !launch->signals_default; n++)
        if ((uint64_t)hook->a >> (n - 1) & 1) {
            long r = sup_sys4(__NR_rt_sigaction, n, &action, 0, 8);
            if (r < 0 && r != -EINVAL) /* KILL and STOP refuse */
                return r;
        }
    uint64_t mask = (uint64_t)hook->b;
    return sup_sys4(__NR_rt_sigprocmask, SUP_SIG_SETMASK, &mask, 0, 8);
}

/* arg 1: a new session; 2: a new process group. */
static long hook_session(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    return hook->arg == 1 ? sup_sys0(__NR_setsid) : sup_sys2(__NR_setpgid, 0, 0);
}

/* arg: the descriptor that becomes the controlling terminal. */
static long hook_terminal(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    return sup_sys3(__NR_ioctl, hook->arg, SUP_TIOCSCTTY, 0);
}

/* Join the cgroup by itself, where clone3 could not (no CLONE_INTO_CGROUP, or a forked helper). */
static long hook_cgroup(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)hook;
    if (launch->cgroup_procs_fd < 0)
        return 0;
    long r = sup_sys3(__NR_write, launch->cgroup_procs_fd, "0", 1);
    return r < 0 ? r : 0;
}

/* data: the decimal text for /proc/self/oom_score_adj. */
static long hook_oom_score_adjust(const struct sup_launch *launch, const struct sup_hook *hook)
{
    long fd = sup_sys4(__NR_openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    long r = sup_sys3(__NR_write, fd, sup_hook_data(launch, hook), hook->data_len);
    sup_sys1(__NR_close, fd);
    return r < 0 ? r : 0;
}

/* arg: the nice value, -20 to 19. */
static long hook_nice(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    return sup_sys3(__NR_setpriority, 0, 0, hook->arg);
}

/* data: the processor mask, a whole number of 8-byte words. */
static long hook_cpu_affinity(const struct sup_launch *launch, const struct sup_hook *hook)
{
    return sup_sys3(__NR_sched_setaffinity, 0, hook->data_len, sup_hook_data(launch, hook));
}

/* arg: the resource; a: soft, b: hard, both as the kernel's unsigned 64-bit values. */
static long hook_rlimit(const struct sup_launch *launch, const struct sup_hook *hook)
{
    if (sup_limit_waits(launch, hook))
        return 0;
    uint64_t limit[2] = {(uint64_t)hook->a, (uint64_t)hook->b};
    return sup_sys4(__NR_prlimit64, 0, hook->arg, limit, 0);
}

static long hook_umask(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    sup_sys1(__NR_umask, hook->arg);
    return 0;
}

/* data: gids, 4 bytes each. Raw, because libc would signal every thread of the parent. */
static long hook_supplementary_groups(const struct sup_launch *launch, const struct sup_hook *hook)
{
    return sup_sys2(__NR_setgroups, hook->data_len / 4, sup_hook_data(launch, hook));
}

static long hook_group(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    return sup_sys3(__NR_setresgid, hook->a, hook->a, hook->a);
}

static long hook_user(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    return sup_sys3(__NR_setresuid, hook->a, hook->a, hook->a);
}

/* data: the path, NUL included. */
static long hook_working_directory(const struct sup_launch *launch, const struct sup_hook *hook)
{
    return sup_sys1(__NR_chdir, sup_hook_data(launch, hook));
}

/* arg: the standard descriptor; a: its source, which is arg itself or at least 3, so that no order clobbers. */
static long hook_stdio(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    if (hook->a == hook->arg)
        return sup_sys3(__NR_fcntl, hook->arg, F_SETFD, 0);
    long r = sup_sys3(__NR_dup3, hook->a, hook->arg, 0);
    return r < 0 ? r : 0;
}

/* Without close_range(2) (before Linux 5.11): mark what the process's limit allows to be open. */
static long close_each(void)
{
    uint64_t limit[2];
    long r = sup_sys4(__NR_prlimit64, 0, 7 /* RLIMIT_NOFILE */, 0, limit);
    if (r < 0)
        return r;
    long last = limit[1] < (1u << 20) ? (long)limit[1] : 1l << 20;
    for (long fd = 3; fd < last; fd++)
        sup_sys3(__NR_fcntl, fd, F_SETFD, FD_CLOEXEC);
    return 0;
}

/* Every descriptor from 3 up closes at exec; pass_fd hooks after this one make exceptions. */
static long hook_close_fds(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    (void)hook;
    long r = sup_sys3(__NR_close_range, 3, ~0u, SUP_CLOSE_RANGE_CLOEXEC);
    return r == -ENOSYS || r == -EINVAL ? close_each() : r;
}

static long hook_pass_fd(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    return sup_sys3(__NR_fcntl, hook->arg, F_SETFD, 0);
}

/* arg: the descriptor under which the init helper finds the cgroup of the job, CLOSE_FDS notwithstanding. */
static long hook_cgroup_directory(const struct sup_launch *launch, const struct sup_hook *hook)
{
    long r = sup_sys3(__NR_dup3, launch->payload_fd, hook->arg, 0);
    return r < 0 ? r : 0;
}

static long hook_no_new_privileges(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    (void)hook;
    return sup_sys5(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* arg: the signal; a: the parent's process id, to notice a parent that died before the call. */
static long hook_parent_death_signal(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    long r = sup_sys5(__NR_prctl, PR_SET_PDEATHSIG, hook->arg, 0, 0, 0);
    if (r < 0)
        return r;
    return hook->a != 0 && sup_sys0(__NR_getppid) != hook->a ? -EOWNERDEAD : 0;
}

/* The filter, last of all: see seccomp.c for arg, a, b and the data. */
static long hook_seccomp(const struct sup_launch *launch, const struct sup_hook *hook) { return sup_install_filter(launch, hook); }

static long run_hook(const struct sup_launch *launch, const struct sup_hook *hook)
{
    switch (hook->stage) {
    case SUP_STAGE_USER_MAP: return hook_user_map(launch, hook);
    case SUP_STAGE_USER_NAMESPACES: return hook_user_namespaces(launch, hook);
    case SUP_STAGE_NETWORK: return hook_network(launch, hook);
    case SUP_STAGE_HOSTNAME: return hook_hostname(launch, hook);
    case SUP_STAGE_TIME_NAMESPACE: return hook_time_namespace(launch, hook);
    case SUP_STAGE_ROOT: return hook_root(launch, hook);
    case SUP_STAGE_PRIVATE_MOUNTS: return hook_private_mounts(launch, hook);
    case SUP_STAGE_PLACE: return hook_place(launch, hook);
    case SUP_STAGE_TMPFS: return hook_tmpfs(launch, hook);
    case SUP_STAGE_TERMINALS: return hook_terminals(launch, hook);
    case SUP_STAGE_PROC: return hook_proc(launch, hook);
    case SUP_STAGE_BIND: return hook_bind(launch, hook);
    case SUP_STAGE_OVERLAY: return hook_overlay(launch, hook);
    case SUP_STAGE_PIVOT: return hook_pivot(launch, hook);
    case SUP_STAGE_SIGNALS: return hook_signals(launch, hook);
    case SUP_STAGE_SESSION: return hook_session(launch, hook);
    case SUP_STAGE_TERMINAL: return hook_terminal(launch, hook);
    case SUP_STAGE_CGROUP: return hook_cgroup(launch, hook);
    case SUP_STAGE_OOM_SCORE_ADJUST: return hook_oom_score_adjust(launch, hook);
    case SUP_STAGE_NICE: return hook_nice(launch, hook);
    case SUP_STAGE_CPU_AFFINITY: return hook_cpu_affinity(launch, hook);
    case SUP_STAGE_RLIMIT: return hook_rlimit(launch, hook);
    case SUP_STAGE_UMASK: return hook_umask(launch, hook);
    case SUP_STAGE_BOUNDING_SET: return hook_bounding_set(launch, hook);
    case SUP_STAGE_SUPPLEMENTARY_GROUPS: return hook_supplementary_groups(launch, hook);
    case SUP_STAGE_GROUP: return hook_group(launch, hook);
    case SUP_STAGE_USER: return hook_user(launch, hook);
    case SUP_STAGE_WORKING_DIRECTORY: return hook_working_directory(launch, hook);
    case SUP_STAGE_STDIO: return hook_stdio(launch, hook);
    case SUP_STAGE_CLOSE_FDS: return hook_close_fds(launch, hook);
    case SUP_STAGE_PASS_FD: return hook_pass_fd(launch, hook);
    case SUP_STAGE_CGROUP_DIRECTORY: return hook_cgroup_directory(launch, hook);
    case SUP_STAGE_CGROUP_NAMESPACE: return hook_cgroup_namespace(launch, hook);
    case SUP_STAGE_CAPABILITIES: return hook_capabilities(launch, hook);
    case SUP_STAGE_NO_NEW_PRIVILEGES: return hook_no_new_privileges(launch, hook);
    case SUP_STAGE_LANDLOCK: return hook_landlock(launch, hook);
    case SUP_STAGE_PARENT_DEATH_SIGNAL: return hook_parent_death_signal(launch, hook);
    case SUP_STAGE_SECCOMP: return hook_seccomp(launch, hook);
    default: return -ENOSYS;
    }
}

static int fail(const struct sup_launch *launch, int stage, long error, int index)
{
    launch->report->err = (int32_t)-error;
    launch->report->index = index;
    if (launch->report->stage != SUP_STAGE_TARGET) /* named by the hook: not its source failed */
        launch->report->stage = stage;
    return 127;
}

/* Try each candidate in turn, as execvp(3) does: a missing one is passed over, and a forbidden one is
 * remembered in case nothing better follows. */
static int exec_first(const struct sup_launch *launch)
{
    long error = -ENOENT;
    int index = 0;
    for (int i = 0; launch->paths[i]; i++) {
        if (launch->exec_time != NULL) /* here, because the parent may be woken long after the job began to run */
            sup_sys2(__NR_clock_gettime, 1 /* CLOCK_MONOTONIC */, launch->exec_time);
        long r = sup_sys3(__NR_execve, launch->paths[i], launch->argv, launch->envp);
        if (r != -ENOENT && r != -ENOTDIR && (error == -ENOENT || r != -EACCES)) {
            error = r;
            index = i;
        }
        if (r != -ENOENT && r != -ENOTDIR && r != -EACCES)
            break;
    }
    return fail(launch, SUP_STAGE_EXEC, error, index);
}

static int run_hooks(const struct sup_launch *launch, uint32_t first, uint32_t end)
{
    const struct sup_hook *hooks = (const void *)((const char *)launch->plan + launch->plan->hooks_off);
    for (uint32_t i = first; i < end; i++) {
        long r = run_hook(launch, &hooks[i]);
        if (r < 0) {
            fail(launch, (int)hooks[i].stage, r, (int)i);
            return -1;
        }
    }
    return 0;
}

int sup_child_setup(const struct sup_launch *launch) { return run_hooks(launch, 0, launch->plan->setup_count); }

int sup_child_hooks(const struct sup_launch *launch) { return run_hooks(launch, launch->plan->setup_count, launch->plan->hook_count); }

__attribute__((noinline)) int sup_child_run(void *argument)
{
    const struct sup_launch *launch = argument;
    if (launch->affinity != NULL)
        sup_roam(launch->affinity);
    if (sup_child_hooks(launch) < 0)
        return 127;
    return exec_first(launch);
}
