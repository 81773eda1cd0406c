/* SPDX-License-Identifier: Apache-2.0
 *
 * One stream of a job and the places its bytes go: what output.c, relay.c and capture.c share.
 */
#ifndef RINGFENCE_STREAM_H
#define RINGFENCE_STREAM_H

#include "engine.h"

enum { STREAMS = 3, RELAYS = 2 };

/* How a relay's destination takes bytes without ever blocking us; see write_some. */
enum target { TARGET_FILE, TARGET_SOCKET, TARGET_SHARED };

struct stream;
struct capture;

/* One destination that takes a stream's bytes at its own pace. */
struct relay {
    struct watch out; /* watched only while bytes wait */
    struct stream *stream;
    enum target target;
    int open, waiting, own; /* own: out.fd is ours to close */
    int caller;             /* our end of a pipe whose reader is the caller */
    uint64_t taken;         /* how many of the stream's bytes have gone out */
};

struct stream {
    struct watch in; /* the job's end of it: what we read (1, 2) or write (0) */
    struct sup_output *output;
    int number, open, watched, large, keeps, error;
    int relay_count;
    struct relay relays[RELAYS];
    struct capture *capture;
    char *bytes; /* kept, or waiting for the slowest destination; page-aligned */
    uint64_t size, room;
    uint64_t taken; /* of a feed: how much has gone out */
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

/* output.c */
void stream_watch(struct stream *stream); /* read the job, unless a destination is full or the cap is passed */
void stream_end(struct stream *stream);

/* relay.c */
int relay_open(struct stream *stream, int to_fd, int caller);
void relay_bytes(struct stream *stream); /* hand on what is new; a destination that is full stops the reading */
void relay_push(struct stream *stream);  /* hand on what goes at once, and change nothing else */
int relay_open_count(const struct stream *stream);
int relay_waiting_count(const struct stream *stream);
void relay_close(struct relay *relay);

/* capture.c; the struct itself is its own affair */
int capture_open(const struct sup_capture *plan, struct capture **ret_capture);
int64_t capture_take(struct stream *stream, uint64_t most); /* straight from the job's pipe: bytes, 0 at the end, -errno of the pipe */
void capture_write(struct stream *stream, const char *bytes, uint64_t size);
void capture_close(struct capture *capture); /* the file; its account stays */
void capture_free(struct capture *capture);
uint64_t capture_lost(const struct capture *capture, int *ret_error);

#endif
