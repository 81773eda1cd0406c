/* SPDX-License-Identifier: Apache-2.0
 *
 * Wall-clock limits that hold while the event loop does not: a thread of the engine's own looks at a
 * job at its deadline, notes whether it still ran, and ends it where that is wanted.
 *
 * The thread starts with the first deadline and sleeps until the earliest one; without deadlines it
 * never wakes. What it looks at are descriptors of its own, so nobody can close one under its hands.
 */
#include "engine.h"
#include "helper.h"
#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct sup_deadline {
    struct sup_deadline *next, *previous;
    struct sup_engine *engine;
    int pidfd, kill_fd; /* kill_fd: cgroup.kill, or -1 */
    int control_fd;     /* instead of both: the init helper's socket, or -1 */
    uint64_t due_ns;    /* 0: never */
    int overran;
};

/* With the lock held: has the process not ended yet? WNOWAIT leaves it for its reaper. */
static int still_runs(const struct sup_deadline *deadline)
{
    siginfo_t info = {0};
    long r = SUP_SYS(__NR_waitid, SUP_P_PIDFD, deadline->pidfd, &info, WEXITED | WNOHANG | WNOWAIT, NULL, 0);
    return r == 0 && info.si_pid == 0;
}

static void expire(struct sup_deadline *deadline)
{
    deadline->due_ns = 0;
    if (deadline->control_fd >= 0) { /* the helper is gone (EPIPE) or says by the time in its notice who was first */
        const struct sup_request request = {.kind = SUP_REQUEST_KILL};
        deadline->overran = send(deadline->control_fd, &request, sizeof request, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof request;
        return;
    }
    if (!still_runs(deadline))
        return;
    deadline->overran = 1;
    if (deadline->kill_fd >= 0 && write(deadline->kill_fd, "1", 1) < 0)
        return; /* the event loop tries again, and says why it cannot */
}

/* With the lock held: act on what is due, and return when to look again, 0 for never. */
static uint64_t look(struct sup_engine *engine)
{
    uint64_t now_ns = sup_now_ns(), next_ns = 0;
    for (struct sup_deadline *at = engine->deadlines; at != NULL; at = at->next) {
        if (at->due_ns != 0 && at->due_ns <= now_ns)
            expire(at);
        if (at->due_ns != 0 && (next_ns == 0 || at->due_ns < next_ns))
            next_ns = at->due_ns;
    }
    return next_ns;
}

static void *timekeeper_main(void *argument)
{
    struct sup_engine *engine = argument;
    pthread_mutex_lock(&engine->deadline_lock);
    while (!engine->timekeeper_stops) {
        uint64_t next_ns = engine->timekeeper_wakes_ns = look(engine);
        struct timespec until = {.tv_sec = (time_t)(next_ns / 1000000000u), .tv_nsec = (long)(next_ns % 1000000000u)};
        if (next_ns == 0)
            pthread_cond_wait(&engine->deadline_changed, &engine->deadline_lock);
        else
            pthread_cond_clockwait(&engine->deadline_changed, &engine->deadline_lock, CLOCK_MONOTONIC, &until);
    }
    pthread_mutex_unlock(&engine->deadline_lock);
    return NULL;
}

static int start_timekeeper(struct sup_engine *engine)
{
    if (engine->timekeeper_runs)
        return 0;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = -pthread_create(&engine->timekeeper, NULL, timekeeper_main, engine);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    engine->timekeeper_runs = r == 0;
    return r;
}

static void close_all(const struct sup_deadline *deadline)
{
    const int fds[] = {deadline->pidfd, deadline->kill_fd, deadline->control_fd};
    for (size_t n = 0; n < sizeof fds / sizeof *fds; n++)
        if (fds[n] >= 0)
            close(fds[n]);
}

/* Put it on the engine's list, or undo it when fd, a duplicate it needs, could not be had. */
static struct sup_deadline *begin(struct sup_deadline *deadline, int fd)
{
    struct sup_engine *engine = deadline->engine;
    int r = fd < 0 ? -errno : start_timekeeper(engine);
    if (r < 0) {
        close_all(deadline);
        free(deadline);
        errno = -r;
        return NULL;
    }
    pthread_mutex_lock(&engine->deadline_lock);
    deadline->next = engine->deadlines;
    if (deadline->next != NULL)
        deadline->next->previous = deadline;
    engine->deadlines = deadline;
    pthread_mutex_unlock(&engine->deadline_lock);
    return deadline;
}

static struct sup_deadline *allocate(struct sup_engine *engine)
{
    struct sup_deadline *deadline = malloc(sizeof *deadline);
    if (deadline != NULL)
        *deadline = (struct sup_deadline){.engine = engine, .pidfd = -1, .kill_fd = -1, .control_fd = -1};
    return deadline;
}

struct sup_deadline *sup_deadline_new(struct sup_engine *engine, int pidfd, int cgroup_fd, int kill)
{
    struct sup_deadline *deadline = allocate(engine);
    if (deadline == NULL)
        return NULL;
    deadline->kill_fd = kill ? openat(cgroup_fd, "cgroup.kill", O_WRONLY | O_CLOEXEC) : -1;
    deadline->pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, 3);
    return begin(deadline, deadline->pidfd);
}

struct sup_deadline *sup_deadline_of_helper(struct sup_engine *engine, int control_fd)
{
    struct sup_deadline *deadline = allocate(engine);
    if (deadline == NULL)
        return NULL;
    deadline->control_fd = fcntl(control_fd, F_DUPFD_CLOEXEC, 3);
    return begin(deadline, deadline->control_fd);
}

void sup_deadline_set(struct sup_deadline *deadline, uint64_t due_ns)
{
    struct sup_engine *engine = deadline->engine;
    pthread_mutex_lock(&engine->deadline_lock);
    deadline->due_ns = due_ns;
    int sooner = due_ns != 0 && (engine->timekeeper_wakes_ns == 0 || due_ns < engine->timekeeper_wakes_ns);
    if (sooner)
        pthread_cond_signal(&engine->deadline_changed);
    pthread_mutex_unlock(&engine->deadline_lock);
}

int sup_deadline_free(struct sup_deadline *deadline)
{
    struct sup_engine *engine = deadline->engine;
    pthread_mutex_lock(&engine->deadline_lock);
    if (deadline->previous != NULL)
        deadline->previous->next = deadline->next;
    else
        engine->deadlines = deadline->next;
    if (deadline->next != NULL)
        deadline->next->previous = deadline->previous;
    pthread_mutex_unlock(&engine->deadline_lock);
    int overran = deadline->overran;
    close_all(deadline);
    free(deadline);
    return overran;
}

void engine_stop_timekeeper(struct sup_engine *engine)
{
    if (engine->timekeeper_runs) {
        pthread_mutex_lock(&engine->deadline_lock);
        engine->timekeeper_stops = 1;
        pthread_cond_signal(&engine->deadline_changed);
        pthread_mutex_unlock(&engine->deadline_lock);
        pthread_join(engine->timekeeper, NULL);
    }
    pthread_cond_destroy(&engine->deadline_changed);
    pthread_mutex_destroy(&engine->deadline_lock);
}
