/* SPDX-License-Identifier: Apache-2.0
 *
 * Raw Linux system calls: no libc, no errno, results are -errno in the kernel's own convention.
 *
 * Everything between clone and exec, and the whole init helper, is written on these alone: after
 * vfork the child shares its parent's memory, so a libc call that takes a lock or touches errno
 * would act on the parent. Numbers and structs that old headers lack are defined here.
 */
#ifndef RINGFENCE_SYSCALLS_H
#define RINGFENCE_SYSCALLS_H

#include <asm/unistd.h>
#include <stddef.h>
#include <stdint.h>

#ifndef __NR_pidfd_send_signal
#define __NR_pidfd_send_signal 424
#endif
#ifndef __NR_pidfd_open
#define __NR_pidfd_open 434
#endif
#ifndef __NR_open_tree
#define __NR_open_tree 428
#define __NR_move_mount 429
#define __NR_fsopen 430
#define __NR_fsconfig 431
#define __NR_fsmount 432
#endif
#ifndef __NR_clone3
#define __NR_clone3 435
#endif
#ifndef __NR_close_range
#define __NR_close_range 436
#endif
#ifndef __NR_mount_setattr
#define __NR_mount_setattr 442
#endif
#ifndef __NR_landlock_create_ruleset
#define __NR_landlock_create_ruleset 444
#define __NR_landlock_add_rule 445
#define __NR_landlock_restrict_self 446
#endif

#define SUP_CLONE_VM 0x00000100ull
#define SUP_CLONE_PIDFD 0x00001000ull
#define SUP_CLONE_VFORK 0x00004000ull
#define SUP_CLONE_NEWTIME 0x00000080ul
#define SUP_CLONE_NEWCGROUP 0x02000000ul
#define SUP_CLONE_NEWNET 0x40000000ul
#define SUP_CLONE_CLEAR_SIGHAND 0x100000000ull /* Linux 5.5 */
#define SUP_CLONE_INTO_CGROUP 0x200000000ull   /* Linux 5.7 */
#define SUP_CLONE_FILES 0x00000400ull
#define SUP_CLOSE_RANGE_UNSHARE (1u << 1)      /* Linux 5.9 */
#define SUP_CLOSE_RANGE_CLOEXEC (1u << 2)      /* Linux 5.11 */
#define SUP_P_PIDFD 3                          /* waitid(2), Linux 5.4 */
#define SUP_SIGCHLD 17

/* struct clone_args of linux/sched.h, version 2 (with the cgroup field). */
struct sup_clone_args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

#if defined(__x86_64__)

static inline long sup_syscall6(long n, long a, long b, long c, long d, long e, long f)
{
    long ret;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(ret) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return ret;
}

/* Start fn(arg) in a new process on its own stack (already in the system call's arguments). */
static inline long sup_clone_call(long n, long a, long b, long c, long d, long e, int (*fn)(void *), void *arg)
{
    long ret;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register int (*r12)(void *) __asm__("r12") = fn;
    register void *r13 __asm__("r13") = arg;
    __asm__ volatile(
        "syscall\n\t"
        "test %%rax, %%rax\n\t"
        "jnz 1f\n\t"
        "xor %%ebp, %%ebp\n\t"
        "mov %%r13, %%rdi\n\t"
        "call *%%r12\n\t"
        "mov %%eax, %%edi\n\t"
        "mov $60, %%eax\n\t" /* exit */
        "syscall\n\t"
        "hlt\n\t"
        "1:"
        : "=a"(ret)
        : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r12), "r"(r13)
        : "rcx", "r11", "memory", "cc");
    return ret;
}

#elif defined(__aarch64__)

static inline long sup_syscall6(long n, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
    return x0;
}

static inline long sup_clone_call(long n, long a, long b, long c, long d, long e, int (*fn)(void *), void *arg)
{
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register int (*x20)(void *) __asm__("x20") = fn;
    register void *x21 __asm__("x21") = arg;
    __asm__ volatile(
        "svc #0\n\t"
        "cbnz x0, 1f\n\t"
        "mov x29, xzr\n\t"
        "mov x0, x21\n\t"
        "blr x20\n\t"
        "mov x8, #93\n\t" /* exit */
        "svc #0\n\t"
        "brk #0\n\t"
        "1:"
        : "+r"(x0)
        : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x20), "r"(x21)
        : "memory", "cc");
    return x0;
}

#else
#error "Ringfence supports x86_64 and aarch64"
#endif

#define SUP_SYS(n, a, b, c, d, e, f) sup_syscall6((n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define sup_sys0(n) SUP_SYS(n, 0, 0, 0, 0, 0, 0)
#define sup_sys1(n, a) SUP_SYS(n, a, 0, 0, 0, 0, 0)
#define sup_sys2(n, a, b) SUP_SYS(n, a, b, 0, 0, 0, 0)
#define sup_sys3(n, a, b, c) SUP_SYS(n, a, b, c, 0, 0, 0)
#define sup_sys4(n, a, b, c, d) SUP_SYS(n, a, b, c, d, 0, 0)
#define sup_sys5(n, a, b, c, d, e) SUP_SYS(n, a, b, c, d, e, 0)

#endif
