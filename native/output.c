/* SPDX-License-Identifier: Apache-2.0
 *
 * The pipes of one job: stdout and stderr collected or relayed and counted to the byte against one
 * cap, stdin fed. Everything is driven by the engine; nothing here blocks on a slow reader.
 */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STREAMS = 3, FIRST_BUFFER = 64 * 1024, SURE_WRITE = 4096, BIG_PIPE = 1024 * 1024, READ_MAX = 1024 * 1024 };

enum target { TARGET_NONE, TARGET_MEMORY, TARGET_FILE, TARGET_SOCKET, TARGET_SHARED };

struct stream {
    struct watch in;  /* the job's end of it: what we read (1, 2) or write (0) */
    struct watch out; /* where relayed bytes go, watched only while they wait */
    struct sup_output *output;
    enum target target;
    int number, open, waiting, own_out, error;
    char *bytes; /* collected, or waiting for the destination; page-aligned */
    uint64_t size, room, taken; /* taken: how much of a feed or a relay has gone out */
    uint64_t count;
};

struct sup_output {
    struct sup_engine *engine;
    uint64_t token, max_bytes, used, last_ns;
    int limit_hit, truncated, announced;
    struct stream streams[STREAMS];
    const char *feed;
    uint64_t feed_size;
};

struct sup_output *sup_output_new(struct sup_engine *engine, uint64_t token, uint64_t max_bytes)
{
    struct sup_output *output = calloc(1, sizeof *output);
    if (output == NULL)
        return NULL;
    output->engine = engine;
    output->token = token;
    output->max_bytes = max_bytes;
    for (int i = 0; i < STREAMS; i++)
        output->streams[i] = (struct stream){.output = output, .number = i, .in.fd = -1, .out.fd = -1};
    return output;
}

static struct stream *stream_of(struct watch *watch, size_t offset) { return (struct stream *)(void *)((char *)watch - offset); }

static void stop_waiting(struct stream *stream)
{
    if (!stream->waiting)
        return;
    engine_remove(stream->output->engine, &stream->out);
    stream->waiting = 0;
}

/* Close our end; a relay's destination is let go too. */
static void close_stream(struct stream *stream)
{
    if (stream->open) {
        engine_remove(stream->output->engine, &stream->in);
        close(stream->in.fd);
        stream->open = 0;
    }
    stop_waiting(stream);
    if (stream->own_out)
        close(stream->out.fd);
    stream->own_out = 0;
}

static void end_stream(struct stream *stream)
{
    close_stream(stream);
    struct sup_event *event = engine_emit(stream->output->engine, SUP_EVENT_OUTPUT_END, stream->output->token);
    event->code = stream->number;
    event->detail = stream->error;
}

/* ---- memory ---- */

static int grow(struct stream *stream, uint64_t room)
{
    void *bytes = stream->bytes == NULL ? mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                                        : mremap(stream->bytes, stream->room, room, MREMAP_MAYMOVE);
    if (bytes == MAP_FAILED)
        return -errno;
    stream->bytes = bytes;
    stream->room = room;
    return 0;
}

static int make_room(struct stream *stream)
{
    if (stream->bytes == NULL)
        return grow(stream, FIRST_BUFFER);
    return stream->size == stream->room ? grow(stream, stream->room * 2) : 0;
}

/* ---- relaying ---- */

/* One write that never blocks: our own non-blocking description (pipe, terminal), MSG_DONTWAIT
 * (socket), a regular file, which does not block; or, on a shared pipe or terminal that we may not open
 * anew, as little as is sure to fit once poll says that there is room (pipe(7), PIPE_BUF). */
static ssize_t write_some(struct stream *stream, const char *bytes, size_t size)
{
    if (stream->target == TARGET_SOCKET)
        return send(stream->out.fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (stream->target == TARGET_SHARED) {
        struct pollfd polled = {.fd = stream->out.fd, .events = POLLOUT};
        if (poll(&polled, 1, 0) == 0) {
            errno = EAGAIN;
            return -1;
        }
        size = size < SURE_WRITE ? size : SURE_WRITE;
    }
    return write(stream->out.fd, bytes, size);
}

/* Push what waits. Returns 1 when nothing is left, 0 when the destination is full, -errno. */
static int push(struct stream *stream)
{
    while (stream->taken < stream->size) {
        ssize_t n = write_some(stream, stream->bytes + stream->taken, stream->size - stream->taken);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0)
            return -errno;
        stream->taken += (uint64_t)n;
    }
    stream->taken = stream->size = 0;
    return 1;
}

/* Swap what is watched: the job's end, or, while the destination is full, the destination. */
static void wait_for_destination(struct stream *stream)
{
    if (stream->open)
        engine_remove(stream->output->engine, &stream->in);
    stream->waiting = engine_add(stream->output->engine, &stream->out, EPOLLOUT) == 0;
}

static void wait_for_job(struct stream *stream)
{
    stop_waiting(stream);
    if (stream->open)
        engine_add(stream->output->engine, &stream->in, EPOLLIN);
}

/* After new bytes came: hand them on, and while the destination is full stop reading the job. */
static void relay(struct stream *stream)
{
    int r = push(stream);
    if (r == 0 && !stream->waiting)
        wait_for_destination(stream);
    else if (r != 0 && stream->waiting)
        wait_for_job(stream);
    if (r < 0) { /* EPIPE: the reader left, and the job shall learn it as if it wrote there itself */
        stream->error = -r;
        stream->taken = stream->size = 0;
        end_stream(stream);
    } else if (r == 1 && !stream->open)
        end_stream(stream);
}

static void relay_ready(struct sup_engine *engine, struct watch *watch, uint32_t events)
{
    (void)engine;
    (void)events;
    struct stream *stream = stream_of(watch, offsetof(struct stream, out));
    if (stream->waiting) /* not ended by an earlier event of the same batch */
        relay(stream);
}

/* ---- reading the job ---- */

/* Count n bytes just read; returns how many of them fit under the cap. */
static uint64_t account(struct stream *stream, uint64_t n)
{
    struct sup_output *output = stream->output;
    stream->count += n;
    output->last_ns = sup_now_ns();
    uint64_t left = output->max_bytes - output->used;
    uint64_t kept = n < left ? n : left;
    output->used += kept;
    if (kept == n)
        return n;
    output->truncated = 1;
    if (!output->limit_hit)
        engine_emit(output->engine, SUP_EVENT_OUTPUT_LIMIT, output->token);
    output->limit_hit = 1;
    return kept;
}

/* One read. Returns bytes read, 0 at the end, -EAGAIN when nothing is there. */
static int64_t read_some(struct stream *stream)
{
    int r = make_room(stream);
    if (r < 0)
        return r;
    uint64_t room = stream->room - stream->size;
    ssize_t n = read(stream->in.fd, stream->bytes + stream->size, room < READ_MAX ? room : READ_MAX);
    if (n < 0)
        return errno == EIO ? 0 : -errno; /* EIO: the last process closed the terminal's other side */
    if (n == FIRST_BUFFER && stream->room == FIRST_BUFFER)
        fcntl(stream->in.fd, F_SETPIPE_SZ, BIG_PIPE); /* a heavy writer: fewer wake-ups; refusal does no harm */
    if (n > 0)
        stream->size += account(stream, (uint64_t)n);
    return n;
}

static void input_ready(struct sup_engine *engine, struct watch *watch, uint32_t events)
{
    (void)engine;
    (void)events;
    struct stream *stream = stream_of(watch, offsetof(struct stream, in));
    if (!stream->open || stream->waiting)
        return;
    int64_t n = read_some(stream);
    if (n == -EAGAIN || n == -EINTR)
        return;
    if (n < 0)
        stream->error = (int)-n;
    if (n > 0 && stream->output->limit_hit) {
        engine_remove(stream->output->engine, watch); /* past the cap: the job is about to be ended */
        if (stream->target != TARGET_MEMORY)
            push(stream);
        return;
    }
    if (n > 0 && stream->target != TARGET_MEMORY)
        relay(stream);
    else if (n > 0 && stream->output->announced)
        engine_emit(stream->output->engine, SUP_EVENT_OUTPUT, watch->token)->code = stream->number;
    if (n <= 0 && stream->open)
        end_stream(stream);
}

static int open_reading(struct sup_output *output, int number, int fd, enum target target)
{
    if (number < 1 || number >= STREAMS)
        return -EINVAL;
    struct stream *stream = &output->streams[number];
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    stream->in = (struct watch){.ready = input_ready, .token = output->token, .fd = fd};
    stream->target = target;
    int r = engine_add(output->engine, &stream->in, EPOLLIN);
    stream->open = r == 0;
    return r;
}

int sup_output_collect(struct sup_output *output, int number, int fd) { return open_reading(output, number, fd, TARGET_MEMORY); }

/* A description of our own for a pipe or a terminal, because O_NONBLOCK on the shared one would change
 * every other process that holds it. Another user's pipe cannot be opened anew. */
static int reopen_nonblocking(int fd)
{
    char path[64] = "/proc/self/fd/";
    int at = (int)strlen(path), digits = 1;
    for (int n = fd; n >= 10; n /= 10)
        digits++;
    for (int i = digits - 1, n = fd; i >= 0; i--, n /= 10)
        path[at + i] = (char)('0' + n % 10);
    return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

int sup_output_relay(struct sup_output *output, int number, int fd, int to_fd)
{
    struct stat info;
    if (fstat(to_fd, &info) < 0)
        return -errno;
    struct stream *stream = &output->streams[number];
    int r = open_reading(output, number, fd, S_ISSOCK(info.st_mode) ? TARGET_SOCKET : TARGET_FILE);
    if (r < 0)
        return r;
    int may_block = S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode);
    int own = may_block ? reopen_nonblocking(to_fd) : -1;
    if (may_block && own < 0)
        stream->target = TARGET_SHARED;
    stream->own_out = own >= 0;
    stream->out = (struct watch){.ready = relay_ready, .token = output->token, .fd = own >= 0 ? own : to_fd};
    return 0;
}

/* ---- feeding stdin ---- */

static void feed_ready(struct sup_engine *engine, struct watch *watch, uint32_t events)
{
    (void)engine;
    (void)events;
    struct stream *stream = stream_of(watch, offsetof(struct stream, in));
    struct sup_output *output = stream->output;
    while (stream->taken < output->feed_size) {
        ssize_t n = write(watch->fd, output->feed + stream->taken, output->feed_size - stream->taken);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            break; /* EPIPE: the job does not read on, which is its own affair */
        stream->taken += (uint64_t)n;
    }
    close_stream(stream);
}

int sup_output_feed(struct sup_output *output, int fd, const void *bytes, uint64_t size)
{
    struct stream *stream = &output->streams[0];
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    output->feed = bytes;
    output->feed_size = size;
    stream->in = (struct watch){.ready = feed_ready, .token = output->token, .fd = fd};
    int r = engine_add(output->engine, &stream->in, EPOLLOUT);
    stream->open = r == 0;
    if (r == 0)
        feed_ready(output->engine, &stream->in, EPOLLOUT); /* what fits the pipe goes at once, mostly all */
    return r;
}

void sup_output_announce(struct sup_output *output, int on) { output->announced = on; }

int sup_output_limit(struct sup_output *output, uint64_t max_bytes)
{
    output->max_bytes = max_bytes > output->used ? max_bytes : output->used;
    return max_bytes < output->used;
}

/* ---- the end ---- */

int sup_output_drain(struct sup_output *output)
{
    struct sup_event unused[STREAMS * EVENTS_PER_WATCH + 2];
    struct sup_engine *engine = output->engine;
    engine->events = unused; /* drained outside a poll: the caller asks for the results itself */
    engine->event_count = 0;
    close_stream(&output->streams[0]);
    for (int i = 1; i < STREAMS; i++) {
        struct stream *stream = &output->streams[i];
        int64_t n = 1;
        /* What the job itself left: somebody outside its tree may hold the pipe and write on. A terminal tells only a
         * part of what it holds, which is never more than a big pipe. */
        int left = BIG_PIPE;
        struct stat info;
        if (stream->open && fstat(stream->in.fd, &info) == 0 && S_ISFIFO(info.st_mode))
            ioctl(stream->in.fd, FIONREAD, &left);
        while (stream->open && !output->limit_hit && n > 0 && left > 0) {
            n = read_some(stream);
            if (n == -EINTR)
                n = 1;
            else if (n > 0)
                left -= (int)n;
        }
        if (stream->open) {
            engine_remove(engine, &stream->in);
            close(stream->in.fd);
            stream->open = 0;
        }
        engine->event_count = 0;
        if (stream->target > TARGET_MEMORY)
            relay(stream);
        engine->event_count = 0;
    }
    return output->limit_hit;
}

int sup_output_pending(struct sup_output *output) { return output->streams[1].waiting + output->streams[2].waiting; }

int sup_output_error(struct sup_output *output)
{
    for (int i = 1; i < STREAMS; i++)
        if (output->streams[i].error != 0 && output->streams[i].error != EPIPE)
            return output->streams[i].error;
    return 0;
}

int sup_output_open(struct sup_output *output) { return output->streams[1].open + output->streams[2].open; }

const void *sup_output_bytes(struct sup_output *output, int number, uint64_t *ret_size)
{
    struct stream *stream = &output->streams[number];
    *ret_size = stream->target == TARGET_MEMORY ? stream->size : 0;
    return stream->bytes;
}

uint64_t sup_output_count(struct sup_output *output, int number) { return output->streams[number].count; }

int sup_output_truncated(struct sup_output *output) { return output->truncated; }

uint64_t sup_output_last_ns(struct sup_output *output) { return output->last_ns; }

void sup_output_free(struct sup_output *output)
{
    for (int i = 0; i < STREAMS; i++) {
        struct stream *stream = &output->streams[i];
        close_stream(stream);
        if (stream->bytes != NULL)
            munmap(stream->bytes, stream->room);
    }
    free(output);
}
