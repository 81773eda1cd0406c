/* SPDX-License-Identifier: Apache-2.0
 * ring memcpy|ring SIZE COUNT CAPACITY: messages of SIZE bytes copied once, or copied into a ring by one process and out of it
 * by another. Nothing is checked, nobody is expected to die: what the machine allows. Prints rate and bytes. */
#include "common.h"

#include <linux/futex.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#if defined(__x86_64__)
#define RELAX() __builtin_ia32_pause()
#else
#define RELAX() ((void)0)
#endif

enum { LINE = 64, SPINS = 2000, HEADER = 16 };

struct shared {
    _Atomic uint64_t head;
    char pad0[LINE - 8];
    _Atomic uint64_t tail;
    char pad1[LINE - 8];
    _Atomic uint32_t sleepers, news;
};

static struct shared *shared;
static char *bytes;
static uint64_t size, count, capacity;

static void wake(void) {
    if (atomic_load(&shared->sleepers)) {
        atomic_fetch_add(&shared->news, 1);
        syscall(SYS_futex, &shared->news, FUTEX_WAKE, 2, NULL, NULL, 0);
    }
}

/* Until *word is not old: spin, then sleep. */
static uint64_t wait_for(_Atomic uint64_t *word, uint64_t old) {
    for (int i = 0; i < SPINS; i++) {
        uint64_t now = atomic_load_explicit(word, memory_order_acquire);
        if (now != old)
            return now;
        RELAX();
    }
    for (;;) {
        uint32_t news = atomic_load(&shared->news);
        atomic_fetch_add(&shared->sleepers, 1);
        uint64_t now = atomic_load(word);
        if (now == old)
            syscall(SYS_futex, &shared->news, FUTEX_WAIT, news, NULL, NULL, 0);
        atomic_fetch_sub(&shared->sleepers, 1);
        now = atomic_load(word);
        if (now != old)
            return now;
    }
}

static uint64_t step(void) { return (HEADER + size + 15) / 16 * 16; }

static void write_all(const char *from) {
    uint64_t head = 0, tail = 0, unsaid = 0;
    for (uint64_t i = 0; i < count; i++) {
        while (capacity - (head - tail) < step()) {
            if (unsaid) {
                atomic_store(&shared->head, head);
                wake();
                unsaid = 0;
            }
            uint64_t now = atomic_load_explicit(&shared->tail, memory_order_acquire);
            tail = now != tail ? now : wait_for(&shared->tail, tail);
        }
        char *to = bytes + (head & (capacity - 1));
        *(uint64_t *)to = size;
        memcpy(to + HEADER, from, size);
        head += step();
        if ((unsaid += step()) >= capacity / 8 || i + 1 == count) {
            atomic_store(&shared->head, head);
            wake();
            unsaid = 0;
        }
    }
}

static void read_all(char *to) {
    uint64_t head = 0, tail = 0, begun = 0, first = 0, done = 0;
    while (done < count) {
        head = wait_for(&shared->head, head);
        if (begun == 0) {
            begun = now_ns();
            first = (head - tail) / step();
        }
        for (; tail != head; tail += step(), done++) {
            const char *from = bytes + (tail & (capacity - 1));
            memcpy(to, from + HEADER, *(const uint64_t *)from);
            if ((tail & (capacity / 8 - 1)) < step())
                atomic_store(&shared->tail, tail), wake();
        }
        atomic_store(&shared->tail, tail);
        wake();
    }
    double seconds = (double)(now_ns() - begun) / 1e9;
    double rate = (double)(count - first) / seconds;
    printf("rate %.1f msgs/s\nbytes %.4f GB/s\n", rate, rate * (double)size / 1e9);
}

static char *page_aligned(void) {
    char *made = mmap(NULL, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (made == MAP_FAILED)
        die("mmap");
    memset(made, 1, size);
    return made;
}

static void copy_all(void) {
    char *from = page_aligned(), *to = page_aligned();
    uint64_t begun = now_ns();
    for (uint64_t i = 0; i < count; i++) {
        memcpy(to, from, size);
        __asm__ volatile("" : : "r"(to) : "memory");
    }
    double rate = (double)count / ((double)(now_ns() - begun) / 1e9);
    printf("rate %.1f msgs/s\nbytes %.4f GB/s\n", rate, rate * (double)size / 1e9);
}

int main(int argc, char **argv) {
    if (argc < 5)
        return 2;
    size = strtoull(argv[2], NULL, 10), count = strtoull(argv[3], NULL, 10), capacity = strtoull(argv[4], NULL, 10);
    if (strcmp(argv[1], "memcpy") == 0) {
        copy_all();
        return 0;
    }
    int fd = memfd_create("ring", 0);
    if (fd < 0 || ftruncate(fd, (off_t)(4096 + capacity)) < 0)
        die("memfd");
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    bytes = mmap(NULL, 2 * capacity, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int half = 0; half < 2; half++)
        if (mmap(bytes + (uint64_t)half * capacity, capacity, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 4096) == MAP_FAILED)
            die("mmap");
    char *own = page_aligned();
    pid_t pid = fork();
    if (pid == 0) {
        write_all(own);
        _exit(0);
    }
    read_all(own);
    waitpid(pid, NULL, 0);
    return 0;
}
