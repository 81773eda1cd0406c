/* SPDX-License-Identifier: Apache-2.0
 *
 * Network namespaces in stock, see networks.c.
 */
#ifndef RINGFENCE_NETWORKS_H
#define RINGFENCE_NETWORKS_H

#include <pthread.h>

enum { NETWORKS_MAX = 16 }; /* in stock, unused; each costs the kernel about 100 KiB */

struct networks {
    pthread_mutex_t lock;
    int home_fd; /* 0 not known yet, -errno: no job can be lent one */
    int fds[NETWORKS_MAX], count;
};

/* In memory of zeros. */
void networks_start(struct networks *networks);
void networks_end(struct networks *networks);

/* Move the calling thread into one that nobody uses: its descriptor, above 2 and the caller's, or -errno and the thread is where it was. */
int networks_enter(struct networks *networks);
void networks_leave(const struct networks *networks); /* back home */

/* Take a descriptor back: every process in it has ended. */
void networks_keep(struct networks *networks, int fd);

#endif
