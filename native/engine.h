/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the engine: what engine.c, spawner.c, output.c and its neighbours share.
 */
#ifndef RINGFENCE_ENGINE_H
#define RINGFENCE_ENGINE_H

#include "networks.h"
#include "ringfence.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>

/* Room that one watched descriptor may need in the caller's event array. */
enum { EVENTS_PER_WATCH = 3, EPOLL_BATCH = 64 };

/* One watched descriptor; epoll's data points at it. Linked so that sup_engine_free finds them all. */
struct watch {
    void (*ready)(struct sup_engine *engine, struct watch *watch, uint32_t events);
    struct watch *next, *previous;
    uint64_t token;
    int fd, borrowed;
    int cgroup_fd;  /* of a child: its job's cgroup, or -1 */
    char account[40]; /* of a child: what tells the job's processor time, below that */
    int network_fd; /* of a child: the network namespace it was lent, 0 for none */
};

struct launch_request {
    struct launch_request *next;
    uint64_t token, size;
    const void *plan;
    int cgroup_root_fd, lend_network;
    int network_fd; /* lent, 0 for none */
    struct sup_child child;
};

struct sup_engine {
    int epoll_fd, wake_fd, signal_fd;
    struct watch wake, signals;
    struct watch watches; /* list head */
    sigset_t mask_before;
    /* the poll under way: where emit() writes */
    struct sup_event *events;
    int event_count, event_max;
    void *scratch; /* page-aligned, for captures */
    /* spawner threads: the lock guards the two queues */
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct launch_request *requests, **requests_end, *done, **done_end;
    pthread_t *spawners;
    int spawner_count, stopping;
    struct networks networks;
    /* deadline.c: a lock of its own, because whoever holds it makes system calls */
    pthread_mutex_t deadline_lock;
    pthread_cond_t deadline_changed;
    pthread_t timekeeper;
    struct sup_deadline *deadlines;
    uint64_t timekeeper_wakes_ns; /* 0: not by itself */
    int timekeeper_runs, timekeeper_stops;
};

struct sup_event *engine_emit(struct sup_engine *engine, int kind, uint64_t token);
void engine_link(struct sup_engine *engine, struct watch *watch);
void engine_unlink(struct watch *watch);
int engine_add(struct sup_engine *engine, struct watch *watch, uint32_t events);
void engine_remove(struct sup_engine *engine, struct watch *watch);
int engine_watch_child(struct sup_engine *engine, uint64_t token, int pidfd, int cgroup_fd, const char *payload, int network_fd);
void engine_report_launches(struct sup_engine *engine);
void engine_stop_timekeeper(struct sup_engine *engine);
void engine_stop_spawners(struct sup_engine *engine);

#endif
