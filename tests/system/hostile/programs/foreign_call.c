/* SPDX-License-Identifier: Apache-2.0
 * Hostile: calls the kernel by another architecture's entry: i386 by int 0x80, or x32 by a bit of the number. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    long result = -1;
#ifdef __x86_64__
    if (argc > 1 && strcmp(argv[1], "i386") == 0)
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory"); /* getpid */
    else
        result = syscall(0x40000000L | 39); /* getpid */
#else
    (void)argc, (void)argv;
#endif
    printf("%s: %ld\n", result < 0 ? "refused" : "escaped", result);
    return 0;
}
