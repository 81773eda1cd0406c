/* SPDX-License-Identifier: Apache-2.0
 * Hostile: every process forks as long as it lives. Run it only under tasks_max. */
#include <unistd.h>

int main(void)
{
    for (;;)
        (void)fork();
}
