/* SPDX-License-Identifier: Apache-2.0
 * Hostile: burns processor time in children that live some milliseconds, and in a daemon. */
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void burn(double seconds)
{
    clock_t end = clock() + (clock_t)(seconds * CLOCKS_PER_SEC);
    while (clock() < end)
        ;
}

int main(void)
{
    if (fork() == 0) {
        setsid();
        if (fork() == 0)
            burn(1000);
        _exit(0);
    }
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            burn(0.005);
            _exit(0);
        }
        if (child > 0)
            waitpid(child, NULL, 0);
    }
}
