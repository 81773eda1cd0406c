/* SPDX-License-Identifier: Apache-2.0
 *
 * What Python may call. Convention: 0 or a count on success, -errno on failure; ret_ parameters are
 * written only on success unless said otherwise. The declarations that cffi reads are in cdef.h.
 */
#ifndef RINGFENCE_H
#define RINGFENCE_H

#include "plan.h"

#include <stddef.h>
#include <stdint.h>

#include "cdef.h"
#include "helper.h"

/* Shared between the translation units, not visible to Python. */
uint64_t sup_now_ns(void);

/* Wait for a child that is on its way out, whatever signals come meanwhile: one that is left is a zombie for ever. */
void sup_reap(int pidfd);

/* sup_spawn(), where the child keeps the calling thread's namespaces of the kinds without (CLONE_NEW*). */
int sup_spawn_without(const void *plan, uint64_t size, int cgroup_root_fd, uint64_t job, uint32_t without, struct sup_child *ret_child);

#endif
