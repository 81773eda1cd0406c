/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RINGFENCE_PROCESSOR_H
#define RINGFENCE_PROCESSOR_H

#include <stdint.h>

enum { SUP_AFFINITY_BYTES = 1024 }; /* 8,192 processors, the most that Linux can be built for */

/* The processor that a thread is kept on. size: bytes of the kernel's own mask; 0: nothing was changed, there is nothing to give back. */
struct sup_affinity {
    long size;
    uint32_t processor;
};

/* Keep the calling thread, and a child that it clones, on the processor where it runs, if it may run on so many: all that are online. */
void sup_stay(uint32_t processors, struct sup_affinity *ret_kept);
/* The child may run everywhere. */
void sup_roam(const struct sup_affinity *kept);
/* The thread that was kept may, unless somebody else has bound it meanwhile. */
void sup_release(const struct sup_affinity *kept);

#endif
