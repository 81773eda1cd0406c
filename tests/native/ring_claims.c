/* SPDX-License-Identifier: Apache-2.0
 *
 * The ring by itself, under sanitizers: threads that each map it stand for the processes, and a damaged
 * ring is a whole memfd of chosen garbage. As in claims.c each claim is run by its name.
 */
#include "ringfence.h"
#include "ring.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)

enum { CAPACITY = 65536, PAGE = 4096, BATCH = 64, READERS = 3, SECOND = 1000000000 };

uint64_t sup_now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

/* ---- a ring and its ends ---- */

struct memory {
    int fd, cells[READERS], sockets[READERS][2];
    int lossy;
};

static int new_memory(uint64_t size)
{
    int fd = memfd_create("claim", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    return fd;
}

static struct memory make_memory(int lossy)
{
    struct memory made = {.fd = new_memory(PAGE + CAPACITY), .lossy = lossy};
    CHECK(sup_ring_format(made.fd, CAPACITY, 0, 0) == 0);
    for (int i = 0; i < READERS; i++) {
        made.cells[i] = new_memory(PAGE);
        CHECK(sup_ring_format(made.cells[i], CAPACITY, 0, 0) == 0);
        CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, made.sockets[i]) == 0);
    }
    return made;
}

static void free_memory(struct memory *memory)
{
    close(memory->fd);
    for (int i = 0; i < READERS; i++) {
        close(memory->cells[i]);
        for (int side = 0; side < 2; side++)
            if (memory->sockets[i][side] >= 0)
                close(memory->sockets[i][side]);
    }
}

static struct sup_ring *open_writer(const struct memory *memory)
{
    struct sup_ring *ring = sup_ring_open_writer(memory->fd, CAPACITY, memory->lossy);
    CHECK(ring != NULL);
    for (int i = 0; i < (memory->lossy ? READERS : 1); i++)
        CHECK(sup_ring_set_reader(ring, i, memory->cells[i], memory->sockets[i][0]) == i);
    return ring;
}

static struct sup_ring *open_reader(const struct memory *memory, int number)
{
    struct sup_ring *ring = sup_ring_open_reader(memory->fd, memory->cells[number], memory->sockets[number][1], CAPACITY, memory->lossy);
    CHECK(ring != NULL);
    return ring;
}

static void hang_up(struct memory *memory, int number, int side)
{
    close(memory->sockets[number][side]);
    memory->sockets[number][side] = -1;
}

/* ThreadSanitizer compares addresses, and each end has mapped the memory at its own: let the reader use the writer's. */
static void join_addresses(struct sup_ring *writer, struct sup_ring *reader, int number)
{
    munmap(reader->messages, 2 * CAPACITY);
    munmap((void *)(uintptr_t)reader->peers[0].side, PAGE);
    munmap((void *)(uintptr_t)writer->peers[number].side, PAGE);
    reader->messages = writer->messages;
    reader->peers[0].side = writer->own;
    writer->peers[number].side = reader->own;
}

static void part_addresses(struct sup_ring *writer, struct sup_ring *reader, int number)
{
    reader->messages = NULL;
    reader->peers[0].side = NULL;
    writer->peers[number].side = NULL;
}

/* The size and the bytes of a message follow from its number, so that whoever reads it can tell. */
static uint32_t size_of(uint64_t number) { return (uint32_t)(number * 2654435761u % 997); }

static uint32_t fill(char *bytes, uint64_t number)
{
    memset(bytes, (int)(number % 251), size_of(number));
    return size_of(number);
}

static int is_message(const char *bytes, uint64_t size, uint64_t number)
{
    int right = size == size_of(number);
    for (uint64_t i = 0; i < size; i++)
        right &= (unsigned char)bytes[i] == number % 251;
    return right;
}

/* The same for a lossy ring, where the writer may be changing these bytes: that race is the point of a seqlock. */
UNSEEN static int is_message_so_far(const volatile char *bytes, uint64_t size, uint64_t number)
{
    int right = size == size_of(number);
    for (uint64_t i = 0; i < size; i++)
        right &= (unsigned char)bytes[i] == number % 251;
    return right;
}

static void write_number(struct sup_ring *ring, uint64_t number)
{
    char bytes[1024];
    uint32_t size = fill(bytes, number);
    int64_t r;
    while ((r = sup_ring_write(ring, bytes, size)) == -EAGAIN)
        CHECK(sup_ring_wait(ring, size, 20ll * SECOND, 1000) == 0);
    CHECK(r == 1);
}

/* ---- what holds ---- */

static void messages_keep_their_order_and_their_bytes(void)
{
    struct memory memory = make_memory(0);
    struct sup_ring *writer = open_writer(&memory), *reader = open_reader(&memory, 0);
    uint64_t starts[BATCH], ends[BATCH], written = 0, read = 0;
    int64_t lost;
    for (int turn = 0; turn < 3000; turn++) {
        for (int i = 0; i < turn % 37; i++)
            write_number(writer, written++);
        int64_t n = sup_ring_peek(reader, starts, ends, (uint64_t)(1 + turn % BATCH), UINT64_MAX, &lost);
        CHECK(n >= 0);
        for (int64_t i = 0; i < n; i++)
            CHECK(is_message(sup_ring_messages(reader) + starts[i], ends[i] - starts[i], read++));
        CHECK(sup_ring_advance(reader, &lost) == 0);
        if (written - read > 60)
            while (sup_ring_peek(reader, starts, ends, BATCH, UINT64_MAX, &lost) > 0) {
                read += (uint64_t)(reader->peeked_count - reader->count);
                CHECK(sup_ring_advance(reader, &lost) == 0);
            }
    }
    CHECK(sup_ring_wait(reader, 0, 0, 0) == (read == written ? -ETIMEDOUT : 0));
    sup_ring_close(writer);
    sup_ring_close(reader);
    free_memory(&memory);
}

struct speaker {
    struct memory *memory;
    struct sup_ring *ring;
};

static void *write_all(void *given)
{
    struct speaker *speaker = given;
    for (uint64_t number = 0; number < 30000; number++)
        write_number(speaker->ring, number);
    atomic_store(&speaker->ring->own->state, SUP_RING_CLOSED);
    hang_up(speaker->memory, 0, 0);
    return NULL;
}

static void two_threads_hand_over_everything(void)
{
    struct memory memory = make_memory(0);
    struct sup_ring *writer = open_writer(&memory), *reader = open_reader(&memory, 0);
    struct speaker speaker = {.memory = &memory, .ring = writer};
    join_addresses(writer, reader, 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, write_all, &speaker) == 0);
    uint64_t starts[BATCH], ends[BATCH], read = 0;
    int64_t lost;
    for (;;) {
        int r = sup_ring_wait(reader, 0, 20ll * SECOND, read % 3 * 10000);
        if (r == -ESHUTDOWN)
            break;
        CHECK(r == 0);
        int64_t n = sup_ring_peek(reader, starts, ends, BATCH, UINT64_MAX, &lost);
        CHECK(n > 0);
        for (int64_t i = 0; i < n; i++)
            CHECK(is_message(sup_ring_messages(reader) + starts[i], ends[i] - starts[i], read++));
        CHECK(sup_ring_advance(reader, &lost) == 0);
    }
    CHECK(read == 30000);
    CHECK(pthread_join(thread, NULL) == 0);
    part_addresses(writer, reader, 0);
    sup_ring_close(reader);
    sup_ring_close(writer);
    free_memory(&memory);
}

struct listener {
    struct sup_ring *ring;
    int number;
    uint64_t heard, lost;
};

static void *listen_to_all(void *given)
{
    struct listener *listener = given;
    struct sup_ring *reader = listener->ring;
    uint64_t starts[BATCH], ends[BATCH], next = 0;
    int64_t lost;
    for (;;) {
        int r = sup_ring_wait(reader, 0, 20ll * SECOND, 0);
        if (r == -ESHUTDOWN)
            break;
        CHECK(r == 0);
        int64_t n = sup_ring_peek(reader, starts, ends, (uint64_t)listener->number * 20 + 1, UINT64_MAX, &lost);
        int right = 1;
        for (int64_t i = 0; i < n; i++)
            right &= is_message_so_far(sup_ring_messages(reader) + starts[i], ends[i] - starts[i], next + (uint64_t)i);
        int64_t result = n < 0 ? n : sup_ring_advance(reader, &lost);
        if (result == -EOVERFLOW) {
            CHECK(lost > 0);
            next += (uint64_t)lost;
            listener->lost += (uint64_t)lost;
            continue;
        }
        CHECK(result == 0 && right); /* nothing overwritten was taken for a message */
        next += (uint64_t)n;
        listener->heard += (uint64_t)n;
    }
    return NULL;
}

static void every_thread_that_listens_hears_or_is_told_its_loss(void)
{
    struct memory memory = make_memory(1);
    struct sup_ring *writer = open_writer(&memory);
    struct listener listeners[READERS];
    pthread_t threads[READERS];
    for (int i = 0; i < READERS; i++) {
        listeners[i] = (struct listener){.ring = open_reader(&memory, i), .number = i};
        join_addresses(writer, listeners[i].ring, i);
    }
    for (int i = 0; i < READERS; i++)
        CHECK(pthread_create(&threads[i], NULL, listen_to_all, &listeners[i]) == 0);
    for (uint64_t number = 0; number < 60000; number++)
        write_number(writer, number);
    atomic_store(&writer->own->state, SUP_RING_CLOSED);
    for (int i = 0; i < READERS; i++)
        hang_up(&memory, i, 0);
    for (int i = 0; i < READERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(listeners[i].heard + listeners[i].lost == 60000);
        CHECK(listeners[i].heard > 0);
        part_addresses(writer, listeners[i].ring, i);
        sup_ring_close(listeners[i].ring);
    }
    sup_ring_close(writer);
    free_memory(&memory);
}

static void a_slow_reader_loses_an_exact_number(void)
{
    struct memory memory = make_memory(1);
    struct sup_ring *writer = open_writer(&memory), *reader = open_reader(&memory, 0);
    uint64_t starts[BATCH], ends[BATCH];
    int64_t lost;
    for (uint64_t number = 0; number < 5000; number++)
        write_number(writer, number);
    CHECK(sup_ring_peek(reader, starts, ends, 1, UINT64_MAX, &lost) == -EOVERFLOW && lost > 4000 && lost < 5000);
    uint64_t next = (uint64_t)lost;
    CHECK(sup_ring_peek(reader, starts, ends, 1, UINT64_MAX, &lost) == 1);
    CHECK(is_message(sup_ring_messages(reader) + starts[0], ends[0] - starts[0], next));
    for (uint64_t number = 5000; number < 10000; number++)
        write_number(writer, number);
    CHECK(sup_ring_advance(reader, &lost) == -EOVERFLOW); /* overwritten while we held it */
    next += (uint64_t)lost;
    while (sup_ring_peek(reader, starts, ends, 1, UINT64_MAX, &lost) == 1) {
        CHECK(is_message(sup_ring_messages(reader) + starts[0], ends[0] - starts[0], next++));
        CHECK(sup_ring_advance(reader, &lost) == 0);
    }
    CHECK(next == 10000);
    sup_ring_close(writer);
    sup_ring_close(reader);
    free_memory(&memory);
}

/* A writer that was too quick, with a number for its messages so high that our losses are a negative number. */
static void a_loss_that_cannot_be_is_damage_and_no_other_error(void)
{
    struct memory memory = make_memory(1);
    struct sup_ring *writer = open_writer(&memory), *reader = open_reader(&memory, 0);
    int64_t lost;
    write_number(writer, 0);
    CHECK(sup_ring_peek(reader, (uint64_t[1]){0}, (uint64_t[1]){0}, 1, UINT64_MAX, &lost) == 1 && sup_ring_advance(reader, &lost) == 0);
    for (uint64_t number = 1; number < 5000; number++)
        write_number(writer, number);
    char *head = mmap(NULL, PAGE + CAPACITY, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd, 0);
    CHECK(head != MAP_FAILED);
    uint64_t mark = ((struct sup_ring_side *)(void *)head)->mark;
    struct sup_ring_record *record = (void *)(head + PAGE + mark % CAPACITY);
    atomic_store(&record->sequence, (uint64_t)1 - EAGAIN);
    CHECK(sup_ring_peek(reader, (uint64_t[1]){0}, (uint64_t[1]){0}, 1, UINT64_MAX, &lost) == -EBADMSG);
    CHECK(munmap(head, PAGE + CAPACITY) == 0);
    sup_ring_close(writer);
    sup_ring_close(reader);
    free_memory(&memory);
}

static void a_full_queue_refuses_and_a_message_too_big_is_told(void)
{
    struct memory memory = make_memory(0);
    struct sup_ring *writer = open_writer(&memory), *reader = open_reader(&memory, 0);
    char *big = calloc(1, CAPACITY + 1);
    CHECK(sup_ring_write(writer, big, CAPACITY) == -EMSGSIZE);
    CHECK(sup_ring_write(writer, big, UINT64_MAX) == -EMSGSIZE);
    CHECK(sup_ring_write(writer, big, sup_ring_message_max(writer)) == 1);
    CHECK(sup_ring_write(writer, big, 0) == -EAGAIN);
    CHECK(sup_ring_wait(writer, 0, 1000, 0) == -ETIMEDOUT);
    uint64_t start, end;
    int64_t lost;
    CHECK(sup_ring_peek(reader, &start, &end, 1, UINT64_MAX, &lost) == 1 && end - start == sup_ring_message_max(reader));
    CHECK(sup_ring_advance(reader, &lost) == 0);
    CHECK(sup_ring_wait(writer, 0, 0, 0) == 0 && sup_ring_write(writer, big, 5) == 1);
    free(big);
    sup_ring_close(writer);
    sup_ring_close(reader);
    free_memory(&memory);
}

static void the_end_of_a_side_is_told_after_what_it_left(void)
{
    for (int died = 0; died < 2; died++) {
        struct memory memory = make_memory(0);
        struct sup_ring *writer = open_writer(&memory), *reader = open_reader(&memory, 0);
        uint64_t start, end;
        int64_t lost;
        write_number(writer, 1);
        if (!died)
            sup_ring_close(writer);
        hang_up(&memory, 0, 0);
        CHECK(sup_ring_wait(reader, 0, -1, 0) == 0);
        CHECK(sup_ring_peek(reader, &start, &end, 1, UINT64_MAX, &lost) == 1 && sup_ring_advance(reader, &lost) == 0);
        CHECK(sup_ring_wait(reader, 0, -1, 0) == (died ? -EPIPE : -ESHUTDOWN));
        CHECK(sup_ring_arm(reader, 0) == (died ? -EPIPE : -ESHUTDOWN));
        if (died)
            sup_ring_close(writer);
        sup_ring_close(reader);
        free_memory(&memory);
    }
    struct memory memory = make_memory(0);
    struct sup_ring *writer = open_writer(&memory), *reader = open_reader(&memory, 0);
    char bytes[1024] = {0};
    while (sup_ring_write(writer, bytes, sizeof bytes) == 1)
        ;
    hang_up(&memory, 0, 1);
    CHECK(sup_ring_wait(writer, sizeof bytes, -1, 0) == -EPIPE);
    CHECK(sup_ring_write(writer, bytes, 1) == -EPIPE);
    sup_ring_close(reader);
    sup_ring_close(writer);
    free_memory(&memory);
}

/* A writer that dies between any two stores leaves what it had committed, and a successor goes on with the right number. */
static void a_successor_goes_on_where_the_last_commit_was(void)
{
    for (int lossy = 0; lossy < 2; lossy++) {
        struct memory memory = make_memory(lossy);
        struct sup_ring *reader = open_reader(&memory, 0);
        uint64_t next = 0, read = 0, starts[BATCH], ends[BATCH];
        int64_t lost;
        for (int life = 0; life < 400; life++) {
            struct sup_ring *writer = open_writer(&memory);
            for (int i = 0; i < life % 13; i++) {
                write_number(writer, next++);
                int64_t n = sup_ring_peek(reader, starts, ends, 1, UINT64_MAX, &lost);
                CHECK(n == 1 && is_message(sup_ring_messages(reader) + starts[0], ends[0] - starts[0], read++));
                CHECK(sup_ring_advance(reader, &lost) == 0);
            }
            /* the middle of a commit: announced, written in part, not published */
            if (lossy)
                atomic_store(&writer->own->reserved, writer->index + 512 > writer->reserved ? writer->index + 512 : writer->reserved);
            struct sup_ring_record *record = (void *)(writer->messages + (writer->index & (CAPACITY - 1)));
            atomic_store(&record->sequence, writer->count);
            memset((char *)record + sizeof record->sequence, 0xff, 500);
            if (life % 3 == 0 && !lossy)
                atomic_store(&writer->own->mark, writer->index);
            CHECK(sup_ring_peek(reader, starts, ends, 1, UINT64_MAX, &lost) == 0);
            sup_ring_close(writer);
        }
        CHECK(read == next && next > 2000);
        sup_ring_close(reader);
        free_memory(&memory);
    }
}

/* A reader that claims to have read what was never written, or to have gone back. */
static void a_reader_that_lies_is_noticed(void)
{
    for (int back = 0; back < 2; back++) {
        struct memory memory = make_memory(0);
        struct sup_ring *writer = open_writer(&memory), *reader = open_reader(&memory, 0);
        char bytes[1024] = {0};
        uint64_t start, end;
        int64_t lost;
        do { /* until the writer has seen how far the reader was */
            while (sup_ring_write(writer, bytes, sizeof bytes) == 1)
                ;
            CHECK(sup_ring_peek(reader, &start, &end, 1, UINT64_MAX, &lost) == 1 && sup_ring_advance(reader, &lost) == 0);
        } while (writer->seen == 0);
        while (sup_ring_write(writer, bytes, sizeof bytes) == 1)
            ;
        atomic_store(&reader->own->index, back ? writer->seen - SUP_RING_ALIGN : writer->index + SUP_RING_ALIGN);
        CHECK(sup_ring_write(writer, bytes, sizeof bytes) == -EBADMSG);
        CHECK(sup_ring_wait(writer, sizeof bytes, -1, 0) == -EBADMSG);
        sup_ring_close(writer);
        sup_ring_close(reader);
        free_memory(&memory);
    }
}

static uint64_t chance(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Every word of the shared pages turned into garbage, in the middle of work: an error or a stale answer, never a wild access. */
static void damaged_memory_is_refused_or_safe_to_read(void)
{
    uint64_t state = 88172645463325252ull, refused = 0, starts[BATCH], ends[BATCH];
    int64_t lost;
    for (int round = 0; round < 3000; round++) {
        struct memory memory = make_memory(round % 2);
        struct sup_ring *writer = open_writer(&memory), *reader = open_reader(&memory, 0);
        uint64_t *head = mmap(NULL, PAGE + CAPACITY, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd, 0);
        uint64_t *cell = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory.cells[0], 0);
        CHECK(head != MAP_FAILED && cell != MAP_FAILED);
        for (uint64_t number = 0; number < 40; number++)
            write_number(writer, number);
        for (int i = 0; i < 4; i++) {
            uint64_t at = chance(&state), word = chance(&state);
            word = at % 5 == 0 ? word : at % 5 == 1 ? word % CAPACITY : at % 5 == 2 ? word % CAPACITY & ~15ull : at % 5 == 3 ? ~0ull : 0;
            (at % 3 == 0 ? cell : head)[at % 3 == 2 ? (PAGE + word % CAPACITY) / 8 : 1 + at / 3 % 24] = word;
        }
        for (int i = 0; i < 30; i++) {
            int64_t n = sup_ring_peek(reader, starts, ends, BATCH, UINT64_MAX, &lost);
            for (int64_t k = 0; k < n; k++) {
                CHECK(starts[k] <= ends[k] && ends[k] <= 2 * CAPACITY);
                is_message(sup_ring_messages(reader) + starts[k], ends[k] - starts[k], 0);
            }
            n = n < 0 ? n : sup_ring_advance(reader, &lost);
            char bytes[1000] = {0};
            int64_t w = sup_ring_write(writer, bytes, sizeof bytes);
            CHECK(w == 1 || w == -EAGAIN || w == -EBADMSG || w == -EPIPE);
            refused += n == -EBADMSG || w == -EBADMSG;
            int waited = sup_ring_wait(i % 2 ? reader : writer, sizeof bytes, 0, 0);
            CHECK(waited == 0 || waited == -ETIMEDOUT || waited == -EBADMSG || waited == -EPIPE || waited == -ESHUTDOWN);
        }
        struct sup_ring *successor = sup_ring_open_writer(memory.fd, CAPACITY, round % 2);
        CHECK(successor != NULL || errno == EBADMSG);
        sup_ring_close(successor);
        munmap(head, PAGE + CAPACITY);
        munmap(cell, PAGE);
        sup_ring_close(writer);
        sup_ring_close(reader);
        free_memory(&memory);
    }
    CHECK(refused > 300);
}

static void what_is_no_ring_is_not_opened(void)
{
    struct memory memory = make_memory(0);
    int small = new_memory(PAGE), blank = new_memory(PAGE + CAPACITY);
    CHECK(sup_ring_open_writer(small, CAPACITY, 0) == NULL && errno == EBADMSG);
    CHECK(sup_ring_open_writer(blank, CAPACITY, 0) == NULL && errno == EBADMSG);
    CHECK(sup_ring_open_writer(memory.fd, CAPACITY * 2, 0) == NULL && errno == EBADMSG);
    CHECK(sup_ring_open_writer(memory.fd, CAPACITY - 1, 0) == NULL && errno == EINVAL);
    CHECK(sup_ring_open_writer(memory.fd, 0, 0) == NULL && errno == EINVAL);
    CHECK(sup_ring_open_writer(-1, CAPACITY, 0) == NULL && errno == EBADF);
    CHECK(sup_ring_open_reader(memory.fd, blank, memory.sockets[0][1], CAPACITY, 0) == NULL && errno == EBADMSG);
    struct sup_ring *writer = open_writer(&memory);
    CHECK(sup_ring_set_reader(writer, 1, memory.cells[1], memory.sockets[1][0]) == -EINVAL);
    CHECK(sup_ring_set_reader(writer, 0, blank, memory.sockets[1][0]) == -EBADMSG);
    CHECK(sup_ring_set_reader(writer, 0, memory.cells[0], memory.sockets[0][0]) == 0);
    sup_ring_close(writer);
    close(small);
    close(blank);
    free_memory(&memory);
}

#define CLAIMS(X)                                              \
    X(messages_keep_their_order_and_their_bytes)               \
    X(two_threads_hand_over_everything)                        \
    X(every_thread_that_listens_hears_or_is_told_its_loss)     \
    X(a_slow_reader_loses_an_exact_number)                     \
    X(a_loss_that_cannot_be_is_damage_and_no_other_error)      \
    X(a_full_queue_refuses_and_a_message_too_big_is_told)      \
    X(the_end_of_a_side_is_told_after_what_it_left)            \
    X(a_successor_goes_on_where_the_last_commit_was)           \
    X(a_reader_that_lies_is_noticed)                           \
    X(damaged_memory_is_refused_or_safe_to_read)               \
    X(what_is_no_ring_is_not_opened)

int main(int argc, char **argv)
{
#define RUN(name)                                  \
    if (argc > 1 && strcmp(argv[1], #name) == 0) { \
        name();                                    \
        return 0;                                  \
    }
    CLAIMS(RUN)
#define NAME(name) puts(#name);
    CLAIMS(NAME)
    return argc > 1;
}
