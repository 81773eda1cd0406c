/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening and closing the ends of a ring: what is mapped, and what is believed of memory that another
 * process may have written.
 */
#include "ringfence.h"
#include "ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t mapped_page(void) { return (uint64_t)sysconf(_SC_PAGESIZE); }

uint64_t sup_ring_message_max(const struct sup_ring *ring)
{
    return (ring->lossy ? commit_max(ring) : ring->capacity) - sizeof(struct sup_ring_record);
}

int sup_ring_format(int fd, uint64_t capacity, uint64_t index, uint64_t count)
{
    struct sup_ring_side side;
    memset(&side, 0, sizeof side);
    side.magic = SUP_RING_MAGIC;
    side.capacity = capacity;
    atomic_init(&side.index, index);
    atomic_init(&side.count, count);
    atomic_init(&side.reserved, index);
    ssize_t n = pwrite(fd, &side, sizeof side, 0);
    return n < 0 ? -errno : n == (ssize_t)sizeof side ? 0 : -EIO;
}

int sup_ring_renew(int cell_fd)
{
    uint32_t state = SUP_RING_NEW;
    ssize_t n = pwrite(cell_fd, &state, sizeof state, offsetof(struct sup_ring_side, state));
    return n < 0 ? -errno : 0;
}

static int has_size(int fd, uint64_t size)
{
    struct stat found;
    if (fstat(fd, &found) < 0)
        return -errno;
    return found.st_size >= 0 && (uint64_t)found.st_size >= size ? 0 : -EBADMSG;
}

static int map_side(int fd, uint64_t capacity, bool writable, struct sup_ring_side **ret_side)
{
    int r = has_size(fd, mapped_page());
    if (r < 0)
        return r;
    void *made = mmap(NULL, mapped_page(), PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
    if (made == MAP_FAILED)
        return -errno;
    const struct sup_ring_side *side = made;
    if (side->magic != SUP_RING_MAGIC || side->capacity != capacity) {
        munmap(made, mapped_page());
        return -EBADMSG;
    }
    *ret_side = made;
    return 0;
}

static void unmap_side(const struct sup_ring_side *side)
{
    if (side != NULL)
        munmap((void *)(uintptr_t)side, mapped_page());
}

static int map_messages(struct sup_ring *ring, int fd)
{
    int r = has_size(fd, ring->page + ring->capacity);
    if (r < 0)
        return r;
    char *space = mmap(NULL, 2 * ring->capacity, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED)
        return -errno;
    ring->messages = space;
    int access = PROT_READ | (ring->writer ? PROT_WRITE : 0);
    for (int half = 0; half < 2; half++)
        if (mmap(space + (uint64_t)half * ring->capacity, ring->capacity, access, MAP_SHARED | MAP_FIXED, fd, (off_t)ring->page) == MAP_FAILED)
            return -errno;
    return 0;
}

void sup_ring_close(struct sup_ring *ring)
{
    if (ring == NULL)
        return;
    if (ring->own != NULL) {
        if (ring->owner == getpid())
            atomic_store_explicit(&ring->own->state, SUP_RING_CLOSED, memory_order_release);
        unmap_side(ring->own);
    }
    for (int i = 0; i < ring->peer_count; i++)
        unmap_side(ring->peers[i].side);
    free(ring->peers);
    if (ring->messages != NULL)
        munmap(ring->messages, 2 * ring->capacity);
    free(ring);
}

static void close_ring(struct sup_ring **ring) { sup_ring_close(*ring); }

static struct sup_ring *failed(int r)
{
    errno = -r;
    return NULL;
}

static struct sup_ring *new_ring(uint64_t capacity, bool writer, bool lossy)
{
    uint64_t page = mapped_page();
    if (capacity < page || (capacity & (capacity - 1)) != 0 || capacity > UINT64_MAX / 8)
        return failed(-EINVAL);
    struct sup_ring *ring = calloc(1, sizeof *ring);
    if (ring == NULL)
        return failed(-ENOMEM);
    *ring = (struct sup_ring){.owner = getpid(), .capacity = capacity, .page = page, .writer = writer, .lossy = lossy};
    return ring;
}

/* Map the page of the other side and put it at slot, where none or a former one is. */
static int set_peer(struct sup_ring *ring, int slot, int side_fd, int socket)
{
    struct sup_ring_side *side;
    int r = map_side(side_fd, ring->capacity, false, &side);
    if (r < 0)
        return r;
    if (slot == ring->peer_count) {
        struct sup_ring_peer *more = realloc(ring->peers, ((size_t)slot + 1) * sizeof *more);
        if (more == NULL) {
            unmap_side(side);
            return -ENOMEM;
        }
        ring->peers = more;
        ring->peers[slot] = (struct sup_ring_peer){0};
        ring->peer_count++;
    }
    unmap_side(ring->peers[slot].side);
    ring->peers[slot] = (struct sup_ring_peer){.side = side, .socket = socket};
    return slot;
}

/* Where a writer goes on that takes the place of another. The number of the next message comes from the records after the
 * mark, as a crash can tear two counters apart; the record at the index itself was complete when the mark came to point to it. */
static int recover_writer(struct sup_ring *ring)
{
    ring->index = atomic_load_explicit(&ring->own->index, memory_order_acquire);
    ring->reserved = atomic_load_explicit(&ring->own->reserved, memory_order_relaxed);
    uint64_t at = atomic_load_explicit(&ring->own->mark, memory_order_relaxed), sequence, size;
    bool aligned = ring->index % SUP_RING_ALIGN == 0 && at % SUP_RING_ALIGN == 0;
    if (!aligned || ring->index - at > ring->capacity || (ring->lossy && ring->reserved - ring->index > ring->capacity))
        return -EBADMSG;
    read_record(ring, at, &ring->count, &size);
    ring->part_start = at;
    for (; at < ring->index; at += record_size(size)) {
        read_record(ring, at, &sequence, &size);
        if (!plausible(ring, at, ring->index, size) || sequence != ring->count)
            return -EBADMSG;
        ring->part_start = at;
        ring->count = sequence + 1;
    }
    ring->part = ring->part_start / commit_max(ring);
    ring->seen = ring->index > ring->capacity ? ring->index - ring->capacity : 0; /* full, until a reader says otherwise */
    return 0;
}

struct sup_ring *sup_ring_open_writer(int fd, uint64_t capacity, int lossy)
{
    __attribute__((cleanup(close_ring))) struct sup_ring *ring = new_ring(capacity, true, lossy != 0);
    if (ring == NULL)
        return NULL;
    int r = map_side(fd, capacity, true, &ring->own);
    if (r == 0)
        r = map_messages(ring, fd);
    if (r == 0)
        r = recover_writer(ring);
    if (r < 0)
        return failed(r);
    atomic_store_explicit(&ring->own->state, SUP_RING_ATTACHED, memory_order_release);
    struct sup_ring *made = ring;
    ring = NULL;
    return made;
}

int sup_ring_set_reader(struct sup_ring *ring, int slot, int cell_fd, int socket)
{
    bool possible = ring->writer && slot >= 0 && slot <= ring->peer_count && (ring->lossy || slot == 0);
    return possible ? set_peer(ring, slot, cell_fd, socket) : -EINVAL;
}

struct sup_ring *sup_ring_open_reader(int fd, int cell_fd, int socket, uint64_t capacity, int lossy)
{
    __attribute__((cleanup(close_ring))) struct sup_ring *ring = new_ring(capacity, false, lossy != 0);
    if (ring == NULL)
        return NULL;
    int r = map_side(cell_fd, capacity, true, &ring->own);
    if (r == 0)
        r = map_messages(ring, fd);
    if (r == 0)
        r = set_peer(ring, 0, fd, socket);
    if (r < 0)
        return failed(r);
    ring->index = atomic_load_explicit(&ring->own->index, memory_order_relaxed);
    ring->count = atomic_load_explicit(&ring->own->count, memory_order_relaxed);
    if (ring->index % SUP_RING_ALIGN != 0)
        return failed(-EBADMSG);
    atomic_store_explicit(&ring->own->state, SUP_RING_ATTACHED, memory_order_release);
    struct sup_ring *made = ring;
    ring = NULL;
    return made;
}
