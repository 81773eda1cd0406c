/* SPDX-License-Identifier: Apache-2.0
 *
 * The system calls that one job's filter denies: answered with an errno, and counted by number.
 *
 * Nothing is ever let through here ("continue"), so it does not matter what the job changes in its
 * memory meanwhile (seccomp_unotify(2), NOTES). The job waits for each answer, so it is slowed down and we
 * are not, and after a number of answers the listener is closed: from then on the kernel itself fails
 * the calls, with ENOSYS. The same happens when the supervisor dies.
 */
#include "engine.h"
#include "syscalls.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { NUMBERS_MAX = 1024, ANSWERS_PER_WAKE = 16 };

#if defined(__x86_64__)
#define OWN_ARCHITECTURE AUDIT_ARCH_X86_64
#else
#define OWN_ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

struct sup_denials {
    struct watch in;
    struct sup_engine *engine;
    uint64_t token, total, most;
    int kill, open, overflowed, has_foreign;
    uint32_t foreign_architecture, foreign_number;
    uint32_t counts[NUMBERS_MAX];
    uint8_t errnos[NUMBERS_MAX];
};

/* The kernel writes its own sizes (SECCOMP_GET_NOTIF_SIZES), which may be larger than those of our header. */
union request {
    struct seccomp_notif notice;
    char room[512];
};
union answer {
    struct seccomp_notif_resp response;
    char room[256];
};

static int sizes_fit(void)
{
    struct seccomp_notif_sizes sizes = {0, 0, 0};
    long r = sup_sys3(__NR_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes);
    if (r < 0)
        return (int)r;
    return sizes.seccomp_notif <= sizeof(union request) && sizes.seccomp_notif_resp <= sizeof(union answer) ? 0 : -EOVERFLOW;
}

static void stop_listening(struct sup_denials *denials)
{
    if (!denials->open)
        return;
    engine_remove(denials->engine, &denials->in);
    close(denials->in.fd);
    denials->open = 0;
}

/* The job shall end: the call is left unanswered, and nothing more is read. */
static void report(struct sup_denials *denials, int number)
{
    engine_remove(denials->engine, &denials->in);
    struct sup_event *event = engine_emit(denials->engine, SUP_EVENT_DENIED, denials->token);
    event->code = number;
}

/* Take one denied call. Returns 1 to go on, 0 when there is none or no more are wanted. */
static int take_one(struct sup_denials *denials)
{
    struct pollfd polled = {.fd = denials->in.fd, .events = POLLIN};
    union request request;
    if (poll(&polled, 1, 0) <= 0 || !(polled.revents & POLLIN)) /* reading when there is none would block */
        return 0;
    memset(&request, 0, sizeof request); /* before Linux 5.5 the kernel insists */
    if (ioctl(denials->in.fd, SECCOMP_IOCTL_NOTIF_RECV, &request) < 0)
        return errno == ENOENT || errno == EINTR; /* its process was killed meanwhile */
    const struct seccomp_data *call = &request.notice.data;
    denials->total++;
    if (call->arch != OWN_ARCHITECTURE || call->nr < 0 || call->nr >= NUMBERS_MAX) {
        denials->has_foreign = 1;
        denials->foreign_architecture = call->arch;
        denials->foreign_number = (uint32_t)call->nr;
        report(denials, call->nr);
        return 0;
    }
    denials->counts[call->nr]++;
    if (denials->kill) {
        report(denials, call->nr);
        return 0;
    }
    union answer answer = {.response = {.id = request.notice.id, .error = -denials->errnos[call->nr]}};
    ioctl(denials->in.fd, SECCOMP_IOCTL_NOTIF_SEND, &answer); /* ENOENT: killed meanwhile */
    if (denials->total < denials->most)
        return 1;
    denials->overflowed = 1;
    stop_listening(denials);
    return 0;
}

/* A few at a time, so that a job with many threads does not keep the others waiting. */
static void denials_ready(struct sup_engine *engine, struct watch *watch, uint32_t events)
{
    (void)engine;
    struct sup_denials *denials = (struct sup_denials *)(void *)((char *)watch - offsetof(struct sup_denials, in));
    for (int i = 0; i < ANSWERS_PER_WAKE && take_one(denials); i++)
        ;
    if (!(events & EPOLLIN)) /* EPOLLHUP: nobody is left under the filter (Linux 5.8) */
        stop_listening(denials);
}

struct sup_denials *sup_denials_new(struct sup_engine *engine, uint64_t token, int listener_fd, const void *errnos, uint64_t errno_count, uint64_t most, int kill)
{
    struct sup_denials *denials = calloc(1, sizeof *denials);
    int r = denials == NULL ? -ENOMEM : errno_count > NUMBERS_MAX ? -EINVAL : sizes_fit();
    if (r == 0) {
        *denials = (struct sup_denials){.in = {.ready = denials_ready, .token = token, .fd = listener_fd}, .engine = engine, .token = token};
        denials->most = most;
        denials->kill = kill;
        denials->open = 1;
        memset(denials->errnos, EPERM, sizeof denials->errnos);
        memcpy(denials->errnos, errnos, errno_count);
        r = engine_add(engine, &denials->in, EPOLLIN);
    }
    if (r == 0)
        return denials;
    close(listener_fd);
    free(denials);
    errno = -r;
    return NULL;
}

uint64_t sup_denials_count(struct sup_denials *denials, uint64_t number) { return number < NUMBERS_MAX ? denials->counts[number] : 0; }

uint64_t sup_denials_total(struct sup_denials *denials) { return denials->total; }

int sup_denials_overflowed(struct sup_denials *denials) { return denials->overflowed; }

int sup_denials_foreign(struct sup_denials *denials, uint32_t *ret_architecture, uint32_t *ret_number)
{
    *ret_architecture = denials->foreign_architecture;
    *ret_number = denials->foreign_number;
    return denials->has_foreign;
}

void sup_denials_free(struct sup_denials *denials)
{
    stop_listening(denials);
    free(denials);
}
