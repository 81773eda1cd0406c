/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RINGFENCE_PROCESSOR_H
#define RINGFENCE_PROCESSOR_H

#include <stdint.h>

enum { SUP_AFFINITY_BYTES = 1024 }; /* 8,192 processors, the most that Linux can be built for */

/* size 0: nothing was changed, and there is nothing to give back. */
struct sup_affinity {
    long size;
    uint64_t mask[SUP_AFFINITY_BYTES / 8];
};

/* Keep the calling thread, and a child that it clones, on the processor where it runs. */
void sup_stay(struct sup_affinity *ret_before);
/* The calling thread may run again where it might before sup_stay(). */
void sup_roam(const struct sup_affinity *before);

#endif
