/* SPDX-License-Identifier: Apache-2.0
 *
 * A job in C that speaks the wire format of channels (docs/reference/wire.md): it answers every request with the
 * bytes of the body in reverse, and every other message with a status that says its number.
 *
 *     cc -O2 -Wall -o peer peer.c
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ACK, DATA, CONTROL, STATUS };
enum { REQUEST = 1, REPLY = 2, ERROR = 4, SEALED = 16 };
enum { PACKET_MAX = 80 * 1024, INLINE_MAX = 64 * 1024, FDS_MAX = 64 };

/* All numbers are little-endian, and so is every machine this example is for. */
struct header {
    uint32_t size;
    uint8_t kind, flags, address, descriptors;
    uint64_t number;
};

static int channel;
static uint64_t last_sent;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void send_frame(uint8_t kind, uint8_t flags, uint64_t number, const void *body, uint32_t size)
{
    struct header header = {.size = (uint32_t)sizeof header + size, .kind = kind, .flags = flags, .number = number};
    struct iovec pieces[2] = {{&header, sizeof header}, {(void *)body, size}};
    struct msghdr packet = {.msg_iov = pieces, .msg_iovlen = 2};
    if (sendmsg(channel, &packet, MSG_NOSIGNAL) < 0 && errno != EPIPE)
        die("sendmsg");
}

/* "I have dealt with everything up to number; 256 messages and 1 MiB may be on their way, none larger than 1 GiB." */
static void acknowledge(uint64_t number)
{
    struct {
        uint32_t messages, bytes;
        uint64_t largest;
    } terms = {256, 1 << 20, 1 << 30};
    send_frame(ACK, 0, number, &terms, sizeof terms);
}

static void deal_with(const struct header *header, const char *body, uint64_t size)
{
    if (header->flags & REQUEST) {
        uint32_t length = size < INLINE_MAX ? (uint32_t)size : INLINE_MAX; /* longer answers would need sealed memory */
        static char reversed[INLINE_MAX];
        for (uint32_t i = 0; i < length; i++)
            reversed[i] = body[size - 1 - i];
        send_frame(header->kind, REPLY, header->number, reversed, length); /* an answer acknowledges too */
    } else if (!(header->flags & (REPLY | ERROR))) {
        char text[64];
        int length = snprintf(text, sizeof text, "message %llu of %llu bytes", (unsigned long long)header->number, (unsigned long long)size);
        acknowledge(header->number);
        send_frame(STATUS, 0, ++last_sent, text, (uint32_t)length); /* a job that sends much must count what is not acknowledged */
    }
}

/* One frame; fds are the packet's descriptors. */
static void frame(const struct header *header, const char *body, const int *fds)
{
    uint64_t size = header->size - sizeof *header - header->address;
    if (header->kind == ACK)
        return; /* what we sent was taken, and these are the other side's terms */
    if (!(header->flags & SEALED)) {
        deal_with(header, body, size);
        return;
    }
    memcpy(&size, body, sizeof size);
    void *memory = size == 0 ? NULL : mmap(NULL, size, PROT_READ, MAP_SHARED, fds[0], 0);
    if (memory == MAP_FAILED)
        die("mmap");
    deal_with(header, memory, size);
    if (memory != NULL)
        munmap(memory, size);
}

int main(void)
{
    const char *number = getenv("RINGFENCE_CHANNEL");
    if (number == NULL) {
        fputs("peer: not started with a channel\n", stderr);
        return 2;
    }
    channel = atoi(number);
    acknowledge(0); /* our terms, before anything else */
    for (;;) {
        static char packet[PACKET_MAX] __attribute__((aligned(8)));
        union {
            struct cmsghdr align;
            char room[CMSG_SPACE(FDS_MAX * sizeof(int))];
        } control;
        struct iovec piece = {packet, sizeof packet};
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
        ssize_t length = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
        if (length == 0)
            return 0; /* the supervisor has closed */
        if (length < 0)
            die("recvmsg");
        int fds[FDS_MAX], count = 0;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c))
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
                count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof *fds);
                memcpy(fds, CMSG_DATA(c), (size_t)count * sizeof *fds);
            }
        for (ssize_t at = 0; at < length;) {
            struct header header;
            memcpy(&header, packet + at, sizeof header);
            frame(&header, packet + at + sizeof header + header.address, fds);
            at += header.size;
        }
        for (int i = 0; i < count; i++)
            close(fds[i]);
    }
}
