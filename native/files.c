/* SPDX-License-Identifier: Apache-2.0
 *
 * Small kernel files (cgroupfs, /proc) by one call each: relative to a directory descriptor, so that a
 * renamed or replaced directory can never redirect them. And the few descriptor calls
 * whose Python modules would cost more to load than they do.
 */
#include "ringfence.h"

#include <errno.h>
#include <fcntl.h>
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
