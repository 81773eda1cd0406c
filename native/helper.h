/* SPDX-License-Identifier: Apache-2.0
 *
 * What the init helper and its supervisor say to each other over a SOCK_SEQPACKET pair.
 */
#ifndef RINGFENCE_HELPER_H
#define RINGFENCE_HELPER_H

#include <stdint.h>

#include "notice.h"

/* handover.c: send a notice with a descriptor; flags of sendmsg(2). Raw system calls only. 0 or -errno. */
long sup_hand_over(int socket, const struct sup_notice *notice, long fd, long flags);

/* As many descriptors as we may have, so that one more can be sent however many our user has under way; what we had goes to ret_before. */
void sup_raise_descriptors(uint64_t ret_before[2]);

#endif
