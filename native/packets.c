/* SPDX-License-Identifier: Apache-2.0
 *
 * Many packets of a channel's socket by one call from Python: an ordinary packet is a few dozen bytes, and the
 * call around each recvmsg(2) would cost more than the kernel's part.
 */
#include "ringfence.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* One packet at bytes. Its length, 0 at the end of file, -errno; descriptors and what the kernel remarked go to ret. */
static ssize_t receive_one(int fd, void *bytes, uint64_t size, int flags, struct sup_packets *ret)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof ret->fds)];
    } control;
    struct iovec piece = {.iov_base = bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    ssize_t n = recvmsg(fd, &message, flags | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return -errno;
    ret->cut = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        uint64_t bytes_of_fds = c->cmsg_len - CMSG_LEN(0);
        memcpy(ret->fds + ret->fd_count, CMSG_DATA(c), bytes_of_fds);
        ret->fd_count += (int32_t)(bytes_of_fds / sizeof *ret->fds);
    }
    return n;
}

/* SO_LINGER lets the last close of a connection wait as long as its sender likes (socket(7)). */
void sup_close_given(int fd)
{
    struct linger none = {.l_onoff = 0, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none); /* ENOTSOCK: nothing to forbid */
    close(fd);
}

/* One packet more, of which only the descriptors matter. 0 when there is none. */
static int discard_one(int fd)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(struct sup_packets)) + CMSG_SPACE(sizeof(struct ucred))];
    } control;
    char byte;
    struct iovec piece = {.iov_base = &byte, .iov_len = sizeof byte};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    if (recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
        return errno == ECONNRESET || errno == EINTR;
    struct cmsghdr *first = CMSG_FIRSTHDR(&message);
    for (struct cmsghdr *c = first; c != NULL; c = CMSG_NXTHDR(&message, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            for (uint64_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
                int given;
                memcpy(&given, CMSG_DATA(c) + at, sizeof given);
                sup_close_given(given);
            }
    return first != NULL; /* with SO_PASSCRED only the end comes without */
}

void sup_close_socket(int fd)
{
    int on = 1;
    shutdown(fd, SHUT_RD); /* from now on nobody can send more */
    if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0)
        while (discard_one(fd))
            ;
    close(fd);
}

int sup_receive_packets(int fd, void *ret_bytes, uint64_t size, uint64_t packet_max, int wait, struct sup_packets *ret)
{
    int flags = wait ? 0 : MSG_DONTWAIT;
    ret->plain = ret->special = 0;
    ret->fd_count = ret->cut = 0;
    for (int resets = 0; size - ret->plain >= packet_max;) {
        ssize_t n = receive_one(fd, (char *)ret_bytes + ret->plain, packet_max, flags, ret);
        if (n == -ECONNRESET && resets++ == 0)
            continue; /* the other side left something unread when it ended; what it had sent is still there */
        if (n == -EAGAIN || (n == -EINTR && ret->plain > 0))
            return SUP_PACKETS_NONE;
        if (n < 0)
            return (int)n;
        if (n == 0)
            return SUP_PACKETS_END;
        flags = MSG_DONTWAIT;
        if (ret->fd_count > 0 || ret->cut) {
            ret->special = (uint64_t)n;
            return SUP_PACKETS_MORE;
        }
        ret->plain += (uint64_t)n;
    }
    return SUP_PACKETS_MORE;
}
