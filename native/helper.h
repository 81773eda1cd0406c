/* SPDX-License-Identifier: Apache-2.0
 *
 * What the init helper and its supervisor say to each other over a SOCK_SEQPACKET pair.
 */
#ifndef RINGFENCE_HELPER_H
#define RINGFENCE_HELPER_H

#include <stdint.h>

#include "notice.h"

#endif
