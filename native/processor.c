/* SPDX-License-Identifier: Apache-2.0
 *
 * A vfork child takes over its parent's processor. The kernel puts a new process on the most idle processor, which has to be woken
 * for it, while the parent's own falls idle in that very moment, its caches warm. On a virtual machine that waking is a
 * tenth of the start of a sandbox. exec looks for the best processor again (SD_BALANCE_EXEC), so nobody is kept where it is crowded.
 *
 * Only a thread that may run on every processor is kept, and gets the mask of all back. The kernel remembers what was asked for
 * (Linux 6.2), which nothing can read: a binding that goes beyond today's cpuset, or that nobody asked for (isolcpus), could not be
 * given back as it was.
 *
 * Raw system calls only: parent and child share their memory, and the init helper has no libc.
 */
#include "processor.h"
#include "syscalls.h"

enum { WORDS = SUP_AFFINITY_BYTES / 8 };

static long get(uint64_t *mask) { return sup_sys3(__NR_sched_getaffinity, 0, SUP_AFFINITY_BYTES, mask); }
static long set(const uint64_t *mask, long size) { return sup_sys3(__NR_sched_setaffinity, 0, size, mask); }

static uint64_t word_of(const struct sup_affinity *kept, long i) { return i == kept->processor / 64 ? 1ull << kept->processor % 64 : 0; }

static uint32_t count(const uint64_t *mask, long size)
{
    uint32_t found = 0;
    for (long i = 0; i < size / 8; i++)
        for (uint64_t word = mask[i]; word != 0; word &= word - 1)
            found++;
    return found;
}

static int differs(const uint64_t *mask, const uint64_t *other, long size)
{
    for (long i = 0; i < size / 8; i++)
        if (mask[i] != other[i])
            return 1;
    return 0;
}

void sup_stay(uint32_t processors, struct sup_affinity *ret_kept)
{
    uint64_t mask[WORDS];
    ret_kept->size = 0;
    const long size = processors < 2 ? 0 : get(mask);
    if (size <= 0 || size % 8 != 0 || count(mask, size) != processors)
        return;
    if (sup_sys3(__NR_getcpu, &ret_kept->processor, 0, 0) < 0 || ret_kept->processor >= 8u * (uint32_t)size)
        return;
    for (long i = 0; i < size / 8; i++)
        mask[i] = word_of(ret_kept, i);
    if (set(mask, size) >= 0) /* not a thread with a deadline */
        ret_kept->size = size;
}

void sup_roam(const struct sup_affinity *kept)
{
    uint64_t all[WORDS];
    for (long i = 0; i < kept->size / 8; i++)
        all[i] = ~0ull;
    if (kept->size > 0)
        set(all, kept->size);
}

/* A mask that is not ours any more is somebody's (taskset -p), or what was left when a cpuset lost our processor: then it is that of
 * all, now. */
void sup_release(const struct sup_affinity *kept)
{
    uint64_t found[WORDS], now[WORDS];
    if (kept->size <= 0)
        return;
    int changed = get(found) == kept->size, ours = 1;
    for (long i = 0; i < kept->size / 8 && changed; i++)
        ours &= found[i] == word_of(kept, i);
    changed &= !ours;
    sup_roam(kept);
    if (changed && get(now) == kept->size && differs(now, found, kept->size))
        set(found, kept->size);
}
