/* SPDX-License-Identifier: Apache-2.0
 * spawn THREADS IN_FLIGHT COUNT CGROUP PIPES COMMAND: what the kernel allows for spawn to reaped.
 *
 * Each thread keeps IN_FLIGHT children: clone3(VM | VFORK | PIDFD), three rlimits in the child, exec, a pidfd in
 * the thread's own epoll set, waitid. CGROUP: a cgroup v2 directory in which every child gets a fresh cgroup
 * (CLONE_INTO_CGROUP), removed after it; "-" for none. PIPES: 1 to collect stdout and stderr and to close an empty stdin.
 *
 * With several threads a child of another thread holds copies of our descriptors between clone and exec, so close()
 * alone leaves an epoll registration behind; hence EPOLL_CTL_DEL before every close. */
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { PIDFD, OUT, ERR, SOURCES, MOST_IN_FLIGHT = 256, WARM = 32 };

struct child {
    int fds[SOURCES]; /* -1 when closed */
    int open;
    int number;
};

struct launch {
    int streams[3]; /* the child's 0, 1, 2, or -1 to inherit */
};

struct thread {
    pthread_t id;
    int count, index, epoll, made;
    struct child children[MOST_IN_FLIGHT];
};

static int in_flight, pipes, base = -1;
static char *argv_child[2];

static void __attribute__((noreturn, noinline)) in_child(const struct launch *launch) {
    static const struct rlimit nofile = {1024, 1024}, core = {0, 0}, stack = {8 << 20, 8 << 20};
    setrlimit(RLIMIT_NOFILE, &nofile);
    setrlimit(RLIMIT_CORE, &core);
    setrlimit(RLIMIT_STACK, &stack);
    for (int i = 0; i < 3; i++)
        if (launch->streams[i] >= 0)
            dup2(launch->streams[i], i);
    execve(argv_child[0], argv_child, environ);
    _exit(127);
}

static void cgroup_name(char *name, const struct thread *thread, const struct child *child) {
    sprintf(name, "c-%d-%d", thread->index, child->number);
}

static void watch(struct thread *thread, int slot, int source) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)(slot * SOURCES + source)};
    if (epoll_ctl(thread->epoll, EPOLL_CTL_ADD, thread->children[slot].fds[source], &event))
        die("epoll_ctl");
    thread->children[slot].open++;
}

static void forget(struct thread *thread, struct child *child, int source) {
    epoll_ctl(thread->epoll, EPOLL_CTL_DEL, child->fds[source], NULL);
    close(child->fds[source]);
    child->fds[source] = -1;
    child->open--;
}

static void start(struct thread *thread, int slot) {
    struct child *child = &thread->children[slot];
    struct launch launch = {{-1, -1, -1}};
    int in[2], out[2], err[2], cgroup = -1;
    char name[64];
    child->number = thread->made++;
    child->open = 0;
    if (pipes) {
        if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
            die("pipe2");
        launch = (struct launch){{in[0], out[1], err[1]}};
    }
    struct clone_args args = {.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD, .exit_signal = SIGCHLD};
    args.pidfd = (uint64_t)(uintptr_t)&child->fds[PIDFD];
    if (base >= 0) {
        cgroup_name(name, thread, child);
        if (mkdirat(base, name, 0755) || (cgroup = openat(base, name, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
            die(name);
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)cgroup;
    }
    long pid = vfork_clone3(&args);
    if (pid == 0)
        in_child(&launch);
    if (pid < 0) {
        errno = (int)-pid;
        die("clone3");
    }
    if (cgroup >= 0)
        close(cgroup);
    watch(thread, slot, PIDFD);
    if (pipes) {
        close(in[0]), close(in[1]), close(out[1]), close(err[1]);
        child->fds[OUT] = out[0];
        child->fds[ERR] = err[0];
        watch(thread, slot, OUT);
        watch(thread, slot, ERR);
    }
}

static void reap(struct thread *thread, struct child *child) {
    siginfo_t info = {0};
    if (waitid(P_PIDFD, (id_t)child->fds[PIDFD], &info, WEXITED) || info.si_code != CLD_EXITED || info.si_status != 0) {
        fprintf(stderr, "child: code %d status %d\n", info.si_code, info.si_status);
        exit(1);
    }
    forget(thread, child, PIDFD);
    if (base >= 0) {
        char name[64];
        cgroup_name(name, thread, child);
        while (unlinkat(base, name, AT_REMOVEDIR))
            if (errno != EBUSY)
                die("rmdir");
    }
}

static void *work(void *given) {
    struct thread *thread = given;
    int started = 0, done = 0;
    thread->epoll = epoll_create1(EPOLL_CLOEXEC);
    for (; started < in_flight && started < thread->count; started++)
        start(thread, started);
    while (done < thread->count) {
        struct epoll_event events[64];
        int count = epoll_wait(thread->epoll, events, 64, -1);
        for (int i = 0; i < count; i++) {
            int slot = (int)events[i].data.u32 / SOURCES, source = (int)events[i].data.u32 % SOURCES;
            struct child *child = &thread->children[slot];
            char bytes[4096];
            if (source == PIDFD)
                reap(thread, child);
            else if (read(child->fds[source], bytes, sizeof bytes) <= 0)
                forget(thread, child, source);
            if (child->open == 0) {
                done++;
                if (started < thread->count) {
                    started++;
                    start(thread, slot);
                }
            }
        }
    }
    close(thread->epoll);
    return NULL;
}

static void run(struct thread *threads, int many, int count) {
    for (int i = 0; i < many; i++) {
        threads[i].count = count / many;
        threads[i].index = i;
        if (i > 0 && pthread_create(&threads[i].id, NULL, work, &threads[i]))
            die("pthread_create");
    }
    work(&threads[0]);
    for (int i = 1; i < many; i++)
        pthread_join(threads[i].id, NULL);
}

int main(int argc, char **argv) {
    if (argc != 7)
        return 2;
    int many = atoi(argv[1]), count = atoi(argv[3]);
    in_flight = atoi(argv[2]) / many;
    pipes = atoi(argv[5]);
    argv_child[0] = argv[6];
    if (strcmp(argv[4], "-") && (base = open(argv[4], O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        die(argv[4]);
    struct thread *threads = calloc((size_t)many, sizeof *threads);
    if (in_flight < 1 || in_flight > MOST_IN_FLIGHT || threads == NULL)
        return 2;
    run(threads, many, WARM);
    double cpu = own_cpu();
    uint64_t begun = now_ns();
    run(threads, many, count);
    double seconds = (double)(now_ns() - begun) / 1e9;
    count -= count % many;
    printf("rate %.1f spawns/s\ncpu %.1f us/spawn\n", count / seconds, (own_cpu() - cpu) / count * 1e6);
    return 0;
}
