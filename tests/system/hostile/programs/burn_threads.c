/* SPDX-License-Identifier: Apache-2.0
 * Hostile: four threads that spin. */
#include <pthread.h>
#include <stddef.h>

static void *spin(void *unused)
{
    for (volatile unsigned long turn = 0;; turn++)
        ;
    return unused;
}

int main(void)
{
    pthread_t thread;
    for (int made = 0; made < 3; made++)
        pthread_create(&thread, NULL, spin, NULL);
    return spin(NULL) != NULL;
}
