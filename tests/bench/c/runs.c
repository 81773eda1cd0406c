/* SPDX-License-Identifier: Apache-2.0
 * runs COUNT COMMAND ARG... [++ COMMAND ARG...]: runs the commands one after the other, COUNT times, and prints
 * the median time of all of them together. The first run is not counted. */
#include "common.h"

#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

static void run(char **argv) {
    pid_t pid;
    int status;
    if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ))
        die(argv[0]);
    if (waitpid(pid, &status, 0) != pid || status != 0) {
        fprintf(stderr, "%s: status %d\n", argv[0], status);
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    int count = atoi(argv[1]);
    char **second = NULL;
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], "++") == 0) {
            argv[i] = NULL;
            second = &argv[i + 1];
        }
    double *times = calloc((size_t)count, sizeof *times);
    for (int i = -1; i < count; i++) {
        uint64_t begun = now_ns();
        run(&argv[2]);
        if (second != NULL)
            run(second);
        if (i >= 0)
            times[i] = (double)(now_ns() - begun) / 1e6;
    }
    printf("time %.2f ms\n", percentile(times, count, 0.5));
    return 0;
}
