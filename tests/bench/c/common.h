/* SPDX-License-Identifier: Apache-2.0
 * Clock, percentiles, and a vfork-like clone3 for the contenders written in C. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <linux/sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static inline void __attribute__((noreturn)) die(const char *what) {
    perror(what);
    exit(1);
}

static inline uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* CPU seconds of this process, its children not counted. */
static inline double own_cpu(void) {
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static inline int by_size(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Sorts, then picks the value below which `part` of all values lie. */
static inline double percentile(double *values, int count, double part) {
    qsort(values, (size_t)count, sizeof *values, by_size);
    return values[(int)((count - 1) * part)];
}

/* The caller sleeps until the child's exec. The child runs on the caller's stack below the current frame,
 * so this must be inlined and the child must do nothing but call one function that never returns. */
static inline __attribute__((always_inline)) long vfork_clone3(struct clone_args *args) {
#if defined(__x86_64__)
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_clone3), "D"(args), "S"(sizeof *args) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long number __asm__("x8") = SYS_clone3;
    register long result __asm__("x0") = (long)args;
    register long size __asm__("x1") = sizeof *args;
    __asm__ volatile("svc 0" : "+r"(result) : "r"(number), "r"(size) : "memory");
#else
#error "the clone3 call of this machine is not written down here"
#endif
    return result;
}

#endif
