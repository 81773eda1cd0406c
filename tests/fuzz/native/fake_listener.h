/* SPDX-License-Identifier: Apache-2.0
 *
 * Included before denials.c: the listener of a filter is a descriptor on which any system call is waiting.
 */
#ifndef RINGFENCE_FAKE_LISTENER_H
#define RINGFENCE_FAKE_LISTENER_H

#include <poll.h>
#include <sys/ioctl.h>

int fake_poll(struct pollfd *polled, nfds_t count, int timeout_ms);
int fake_ioctl(int fd, unsigned long request, void *argument);

#define poll(polled, count, timeout_ms) fake_poll(polled, count, timeout_ms)
#define ioctl(fd, request, argument) fake_ioctl(fd, request, argument)

#endif
