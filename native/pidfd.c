/* SPDX-License-Identifier: Apache-2.0
 *
 * pidfds by raw system call: the libc wrappers (2.36) would raise the wheel's manylinux tag. And what else there is about
 * processes and signals that Python does not tell.
 */
#include "ringfence.h"
#include "syscalls.h"

#include <errno.h>
#include <linux/prctl.h>
#include <sys/wait.h>

int sup_become_subreaper(void) { return (int)sup_sys5(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }

void sup_reap(int pidfd)
{
    while (sup_sys5(__NR_waitid, SUP_P_PIDFD, pidfd, 0, WEXITED, 0) == -EINTR)
        ;
}

int sup_landlock_abi(void) { return (int)sup_sys3(__NR_landlock_create_ruleset, 0, 0, 1 /* LANDLOCK_CREATE_RULESET_VERSION */); }

int sup_read_action(int signal, uint64_t ret_action[4]) { return (int)sup_sys4(__NR_rt_sigaction, signal, 0, ret_action, 8); }

int sup_install_action(int signal, const uint64_t action[4]) { return (int)sup_sys4(__NR_rt_sigaction, signal, action, 0, 8); }

int sup_pidfd_open(int pid) { return (int)sup_sys2(__NR_pidfd_open, pid, 0); }

int sup_pidfd_send_signal(int pidfd, int signal) { return (int)sup_sys4(__NR_pidfd_send_signal, pidfd, signal, 0, 0); }
