/* SPDX-License-Identifier: Apache-2.0
 *
 * Sandbox steps on names, ids and privileges. Each hook says what its arg, a, b and data mean.
 */
#include "sandbox.h"
#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/securebits.h>

enum { CAP_COUNT = 64 };
#define SUP_AF_INET 2
#define SUP_SOCK_DGRAM 2
#define SUP_SIOCSIFFLAGS 0x8914
#define SUP_IFF_UP 1

static long write_file(const char *path, const char *text, uint32_t size)
{
    long fd = sup_sys4(__NR_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    long r = sup_sys3(__NR_write, fd, text, size);
    sup_sys1(__NR_close, fd);
    return r < 0 ? r : 0;
}

/* data: the texts of uid_map and gid_map, user_namespaces(7). An ordinary user may map just its own ids, and the
 * group only once setgroups(2) is given up (Linux 3.19). */
long hook_user_map(const struct sup_launch *launch, const struct sup_hook *hook)
{
    const char *users = sup_hook_data(launch, hook), *groups = sup_text_after(users);
    long r = write_file("/proc/self/setgroups", "deny", 4);
    if (r >= 0)
        r = write_file("/proc/self/uid_map", users, sup_text_length(users));
    return r < 0 ? r : write_file("/proc/self/gid_map", groups, sup_text_length(groups));
}

/* arg: how many sysctls of this user namespace follow (Linux 4.9); data: the path and the text of each. No further user namespaces
 * below this one: with one of its own a job would have all the kernel's privileged code before it. And no keys of whoever started
 * us. Where the surroundings have made sysctls read-only the system call filter holds alone. */
long hook_user_namespaces(const struct sup_launch *launch, const struct sup_hook *hook)
{
    sup_sys5(__NR_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, 0, 0, 0, 0);
    const char *path = sup_hook_data(launch, hook);
    long r = 0;
    for (int n = 0; n < hook->arg && r >= 0; n++) {
        const char *text = sup_text_after(path);
        r = write_file(path, text, sup_text_length(text));
        if (r == -EROFS || r == -ENOENT || r == -EACCES || r == -EPERM)
            r = 0;
        path = sup_text_after(text);
    }
    return r;
}

/* Bring the loopback interface of the new network namespace up. */
long hook_network(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    (void)hook;
    struct {
        char name[16];
        int16_t flags;
        char rest[22];
    } request = {"lo", SUP_IFF_UP, {0}};
    long fd = sup_sys3(__NR_socket, SUP_AF_INET, SUP_SOCK_DGRAM | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    long r = sup_sys3(__NR_ioctl, fd, SUP_SIOCSIFFLAGS, &request);
    sup_sys1(__NR_close, fd);
    return r;
}

/* data: the name, not ended by NUL. */
long hook_hostname(const struct sup_launch *launch, const struct sup_hook *hook)
{
    return sup_sys2(__NR_sethostname, sup_hook_data(launch, hook), hook->data_len);
}

static char *put(char *to, const char *text)
{
    while (*text != '\0')
        *to++ = *text++;
    return to;
}

static char *put_number(char *to, uint64_t number)
{
    char digits[20];
    int count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    while (count > 0)
        *to++ = digits[--count];
    return to;
}

/* A new time namespace for the children, in which the clocks since boot begin at zero (time_namespaces(7), Linux 5.6). */
long hook_time_namespace(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    (void)hook;
    long r = sup_sys1(__NR_unshare, SUP_CLONE_NEWTIME);
    if (r < 0)
        return r;
    char text[128], *at = text;
    int64_t now[2];
    sup_sys2(__NR_clock_gettime, 1 /* CLOCK_MONOTONIC */, now);
    at = put_number(put(at, "monotonic -"), (uint64_t)now[0]);
    sup_sys2(__NR_clock_gettime, 7 /* CLOCK_BOOTTIME */, now);
    at = put(put_number(put(at, " 0\nboottime -"), (uint64_t)now[0]), " 0\n");
    return write_file("/proc/self/timens_offsets", text, (uint32_t)(at - text));
}

/* The cgroup the job was born in becomes the root of what it sees (cgroup_namespaces(7), Linux 4.6). */
long hook_cgroup_namespace(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    (void)hook;
    return sup_sys1(__NR_unshare, SUP_CLONE_NEWCGROUP);
}

/* Empty the bounding set and lock the securebits, while there may still be the privilege to; without it nothing is lost:
 * no_new_privileges keeps exec from granting any. */
long hook_bounding_set(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    (void)hook;
    for (int cap = 0; cap < CAP_COUNT; cap++) {
        long r = sup_sys5(__NR_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0);
        if (r == -EINVAL) /* one past the last this kernel knows */
            break;
        if (r == -EPERM)
            return 0;
        if (r < 0)
            return r;
    }
    const long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    return sup_sys5(__NR_prctl, PR_SET_SECUREBITS, bits, 0, 0, 0);
}

static long set_capabilities(const struct __user_cap_data_struct sets[2])
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    return sup_sys2(__NR_capset, &header, sets);
}

/* The capabilities of a new user namespace, kept across the exec of the init helper by the ambient set (Linux 4.3): its
 * ids need not be mapped yet, and never to 0. */
static long keep_capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {{0, 0, 0}, {0, 0, 0}};
    long r = sup_sys2(__NR_capget, &header, sets);
    if (r < 0)
        return r;
    sets[0].inheritable = sets[0].permitted;
    sets[1].inheritable = sets[1].permitted;
    r = set_capabilities(sets);
    for (int cap = 0; r >= 0 && cap < CAP_COUNT; cap++)
        if (sets[cap / 32].permitted >> (cap % 32) & 1)
            r = sup_sys5(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
    return r;
}

/* arg 1: keep all across exec; 0: drop all, for good. */
long hook_capabilities(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    if (hook->arg == 1)
        return keep_capabilities();
    const struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
    long r = sup_sys5(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return r < 0 && r != -EINVAL ? r : set_capabilities(none);
}
