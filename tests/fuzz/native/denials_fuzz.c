/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzing of the seccomp listener: jobs that make any call there is, by any architecture, die meanwhile, or flood us, against a
 * kernel that is made up (fake_listener.h). Under AddressSanitizer and UndefinedBehaviorSanitizer.
 *
 *     denials_fuzz SECONDS SEED
 *
 * What must hold: no call is let through, each is answered once with the errno that its filter names, what is counted is what was
 * asked, and the listener is closed once.
 */
#include "fake_listener.h"
#undef poll
#undef ioctl
#include "engine.h"
#include "rounds.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { NUMBERS = 1024, WAKES = 40 };

static uint64_t received, counted;
static struct seccomp_notif asked;
static int removed, emitted, kill_asked;
static uint8_t errnos[NUMBERS];
static uint32_t errno_count;
static struct watch *listener;

/* ---- the kernel ---- */

int fake_poll(struct pollfd *polled, nfds_t count, int timeout_ms)
{
    CHECK(count == 1 && timeout_ms == 0 && fcntl(polled->fd, F_GETFD) >= 0);
    polled->revents = below(8) ? POLLIN : below(2) ? POLLHUP : 0;
    return below(16) ? polled->revents != 0 : -1;
}

static int receive(struct seccomp_notif *notice)
{
    for (size_t i = 0; i < sizeof *notice; i++)
        CHECK(((unsigned char *)notice)[i] == 0); /* before Linux 5.5 the kernel insists */
    if (!below(8)) {
        errno = below(2) ? ENOENT : below(2) ? EINTR : ENOMEM;
        return -1;
    }
    memset(notice, 0xa5, sizeof *notice + 64); /* a later kernel's notice is longer */
#if defined(__x86_64__)
    const uint32_t own = AUDIT_ARCH_X86_64;
#else
    const uint32_t own = AUDIT_ARCH_AARCH64;
#endif
    const int numbers[] = {0, -1, 1023, 1024, (int)below(NUMBERS), (int)below(500), (int)any(), 0x40000000, 0x7fffffff};
    notice->id = any();
    notice->data.arch = below(200) ? own : (uint32_t)any();
    notice->data.nr = below(50) ? (int)below(NUMBERS) : numbers[below(sizeof numbers / sizeof *numbers)];
    asked = *notice;
    received++;
    counted += notice->data.arch == own && notice->data.nr >= 0 && notice->data.nr < NUMBERS;
    return 0;
}

int fake_ioctl(int fd, unsigned long request, void *argument)
{
    CHECK(!removed && fcntl(fd, F_GETFD) >= 0);
    if (request == SECCOMP_IOCTL_NOTIF_RECV)
        return receive(argument);
    CHECK(request == SECCOMP_IOCTL_NOTIF_SEND);
    const struct seccomp_notif_resp *answer = argument;
    uint32_t number = (uint32_t)asked.data.nr;
    CHECK(answer->id == asked.id && answer->flags == 0 && number < NUMBERS && !kill_asked);
    CHECK(answer->error == -(number < errno_count ? errnos[number] : EPERM));
    asked.id = ~asked.id; /* once */
    if (below(8))
        return 0;
    errno = ENOENT;
    return -1;
}

/* ---- the engine ---- */

int engine_add(struct sup_engine *engine, struct watch *watch, uint32_t events)
{
    (void)engine;
    CHECK(events == EPOLLIN);
    listener = watch;
    return below(16) ? 0 : -ENOSPC;
}

void engine_remove(struct sup_engine *engine, struct watch *watch)
{
    (void)engine;
    CHECK(watch == listener);
    removed = 1;
}

struct sup_event *engine_emit(struct sup_engine *engine, int kind, uint64_t token)
{
    static struct sup_event event;
    (void)engine;
    CHECK(kind == SUP_EVENT_DENIED && token == 7);
    emitted++;
    return &event;
}

/* ---- one job ---- */

static void one_round(void)
{
    received = counted = 0;
    removed = emitted = 0;
    kill_asked = !below(4);
    errno_count = below(NUMBERS + 1);
    for (uint32_t i = 0; i < errno_count; i++)
        errnos[i] = (uint8_t)(1 + below(133));
    unsigned char *exact = malloc(errno_count + !errno_count);
    memcpy(exact, errnos, errno_count);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    uint64_t most = 1 + below(200);
    CHECK(sup_denials_new(NULL, 7, open("/dev/null", O_RDONLY | O_CLOEXEC), exact, NUMBERS + 1, most, 0) == NULL && errno == EINVAL);
    struct sup_denials *denials = sup_denials_new(NULL, 7, fd, exact, errno_count, most, kill_asked);
    free(exact);
    if (denials == NULL) {
        CHECK(errno == ENOSPC || errno == ENOSYS || errno == EINVAL);
        CHECK(fcntl(fd, F_GETFD) < 0);
        return;
    }
    for (int wake = 0; wake < WAKES && !removed; wake++)
        listener->ready(NULL, listener, below(8) ? EPOLLIN : below(2) ? EPOLLHUP : EPOLLIN | EPOLLHUP);
    uint64_t total = 0;
    for (uint64_t number = 0; number < NUMBERS + 2; number++)
        total += sup_denials_count(denials, number);
    uint32_t architecture, number;
    CHECK(total == counted && sup_denials_total(denials) == received && received <= most);
    CHECK(sup_denials_overflowed(denials) == (received == most && !emitted) || emitted);
    CHECK((uint64_t)sup_denials_foreign(denials, &architecture, &number) == received - counted);
    sup_denials_free(denials);
    CHECK(fcntl(fd, F_GETFD) < 0);
}
