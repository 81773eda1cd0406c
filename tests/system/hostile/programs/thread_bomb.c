/* SPDX-License-Identifier: Apache-2.0
 * Hostile: every thread starts threads as long as it lives. Run it only under tasks_max. */
#include <pthread.h>
#include <stddef.h>

static void *start_more(void *unused)
{
    pthread_t thread;
    for (;;)
        if (pthread_create(&thread, NULL, start_more, NULL) == 0)
            pthread_detach(thread);
    return unused;
}

int main(void) { return start_more(NULL) != NULL; }
