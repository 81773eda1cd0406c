/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzing of what a channel's socket receives: packets of any size with any number of descriptors, more than there is room for,
 * also while no descriptor is left to the receiver. Under AddressSanitizer and UndefinedBehaviorSanitizer, the room on the heap.
 *
 *     packets_fuzz SECONDS SEED
 *
 * What must hold: what came is what was sent, one behind the other, and every descriptor that came is told.
 */
#include "rounds.h"
#include "ringfence.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM_MAX = 1 << 16, PACKETS = 12, FDS_MAX = 253, OPEN_MAX_FILES = 400 };

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < OPEN_MAX_FILES; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* Whether it was sent. */
static int send_one(int socket, const char *bytes, size_t size, int fd, uint32_t fds)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control = {.room = {0}};
    struct iovec piece = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (fds > 0) {
        message.msg_control = control.room;
        message.msg_controllen = CMSG_SPACE(fds * sizeof(int));
        *CMSG_FIRSTHDR(&message) = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(fds * sizeof(int))};
        for (uint32_t i = 0; i < fds; i++)
            memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)) + i * sizeof fd, &fd, sizeof fd);
    }
    return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

/* What one call returned is the beginning of what is left of sent; how much of that it was. */
static uint64_t compare(const struct sup_packets *found, const char *room, uint64_t size, const char *sent, uint64_t left)
{
    uint64_t total = found->plain + found->special;
    CHECK(total <= size && total <= left && memcmp(room, sent, total) == 0);
    CHECK(found->fd_count >= 0 && found->fd_count <= (int)(sizeof found->fds / sizeof *found->fds));
    for (int i = 0; i < found->fd_count; i++)
        CHECK(fcntl(found->fds[i], F_GETFD) == FD_CLOEXEC && close(found->fds[i]) == 0);
    return total;
}

static void one_round(void)
{
    static char sent[PACKETS * ROOM_MAX];
    int ends[2], before = open_descriptors();
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    uint64_t most = 1 + below(5000), size = most * (1 + below(4)), length = 0, at = 0;
    uint32_t count = below(PACKETS);
    for (uint32_t i = 0; i < count; i++) {
        size_t one = below(4) ? below(64) : below(most + 100);
        for (size_t n = 0; n < one; n++)
            sent[length + n] = (char)any();
        if (send_one(ends[1], sent + length, one, ends[0], below(3) ? 0 : below(FDS_MAX)))
            length += one;
    }
    if (below(4) == 0)
        shutdown(ends[1], SHUT_WR);
    struct rlimit few = {.rlim_cur = below(3) ? OPEN_MAX_FILES : 3 + below(40), .rlim_max = OPEN_MAX_FILES};
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    char *room = malloc(size);
    for (int calls = 0, r = SUP_PACKETS_MORE; r == SUP_PACKETS_MORE && calls < 2 * PACKETS; calls++) {
        struct sup_packets found;
        memset(&found, 0x55, sizeof found);
        r = sup_receive_packets(ends[0], room, size, most, 0, &found);
        CHECK(r == SUP_PACKETS_NONE || r == SUP_PACKETS_MORE || r == SUP_PACKETS_END || r == -ECONNRESET);
        at += compare(&found, room, size, sent + at, length - at);
        if (found.cut) /* what was cut off is lost */
            break;
    }
    free(room);
    few.rlim_cur = OPEN_MAX_FILES;
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    if (below(2)) {
        close(ends[1]);
        sup_close_socket(ends[0]);
    } else {
        sup_close_socket(ends[0]);
        close(ends[1]);
    }
    CHECK(open_descriptors() == before);
}
