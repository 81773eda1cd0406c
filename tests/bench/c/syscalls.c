/* SPDX-License-Identifier: Apache-2.0
 * syscalls COUNT DENIED: what one system call costs: getppid, which has no argument; ioctl on a bad descriptor, whose
 * argument filters look at; and unshare of no flags, which does nothing and is what filters deny. */
#include "common.h"

#define COST(key, count, call)                                                            \
    do {                                                                                  \
        uint64_t begun = now_ns();                                                        \
        for (long i = 0; i < (count); i++)                                                \
            (void)(call);                                                                 \
        printf(key " %.1f ns\n", (double)(now_ns() - begun) / (double)(count));           \
    } while (0)

int main(int argc, char **argv) {
    long count = argc > 1 ? atol(argv[1]) : 1000000, denied = argc > 2 ? atol(argv[2]) : 500;
    for (long i = 0; i < count / 10; i++)
        syscall(SYS_getppid);
    COST("plain", count, syscall(SYS_getppid));
    COST("checked", count, syscall(SYS_ioctl, -1, 0x5401, 0));
    COST("denied", denied, syscall(SYS_unshare, 0));
    return 0;
}
