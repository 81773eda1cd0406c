/* SPDX-License-Identifier: Apache-2.0
 *
 * Launches on a few long-lived native threads: vfork suspends its caller, so two threads fill two
 * processors and the event loop never waits; and PR_SET_PDEATHSIG follows the thread that spawned,
 * so that thread must live as long as its children.
 */
#include "engine.h"
#include "syscalls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void push(struct launch_request ***end, struct launch_request *request)
{
    request->next = NULL;
    **end = request;
    *end = &request->next;
}

static struct launch_request *pop(struct launch_request **queue, struct launch_request ***end)
{
    struct launch_request *request = *queue;
    if (request != NULL && (*queue = request->next) == NULL)
        *end = queue;
    return request;
}

static void wake(struct sup_engine *engine)
{
    uint64_t one = 1;
    if (write(engine->wake_fd, &one, sizeof one) < 0)
        return; /* EAGAIN: the counter is full, so the engine is awake already */
}

/* Into a network namespace in stock, if the job may have one, for the time of the launch: its first process is born there. */
static void launch(struct sup_engine *engine, struct launch_request *request)
{
    int fd = request->lend_network ? networks_enter(&engine->networks) : -1;
    const uint32_t without = fd < 0 ? 0 : SUP_CLONE_NEWNET;
    int r = sup_spawn_without(request->plan, request->size, request->cgroup_root_fd, request->token, without, &request->child);
    if (fd < 0)
        return;
    networks_leave(&engine->networks);
    if (r < 0)
        networks_keep(&engine->networks, fd);
    else
        request->network_fd = fd;
}

static void *spawner_main(void *argument)
{
    struct sup_engine *engine = argument;
    pthread_mutex_lock(&engine->lock);
    for (;;) {
        struct launch_request *request = pop(&engine->requests, &engine->requests_end);
        if (request == NULL) {
            if (engine->stopping)
                break;
            pthread_cond_wait(&engine->work, &engine->lock);
            continue;
        }
        pthread_mutex_unlock(&engine->lock);
        launch(engine, request);
        pthread_mutex_lock(&engine->lock);
        int first = engine->done == NULL;
        push(&engine->done_end, request);
        if (first)
            wake(engine);
    }
    pthread_mutex_unlock(&engine->lock);
    return NULL;
}

int sup_engine_start_spawners(struct sup_engine *engine, int count)
{
    engine->spawners = calloc((size_t)count, sizeof *engine->spawners);
    if (engine->spawners == NULL)
        return -ENOMEM;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the threads inherit it: signals go to Python's threads */
    int r = 0;
    while (r == 0 && engine->spawner_count < count) {
        r = -pthread_create(&engine->spawners[engine->spawner_count], NULL, spawner_main, engine);
        if (r == 0)
            engine->spawner_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return engine->spawner_count > 0 ? 0 : r;
}

int sup_engine_submit(struct sup_engine *engine, uint64_t token, const void *plan, uint64_t size, int cgroup_root_fd, int lend_network)
{
    struct launch_request *request = calloc(1, sizeof *request);
    if (request == NULL)
        return -ENOMEM;
    *request = (struct launch_request){.token = token, .plan = plan, .size = size, .cgroup_root_fd = cgroup_root_fd, .lend_network = lend_network};
    pthread_mutex_lock(&engine->lock);
    push(&engine->requests_end, request);
    pthread_cond_signal(&engine->work);
    pthread_mutex_unlock(&engine->lock);
    return 0;
}

/* A child that cannot be watched must not run on unseen. */
static int undo_launch(const void *plan, int cgroup_root_fd, uint64_t token, struct sup_child *child, int error)
{
    sup_pidfd_send_signal(child->pidfd, SIGKILL);
    sup_reap(child->pidfd);
    close(child->pidfd);
    if (child->listener_fd >= 0)
        close(child->listener_fd);
    if (child->cgroup_fd >= 0) {
        close(child->cgroup_fd);
        sup_remove_cgroup(plan, cgroup_root_fd, token);
    }
    child->pid = child->pidfd = child->cgroup_fd = child->listener_fd = -1;
    child->stage = SUP_STAGE_CLONE;
    child->err = error;
    return -error;
}

/* network_fd: the network namespace that it was lent, or 0. */
static int adopt(struct sup_engine *engine, uint64_t token, const void *plan, int cgroup_root_fd, struct sup_child *child, int network_fd)
{
    const struct sup_plan *made = plan;
    const char *payload = made->payload_off != 0 ? (const char *)plan + made->payload_off : "";
    int r = engine_watch_child(engine, token, child->pidfd, child->cgroup_fd, payload, network_fd);
    if (r < 0 && network_fd > 0)
        close(network_fd);
    return r < 0 ? undo_launch(plan, cgroup_root_fd, token, child, -r) : 0;
}

int sup_engine_adopt(struct sup_engine *engine, uint64_t token, const void *plan, int cgroup_root_fd, struct sup_child *child)
{
    return adopt(engine, token, plan, cgroup_root_fd, child, 0);
}

int sup_engine_launch(struct sup_engine *engine, uint64_t token, const void *plan, uint64_t size, int cgroup_root_fd, struct sup_child *child)
{
    int r = sup_spawn(plan, size, cgroup_root_fd, token, child);
    return r < 0 ? r : sup_engine_adopt(engine, token, plan, cgroup_root_fd, child);
}

/* Report finished launches, and only then watch their exits: SPAWNED always comes first. */
void engine_report_launches(struct sup_engine *engine)
{
    while (engine->event_count < engine->event_max) {
        pthread_mutex_lock(&engine->lock);
        struct launch_request *request = pop(&engine->done, &engine->done_end);
        pthread_mutex_unlock(&engine->lock);
        if (request == NULL)
            return;
        if (request->child.err == 0)
            adopt(engine, request->token, request->plan, request->cgroup_root_fd, &request->child, request->network_fd);
        struct sup_event *event = engine_emit(engine, SUP_EVENT_SPAWNED, request->token);
        event->child = request->child;
        free(request);
    }
    wake(engine); /* the caller's array is full and more may be waiting: stay readable */
}

void engine_stop_spawners(struct sup_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    engine->stopping = 1;
    pthread_cond_broadcast(&engine->work);
    pthread_mutex_unlock(&engine->lock);
    for (int i = 0; i < engine->spawner_count; i++)
        pthread_join(engine->spawners[i], NULL);
    free(engine->spawners);
    struct launch_request *request;
    while ((request = pop(&engine->done, &engine->done_end)) != NULL) {
        if (request->child.err == 0)
            undo_launch(request->plan, request->cgroup_root_fd, request->token, &request->child, ECANCELED);
        if (request->network_fd > 0)
            close(request->network_fd);
        free(request);
    }
}
