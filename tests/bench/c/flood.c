/* SPDX-License-Identifier: Apache-2.0
 * flood BYTES: writes as many to standard output, 64 KiB at a time. */
#include "common.h"

#include <string.h>

enum { PIECE = 65536 };

int main(int argc, char **argv) {
    static char bytes[PIECE] __attribute__((aligned(4096)));
    if (argc != 2)
        return 2;
    memset(bytes, 'x', sizeof bytes);
    for (uint64_t left = strtoull(argv[1], NULL, 10); left > 0;) {
        ssize_t n = write(1, bytes, left < PIECE ? left : PIECE);
        if (n <= 0)
            return 1;
        left -= (uint64_t)n;
    }
    return 0;
}
