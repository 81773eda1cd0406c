/* SPDX-License-Identifier: Apache-2.0
 * Hostile: every process forks, and every child leaves its session. Run it only under tasks_max. */
#include <unistd.h>

int main(void)
{
    for (;;)
        if (fork() == 0)
            (void)setsid();
}
