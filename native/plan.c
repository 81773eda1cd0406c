/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading a plan block: validation and the pointer vectors of execve(2). Pure functions over memory,
 * without libc, because the init helper uses them too.
 */
#include "plan.h"

#include <errno.h>
#include <stddef.h>

/* CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID and NET */
#define SUP_NAMESPACES 0x7e020000u

static const char *at(const struct sup_plan *plan, uint32_t off) { return (const char *)plan + off; }

static int array_fits(const struct sup_plan *plan, uint32_t off, uint32_t count, uint32_t each)
{
    return count == 0 || (off % 8 == 0 && off >= sizeof *plan && (uint64_t)off + (uint64_t)count * each <= plan->size);
}

/* Offset just past the string at off, or 0 when it does not end inside the block. */
static uint32_t string_end(const struct sup_plan *plan, uint32_t off)
{
    if (off < sizeof *plan)
        return 0;
    for (; off < plan->size; off++)
        if (*at(plan, off) == '\0')
            return off + 1;
    return 0;
}

static int strings_fit(const struct sup_plan *plan, uint32_t off, uint32_t count)
{
    while (count-- > 0)
        if ((off = string_end(plan, off)) == 0)
            return 0;
    return 1;
}

/* Offset just past the text at off that ends inside the hook's data, or 0. */
static uint32_t text_end(const struct sup_plan *plan, const struct sup_hook *hook, uint32_t off)
{
    for (; off < hook->data_off + hook->data_len; off++)
        if (*at(plan, off) == '\0')
            return off + 1;
    return 0;
}

/* The data is exactly so many texts, each after skip bytes. */
static int texts_fit(const struct sup_plan *plan, const struct sup_hook *hook, uint32_t count, uint32_t skip)
{
    uint32_t off = hook->data_off, end = hook->data_off + hook->data_len;
    for (; count > 0; count--) {
        off = end - off >= skip ? text_end(plan, hook, off + skip) : 0;
        if (off == 0)
            return 0;
    }
    return off == end;
}

/* Two texts, and b more, none of them empty: its first character says how the place is kept. */
static int tmpfs_fits(const struct sup_plan *plan, const struct sup_hook *hook)
{
    if (hook->b < 0 || hook->b > SUP_KEEP_MAX || !texts_fit(plan, hook, 2 + (uint32_t)hook->b, 0))
        return 0;
    uint32_t off = text_end(plan, hook, text_end(plan, hook, hook->data_off));
    for (; off < hook->data_off + hook->data_len; off = text_end(plan, hook, off))
        if (*at(plan, off) == '\0')
            return 0;
    return 1;
}

static int rules_fit(const struct sup_plan *plan, const struct sup_hook *hook)
{
    uint32_t off = hook->data_off, end = hook->data_off + hook->data_len;
    while (off < end)
        if (end - off < 9 || (off = text_end(plan, hook, off + 8)) == 0)
            return 0;
    return hook->arg == 8 || hook->arg == 16 || hook->arg == 24;
}

/* a and b are the sizes of the first two programs, the third takes the rest; each is whole instructions. */
static int programs_fit(const struct sup_hook *hook)
{
    uint64_t most = SUP_FILTER_MAX * 8u, first = (uint64_t)hook->a, second = (uint64_t)hook->b;
    if (first > most || second > most || first + second > hook->data_len)
        return 0;
    uint64_t third = hook->data_len - first - second;
    return first % 8 == 0 && second % 8 == 0 && third % 8 == 0 && first != 0 && third != 0 && third <= most;
}

/* What the stage reads of its data must be there: a path ends in NUL, arrays hold whole items. */
static int hook_fits(const struct sup_plan *plan, const struct sup_hook *hook)
{
    if (hook->stage <= SUP_STAGE_PREEXEC || hook->stage >= SUP_STAGE_EXEC)
        return 0;
    if (hook->data_len != 0 && (hook->data_off < sizeof *plan || (uint64_t)hook->data_off + hook->data_len > plan->size))
        return 0;
    switch (hook->stage) {
    case SUP_STAGE_WORKING_DIRECTORY: return hook->data_len != 0 && *at(plan, hook->data_off + hook->data_len - 1) == '\0';
    case SUP_STAGE_SUPPLEMENTARY_GROUPS: return hook->data_len % 4 == 0;
    case SUP_STAGE_SECCOMP: return programs_fit(hook);
    case SUP_STAGE_CPU_AFFINITY: return hook->data_len != 0 && hook->data_len % 8 == 0;
    case SUP_STAGE_PROC: return hook->arg >= 0 && texts_fit(plan, hook, (uint32_t)hook->arg, 0);
    case SUP_STAGE_USER_NAMESPACES: return hook->arg >= 0 && texts_fit(plan, hook, 2 * (uint32_t)hook->arg, 0);
    case SUP_STAGE_USER_MAP:
    case SUP_STAGE_ROOT:
    case SUP_STAGE_PLACE:
    case SUP_STAGE_TERMINALS:
    case SUP_STAGE_BIND: return texts_fit(plan, hook, 2, 0);
    case SUP_STAGE_TMPFS: return tmpfs_fits(plan, hook);
    case SUP_STAGE_OVERLAY: return texts_fit(plan, hook, 4, 0);
    case SUP_STAGE_LANDLOCK: return rules_fit(plan, hook);
    default: return 1;
    }
}

int sup_plan_check(const void *block, uint64_t size)
{
    const struct sup_plan *plan = block;
    if (size < sizeof *plan || plan->magic != SUP_PLAN_MAGIC || plan->size != size)
        return -EINVAL;
    if (!array_fits(plan, plan->hooks_off, plan->hook_count, sizeof(struct sup_hook)) ||
        !array_fits(plan, plan->steps_off, plan->step_count, sizeof(struct sup_cgroup_step)))
        return -EINVAL;
    if (plan->argc == 0 || plan->pathc == 0 || !strings_fit(plan, plan->argv_off, plan->argc) ||
        !strings_fit(plan, plan->env_off, plan->envc) || !strings_fit(plan, plan->paths_off, plan->pathc))
        return -EINVAL;
    if ((plan->cgroup_leaf_off != 0 && string_end(plan, plan->cgroup_leaf_off) == 0) ||
        (plan->payload_off != 0 && (plan->step_count == 0 || string_end(plan, plan->payload_off) == 0)) ||
        plan->setup_count > plan->hook_count || (plan->namespaces & ~SUP_NAMESPACES) != 0)
        return -EINVAL;
    const struct sup_hook *hooks = (const void *)at(plan, plan->hooks_off);
    for (uint32_t i = 0; i < plan->hook_count; i++)
        if (!hook_fits(plan, &hooks[i]))
            return -EINVAL;
    const struct sup_cgroup_step *steps = (const void *)at(plan, plan->steps_off);
    if (plan->step_count > 0 ? steps[0].value_off != 0 : plan->cgroup_leaf_off != 0)
        return -EINVAL; /* the first step makes the directory that all else stands in */
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (string_end(plan, steps[i].path_off) == 0 || (steps[i].value_off != 0 && string_end(plan, steps[i].value_off) == 0) ||
            (steps[i].expect_off != 0 && string_end(plan, steps[i].expect_off) == 0))
            return -EINVAL;
    return 0;
}

uint64_t sup_plan_vectors_size(const struct sup_plan *plan)
{
    return ((uint64_t)plan->argc + plan->envc + plan->pathc + 3) * sizeof(char *);
}

static char **fill(const struct sup_plan *plan, char **out, uint32_t off, uint32_t count)
{
    for (; count > 0; count--) {
        *out++ = (char *)(uintptr_t)at(plan, off);
        off = string_end(plan, off);
    }
    *out++ = NULL;
    return out;
}

void sup_plan_vectors(const struct sup_plan *plan, void *memory, struct sup_launch *ret_launch)
{
    char **argv = memory;
    char **envp = fill(plan, argv, plan->argv_off, plan->argc);
    char **paths = fill(plan, envp, plan->env_off, plan->envc);
    fill(plan, paths, plan->paths_off, plan->pathc);
    ret_launch->plan = plan;
    ret_launch->namespaces = plan->namespaces;
    ret_launch->argv = argv;
    ret_launch->envp = envp;
    ret_launch->paths = paths;
}
