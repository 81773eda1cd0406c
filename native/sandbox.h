/* SPDX-License-Identifier: Apache-2.0
 *
 * The hooks that build a sandbox: sandbox.c (names, ids, privileges), mounts.c (the file system) and
 * landlock.c. They run in the init helper or between clone and exec, so on raw system calls only.
 */
#ifndef RINGFENCE_SANDBOX_H
#define RINGFENCE_SANDBOX_H

#include "plan.h"

long hook_user_map(const struct sup_launch *launch, const struct sup_hook *hook);
long hook_user_namespaces(const struct sup_launch *launch, const struct sup_hook *hook);
long hook_network(const struct sup_launch *launch, const struct sup_hook *hook);
long hook_hostname(const struct sup_launch *launch, const struct sup_hook *hook);
long hook_time_namespace(const struct sup_launch *launch, const struct sup_hook *hook);
long hook_cgroup_namespace(const struct sup_launch *launch, const struct sup_hook *hook);
long hook_bounding_set(const struct sup_launch *launch, const struct sup_hook *hook);
long hook_capabilities(const struct sup_launch *launch, const struct sup_hook *hook);

long hook_private_mounts(const struct sup_launch *launch, const struct sup_hook *hook);
long hook_root(const struct sup_launch *launch, const struct sup_hook *hook);
long hook_place(const struct sup_launch *launch, const struct sup_hook *hook);
long hook_bind(const struct sup_launch *launch, const struct sup_hook *hook);
long hook_tmpfs(const struct sup_launch *launch, const struct sup_hook *hook);
long hook_overlay(const struct sup_launch *launch, const struct sup_hook *hook);
long hook_terminals(const struct sup_launch *launch, const struct sup_hook *hook);
long hook_proc(const struct sup_launch *launch, const struct sup_hook *hook);
long hook_pivot(const struct sup_launch *launch, const struct sup_hook *hook);

/* The changes of the job's overlays, for somebody who outlives its namespaces: a mount of their own, writable so that its owner
 * can make readable what the job did not leave so. A descriptor or -errno. */
long sup_take_changes(void);

long hook_landlock(const struct sup_launch *launch, const struct sup_hook *hook);

/* The hook's data, and the text after one in it; sup_plan_check() has seen that each ends. */
static inline const char *sup_hook_data(const struct sup_launch *launch, const struct sup_hook *hook)
{
    return (const char *)launch->plan + hook->data_off;
}

static inline uint32_t sup_text_length(const char *text)
{
    uint32_t length = 0;
    while (text[length] != '\0')
        length++;
    return length;
}

static inline const char *sup_text_after(const char *text) { return text + sup_text_length(text) + 1; }

#endif
