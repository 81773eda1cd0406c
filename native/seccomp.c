/* SPDX-License-Identifier: Apache-2.0
 *
 * The job's system call filter, put on by the child half right before exec. Raw system calls only.
 *
 * A filter that asks about denied calls (SECCOMP_RET_USER_NOTIF, Linux 5.0) brings a listener, which must
 * leave this process before the filter's answers count: nobody would answer yet. So the filter lets
 * one odd sendmsg, one odd prlimit64 and one odd seccomp through where the profile denies these calls, and a
 * second filter, put on last, denies exactly these (supervisor/model/bpf.py). The exec closes our copy.
 *
 * The kernel refuses to send a descriptor while its user has more of them under way than the sender's soft RLIMIT_NOFILE
 * (ETOOMANYREFS, unix(7)), so ours is as high as it may be until the listener is sent, and a lower one of the job's waits.
 */
#include "helper.h"
#include "plan.h"
#include "syscalls.h"

#include <errno.h>
#include <stddef.h>

enum { SET_MODE_FILTER = 1, FLAG_SPEC_ALLOW = 1 << 2, FLAG_NEW_LISTENER = 1 << 3, FLAG_WAIT_KILLABLE_RECV = 1 << 5 }; /* linux/seccomp.h */
enum { HANDOVER_FLAGS = 0x40c0 /* MSG_DONTWAIT | MSG_EOR | MSG_NOSIGNAL */, LIMIT_NOFILE = 7 };
#define ODD_SELF (0x52494e47l << 32) /* process 0, which is ourselves, in the half that the kernel reads */

struct filter_program { /* struct sock_fprog */
    uint16_t length;
    const void *instructions;
};
static long install(const char *instructions, uint64_t size, long flags)
{
    struct filter_program program = {.length = (uint16_t)(size / 8), .instructions = instructions};
    return sup_sys3(__NR_seccomp, SET_MODE_FILTER, flags, &program);
}

/* WAIT_KILLABLE_RECV (Linux 5.19): once its call is being answered, only a deadly signal interrupts it, so none is counted twice. */
static long install_asking(const char *instructions, uint64_t size)
{
    long fd = install(instructions, size, FLAG_NEW_LISTENER | FLAG_WAIT_KILLABLE_RECV);
    return fd == -EINVAL ? install(instructions, size, FLAG_NEW_LISTENER) : fd;
}

static const struct sup_hook *find_hook(const struct sup_plan *plan, uint32_t stage, int32_t arg)
{
    const struct sup_hook *hooks = (const void *)((const char *)plan + plan->hooks_off);
    for (uint32_t i = plan->setup_count; i < plan->hook_count; i++)
        if (hooks[i].stage == stage && hooks[i].arg == arg)
            return &hooks[i];
    return NULL;
}

/* Raising it may need a privilege that is gone later, and needs no wait. */
int sup_limit_waits(const struct sup_launch *launch, const struct sup_hook *hook)
{
    uint64_t now[2];
    return hook->arg == LIMIT_NOFILE && launch->listener_socket >= 0 && find_hook(launch->plan, SUP_STAGE_SECCOMP, 0) != NULL &&
           sup_sys4(__NR_prlimit64, 0, LIMIT_NOFILE, 0, now) == 0 && (uint64_t)hook->a <= now[0] && (uint64_t)hook->b <= now[1];
}

/* The job's limit, or what there was before ours was raised. */
static long set_waiting_limit(const struct sup_launch *launch, long self, uint64_t limit[2])
{
    const struct sup_hook *hook = find_hook(launch->plan, SUP_STAGE_RLIMIT, LIMIT_NOFILE);
    if (hook != NULL) {
        limit[0] = (uint64_t)hook->a;
        limit[1] = (uint64_t)hook->b;
    }
    return sup_sys4(__NR_prlimit64, self, LIMIT_NOFILE, limit, 0);
}

static long hand_over(int socket, long fd)
{
    struct sup_notice notice = {.kind = SUP_NOTICE_LISTENER};
    return sup_hand_over(socket, &notice, fd, HANDOVER_FLAGS);
}

/* data: three programs, the first two of a and b bytes: the one that asks, the one that shuts the door behind the
 * listener (b may be 0), and the one that needs no listener: where nobody takes one (no socket), where the kernel
 * has none (EINVAL), and where our own surroundings have one already, which must be the only one (EBUSY). */
long sup_install_filter(const struct sup_launch *launch, const struct sup_hook *hook)
{
    const char *programs = (const char *)launch->plan + hook->data_off;
    uint64_t first = (uint64_t)hook->a, second = (uint64_t)hook->b;
    long r = 0;
    if (launch->listener_socket >= 0) {
        uint64_t limit[2];
        sup_raise_descriptors(limit);
        long fd = install_asking(programs, first);
        if (fd >= 0) {
            r = hand_over(launch->listener_socket, fd);
            r = r < 0 ? r : set_waiting_limit(launch, ODD_SELF, limit);
            return r < 0 || second == 0 ? r : install(programs + first, second, FLAG_SPEC_ALLOW);
        }
        if (fd != -EBUSY && fd != -EINVAL)
            return fd;
        r = set_waiting_limit(launch, 0, limit);
    }
    return r < 0 ? r : install(programs + first + second, hook->data_len - first - second, 0);
}
