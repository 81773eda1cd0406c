/* SPDX-License-Identifier: Apache-2.0
 * exit_latency COUNT EXIT_CHILD: pidfd in epoll, then waitid. Times from the parent's write (told) and from the
 * child's own stamp (exit) to the line after waitid. */
#include "common.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/wait.h>

static void once(char *program, int epoll, double *told, double *left) {
    int in[2], out[2];
    char byte, *argv[] = {program, NULL};
    pid_t pid;
    uint64_t stamp;
    posix_spawn_file_actions_t actions;
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
        die("pipe2");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    if (posix_spawn(&pid, program, &actions, NULL, argv, environ))
        die(program);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]), close(out[1]);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct epoll_event event = {.events = EPOLLIN};
    if (pidfd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, pidfd, &event) || read(out[0], &byte, 1) != 1)
        die("child");
    usleep(2000); /* let it fall asleep in its read */
    uint64_t begun = now_ns();
    if (write(in[1], "x", 1) != 1)
        die("write");
    siginfo_t info;
    if (epoll_wait(epoll, &event, 1, -1) != 1 || waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED))
        die("wait");
    uint64_t over = now_ns();
    if (read(out[0], &stamp, sizeof stamp) != sizeof stamp)
        die("stamp");
    *told = (double)(over - begun) / 1e3;
    *left = (double)(over - stamp) / 1e3;
    epoll_ctl(epoll, EPOLL_CTL_DEL, pidfd, NULL);
    close(pidfd), close(in[1]), close(out[0]);
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    int count = atoi(argv[1]), epoll = epoll_create1(EPOLL_CLOEXEC);
    double *told = calloc((size_t)count, sizeof *told), *left = calloc((size_t)count, sizeof *left);
    for (int i = -10; i < count; i++)
        once(argv[2], epoll, &told[i < 0 ? 0 : i], &left[i < 0 ? 0 : i]);
    printf("exit_p50 %.1f us\nexit_p99 %.1f us\n", percentile(left, count, 0.5), percentile(left, count, 0.99));
    printf("told_p50 %.1f us\ntold_p99 %.1f us\n", percentile(told, count, 0.5), percentile(told, count, 0.99));
    return 0;
}
