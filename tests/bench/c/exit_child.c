/* SPDX-License-Identifier: Apache-2.0
 * exit_child: one byte to stdout when ready, waits for one byte on stdin, writes its clock
 * (CLOCK_MONOTONIC, nanoseconds, 8 bytes) to stdout and leaves. Nobody sleeps on that pipe, so the
 * write wakes nobody. */
#include "bare.h"

#include <linux/time.h>
#include <linux/time_types.h>

void __attribute__((noreturn)) _start(void) {
    char byte = '!';
    struct __kernel_timespec time;
    bare_call(SYS_write, 1, (long)&byte, 1);
    bare_call(SYS_read, 0, (long)&byte, 1);
    bare_call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&time, 0);
    unsigned long long stamp = (unsigned long long)time.tv_sec * 1000000000ULL + (unsigned long long)time.tv_nsec;
    bare_call(SYS_write, 1, (long)&stamp, sizeof stamp);
    bare_exit(0);
}
