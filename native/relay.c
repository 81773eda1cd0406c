/* SPDX-License-Identifier: Apache-2.0
 *
 * Relays: bytes of a stream on their way to a descriptor that takes them at its own pace. Nothing here
 * blocks; while a destination is full its stream is not read, so the job waits as if it wrote there itself.
 */
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SURE_WRITE = 4096 };

static void stop_waiting(struct relay *relay)
{
    if (!relay->waiting)
        return;
    engine_remove(relay->stream->output->engine, &relay->out);
    relay->waiting = 0;
}

void relay_close(struct relay *relay)
{
    stop_waiting(relay);
    if (relay->own)
        close(relay->out.fd);
    relay->own = relay->open = 0;
}

int relay_open_count(const struct stream *stream)
{
    int count = 0;
    for (int i = 0; i < stream->relay_count; i++)
        count += stream->relays[i].open;
    return count;
}

int relay_waiting_count(const struct stream *stream)
{
    int count = 0;
    for (int i = 0; i < stream->relay_count; i++)
        count += stream->relays[i].waiting;
    return count;
}

/* One write that never blocks: our own non-blocking description (pipe, terminal), MSG_DONTWAIT
 * (socket), a regular file, which does not block; or, on a shared pipe or terminal that we may not open
 * anew, as little as is sure to fit once poll says that there is room (pipe(7), PIPE_BUF). */
static ssize_t write_some(struct relay *relay, const char *bytes, size_t size)
{
    if (relay->target == TARGET_SOCKET)
        return send(relay->out.fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (relay->target == TARGET_SHARED) {
        struct pollfd polled = {.fd = relay->out.fd, .events = POLLOUT};
        if (poll(&polled, 1, 0) == 0) {
            errno = EAGAIN;
            return -1;
        }
        size = size < SURE_WRITE ? size : SURE_WRITE;
    }
    return write(relay->out.fd, bytes, size);
}

/* Push what waits. Returns 1 when nothing is left, 0 when the destination is full, -errno. */
static int push(struct relay *relay)
{
    struct stream *stream = relay->stream;
    while (relay->taken < stream->size) {
        ssize_t n = write_some(relay, stream->bytes + relay->taken, stream->size - relay->taken);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0)
            return -errno;
        relay->taken += (uint64_t)n;
    }
    return 1;
}

/* All has gone out: the room is free again, unless the bytes are kept. */
static void forget_taken(struct stream *stream)
{
    if (stream->keeps)
        return;
    stream->size = 0;
    for (int i = 0; i < stream->relay_count; i++)
        stream->relays[i].taken = 0;
}

void relay_bytes(struct stream *stream)
{
    for (int i = 0; i < stream->relay_count; i++) {
        struct relay *relay = &stream->relays[i];
        int r = relay->open ? push(relay) : 1;
        if (r == 0 && !relay->waiting) {
            r = engine_add(stream->output->engine, &relay->out, EPOLLOUT);
            relay->waiting = r == 0;
        } else if (r != 0)
            stop_waiting(relay);
        if (r < 0) { /* EPIPE: the reader left; or nobody can tell when it takes more */
            if (stream->error == 0 || stream->error == EPIPE)
                stream->error = -r;
            relay_close(relay);
        }
    }
    int waiting = relay_waiting_count(stream);
    if (waiting == 0)
        forget_taken(stream);
    if (relay_open_count(stream) == 0 && !stream->keeps && stream->capture == NULL)
        stream_end(stream); /* the job shall learn that nobody reads as if it wrote there itself */
    else if (waiting == 0 && !stream->open)
        stream_end(stream);
    else
        stream_watch(stream);
}

void relay_push(struct stream *stream)
{
    for (int i = 0; i < stream->relay_count; i++)
        if (stream->relays[i].open)
            push(&stream->relays[i]);
}

static void relay_ready(struct sup_engine *engine, struct watch *watch, uint32_t events)
{
    (void)engine;
    (void)events;
    struct relay *relay = (struct relay *)(void *)((char *)watch - offsetof(struct relay, out));
    if (relay->waiting) /* not ended by an earlier event of the same batch */
        relay_bytes(relay->stream);
}

/* A description of our own for a pipe or a terminal, because O_NONBLOCK on the shared one would change
 * every other process that holds it. Another user's pipe cannot be opened anew. */
static int reopen_nonblocking(int fd)
{
    char path[64] = "/proc/self/fd/";
    int at = (int)sizeof "/proc/self/fd/" - 1, digits = 1;
    for (int n = fd; n >= 10; n /= 10)
        digits++;
    for (int i = digits - 1, n = fd; i >= 0; i--, n /= 10)
        path[at + i] = (char)('0' + n % 10);
    return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

int relay_open(struct stream *stream, int to_fd, int caller)
{
    struct stat info;
    if (stream->relay_count == RELAYS)
        return -EINVAL;
    if (fstat(to_fd, &info) < 0)
        return -errno;
    struct relay *relay = &stream->relays[stream->relay_count];
    *relay = (struct relay){.stream = stream, .target = S_ISSOCK(info.st_mode) ? TARGET_SOCKET : TARGET_FILE, .open = 1, .caller = caller};
    int may_block = !caller && (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode));
    int own = may_block ? reopen_nonblocking(to_fd) : -1;
    if (may_block && own < 0)
        relay->target = TARGET_SHARED;
    relay->own = caller || own >= 0;
    relay->out = (struct watch){.ready = relay_ready, .token = stream->output->token, .fd = own >= 0 ? own : to_fd};
    stream->relay_count++;
    return 0;
}
