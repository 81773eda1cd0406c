/* SPDX-License-Identifier: Apache-2.0
 * Hostile: its child never calls exec, so the kernel holds the parent in vfork. */
#include <unistd.h>

int main(void)
{
    if (vfork() == 0)
        for (;;)
            pause();
    return 0;
}
