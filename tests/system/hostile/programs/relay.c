/* SPDX-License-Identifier: Apache-2.0
 * Hostile: eight chains of processes, each of which starts the next by vfork and exec and ends: no pid is worth a signal. */
#include <string.h>
#include <unistd.h>

enum { CHAINS = 8 };

static void hand_on(const char *self)
{
    if (vfork() == 0) {
        execl(self, self, "link", (char *)NULL);
        _exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "link") == 0) {
        hand_on(argv[0]);
        _exit(0);
    }
    for (int chain = 0; chain < CHAINS; chain++)
        hand_on(argv[0]);
    for (;;)
        pause();
}
