/* SPDX-License-Identifier: Apache-2.0
 *
 * What every fuzzer of rounds has: `PROGRAM SECONDS SEED` plays one_round() for so long, each round with random numbers that its
 * number and the seed alone decide, and CHECK says in which round a claim did not hold.
 */
#ifndef RINGFENCE_ROUNDS_H
#define RINGFENCE_ROUNDS_H

#include "random.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t seed, rounds;

#define CHECK(condition)                                                                                              \
    do {                                                                                                              \
        if (!(condition)) {                                                                                           \
            fprintf(stderr, "seed %llu, round %llu: %s (errno %d)\n", (unsigned long long)seed, (unsigned long long)rounds, #condition, errno); \
            abort();                                                                                                  \
        }                                                                                                             \
    } while (0)

static void one_round(void);

int main(int argc, char **argv)
{
    if (argc != 3)
        return 64;
    double seconds = atof(argv[1]);
    seed = strtoull(argv[2], NULL, 10);
    for (; (double)clock() / CLOCKS_PER_SEC < seconds; rounds++) {
        state = seed + rounds * 0x2545f4914f6cdd1dull;
        one_round();
    }
    printf("%llu rounds\n", (unsigned long long)rounds);
    return 0;
}

#endif
