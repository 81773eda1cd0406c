/* SPDX-License-Identifier: Apache-2.0
 *
 * Empty network namespaces that outlive their job: the kernel takes longer to make and to clear one away than for all the
 * rest of a sandbox. One job has it at a time, and the next gets it only when no socket is left in it. It belongs to our own
 * user namespace, so no job ever had a privilege in it, and its only device is a loopback that is down.
 */
#include "networks.h"
#include "ringfence.h"
#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The calling thread's, never one of the standard three. */
static int open_own(void)
{
    int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fd >= 3)
        return fd < 0 ? -errno : fd;
    int high = sup_duplicate(fd, 3);
    close(fd);
    return high;
}

void networks_start(struct networks *networks)
{
    pthread_mutex_init(&networks->lock, NULL);
}

void networks_end(struct networks *networks)
{
    while (networks->count > 0)
        close(networks->fds[--networks->count]);
    if (networks->home_fd > 0)
        close(networks->home_fd);
    pthread_mutex_destroy(&networks->lock);
}

/* The namespace of the threads that spawn, which they come back to; -errno when there is no way to tell. */
static int find_home(struct networks *networks)
{
    pthread_mutex_lock(&networks->lock);
    if (networks->home_fd == 0)
        networks->home_fd = open_own();
    int r = networks->home_fd;
    pthread_mutex_unlock(&networks->lock);
    return r;
}

static int take(struct networks *networks)
{
    pthread_mutex_lock(&networks->lock);
    int fd = networks->count > 0 ? networks->fds[--networks->count] : -1;
    pthread_mutex_unlock(&networks->lock);
    return fd;
}

/* No socket is left in the calling thread's namespace. One that a job's processes were given away through would be: it is
 * counted until the last descriptor of it is closed, whoever has that. */
static int is_empty(void)
{
    static const char wanted[] = "sockets: used 0\n";
    char text[sizeof wanted - 1];
    int fd = open("/proc/thread-self/net/sockstat", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text);
    close(fd);
    return n == (ssize_t)sizeof text && memcmp(text, wanted, sizeof text) == 0;
}

static int make_another(void) { return unshare(CLONE_NEWNET) < 0 ? -errno : open_own(); }

int networks_enter(struct networks *networks)
{
    int fd = find_home(networks);
    if (fd < 0)
        return fd;
    while ((fd = take(networks)) >= 0) {
        if (setns(fd, CLONE_NEWNET) == 0 && is_empty())
            return fd;
        close(fd);
    }
    fd = make_another();
    if (fd < 0)
        networks_leave(networks);
    if (fd == -EPERM) { /* we have no privilege for it, and shall have none later: every job makes its own, in its user namespace */
        pthread_mutex_lock(&networks->lock);
        close(networks->home_fd);
        networks->home_fd = -EPERM;
        pthread_mutex_unlock(&networks->lock);
    }
    return fd;
}

void networks_leave(const struct networks *networks)
{
    /* It can lack nothing but memory, and there is no going on elsewhere. */
    const struct timespec pause = {.tv_nsec = 1000000};
    while (setns(networks->home_fd, CLONE_NEWNET) < 0 && errno == ENOMEM)
        nanosleep(&pause, NULL);
}

void networks_keep(struct networks *networks, int fd)
{
    pthread_mutex_lock(&networks->lock);
    int kept = networks->count < NETWORKS_MAX;
    if (kept)
        networks->fds[networks->count++] = fd;
    pthread_mutex_unlock(&networks->lock);
    if (!kept)
        close(fd);
}
