/* SPDX-License-Identifier: Apache-2.0
 *
 * A template forks a worker: the child is a copy of the caller, a child of the caller's parent, and born in its cgroup.
 *
 * CLONE_PARENT makes the supervisor the parent, so it waits for a forked worker as for every other job: by a pidfd that
 * it opens before anybody can have reaped the child. Unlike fork(3) no handler of pthread_atfork(3) runs here; the
 * template has one thread and has run them all before, by one fork for nothing.
 */
#include "plan.h"
#include "ringfence.h"
#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SUP_CLONE_PARENT 0x00008000ull

/* In the child: the hooks, in limits from the first instruction of Python on. Tells the template by closing the pipe. */
static void become_worker(const struct sup_plan *plan, int report_fd)
{
    struct sup_report report = {0};
    struct sup_launch launch = {.plan = plan, .cgroup_procs_fd = -1, .payload_fd = -1, .listener_socket = -1, .report = &report};
    if (sup_child_hooks(&launch) == 0) {
        close(report_fd);
        return;
    }
    ssize_t told = write(report_fd, (const void *)&report, sizeof report);
    _exit(told == sizeof report ? 127 : 126);
}

int sup_template_fork(const void *block, uint64_t size, int leaf_fd, int32_t ret_report[3])
{
    int ends[2];
    memset(ret_report, 0, 3 * sizeof *ret_report);
    if (sup_plan_check(block, size) < 0)
        return -EINVAL;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    struct sup_clone_args args = {.flags = SUP_CLONE_PARENT | SUP_CLONE_INTO_CGROUP, .cgroup = (uint64_t)leaf_fd}; /* the exit signal is the template's own */
    long pid = syscall(__NR_clone3, &args, sizeof args);
    int error = errno;
    if (pid == 0) {
        close(ends[0]);
        become_worker(block, ends[1]);
        return 0;
    }
    close(ends[1]);
    if (pid > 0) {
        ssize_t n = read(ends[0], ret_report, 3 * sizeof *ret_report);
        if (n != 0 && n != (ssize_t)(3 * sizeof *ret_report))
            ret_report[1] = EIO;
    }
    close(ends[0]);
    return pid < 0 ? -error : (int)pid;
}
