/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzing of rings while the other side scribbles: the real ends work on memory into which another thread writes what it likes,
 * all the time, and on sockets to which it sends, or which it closes. Under AddressSanitizer and UndefinedBehaviorSanitizer, each
 * mapping between guards (guarded_memory.h).
 *
 *     ring_fuzz SECONDS SEED
 *
 * What must hold: only answers that are documented, offsets inside the ring, and an honest reader beside a hostile one hears
 * everything or the exact number that it lost.
 */
#define RINGFENCE_UNGUARDED
#include "guarded_memory.h"
#include "rounds.h"
#include "ringfence.h"

#include "ring.h" /* after ringfence.h, whose functions it uses */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, READERS = 2, BATCH = 64, CALLS = 200, SECOND = 1000000000, WORDS = 24 };

static volatile unsigned long seen; /* what was read, so that reading is not left out */

uint64_t sup_now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

/* ---- guards ---- */

void *guarded_mmap(void *address, size_t size, int access, int flags, int fd, off_t offset)
{
    if (flags & MAP_FIXED) /* into what was made below */
        return mmap(address, size, access, flags, fd, offset);
    char *space = mmap(NULL, size + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED)
        return space;
    void *made = mmap(space + PAGE, size, access, flags | MAP_FIXED, fd, offset);
    if (made == MAP_FAILED)
        munmap(space, size + 2 * PAGE);
    return made;
}

int guarded_munmap(void *address, size_t size) { return munmap((char *)address - PAGE, size + 2 * PAGE); }

/* ---- one ring ---- */

enum hostile { WRITER, READER };

struct memory {
    int fd, cells[READERS], sockets[READERS][2], lossy;
    uint64_t capacity;
    enum hostile hostile;
    uint64_t *head, *cell; /* as the hostile side has them */
    atomic_int stop;
};

static int new_memory(uint64_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    return fd;
}

static struct memory make_memory(void)
{
    struct memory made = {.capacity = (uint64_t)PAGE << below(4), .lossy = (int)below(2), .hostile = below(2) ? READER : WRITER};
    uint64_t at = below(2) ? 0 : any() & ~15ull;
    made.fd = new_memory(PAGE + made.capacity);
    CHECK(sup_ring_format(made.fd, made.capacity, at, 0) == 0);
    if (at != 0) { /* a writer begins at its mark */
        uint64_t mark = at;
        CHECK(pwrite(made.fd, &mark, sizeof mark, offsetof(struct sup_ring_side, mark)) == sizeof mark);
    }
    for (int i = 0; i < READERS; i++) {
        made.cells[i] = new_memory(PAGE);
        CHECK(sup_ring_format(made.cells[i], made.capacity, at, 0) == 0);
        CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, made.sockets[i]) == 0);
    }
    made.head = mmap(NULL, PAGE + made.capacity, PROT_READ | PROT_WRITE, MAP_SHARED, made.fd, 0);
    made.cell = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, made.cells[0], 0);
    CHECK(made.head != MAP_FAILED && made.cell != MAP_FAILED);
    return made;
}

static void free_memory(struct memory *memory)
{
    munmap(memory->head, PAGE + memory->capacity);
    munmap(memory->cell, PAGE);
    close(memory->fd);
    for (int i = 0; i < READERS; i++) {
        close(memory->cells[i]);
        close(memory->sockets[i][0]);
        close(memory->sockets[i][1]);
    }
}

/* ---- the hostile side ---- */

/* A word near what is there, or one of those that are often special. */
static uint64_t bad_word(const struct memory *memory, uint64_t was)
{
    const uint64_t words[] = {0, 1, ~0ull, was + 1, was - 1, was + 16, was - 16, was + memory->capacity, was - memory->capacity, was ^ (1ull << below(64)),
        memory->capacity, memory->capacity - 16, any(), any() & ~15ull, 1ull << 63, below(64)};
    return words[below(sizeof words / sizeof *words)];
}

/* One word of the pages that this side may write: the fields of its page, or a record. */
static void scribble(struct memory *memory)
{
    uint64_t *page = memory->hostile == WRITER ? memory->head : memory->cell;
    uint64_t *word = page + below(WORDS);
    if (memory->hostile == WRITER && below(2))
        word = (uint64_t *)(void *)((char *)memory->head + PAGE) + (below(2) ? below(memory->capacity / 8) : below(memory->capacity / 16) * 2);
    _Atomic uint64_t *at = (_Atomic uint64_t *)word;
    atomic_store_explicit(at, bad_word(memory, atomic_load_explicit(at, memory_order_relaxed)), memory_order_relaxed);
}

/* A lie that hangs together: the writer is far ahead, and its mark points to a record. */
static void lie(struct memory *memory)
{
    struct sup_ring_side *side = (void *)memory->head;
    uint64_t mark = (atomic_load(&side->index) & ~15ull) + (1 + below(memory->capacity / 4)) * SUP_RING_ALIGN;
    struct sup_ring_record *record = (void *)((char *)memory->head + PAGE + (mark & (memory->capacity - 1)));
    uint64_t sequence = atomic_load(&record->sequence);
    atomic_store(&record->sequence, below(2) ? bad_word(memory, sequence) : 1 - below(200));
    atomic_store(&record->size, below(64));
    atomic_store(&side->mark, mark);
    atomic_store(&side->index, mark + 80);
    atomic_store(&side->reserved, mark + 80 + below(2) * below(memory->capacity));
}

static void *scribble_on(void *given)
{
    struct memory *memory = given;
    int socket = memory->sockets[0][memory->hostile == WRITER ? 0 : 1];
    state = seed ^ rounds * 77;
    while (!atomic_load_explicit(&memory->stop, memory_order_relaxed)) {
        scribble(memory);
        if (!below(100)) /* let the others see it for a while */
            sched_yield();
        if (!below(500))
            send(socket, "hello", below(6), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (!below(50000))
            shutdown(socket, SHUT_RDWR);
    }
    return NULL;
}

/* ---- our side ---- */

static void look_at(const char *bytes, uint64_t size)
{
    for (uint64_t at = 0; at < size; at += 64)
        seen += (unsigned char)bytes[at];
    if (size > 0)
        seen += (unsigned char)bytes[size - 1];
}

static int64_t read_answer(const struct memory *memory, int64_t n, const int64_t *lost)
{
    CHECK(n >= 0 || n == -EBADMSG || n == -EAGAIN || n == -EMSGSIZE || (n == -EOVERFLOW && memory->lossy && *lost >= 0));
    return n;
}

static void wait_for(struct sup_ring *ring, uint64_t size)
{
    uint64_t begun = sup_now_ns();
    int r = sup_ring_wait(ring, size, below(4) ? 0 : below(100000), below(2) * 1000);
    CHECK(r == 0 || r == -ETIMEDOUT || r == -EBADMSG || r == -EPIPE || r == -ESHUTDOWN);
    CHECK(sup_now_ns() - begun < 5ull * SECOND);
    r = sup_ring_arm(ring, size);
    CHECK(r == 0 || r == 1 || r == -EBADMSG || r == -EPIPE || r == -ESHUTDOWN);
    sup_ring_disarm(ring);
}

static void read_once(const struct memory *memory, struct sup_ring *ring)
{
    uint64_t starts[BATCH], ends[BATCH], most = 1 + below(BATCH);
    int64_t lost = -1;
    char bytes[1 << 16];
    if (below(3) == 0) {
        uint64_t size = below(sizeof bytes);
        char *exact = malloc(size + 1);
        int64_t n = read_answer(memory, sup_ring_read(ring, exact, size, &lost), &lost);
        CHECK(n <= (int64_t)size);
        free(exact);
        return;
    }
    int64_t n = read_answer(memory, sup_ring_peek(ring, starts, ends, most, below(2) ? UINT64_MAX : below(5000), &lost), &lost);
    CHECK(n <= (int64_t)most);
    for (int64_t i = 0; i < n; i++) {
        CHECK(starts[i] >= sizeof(struct sup_ring_record) && starts[i] <= ends[i] && ends[i] <= 2 * memory->capacity);
        CHECK(ends[i] - starts[i] <= sup_ring_message_max(ring));
        look_at(sup_ring_messages(ring) + starts[i], ends[i] - starts[i]);
    }
    if (n > 0)
        read_answer(memory, sup_ring_advance(ring, &lost), &lost);
}

static int64_t write_some(const struct memory *memory, struct sup_ring *ring, uint64_t *number)
{
    uint64_t numbers[BATCH];
    uint32_t sizes[BATCH], count = 1 + below(BATCH);
    for (uint32_t i = 0; i < count; i++)
        numbers[i] = *number + i, sizes[i] = sizeof *numbers;
    int64_t n = sup_ring_write_many(ring, numbers, sizes, count);
    CHECK((n > 0 && n <= count) || n == -EAGAIN || n == -EBADMSG || n == -EPIPE);
    CHECK(n > 0 || !memory->lossy);
    *number += n > 0 ? (uint64_t)n : 0;
    return n;
}

/* An honest reader of a broadcast, whose neighbour is hostile. */
static void hear(struct sup_ring *ring, uint64_t *next)
{
    uint64_t starts[BATCH], ends[BATCH], numbers[BATCH];
    int64_t lost, n = sup_ring_peek(ring, starts, ends, BATCH, UINT64_MAX, &lost);
    CHECK(n >= 0 || n == -EOVERFLOW);
    for (int64_t i = 0; i < n; i++) {
        CHECK(ends[i] - starts[i] == sizeof *numbers);
        memcpy(&numbers[i], sup_ring_messages(ring) + starts[i], sizeof *numbers);
    }
    if (n == -EOVERFLOW || (n > 0 && sup_ring_advance(ring, &lost) == -EOVERFLOW)) {
        *next += (uint64_t)lost;
        return;
    }
    for (int64_t i = 0; i < n; i++)
        CHECK(numbers[i] == (*next)++);
}

static void work(struct memory *memory, struct sup_ring *writer, struct sup_ring *reader, struct sup_ring *neighbour)
{
    uint64_t number = 0, next = 0;
    for (int call = 0; call < CALLS; call++) {
        if (memory->hostile == WRITER) {
            if (!below(4))
                lie(memory);
            read_once(memory, reader);
            wait_for(reader, 0);
        } else {
            write_some(memory, writer, &number);
            wait_for(writer, below(2) ? 8 : below(memory->capacity));
            if (neighbour != NULL)
                hear(neighbour, &next);
        }
    }
}

/* Whoever comes after a hostile process finds what that left: it is refused, or works. */
static void succeed(struct memory *memory)
{
    struct sup_ring *ring;
    if (below(4) == 0) /* what it has scribbled is seldom believed, and then what comes after it is not looked at */
        CHECK(sup_ring_format(memory->hostile == WRITER ? memory->fd : memory->cells[0], memory->capacity, below(1000) * SUP_RING_ALIGN, 0) == 0);
    if (below(8) == 0)
        CHECK(ftruncate(memory->fd, below(PAGE + memory->capacity)) == 0 && ftruncate(memory->cells[0], below(PAGE + 1)) == 0);
    if (memory->hostile == WRITER)
        ring = sup_ring_open_writer(memory->fd, memory->capacity, memory->lossy);
    else
        ring = sup_ring_open_reader(memory->fd, memory->cells[0], memory->sockets[0][1], memory->capacity, memory->lossy);
    CHECK(ring != NULL || errno == EBADMSG);
    for (int call = 0; ring != NULL && call < 8; call++) {
        uint64_t number = 0;
        if (memory->hostile == WRITER) {
            int64_t n = write_some(memory, ring, &number);
            CHECK(n > 0 || n == -EAGAIN);
        } else
            read_once(memory, ring);
    }
    sup_ring_close(ring);
}

static void one_round(void)
{
    struct memory memory = make_memory();
    struct sup_ring *writer = sup_ring_open_writer(memory.fd, memory.capacity, memory.lossy), *neighbour = NULL;
    struct sup_ring *reader = sup_ring_open_reader(memory.fd, memory.cells[0], memory.sockets[0][1], memory.capacity, memory.lossy);
    CHECK(writer != NULL && reader != NULL && sup_ring_set_reader(writer, 0, memory.cells[0], memory.sockets[0][0]) == 0);
    if (memory.lossy && memory.hostile == READER) {
        neighbour = sup_ring_open_reader(memory.fd, memory.cells[1], memory.sockets[1][1], memory.capacity, 1);
        CHECK(neighbour != NULL && sup_ring_set_reader(writer, 1, memory.cells[1], memory.sockets[1][0]) == 1);
    }
    uint64_t number = 0;
    if (memory.hostile == WRITER) /* something true, which the lies are near to */
        write_some(&memory, writer, &number);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, scribble_on, &memory) == 0);
    work(&memory, writer, reader, neighbour);
    atomic_store(&memory.stop, 1);
    pthread_join(thread, NULL);
    sup_ring_close(writer);
    sup_ring_close(reader);
    sup_ring_close(neighbour);
    succeed(&memory);
    free_memory(&memory);
}
