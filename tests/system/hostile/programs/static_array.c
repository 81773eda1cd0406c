/* SPDX-License-Identifier: Apache-2.0
 * Hostile: a static array larger than its memory, used to the last byte. */
#include <stdio.h>

enum { SIZE = 192 << 20 };

static char array[SIZE];

int main(void)
{
    for (int at = 0; at < SIZE; at += 4096)
        array[at] = 1;
    printf("escaped: %d bytes of array\n", SIZE);
    return array[SIZE - 4096] != 1;
}
