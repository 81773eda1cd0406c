/* SPDX-License-Identifier: Apache-2.0
 *
 * The pipes of one job: stdout and stderr kept, relayed or captured to a file, or several of these, and
 * counted to the byte against one cap; stdin fed. Everything is driven by the engine; nothing here blocks on a slow reader.
 */
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_BUFFER = 64 * 1024, BIG_PIPE = 1024 * 1024, READ_MAX = 1024 * 1024, TAKES_MAX = 4 };

struct sup_output *sup_output_new(struct sup_engine *engine, uint64_t token, uint64_t max_bytes)
{
    struct sup_output *output = calloc(1, sizeof *output);
    if (output == NULL)
        return NULL;
    output->engine = engine;
    output->token = token;
    output->max_bytes = max_bytes;
    for (int i = 0; i < STREAMS; i++)
        output->streams[i] = (struct stream){.output = output, .number = i, .in.fd = -1};
    return output;
}

static struct stream *stream_of(struct watch *watch) { return (struct stream *)(void *)((char *)watch - offsetof(struct stream, in)); }

void stream_watch(struct stream *stream)
{
    int wanted = stream->open && !stream->output->limit_hit && relay_waiting_count(stream) == 0;
    if (wanted && !stream->watched)
        stream->watched = engine_add(stream->output->engine, &stream->in, EPOLLIN) == 0;
    else if (!wanted && stream->watched) {
        engine_remove(stream->output->engine, &stream->in);
        stream->watched = 0;
    }
}

static void close_input(struct stream *stream)
{
    if (!stream->open)
        return;
    if (stream->watched)
        engine_remove(stream->output->engine, &stream->in);
    close(stream->in.fd);
    stream->open = stream->watched = 0;
}

/* Close our end and let every destination go. */
static void close_stream(struct stream *stream)
{
    close_input(stream);
    for (int i = 0; i < stream->relay_count; i++)
        relay_close(&stream->relays[i]);
    if (stream->capture != NULL)
        capture_close(stream->capture);
}

void stream_end(struct stream *stream)
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

static void enlarge(struct stream *stream, uint64_t n)
{
    if (n < FIRST_BUFFER || stream->large)
        return;
    stream->large = 1;
    fcntl(stream->in.fd, F_SETPIPE_SZ, BIG_PIPE); /* a heavy writer: fewer wake-ups; refusal does no harm */
}

/* One read. Returns bytes read, 0 at the end, -EAGAIN when nothing is there. */
static int64_t read_some(struct stream *stream)
{
    int r = make_room(stream);
    if (r < 0)
        return r;
    uint64_t room = stream->room - stream->size;
    ssize_t n = read(stream->in.fd, stream->bytes + stream->size, room < READ_MAX ? room : READ_MAX);
    if (n < 0 && errno == EIO) /* the last process closed the terminal's other side; what it wrote right before is found at a second look */
        n = read(stream->in.fd, stream->bytes + stream->size, room < READ_MAX ? room : READ_MAX);
    if (n < 0)
        return errno == EIO ? 0 : -errno;
    if (n == 0)
        return 0;
    enlarge(stream, (uint64_t)n);
    uint64_t kept = account(stream, (uint64_t)n);
    if (stream->capture != NULL)
        capture_write(stream, stream->bytes + stream->size, kept);
    stream->size += kept;
    return n;
}

/* The file is the only place the bytes go: they need not pass through us, up to the cap. */
static int64_t take_some(struct stream *stream, uint64_t most)
{
    uint64_t left = stream->output->max_bytes - stream->output->used;
    if (left == 0)
        return read_some(stream); /* one more byte is too many */
    int64_t n = capture_take(stream, left < most ? left : most);
    if (n > 0) {
        enlarge(stream, (uint64_t)n);
        account(stream, (uint64_t)n);
    }
    return n;
}

static int is_capture_alone(const struct stream *stream) { return stream->capture != NULL && !stream->keeps && relay_open_count(stream) == 0; }

static int64_t next_bytes(struct stream *stream, uint64_t most) { return is_capture_alone(stream) ? take_some(stream, most) : read_some(stream); }


static void input_ready(struct sup_engine *engine, struct watch *watch, uint32_t events)
{
    (void)engine;
    (void)events;
    struct stream *stream = stream_of(watch);
    if (!stream->watched)
        return;
    int64_t n = next_bytes(stream, UINT64_MAX);
    for (int takes = 1; n >= FIRST_BUFFER && takes < TAKES_MAX && is_capture_alone(stream) && !stream->output->limit_hit; takes++)
        n = take_some(stream, UINT64_MAX); /* the job has gone on writing meanwhile; a few times, for the others' sake */
    if (n == -EAGAIN || n == -EINTR)
        return;
    if (n < 0)
        stream->error = (int)-n;
    if (n > 0 && stream->output->limit_hit) {
        stream_watch(stream); /* past the cap: the job is about to be ended */
        relay_push(stream);
        return;
    }
    if (n > 0 && stream->relay_count > 0)
        relay_bytes(stream);
    if (n > 0 && stream->keeps && stream->output->announced)
        engine_emit(stream->output->engine, SUP_EVENT_OUTPUT, watch->token)->code = stream->number;
    if (n <= 0 && stream->open)
        stream_end(stream);
}

/* The stream that a destination is for; with a descriptor it is opened first, without one it was for another destination. */
static int reading(struct sup_output *output, int number, int fd, struct stream **ret_stream)
{
    if (number < 1 || number >= STREAMS || (fd < 0 && !output->streams[number].open))
        return -EINVAL;
    struct stream *stream = *ret_stream = &output->streams[number];
    if (fd < 0)
        return 0;
    int flags = fcntl(fd, F_GETFL);
    int r = flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
    stream->in = (struct watch){.ready = input_ready, .token = output->token, .fd = fd};
    if (r == 0)
        r = engine_add(output->engine, &stream->in, EPOLLIN);
    stream->open = stream->watched = r == 0;
    if (r < 0)
        close(fd);
    return r;
}

int sup_output_collect(struct sup_output *output, int number, int fd)
{
    struct stream *stream;
    int r = reading(output, number, fd, &stream);
    if (r == 0)
        stream->keeps = 1;
    return r;
}

int sup_output_relay(struct sup_output *output, int number, int fd, int to_fd)
{
    struct stream *stream;
    int r = reading(output, number, fd, &stream);
    return r < 0 ? r : relay_open(stream, to_fd, 0);
}

int sup_output_pipe(struct sup_output *output, int number, int fd, int to_fd)
{
    struct stream *stream;
    int flags = fcntl(to_fd, F_GETFL);
    if (flags < 0 || fcntl(to_fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    int r = reading(output, number, fd, &stream);
    return r < 0 ? r : relay_open(stream, to_fd, 1);
}

int sup_output_capture(struct sup_output *output, int number, int fd, const struct sup_capture *plan)
{
    struct stream *stream;
    int r = reading(output, number, fd, &stream);
    if (r == 0 && stream->capture != NULL)
        r = -EINVAL;
    return r < 0 ? r : capture_open(plan, &stream->capture);
}

/* ---- feeding stdin ---- */

static void feed_ready(struct sup_engine *engine, struct watch *watch, uint32_t events)
{
    (void)engine;
    (void)events;
    struct stream *stream = stream_of(watch);
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
    stream->open = stream->watched = r == 0;
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
            n = next_bytes(stream, (uint64_t)left);
            if (n == -EINTR)
                n = 1;
            else if (n > 0)
                left -= (int)n;
            engine->event_count = 0;
        }
        close_input(stream);
        if (stream->relay_count > 0)
            relay_bytes(stream);
        else
            close_stream(stream);
        engine->event_count = 0;
    }
    return output->limit_hit;
}

int sup_output_pending(struct sup_output *output)
{
    return (relay_waiting_count(&output->streams[1]) > 0) + (relay_waiting_count(&output->streams[2]) > 0);
}

const void *sup_output_rest(struct sup_output *output, int number, uint64_t *ret_size)
{
    struct stream *stream = &output->streams[number];
    *ret_size = 0;
    for (int i = 0; i < stream->relay_count; i++) {
        struct relay *relay = &stream->relays[i];
        if (!relay->caller || !relay->open)
            continue;
        const void *rest = stream->bytes + relay->taken;
        *ret_size = stream->size - relay->taken;
        relay_close(relay);
        return rest;
    }
    return NULL;
}

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
    *ret_size = stream->keeps ? stream->size : 0;
    return stream->bytes;
}

uint64_t sup_output_lost(struct sup_output *output, int number, int32_t *ret_error)
{
    struct stream *stream = &output->streams[number];
    int error = 0;
    uint64_t lost = stream->capture == NULL ? 0 : capture_lost(stream->capture, &error);
    *ret_error = error;
    return lost;
}

uint64_t sup_output_count(struct sup_output *output, int number) { return output->streams[number].count; }

int sup_output_truncated(struct sup_output *output) { return output->truncated; }

uint64_t sup_output_last_ns(struct sup_output *output) { return output->last_ns; }

void sup_output_free(struct sup_output *output)
{
    for (int i = 0; i < STREAMS; i++) {
        struct stream *stream = &output->streams[i];
        close_stream(stream);
        if (stream->capture != NULL)
            capture_free(stream->capture);
        if (stream->bytes != NULL)
            munmap(stream->bytes, stream->room);
    }
    free(output);
}
