/* SPDX-License-Identifier: Apache-2.0
 * restart PROGRAM ARGUMENT...: keeps one child running with what the kernel offers: spawn, wait, again. */
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    for (;;) {
        pid_t pid;
        if (posix_spawn(&pid, argv[1], NULL, NULL, argv + 1, environ) != 0)
            return 1;
        waitpid(pid, NULL, 0);
    }
}
