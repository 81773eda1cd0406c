/* SPDX-License-Identifier: Apache-2.0
 *
 * Captures: a stream's bytes into a regular file, from the job's pipe by splice(2), and into the next
 * file when it is full. Names are looked up below a directory that is held open, and a new file is
 * never somebody else's link: the directory may belong to whoever runs the job.
 *
 * A file that takes no more (disk full, quota, file size) holds nobody up: what comes meanwhile is
 * counted as lost, the error is told once, and from time to time the file is tried again.
 */
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SCRATCH = 64 * 1024, LINE_WINDOW = 64 * 1024, WINDOW_SHARE = 4, SPLICE_MAX = 1024 * 1024 };
#define RETRY_NS 1000000000ull

struct capture {
    char name[NAME_MAX + 1];
    int dir_fd, fd;
    uint64_t size, max_bytes;
    uint64_t line_start; /* the first line end from here on ends the file; beyond max_bytes: none does */
    int keep, shift;     /* shift: the oldest file that must still make room, -1: none */
    int full, copies;    /* copies: this file takes no splice */
    int failing, error;
    uint64_t retry_ns, lost;
};

int capture_open(const struct sup_capture *plan, struct capture **ret_capture)
{
    if (strlen(plan->name) > NAME_MAX)
        return -ENAMETOOLONG;
    struct capture *capture = calloc(1, sizeof *capture);
    if (capture == NULL)
        return -ENOMEM;
    strcpy(capture->name, plan->name);
    capture->dir_fd = plan->dir_fd;
    capture->fd = plan->fd;
    capture->size = plan->size;
    capture->max_bytes = plan->max_bytes;
    uint64_t window = plan->max_bytes / WINDOW_SHARE < LINE_WINDOW ? plan->max_bytes / WINDOW_SHARE : LINE_WINDOW;
    capture->line_start = plan->lines ? plan->max_bytes - window : UINT64_MAX;
    capture->keep = capture->shift = plan->keep;
    *ret_capture = capture;
    return 0;
}

/* ---- rotation ---- */

static void old_name(const struct capture *capture, int number, char *ret_name)
{
    if (number == 0)
        strcpy(ret_name, capture->name);
    else
        snprintf(ret_name, NAME_MAX + 16, "%s.%d", capture->name, number);
}

/* Each old file one number up, the oldest over the edge. Goes on where a failure stopped it, or it would lose one more. */
static int make_way(struct capture *capture)
{
    char from[NAME_MAX + 16], to[NAME_MAX + 16];
    if (capture->keep == 0 && capture->shift == 0 && unlinkat(capture->dir_fd, capture->name, 0) < 0 && errno != ENOENT)
        return -errno;
    for (; capture->shift > 0; capture->shift--) {
        old_name(capture, capture->shift - 1, from);
        old_name(capture, capture->shift, to);
        if (renameat(capture->dir_fd, from, capture->dir_fd, to) < 0 && errno != ENOENT)
            return -errno;
    }
    capture->shift = -1;
    return 0;
}

/* The next file, with the owner and the mode of the one that is full. */
static int rotate(struct capture *capture)
{
    struct stat old;
    int r = capture->shift < 0 ? 0 : make_way(capture);
    if (r < 0)
        return r;
    int fd = openat(capture->dir_fd, capture->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0)
        return -errno;
    if (fstat(capture->fd, &old) == 0) {
        if ((old.st_uid != geteuid() || old.st_gid != getegid()) && fchown(fd, old.st_uid, old.st_gid) < 0)
            old.st_mode &= 0700; /* not theirs: then nobody but us gets more than before */
        fchmod(fd, old.st_mode & 0777);
    }
    flock(fd, LOCK_EX | LOCK_NB);
    flock(capture->fd, LOCK_UN); /* a child on its way to exec may hold a copy of the descriptor for a moment */
    close(capture->fd);
    capture->fd = fd;
    capture->size = 0;
    capture->full = 0;
    capture->shift = capture->keep;
    return 0;
}

/* ---- writing ---- */

static void fail(struct stream *stream, int error)
{
    struct capture *capture = stream->capture;
    capture->retry_ns = sup_now_ns() + RETRY_NS;
    if (!capture->failing) {
        struct sup_event *event = engine_emit(stream->output->engine, SUP_EVENT_OUTPUT_ERROR, stream->output->token);
        event->code = stream->number;
        event->detail = error;
    }
    capture->failing = 1;
    capture->error = error;
}

/* How many of the bytes, which all fit, belong to this file: up to the line end that ends it. */
static uint64_t up_to_its_end(struct capture *capture, const char *bytes, uint64_t size)
{
    uint64_t end = capture->size + size;
    if (end <= capture->line_start)
        return size;
    uint64_t from = capture->line_start > capture->size ? capture->line_start - capture->size : 0;
    const char *found = memchr(bytes + from, '\n', size - from);
    if (found == NULL)
        return size;
    capture->full = 1;
    return (uint64_t)(found + 1 - bytes);
}

static int is_full(const struct capture *capture) { return capture->full || capture->size >= capture->max_bytes; }

void capture_write(struct stream *stream, const char *bytes, uint64_t size)
{
    struct capture *capture = stream->capture;
    if (capture->fd < 0 || (capture->failing && sup_now_ns() < capture->retry_ns)) {
        capture->lost += size;
        return;
    }
    while (size > 0) {
        int r = is_full(capture) ? rotate(capture) : 0;
        uint64_t room = capture->max_bytes - capture->size;
        uint64_t piece = r < 0 ? 0 : up_to_its_end(capture, bytes, size < room ? size : room);
        ssize_t n = r < 0 ? r : write(capture->fd, bytes, piece);
        if (n < 0 && r == 0)
            n = -errno;
        if (n < 0)
            capture->full = capture->full && r < 0; /* the line that would have ended it is not in it */
        if (n == -EINTR)
            continue;
        if (n < 0) {
            capture->lost += size;
            fail(stream, (int)-n);
            return;
        }
        capture->full = capture->full && (uint64_t)n == piece;
        capture->failing = 0;
        capture->size += (uint64_t)n;
        bytes += n;
        size -= (uint64_t)n;
    }
}

/* How much may go into the file unseen; 0: it must be looked at, or copied. */
static uint64_t spliceable(const struct capture *capture)
{
    if (capture->copies || capture->failing || capture->fd < 0 || is_full(capture))
        return 0;
    uint64_t end = capture->line_start < capture->max_bytes ? capture->line_start : capture->max_bytes;
    return capture->size < end ? end - capture->size : 0;
}

int64_t capture_take(struct stream *stream, uint64_t most)
{
    struct capture *capture = stream->capture;
    struct sup_engine *engine = stream->output->engine;
    uint64_t room = spliceable(capture);
    room = room < most ? room : most;
    if (room > 0) {
        ssize_t n = splice(stream->in.fd, NULL, capture->fd, NULL, room < SPLICE_MAX ? room : SPLICE_MAX, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (n > 0)
            capture->size += (uint64_t)n;
        if (n >= 0)
            return n;
        if (errno == EAGAIN || errno == EINTR)
            return -errno;
        capture->copies = errno == EINVAL; /* other errors are the file's: the copy below meets them again */
    }
    if (engine->scratch == NULL && (engine->scratch = aligned_alloc(4096, SCRATCH)) == NULL)
        return -ENOMEM;
    ssize_t n = read(stream->in.fd, engine->scratch, most < SCRATCH ? most : SCRATCH);
    if (n > 0)
        capture_write(stream, engine->scratch, (uint64_t)n);
    return n < 0 ? -errno : n;
}

/* ---- the end ---- */

void capture_close(struct capture *capture)
{
    if (capture->fd < 0)
        return;
    flock(capture->fd, LOCK_UN);
    close(capture->fd);
    close(capture->dir_fd);
    capture->fd = capture->dir_fd = -1;
}

uint64_t capture_lost(const struct capture *capture, int *ret_error)
{
    *ret_error = capture->error;
    return capture->lost;
}

void capture_free(struct capture *capture)
{
    capture_close(capture);
    free(capture);
}
