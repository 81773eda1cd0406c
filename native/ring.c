/* SPDX-License-Identifier: Apache-2.0
 *
 * Rings of messages in shared memory, without locks: one writer and one reader that hold each other
 * back, or one writer and many readers that a slow one can fall out of ("lossy").
 *
 * Publishing is one release store of the head's index, so a writer that dies in the middle of a message
 * leaves the ring as it was at its last commit. A lossy ring is a seqlock: the writer announces in
 * "reserved" what it is about to overwrite, and a reader that has copied looks there whether what it
 * copied still counts.
 *
 * Sleeping: whoever finds nothing to do announces that it sleeps, looks once more, and polls its end of
 * a socket pair. The other side, after each commit, sends one byte when it sees a sleeper it has not
 * woken yet. A socket, not a futex or an eventfd, for three reasons: its end of file tells of the other
 * side's death at once; an event loop can wait on it; and MSG_DONTWAIT cannot be undone by the other
 * side, while the O_NONBLOCK of a shared eventfd can, which would let it block us for ever.
 */
#include "ringfence.h"
#include "ring.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { RESYNC_TRIES = 64, DRAINS = 16, NS_PER_S = 1000000000 };

/* ---- waking ---- */

static void wake(struct sup_ring_peer *peer, uint64_t index)
{
    uint32_t wait = atomic_load(&peer->side->wait);
    if (wait % 2 == 0 || wait == peer->woken || peer->gone)
        return;
    if ((int64_t)(index - atomic_load_explicit(&peer->side->wanted, memory_order_relaxed)) < 0)
        return;
    peer->woken = wait;
    ssize_t n;
    do
        n = send(peer->socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN) /* full is as good as woken */
        peer->gone = true;
}

static void publish(struct sup_ring *ring)
{
    atomic_store(&ring->own->index, ring->index); /* sequentially consistent, as the sleeper's: one of us sees the other */
    for (int i = 0; i < ring->peer_count; i++)
        wake(&ring->peers[i], ring->index);
}

/* ---- writing ---- */

/* Free bytes, or -EBADMSG when the reader claims what cannot be. Without a reader the ring fills up and waits for one. */
static int64_t free_bytes(struct sup_ring *ring, uint64_t need)
{
    if (ring->lossy)
        return (int64_t)ring->capacity;
    if (ring->capacity - (ring->index - ring->seen) < need && ring->peer_count > 0) {
        uint64_t claimed = atomic_load(&ring->peers[0].side->index);
        if (claimed - ring->seen > ring->index - ring->seen)
            return -EBADMSG;
        ring->seen = claimed;
    }
    return (int64_t)(ring->capacity - (ring->index - ring->seen));
}

/* The reader has left, as far as can be told without a system call. */
static bool abandoned(const struct sup_ring *ring)
{
    return !ring->lossy && ring->peer_count > 0 &&
        (ring->peers[0].gone || atomic_load_explicit(&ring->peers[0].side->state, memory_order_relaxed) == SUP_RING_CLOSED);
}

/* Put one record at index; nobody sees it yet. */
static void put_record(struct sup_ring *ring, const void *bytes, uint64_t size)
{
    struct sup_ring_record *record = (void *)place(ring, ring->index);
    atomic_store_explicit(&record->sequence, ring->count, memory_order_relaxed);
    atomic_store_explicit(&record->size, (uint32_t)size, memory_order_relaxed);
    if (size > 0)
        memcpy(record + 1, bytes, size);
    ring->index += record_size(size);
    ring->count++;
}

/* The mark of a lossy ring follows after a commit: the first commit of the part before. */
static void move_mark(struct sup_ring *ring, uint64_t start)
{
    if (start / commit_max(ring) == ring->part)
        return;
    atomic_store_explicit(&ring->own->mark, ring->part_start, memory_order_release);
    ring->part_start = start;
    ring->part = start / commit_max(ring);
}

/* How many of the messages the next commit takes, and their bytes. */
static uint64_t plan_commit(const struct sup_ring *ring, const uint32_t *sizes, uint64_t count, uint64_t space, uint64_t *ret_bytes)
{
    uint64_t taken = 0, bytes = 0;
    for (; taken < count && sizes[taken] <= sup_ring_message_max(ring); taken++) {
        uint64_t more = bytes + record_size(sizes[taken]);
        if (more > space || (taken > 0 && more > commit_max(ring)))
            break;
        bytes = more;
    }
    *ret_bytes = bytes;
    return taken;
}

/* Announced before any byte of it changes. */
static void reserve(struct sup_ring *ring, uint64_t end)
{
    if ((int64_t)(end - ring->reserved) <= 0)
        return; /* a writer that died here had announced more */
    ring->reserved = end;
    atomic_store_explicit(&ring->own->reserved, end, memory_order_relaxed);
    FENCE(memory_order_release);
}

int64_t sup_ring_write_many(struct sup_ring *ring, const void *bytes, const uint32_t *sizes, uint64_t count)
{
    const char *from = bytes;
    uint64_t done = 0;
    if (abandoned(ring))
        return -EPIPE;
    while (done < count) {
        int64_t space = free_bytes(ring, record_size(sizes[done]));
        if (space < 0)
            return space;
        uint64_t commit_bytes, start = ring->index, taken = plan_commit(ring, sizes + done, count - done, (uint64_t)space, &commit_bytes);
        if (taken == 0)
            break;
        if (ring->lossy)
            reserve(ring, start + commit_bytes);
        for (uint64_t end = done + taken; done < end; from += sizes[done++])
            put_record(ring, from, sizes[done]);
        if (!ring->lossy)
            atomic_store_explicit(&ring->own->mark, start, memory_order_release);
        publish(ring);
        if (ring->lossy)
            move_mark(ring, start);
    }
    if (done == 0 && count > 0)
        return sizes[0] > sup_ring_message_max(ring) ? -EMSGSIZE : -EAGAIN;
    return (int64_t)done;
}

int64_t sup_ring_write(struct sup_ring *ring, const void *bytes, uint64_t size)
{
    uint32_t one = (uint32_t)size;
    return size > sup_ring_message_max(ring) ? -EMSGSIZE : sup_ring_write_many(ring, bytes, &one, 1);
}

/* ---- reading ---- */

static bool overrun(const struct sup_ring *ring, uint64_t index)
{
    FENCE(memory_order_acquire); /* what was copied was copied before this look */
    return ring->lossy && atomic_load_explicit(&ring->peers[0].side->reserved, memory_order_relaxed) - index > ring->capacity;
}

/* Start again at the writer's mark; how many messages that skips. */
static int64_t resync(struct sup_ring *ring)
{
    for (int i = 0; i < RESYNC_TRIES; i++) {
        uint64_t head = atomic_load_explicit(&ring->peers[0].side->index, memory_order_acquire);
        uint64_t mark = atomic_load_explicit(&ring->peers[0].side->mark, memory_order_acquire), sequence, size;
        if (mark % SUP_RING_ALIGN != 0 || (int64_t)(mark - ring->index) <= 0)
            continue; /* the mark is about to follow */
        read_record(ring, mark, &sequence, &size);
        if (overrun(ring, mark) || head - mark > ring->capacity)
            continue;
        int64_t lost = (int64_t)(sequence - ring->count); /* below 0 it would be taken for an error */
        if (!plausible(ring, mark, head, size) || (ring->known && lost <= 0))
            break;
        lost = lost > 0 ? lost : 0;
        ring->known = true;
        ring->index = mark;
        ring->count = sequence;
        atomic_store_explicit(&ring->own->count, ring->count, memory_order_relaxed);
        atomic_store_explicit(&ring->own->index, ring->index, memory_order_release);
        return lost;
    }
    return -EBADMSG;
}

int64_t sup_ring_peek(struct sup_ring *ring, uint64_t *ret_starts, uint64_t *ret_ends, uint64_t max, uint64_t max_bytes, int64_t *ret_lost)
{
    uint64_t head = atomic_load_explicit(&ring->peers[0].side->index, memory_order_acquire);
    uint64_t at = ring->index, found = 0, bytes = 0;
    if (overrun(ring, at)) {
        *ret_lost = resync(ring);
        return *ret_lost < 0 ? *ret_lost : -EOVERFLOW;
    }
    if (head - at > ring->capacity || head % SUP_RING_ALIGN != 0)
        return -EBADMSG;
    ring->peeked_count = ring->count;
    while (at != head && found < max && (bytes < max_bytes || found == 0)) {
        uint64_t sequence, size;
        read_record(ring, at, &sequence, &size);
        if (!plausible(ring, at, head, size) || (ring->known && sequence != ring->peeked_count))
            break;
        if (!ring->known)
            ring->count = ring->peeked_count = sequence;
        ring->known = true;
        ret_starts[found] = (at & (ring->capacity - 1)) + sizeof(struct sup_ring_record);
        ret_ends[found] = ret_starts[found] + size;
        at += record_size(size);
        bytes += size;
        ring->peeked_count++;
        found++;
    }
    if (found == 0 && at != head) {
        if (!overrun(ring, at))
            return -EBADMSG;
        *ret_lost = resync(ring);
        return *ret_lost < 0 ? *ret_lost : -EOVERFLOW;
    }
    ring->peeked = at;
    return (int64_t)found;
}

const char *sup_ring_messages(const struct sup_ring *ring) { return ring->messages; }

int64_t sup_ring_advance(struct sup_ring *ring, int64_t *ret_lost)
{
    if (overrun(ring, ring->index)) {
        *ret_lost = resync(ring);
        return *ret_lost < 0 ? *ret_lost : -EOVERFLOW;
    }
    ring->index = ring->peeked;
    ring->count = ring->peeked_count;
    atomic_store_explicit(&ring->own->count, ring->count, memory_order_relaxed);
    publish(ring);
    return 0;
}

int64_t sup_ring_read(struct sup_ring *ring, void *ret_bytes, uint64_t size, int64_t *ret_lost)
{
    uint64_t start, end;
    int64_t r = sup_ring_peek(ring, &start, &end, 1, UINT64_MAX, ret_lost);
    if (r <= 0)
        return r < 0 ? r : -EAGAIN;
    if (end - start > size)
        return overrun(ring, ring->index) ? sup_ring_advance(ring, ret_lost) : -EMSGSIZE;
    memcpy(ret_bytes, ring->messages + start, end - start);
    r = sup_ring_advance(ring, ret_lost);
    return r < 0 ? r : (int64_t)(end - start);
}

/* ---- waiting ---- */

/* 1 when what is waited for is there, 0 when not, or an error that only the data shows. */
static int ready(struct sup_ring *ring, uint64_t need)
{
    if (!ring->writer)
        return atomic_load(&ring->peers[0].side->index) != ring->index;
    int64_t space = free_bytes(ring, need);
    return space < 0 ? (int)space : (uint64_t)space >= need;
}

static bool drain(struct sup_ring_peer *peer)
{
    char bytes[64];
    ssize_t n = 1;
    for (int i = 0; i < DRAINS && n > 0; i++)
        n = recv(peer->socket, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        peer->gone = true;
    return peer->gone;
}

/* What it means that the other side's socket has ended: what it left is still to be read. */
static int ended(struct sup_ring *ring, uint64_t need)
{
    int r = ready(ring, need);
    if (r != 0)
        return r;
    bool closed = atomic_load_explicit(&ring->peers[0].side->state, memory_order_acquire) == SUP_RING_CLOSED;
    return !ring->writer && closed ? -ESHUTDOWN : -EPIPE;
}

static int arm(struct sup_ring *ring, uint64_t need)
{
    int r = ready(ring, need);
    if (r != 0)
        return r;
    if (ring->peer_count == 0)
        return -ENOTCONN;
    if (drain(&ring->peers[0])) /* also takes bytes of earlier wake-ups */
        return ended(ring, need);
    /* a writer sleeps on until a quarter is free: fewer wake-ups, and never more than what the reader has left to take */
    uint64_t enough = need > ring->capacity / 4 ? need : ring->capacity / 4;
    uint64_t wanted = ring->writer ? ring->index + enough - ring->capacity : ring->index + 1;
    atomic_store_explicit(&ring->own->wanted, wanted, memory_order_relaxed);
    ring->sleeps = (ring->sleeps + 1) | 1;
    atomic_store(&ring->own->wait, ring->sleeps);
    r = ready(ring, need);
    if (r != 0)
        sup_ring_disarm(ring);
    return r;
}

void sup_ring_disarm(struct sup_ring *ring)
{
    ring->sleeps = (ring->sleeps | 1) + 1;
    atomic_store_explicit(&ring->own->wait, ring->sleeps, memory_order_relaxed);
}

int sup_ring_arm(struct sup_ring *ring, uint64_t size) { return arm(ring, record_size(size)); }

static int spin(struct sup_ring *ring, uint64_t need, uint64_t until_ns)
{
    for (;;) {
        for (int i = 0; i < 64; i++) {
            int r = ready(ring, need);
            if (r != 0)
                return r;
#if defined(__x86_64__)
            __builtin_ia32_pause();
#elif defined(__aarch64__)
            __asm__ volatile("yield");
#endif
        }
        if (sup_now_ns() >= until_ns)
            return 0;
    }
}

int sup_ring_wait(struct sup_ring *ring, uint64_t size, int64_t timeout_ns, int64_t spin_ns)
{
    uint64_t begun = sup_now_ns(), need = record_size(size);
    int r = ready(ring, need);
    if (r == 0 && timeout_ns != 0 && spin_ns > 0)
        r = spin(ring, need, begun + (uint64_t)spin_ns);
    while (r == 0) {
        r = arm(ring, need);
        if (r != 0)
            break;
        struct timespec left, *limit = NULL;
        if (timeout_ns >= 0) {
            uint64_t passed = sup_now_ns() - begun, rest = passed < (uint64_t)timeout_ns ? (uint64_t)timeout_ns - passed : 0;
            left = (struct timespec){.tv_sec = (time_t)(rest / NS_PER_S), .tv_nsec = (long)(rest % NS_PER_S)};
            limit = &left;
        }
        struct pollfd poll = {.fd = ring->peers[0].socket, .events = POLLIN | POLLRDHUP};
        int n = ppoll(&poll, 1, limit, NULL);
        int err = errno;
        sup_ring_disarm(ring);
        if (n < 0)
            return -err;
        r = ready(ring, need);
        if (r == 0 && timeout_ns >= 0 && sup_now_ns() - begun >= (uint64_t)timeout_ns)
            return -ETIMEDOUT;
    }
    return r < 0 ? r : 0;
}
