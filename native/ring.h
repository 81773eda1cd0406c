/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory of a ring, as both processes map it.
 *
 * Every page has one writer. The writer of messages owns the head and the messages; each reader owns a
 * cell, a page of its own. What a process needs for its own decisions it keeps in private memory
 * (struct sup_ring); of the shared pages it only ever reads what the other side wrote, once, and checks
 * it before use. So garbage there is an error code, never a wild access.
 *
 *     head   one page: struct sup_ring_side, then the messages, capacity bytes, mapped twice in a row,
 *            so that a message is contiguous wherever it lies
 *     cell   one page: struct sup_ring_side
 *
 * index counts bytes since the beginning of time and never wraps in practice; index modulo capacity is
 * the place. A record is a struct sup_ring_record, the message, and padding to RECORD_ALIGN.
 */
#ifndef RINGFENCE_RING_H
#define RINGFENCE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SUP_RING_MAGIC 0x31676e6952707553ull /* "SupRing1" */

enum { SUP_RING_LINE = 64, SUP_RING_ALIGN = 16, SUP_RING_PARTS = 8 };

/* wait: odd while its owner sleeps, and a new number each time. wanted: the index of the other side that
 * ends the sleep. A wake-up is one byte on the socket between the two. */
struct sup_ring_side {
    uint64_t magic, capacity;
    _Atomic uint32_t state; /* enum sup_ring_state */
    char pad0[SUP_RING_LINE - 20];
    _Atomic uint64_t index;    /* committed or consumed up to here */
    _Atomic uint64_t count;    /* a cell's: messages consumed or lost */
    _Atomic uint64_t reserved; /* the head's: bytes from here minus capacity on may be overwritten right now */
    _Atomic uint64_t mark;     /* the head's: a record one to five eighths of the capacity ago */
    char pad1[SUP_RING_LINE - 32];
    _Atomic uint32_t wait;
    _Atomic uint64_t wanted;
};

enum sup_ring_state { SUP_RING_NEW, SUP_RING_ATTACHED, SUP_RING_CLOSED };

struct sup_ring_record {
    _Atomic uint64_t sequence; /* number of the message, from 0 */
    _Atomic uint32_t size;
    uint32_t reserved;
};

/* ThreadSanitizer knows no fences. The only accesses they order are those of a lossy ring's messages, which it is not shown. */
#if defined(__SANITIZE_THREAD__)
#define FENCE(order) ((void)0)
#define UNSEEN __attribute__((no_sanitize_thread))
#else
#define FENCE(order) atomic_thread_fence(order)
#define UNSEEN
#endif

/* ---- private memory ---- */

/* The other side of a ring as this process sees it. */
struct sup_ring_peer {
    const struct sup_ring_side *side;
    int socket;     /* borrowed */
    uint32_t woken; /* the sleep that we ended already */
    bool gone;      /* the socket has ended */
};

struct sup_ring {
    struct sup_ring_side *own;
    pid_t owner; /* a process forked from it has a copy of us, and no say */
    char *messages;
    uint64_t capacity, page;
    uint64_t index, count;         /* ours: the shared copies are for the others */
    uint64_t seen;                 /* the reader's index when the writer last looked */
    uint64_t reserved;             /* the writer's: the shared copy never goes back */
    uint64_t part, part_start;     /* the writer's: the newest part of the ring, and its first commit */
    uint64_t peeked, peeked_count; /* the reader's: end of the batch that peek has shown */
    bool writer, lossy, known; /* known: count is certain */
    uint32_t sleeps;
    int peer_count;
    struct sup_ring_peer *peers;
};

/* ---- records, for both translation units ---- */

static inline uint64_t record_size(uint64_t size)
{
    return (sizeof(struct sup_ring_record) + size + SUP_RING_ALIGN - 1) / SUP_RING_ALIGN * SUP_RING_ALIGN;
}

static inline char *place(const struct sup_ring *ring, uint64_t index) { return ring->messages + (index & (ring->capacity - 1)); }

/* A commit takes one part of the ring, so that the reader can begin while the writer goes on, and so that the mark of a
 * lossy ring, at most five parts behind, is not overwritten by the very next commit. Only a big message of a ring that is
 * not lossy takes more. */
static inline uint64_t commit_max(const struct sup_ring *ring) { return ring->capacity / SUP_RING_PARTS; }

/* Of a lossy ring the writer may be overwriting the very record: the caller finds out afterwards. */
UNSEEN static inline void read_record(const struct sup_ring *ring, uint64_t index, uint64_t *ret_sequence, uint64_t *ret_size)
{
    const struct sup_ring_record *record = (const void *)place(ring, index);
    *ret_sequence = atomic_load_explicit(&record->sequence, memory_order_relaxed);
    *ret_size = atomic_load_explicit(&record->size, memory_order_relaxed);
}

/* 1 when a whole record can lie at index, before end. */
static inline bool plausible(const struct sup_ring *ring, uint64_t index, uint64_t end, uint64_t size)
{
    return size <= sup_ring_message_max(ring) && record_size(size) <= end - index;
}

#endif
