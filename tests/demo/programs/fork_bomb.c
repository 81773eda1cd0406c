/* SPDX-License-Identifier: Apache-2.0
 * Hostile: forks children that sleep, up to a ceiling of 100 that keeps the host safe.
 * Where a fork is refused it says so and exits 3, leaving its children behind for the supervisor to end.
 * At the ceiling it sleeps with them, so that a limit of less must end it. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <errno.h>

enum { CEILING = 100 };

int main(void) {
    for (int made = 0; made < CEILING; made++) {
        pid_t child = fork();
        if (child == 0) {
            sleep(600);
            _exit(0);
        }
        if (child < 0) {
            printf("fork number %d: %s\n", made + 1, strerror(errno));
            return 3;
        }
    }
    puts("reached its own ceiling");
    fflush(stdout);
    sleep(600);
    return 0;
}
