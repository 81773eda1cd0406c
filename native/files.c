/* SPDX-License-Identifier: Apache-2.0
 *
 * Small kernel files (cgroupfs, /proc) by one call each: relative to a directory descriptor, so that a
 * renamed or replaced directory can never redirect them. And the few descriptor calls
 * whose Python modules would cost more to load than they do.
 */
#include "ringfence.h"

#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SHORT_FILE = 2048 };

int64_t sup_read_at(int dir_fd, const char *path, void *ret_bytes, uint64_t size)
{
    int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    uint64_t length = 0;
    int64_t result = 0;
    while (length < size) {
        ssize_t n = read(fd, (char *)ret_bytes + length, size - length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            result = -errno;
        if (n <= 0)
            break;
        length += (uint64_t)n;
        if (length < size && length < SHORT_FILE)
            break; /* kernfs and procfs hand a small file over whole: no second read to hear that it ended */
    }
    close(fd);
    return result < 0 ? result : (int64_t)length;
}

int sup_write_at(int dir_fd, const char *path, const void *bytes, uint64_t size)
{
    int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n;
    do
        n = write(fd, bytes, size);
    while (n < 0 && errno == EINTR);
    int result = n < 0 ? -errno : (uint64_t)n == size ? 0 : -EIO;
    close(fd);
    return result;
}

int64_t sup_receive(int socket, void *ret_bytes, uint64_t size, int wait, int32_t *ret_fd)
{
    struct iovec part = {.iov_base = ret_bytes, .iov_len = size};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    *ret_fd = -1;
    ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
    if (n < 0)
        return -errno;
    const struct cmsghdr *first = CMSG_FIRSTHDR(&message);
    if (first != NULL && first->cmsg_level == SOL_SOCKET && first->cmsg_type == SCM_RIGHTS)
        memcpy(ret_fd, CMSG_DATA(first), sizeof *ret_fd);
    return n;
}

int sup_socketpair(int32_t ret_fds[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_fds) < 0 ? -errno : 0;
}

int sup_hard_rlimits(uint64_t ret_hard[RLIM_NLIMITS])
{
    struct rlimit limit;
    for (int n = 0; n < RLIM_NLIMITS; n++) {
        if (getrlimit(n, &limit) < 0)
            return -errno;
        ret_hard[n] = limit.rlim_max;
    }
    return 0;
}
_Static_assert(RLIM_NLIMITS == 16, "as many as cdef.h says");

int sup_lock(int fd, int wait)
{
    int r;
    do
        r = flock(fd, wait ? LOCK_EX : LOCK_EX | LOCK_NB);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

int sup_duplicate(int fd, int least)
{
    int r = fcntl(fd, F_DUPFD_CLOEXEC, least);
    return r < 0 ? -errno : r;
}

/* ---- a program that nobody can change ---- */

#define SUP_MFD_EXEC 0x10u /* Linux 6.3; asked for, because vm.memfd_noexec may make the other kind the default */
#define SUP_ALL_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static int copy_and_seal(int from, int to)
{
    ssize_t n;
    while ((n = sendfile(to, from, NULL, 1 << 20)) > 0)
        ;
    return n < 0 || fcntl(to, F_ADD_SEALS, SUP_ALL_SEALS) < 0 ? -errno : 0;
}

int sup_sealed_copy(const char *path)
{
    int from = open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return -errno;
    const unsigned flags = 1u /* MFD_CLOEXEC */ | 2u /* MFD_ALLOW_SEALING */;
    long fd = sup_sys2(__NR_memfd_create, "ringfence-init", flags | SUP_MFD_EXEC);
    if (fd == -EINVAL)
        fd = sup_sys2(__NR_memfd_create, "ringfence-init", flags);
    int r = fd < 0 ? (int)fd : copy_and_seal(from, (int)fd);
    close(from);
    if (fd < 0)
        return r;
    if (r == 0) { /* nothing can be executed while it is open for writing */
        char own[32];
        snprintf(own, sizeof own, "/proc/self/fd/%d", (int)fd);
        r = open(own, O_RDONLY | O_CLOEXEC);
        r = r < 0 ? -errno : r;
    }
    close((int)fd);
    return r;
}
