/* SPDX-License-Identifier: Apache-2.0
 *
 * The fuzzers' random numbers: the same for the same seed, in each thread its own (splitmix64).
 */
#ifndef RINGFENCE_RANDOM_H
#define RINGFENCE_RANDOM_H

#include <stdint.h>

static __thread uint64_t state;

static inline uint64_t any(void)
{
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint32_t below(uint64_t bound) { return bound == 0 ? 0 : (uint32_t)(any() % bound); }

#endif
