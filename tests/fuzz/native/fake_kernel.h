/* SPDX-License-Identifier: Apache-2.0
 *
 * Included before every source of the child half: its system calls go to a kernel that does nothing but read, under
 * AddressSanitizer, what the real one would read, and answers at random.
 */
#ifndef RINGFENCE_FAKE_KERNEL_H
#define RINGFENCE_FAKE_KERNEL_H

#include "syscalls.h"

long fake_kernel(long number, long a, long b, long c, long d, long e, long f);

#undef SUP_SYS
#define SUP_SYS(n, a, b, c, d, e, f) fake_kernel((n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

#endif
