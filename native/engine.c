/* SPDX-License-Identifier: Apache-2.0
 *
 * One epoll set for everything a supervisor waits for: exits (pidfds), finished launches, output,
 * empty cgroups, signals. One wake-up reports many events, and the set is itself one descriptor, so
 * any event loop can wait on it.
 *
 * A descriptor always leaves the set by EPOLL_CTL_DEL before it is closed: a child being spawned by
 * another thread may hold a copy of it, and then closing alone would leave a registration behind
 * whose number soon names somebody else's descriptor.
 */
#include "engine.h"
#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef __NR_epoll_pwait2
#define __NR_epoll_pwait2 441
#endif

struct sup_event *engine_emit(struct sup_engine *engine, int kind, uint64_t token)
{
    struct sup_event *event = &engine->events[engine->event_count++];
    memset(event, 0, sizeof *event);
    event->kind = kind;
    event->token = token;
    event->time_ns = sup_now_ns();
    return event;
}

void engine_link(struct sup_engine *engine, struct watch *watch)
{
    watch->next = engine->watches.next;
    watch->previous = &engine->watches;
    watch->next->previous = watch;
    engine->watches.next = watch;
}

void engine_unlink(struct watch *watch)
{
    watch->next->previous = watch->previous;
    watch->previous->next = watch->next;
}

int engine_add(struct sup_engine *engine, struct watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};
    return epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) < 0 ? -errno : 0;
}

void engine_remove(struct sup_engine *engine, struct watch *watch) { epoll_ctl(engine->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL); }

/* Take a heap-allocated watch out of the set, close its descriptor if it is ours, and free it. */
static void discard(struct sup_engine *engine, struct watch *watch)
{
    engine_remove(engine, watch);
    engine_unlink(watch);
    if (!watch->borrowed)
        close(watch->fd);
    if (watch->network_fd > 0)
        close(watch->network_fd);
    free(watch);
}

/* A heap-allocated watch in the set, or NULL with errno set. */
static struct watch *add_new(struct sup_engine *engine, struct watch model, uint32_t events)
{
    struct watch *watch = malloc(sizeof *watch);
    if (watch == NULL)
        return NULL;
    *watch = model;
    int r = engine_add(engine, watch, events);
    if (r < 0) {
        free(watch);
        errno = -r;
        return NULL;
    }
    engine_link(engine, watch);
    return watch;
}

/* ---- exits ---- */

static uint64_t timeval_us(struct timeval t) { return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_usec; }

/* The number after key in a flat-keyed file, or -1. */
static int64_t keyed(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    return at == NULL ? -1 : strtoll(at + strlen(key), NULL, 10);
}

/* Is the tree empty, and what did it use? Here, because Python would need six calls for it. */
void sup_look_at_cgroup(int cgroup_fd, const char *events, const char *account, struct sup_event *event)
{
    char text[1024];
    event->populated = -1;
    event->cgroup_us[0] = event->cgroup_us[1] = event->cgroup_us[2] = -1;
    int64_t n = cgroup_fd < 0 ? -1 : sup_read_at(cgroup_fd, events, text, sizeof text - 1);
    if (n < 0)
        return;
    text[n] = '\0';
    event->populated = keyed(text, "populated ") != 0;
    if (event->populated || (n = sup_read_at(cgroup_fd, account, text, sizeof text - 1)) < 0)
        return;
    text[n] = '\0';
    event->cgroup_us[0] = keyed(text, "usage_usec ");
    event->cgroup_us[1] = keyed(text, "user_usec ");
    event->cgroup_us[2] = keyed(text, "system_usec ");
}

static void child_ready(struct sup_engine *engine, struct watch *watch, uint32_t events)
{
    (void)events;
    siginfo_t info = {0};
    struct rusage usage = {0};
    long r = SUP_SYS(__NR_waitid, SUP_P_PIDFD, watch->fd, &info, WEXITED | WNOHANG, &usage, 0);
    if (r == -EINTR || (r == 0 && info.si_pid == 0))
        return;
    struct sup_event *event = engine_emit(engine, SUP_EVENT_EXITED, watch->token);
    event->code = r < 0 ? (int)r : info.si_status;
    event->detail = r < 0 ? -1 : info.si_code == CLD_EXITED ? 0 : info.si_code == CLD_DUMPED ? 2 : 1;
    event->user_us = timeval_us(usage.ru_utime);
    event->system_us = timeval_us(usage.ru_stime);
    event->maxrss_kib = usage.ru_maxrss;
    event->minor_faults = usage.ru_minflt;
    event->major_faults = usage.ru_majflt;
    event->in_blocks = usage.ru_inblock;
    event->out_blocks = usage.ru_oublock;
    event->voluntary_switches = usage.ru_nvcsw;
    event->involuntary_switches = usage.ru_nivcsw;
    int cgroup_fd = watch->cgroup_fd;
    char account[sizeof watch->account];
    memcpy(account, watch->account, sizeof account);
    if (r >= 0 && watch->network_fd > 0) { /* process 1 of the job's pid namespace was reaped, after all the others of it */
        networks_keep(&engine->networks, watch->network_fd);
        watch->network_fd = 0;
    }
    discard(engine, watch); /* before the look: a process without descriptors left has this one again */
    sup_look_at_cgroup(cgroup_fd, "cgroup.events", account, event);
}

/* payload: where the job is below its cgroup, which then holds an init helper too; or an empty text. */
int engine_watch_child(struct sup_engine *engine, uint64_t token, int pidfd, int cgroup_fd, const char *payload, int network_fd)
{
    struct watch model = {.ready = child_ready, .token = token, .fd = pidfd, .cgroup_fd = cgroup_fd, .network_fd = network_fd};
    int n = snprintf(model.account, sizeof model.account, "%s%scpu.stat", payload, *payload == '\0' ? "" : "/");
    if (n < 0 || n >= (int)sizeof model.account)
        return -ENAMETOOLONG;
    return add_new(engine, model, EPOLLIN) == NULL ? -errno : 0;
}

int sup_engine_watch_child(struct sup_engine *engine, uint64_t token, int pidfd, int cgroup_fd)
{
    return engine_watch_child(engine, token, pidfd, cgroup_fd, "", 0);
}

/* ---- empty cgroups ---- */

/* cgroup.events is level-triggered as EPOLLPRI until it is read (cgroup-v2.rst, "populated"). */
static void cgroup_ready(struct sup_engine *engine, struct watch *watch, uint32_t events)
{
    (void)events;
    char text[256];
    ssize_t n = pread(watch->fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    if (n >= 0 && strstr(text, "populated 1") != NULL)
        return;
    engine_emit(engine, SUP_EVENT_EMPTY, watch->token); /* populated 0, or the directory is gone */
    discard(engine, watch);
}

int sup_engine_watch_empty(struct sup_engine *engine, uint64_t token, int events_fd)
{
    return add_new(engine, (struct watch){.ready = cgroup_ready, .token = token, .fd = events_fd}, EPOLLPRI) == NULL ? -errno : 0;
}

/* ---- any descriptor ---- */

static void readable(struct sup_engine *engine, struct watch *watch, uint32_t events)
{
    (void)events;
    engine_emit(engine, SUP_EVENT_READY, watch->token);
}

void *sup_engine_watch_ready(struct sup_engine *engine, uint64_t token, int fd)
{
    return add_new(engine, (struct watch){.ready = readable, .token = token, .fd = fd, .borrowed = 1}, EPOLLIN);
}

void sup_engine_unwatch(struct sup_engine *engine, void *watch) { discard(engine, watch); }

/* ---- signals ---- */

static void signals_ready(struct sup_engine *engine, struct watch *watch, uint32_t events)
{
    (void)events;
    struct signalfd_siginfo info;
    if (read(watch->fd, &info, sizeof info) != sizeof info)
        return;
    struct sup_event *event = engine_emit(engine, SUP_EVENT_SIGNAL, 0);
    event->code = (int32_t)info.ssi_signo;
    event->detail = info.ssi_code == SI_KERNEL ? 0 : info.ssi_pid != 0 ? (int32_t)info.ssi_pid : -1;
}

int sup_engine_watch_signals(struct sup_engine *engine, uint64_t mask)
{
    sigset_t set;
    sigemptyset(&set);
    for (int n = 1; n <= 64; n++)
        if (mask >> (n - 1) & 1)
            sigaddset(&set, n);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = -pthread_sigmask(SIG_BLOCK, &set, &engine->mask_before);
    engine->signals = (struct watch){.ready = signals_ready, .fd = fd};
    if (r == 0)
        r = engine_add(engine, &engine->signals, EPOLLIN);
    if (r < 0)
        close(fd);
    else
        engine->signal_fd = fd;
    return r;
}

int sup_engine_unwatch_signals(struct sup_engine *engine)
{
    if (engine->signal_fd < 0)
        return 0;
    engine_remove(engine, &engine->signals);
    close(engine->signal_fd);
    engine->signal_fd = -1;
    return -pthread_sigmask(SIG_SETMASK, &engine->mask_before, NULL);
}

/* ---- the engine itself ---- */

static void wake_ready(struct sup_engine *engine, struct watch *watch, uint32_t events)
{
    (void)engine;
    (void)events;
    uint64_t count;
    if (read(watch->fd, &count, sizeof count) < 0)
        return; /* somebody else's read was first; the queue is looked at anyway */
}

struct sup_engine *sup_engine_new(void)
{
    struct sup_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return NULL;
    engine->watches.next = engine->watches.previous = &engine->watches;
    engine->signal_fd = -1;
    engine->requests_end = &engine->requests;
    engine->done_end = &engine->done;
    pthread_mutex_init(&engine->lock, NULL);
    pthread_cond_init(&engine->work, NULL);
    pthread_mutex_init(&engine->deadline_lock, NULL);
    pthread_cond_init(&engine->deadline_changed, NULL);
    networks_start(&engine->networks);
    engine->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    engine->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    engine->wake = (struct watch){.ready = wake_ready, .fd = engine->wake_fd};
    if (engine->epoll_fd < 0 || engine->wake_fd < 0 || engine_add(engine, &engine->wake, EPOLLIN) < 0) {
        int error = errno;
        sup_engine_free(engine);
        errno = error;
        return NULL;
    }
    return engine;
}

void sup_engine_free(struct sup_engine *engine)
{
    engine_stop_spawners(engine);
    engine_stop_timekeeper(engine);
    sup_engine_unwatch_signals(engine);
    while (engine->watches.next != &engine->watches)
        discard(engine, engine->watches.next);
    if (engine->epoll_fd >= 0)
        close(engine->epoll_fd);
    if (engine->wake_fd >= 0)
        close(engine->wake_fd);
    networks_end(&engine->networks);
    free(engine->scratch);
    pthread_mutex_destroy(&engine->lock);
    pthread_cond_destroy(&engine->work);
    free(engine);
}

int sup_engine_fd(struct sup_engine *engine) { return engine->epoll_fd; }

/* epoll_pwait2 (Linux 5.11) keeps nanoseconds; before it a time-out is rounded up to milliseconds. */
static int wait_events(int epoll_fd, struct epoll_event *events, int max, int64_t timeout_ns)
{
    struct timespec timeout = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    long n = SUP_SYS(__NR_epoll_pwait2, epoll_fd, events, max, timeout_ns < 0 ? NULL : &timeout, NULL, 0);
    if (n != -ENOSYS)
        return (int)n;
    int64_t ms = timeout_ns < 0 ? -1 : (timeout_ns + 999999) / 1000000;
    n = epoll_wait(epoll_fd, events, max, ms > 0x7fffffff ? 0x7fffffff : (int)ms);
    return n < 0 ? -errno : (int)n;
}

int sup_engine_poll(struct sup_engine *engine, struct sup_event *ret_events, int max, int64_t timeout_ns)
{
    engine->events = ret_events;
    engine->event_count = 0;
    engine->event_max = max;
    engine_report_launches(engine);
    int room = (max - engine->event_count) / EVENTS_PER_WATCH;
    if (room == 0)
        return engine->event_count;
    struct epoll_event ready[EPOLL_BATCH];
    int n = wait_events(engine->epoll_fd, ready, room < EPOLL_BATCH ? room : EPOLL_BATCH, engine->event_count > 0 ? 0 : timeout_ns);
    if (n == -EINTR)
        n = 0;
    if (n < 0)
        return engine->event_count > 0 ? engine->event_count : n;
    for (int i = 0; i < n; i++) {
        struct watch *watch = ready[i].data.ptr;
        if (watch != NULL)
            watch->ready(engine, watch, ready[i].events);
    }
    engine_report_launches(engine);
    return engine->event_count;
}
