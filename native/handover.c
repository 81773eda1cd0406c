/* SPDX-License-Identifier: Apache-2.0
 *
 * A notice with a descriptor, sent by the child half or the init helper: sendmsg(2) on raw system calls only.
 */
#include "helper.h"
#include "syscalls.h"

#include <stddef.h>

enum { LIMIT_NOFILE = 7 };
enum { LEVEL_SOCKET = 1, TYPE_RIGHTS = 1 };

struct rights { /* struct cmsghdr with one descriptor */
    uint64_t length;
    int32_t level, type, fd, padding;
};
struct part { /* struct iovec */
    const void *bytes;
    uint64_t size;
};
struct message { /* struct msghdr as the kernel sees it */
    const void *name;
    int32_t name_length, padding;
    const struct part *parts;
    uint64_t part_count;
    const void *control;
    uint64_t control_length;
    int32_t flags, padding_end;
};

void sup_raise_descriptors(uint64_t ret_before[2])
{
    sup_sys4(__NR_prlimit64, 0, LIMIT_NOFILE, 0, ret_before);
    const uint64_t most[2] = {ret_before[1], ret_before[1]};
    sup_sys4(__NR_prlimit64, 0, LIMIT_NOFILE, most, 0);
}

long sup_hand_over(int socket, const struct sup_notice *notice, long fd, long flags)
{
    struct rights rights = {.length = offsetof(struct rights, padding), .level = LEVEL_SOCKET, .type = TYPE_RIGHTS, .fd = (int32_t)fd};
    struct part part = {.bytes = notice, .size = sizeof *notice};
    struct message message = {.parts = &part, .part_count = 1, .control = &rights, .control_length = sizeof rights};
    long r = sup_sys3(__NR_sendmsg, socket, &message, flags);
    return r < 0 ? r : 0;
}
