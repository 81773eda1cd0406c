/* SPDX-License-Identifier: Apache-2.0
 * capture MODE FILE COMMAND ARG...: the kernel's part of taking a command's whole output.
 * MODE: read (into one buffer), splice (into FILE), child (writes FILE itself). Pipes hold 1 MiB. */
#include "common.h"

#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { BIG = 1 << 20 };

static uint64_t take(const char *mode, int from, int to) {
    static char bytes[BIG] __attribute__((aligned(4096)));
    uint64_t total = 0;
    ssize_t n;
    memset(bytes, 0, sizeof bytes);
    do {
        n = mode[0] == 'r' ? read(from, bytes, BIG) : splice(from, NULL, to, NULL, BIG, SPLICE_F_MOVE);
        total += n > 0 ? (uint64_t)n : 0;
    } while (n > 0);
    return total;
}

int main(int argc, char **argv) {
    int ends[2], status;
    pid_t pid;
    posix_spawn_file_actions_t actions;
    if (argc < 4)
        return 2;
    int direct = argv[1][0] == 'c', file = argv[1][0] == 'r' ? -1 : open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (pipe2(ends, O_CLOEXEC) < 0 || fcntl(ends[0], F_SETPIPE_SZ, BIG) < 0)
        die("pipe");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, direct ? file : ends[1], 1);
    double cpu = own_cpu();
    uint64_t begun = now_ns(), total = 0;
    if (posix_spawn(&pid, argv[3], &actions, NULL, argv + 3, environ) != 0)
        die("spawn");
    close(ends[1]);
    if (!direct)
        total = take(argv[1], ends[0], file);
    if (waitpid(pid, &status, 0) < 0 || status != 0)
        die("command");
    double seconds = (double)(now_ns() - begun) / 1e9;
    struct stat info;
    if (direct && fstat(file, &info) == 0)
        total = (uint64_t)info.st_size;
    if (file >= 0)
        unlink(argv[2]);
    double gib = (double)total / (double)(1 << 30);
    printf("rate %.3f GiB/s\ncpu %.4f s/GiB\n", gib / seconds, (own_cpu() - cpu) / gib);
    return 0;
}
