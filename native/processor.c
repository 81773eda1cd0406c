/* SPDX-License-Identifier: Apache-2.0
 *
 * A vfork child takes over its parent's processor. The kernel puts a new process on the most idle processor, which has to be woken
 * for it, while the parent's own falls idle in that very moment, its caches warm. On a virtual machine that waking is a
 * tenth of the start of a sandbox. exec looks for the best processor again (SD_BALANCE_EXEC), so nobody is kept where it is crowded.
 *
 * Raw system calls only: parent and child share their memory, and the init helper has no libc.
 */
#include "processor.h"
#include "syscalls.h"

static long get(uint64_t *mask) { return sup_sys3(__NR_sched_getaffinity, 0, SUP_AFFINITY_BYTES, mask); }
static long set(const uint64_t *mask, long size) { return sup_sys3(__NR_sched_setaffinity, 0, size, mask); }

/* A thread that nobody has bound gets the mask of all, not of those that its cpuset leaves it now: the kernel remembers what was
 * asked for (Linux 6.2), and a cpuset that grows later would be in vain. Who is bound shows by what the mask of all changes. */
void sup_stay(struct sup_affinity *ret_before)
{
    uint64_t now[SUP_AFFINITY_BYTES / 8], all[SUP_AFFINITY_BYTES / 8];
    uint32_t processor = 0;
    ret_before->size = 0;
    const long size = get(ret_before->mask);
    if (size <= 0 || size % 8 != 0)
        return;
    for (long i = 0; i < size / 8; i++)
        all[i] = ~0ull;
    if (set(all, size) < 0) /* forbidden here, or a thread with a deadline */
        return;
    ret_before->size = size;
    int bound = get(now) != size;
    for (long i = 0; i < size / 8; i++)
        bound |= now[i] != ret_before->mask[i];
    if (!bound)
        for (long i = 0; i < size / 8; i++)
            ret_before->mask[i] = ~0ull;
    else
        sup_roam(ret_before); /* where it may be is where it is to stay */
    if (sup_sys3(__NR_getcpu, &processor, 0, 0) < 0 || processor >= 8u * (uint32_t)size)
        return;
    for (long i = 0; i < size / 8; i++)
        all[i] = i == processor / 64 ? 1ull << processor % 64 : 0;
    set(all, size);
}

void sup_roam(const struct sup_affinity *before)
{
    if (before->size > 0)
        set(before->mask, before->size);
}
