/* SPDX-License-Identifier: Apache-2.0
 * many COUNT IDLE_SECONDS COMMAND ARG...: starts COUNT children on /dev/null, their pidfds in one epoll set, stays idle,
 * then kills them all. Prints what peers/many.py prints. */
#include "common.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>

enum { WARM = 8 };

static char **argv_child;
static int null_fd, epoll;

static void __attribute__((noreturn, noinline)) in_child(void) {
    for (int i = 0; i < 3; i++)
        dup2(null_fd, i);
    execve(argv_child[0], argv_child, environ);
    _exit(127);
}

static void start(int *fds, int count) {
    for (int i = 0; i < count; i++) {
        struct clone_args args = {.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD, .exit_signal = SIGCHLD};
        args.pidfd = (uint64_t)(uintptr_t)&fds[i];
        long pid = vfork_clone3(&args);
        if (pid == 0)
            in_child();
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fds[i]};
        if (pid < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event))
            die("start");
    }
}

static void stop(const int *fds, int count) {
    for (int i = 0; i < count; i++)
        syscall(SYS_pidfd_send_signal, fds[i], SIGKILL, NULL, 0);
    for (int done = 0; done < count;) {
        struct epoll_event events[64];
        int ready = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < ready; i++, done++) {
            siginfo_t info;
            waitid(P_PIDFD, (id_t)events[i].data.fd, &info, WEXITED);
            epoll_ctl(epoll, EPOLL_CTL_DEL, events[i].data.fd, NULL);
            close(events[i].data.fd);
        }
    }
}

static double resident_kib(void) {
    long size, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%ld %ld", &size, &resident) != 2)
        die("statm");
    fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / 1024.0;
}

static int descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

int main(int argc, char **argv) {
    if (argc < 4)
        return 2;
    int count = atoi(argv[1]), seconds = atoi(argv[2]);
    argv_child = argv + 3;
    null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int *fds = calloc((size_t)count, sizeof *fds);
    start(fds, WARM);
    stop(fds, WARM);
    double memory = resident_kib(), before_fds = descriptors();
    uint64_t begun = now_ns();
    start(fds, count);
    double started = (double)(now_ns() - begun) / 1e9;
    usleep(500000);
    memory = (resident_kib() - memory) / count;
    double each_fds = (descriptors() - before_fds) / count, cpu = own_cpu();
    struct rusage before, after;
    struct epoll_event event;
    getrusage(RUSAGE_SELF, &before);
    epoll_wait(epoll, &event, 1, seconds * 1000);
    getrusage(RUSAGE_SELF, &after);
    cpu = (own_cpu() - cpu) * 1e3 / seconds;
    begun = now_ns();
    stop(fds, count);
    double stopped = (double)(now_ns() - begun) / 1e9;
    printf("start %.3f s\nmemory %.3f KiB/child\nfds %.3f fds/child\nidle_cpu %.3f ms/s\n", started, memory, each_fds, cpu);
    printf("wakeups %ld times\nstop %.3f s\n", after.ru_nvcsw - before.ru_nvcsw - 1, stopped); /* one is the end of the wait itself */
    return 0;
}
