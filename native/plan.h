/* SPDX-License-Identifier: Apache-2.0
 *
 * The launch plan as the kernel side sees it: one flat, position-independent block of bytes.
 *
 * Python packs it (supervisor/kernel/pack.py), sup_plan_check() validates every offset once, and
 * after that both halves of a spawn read it without allocating. The same bytes can be handed to the
 * init helper over a descriptor. Offsets count from the start of the block; strings end in NUL.
 */
#ifndef RINGFENCE_PLAN_H
#define RINGFENCE_PLAN_H

#include <stdint.h>

#define SUP_KEEP_MAX 64 /* places of a directory that stay when it is covered */
#define SUP_FILTER_MAX 4096 /* BPF_MAXINSNS: instructions of one program */
#define SUP_PLAN_MAGIC 0x31504652u /* "RFP1" */

/* Every step that can fail, in one place: the enum, the names and Python's table come from here. */
#define SUP_STAGES(X)                                  \
    X(NONE, "none")                                    \
    X(PLAN, "plan")                                    \
    X(CGROUP_CREATE, "cgroup_create")                  \
    X(CGROUP_WRITE, "cgroup_write")                    \
    X(CGROUP_VERIFY, "cgroup_verify")                  \
    X(PIPE, "pipe")                                    \
    X(CLONE, "clone")                                  \
    X(HELPER, "helper")                                \
    X(TARGET, "target")                                \
    X(PREEXEC, "preexec")                              \
    X(USER_MAP, "user_map")                            \
    X(USER_NAMESPACES, "user_namespaces")              \
    X(NETWORK, "network")                              \
    X(HOSTNAME, "hostname")                            \
    X(TIME_NAMESPACE, "time_namespace")                \
    X(ROOT, "root")                                    \
    X(PRIVATE_MOUNTS, "private_mounts")                \
    X(PLACE, "place")                                  \
    X(TMPFS, "tmpfs")                                  \
    X(TERMINALS, "terminals")                          \
    X(PROC, "proc")                                    \
    X(BIND, "bind")                                    \
    X(OVERLAY, "overlay")                              \
    X(PIVOT, "pivot")                                  \
    X(SIGNALS, "signals")                              \
    X(SESSION, "session")                              \
    X(TERMINAL, "terminal")                            \
    X(CGROUP, "cgroup")                                \
    X(OOM_SCORE_ADJUST, "oom_score_adjust")            \
    X(NICE, "nice")                                    \
    X(CPU_AFFINITY, "cpu_affinity")                    \
    X(RLIMIT, "rlimit")                                \
    X(UMASK, "umask")                                  \
    X(CGROUP_NAMESPACE, "cgroup_namespace")            \
    X(BOUNDING_SET, "bounding_set")                    \
    X(SUPPLEMENTARY_GROUPS, "supplementary_groups")    \
    X(GROUP, "group")                                  \
    X(USER, "user")                                    \
    X(WORKING_DIRECTORY, "working_directory")          \
    X(STDIO, "stdio")                                  \
    X(CLOSE_FDS, "close_fds")                          \
    X(PASS_FD, "pass_fd")                              \
    X(CGROUP_DIRECTORY, "cgroup_directory")            \
    X(CAPABILITIES, "capabilities")                    \
    X(NO_NEW_PRIVILEGES, "no_new_privileges")          \
    X(LANDLOCK, "landlock")                            \
    X(PARENT_DEATH_SIGNAL, "parent_death_signal")      \
    X(SECCOMP, "seccomp")                              \
    X(EXEC, "exec")

enum sup_stage {
#define SUP_STAGE_ENUM(name, text) SUP_STAGE_##name,
    SUP_STAGES(SUP_STAGE_ENUM)
#undef SUP_STAGE_ENUM
    SUP_STAGE_COUNT
};

#include "layout.h"
#include "processor.h"

/* Where a launch failed: the stage, the errno, and the hook's or step's index in the plan. */
struct sup_report {
    int32_t stage, err, index;
};

/* Everything the child half needs, prepared before the clone. */
struct sup_launch {
    const struct sup_plan *plan;
    uint32_t namespaces; /* the plan's, but for those that are there already */
    char *const *argv;
    char *const *envp;
    char *const *paths;
    int32_t signals_default; /* every signal has its default disposition already */
    int32_t cgroup_procs_fd; /* -1, or cgroup.procs for the child to join by itself */
    int32_t payload_fd;      /* -1, or the directory of the cgroup that the init helper puts the job in */
    int32_t listener_socket; /* -1, or where a filter's listener goes (seccomp.c) */
    volatile struct sup_report *report;
    const struct sup_affinity *affinity; /* NULL, or the processor that the child was kept on, which it lets itself go from (processor.c) */
    volatile int64_t *exec_time; /* NULL, or two words: seconds and nanoseconds of CLOCK_MONOTONIC at the exec */
};

/* 0 when every offset, count and string of the block lies inside it, else -EINVAL. */
int sup_plan_check(const void *block, uint64_t size);

/* Bytes that sup_plan_vectors() needs for argv, envp and paths. */
uint64_t sup_plan_vectors_size(const struct sup_plan *plan);
void sup_plan_vectors(const struct sup_plan *plan, void *memory, struct sup_launch *ret_launch);

/* seccomp.c: put the filter of a SECCOMP hook on the calling process; raw system calls only. 0 or -errno. */
long sup_install_filter(const struct sup_launch *launch, const struct sup_hook *hook);
/* 1 when the RLIMIT hook is to be left to sup_install_filter. */
int sup_limit_waits(const struct sup_launch *launch, const struct sup_hook *hook);

/* The child half: run the hooks in order and exec. Returns only on failure, report filled in. */
int sup_child_run(void *launch);

/* The init helper's own part: the first setup_count hooks, which the child half then leaves out. 0, or -1 with the report
 * filled in. */
int sup_child_setup(const struct sup_launch *launch);

/* The other hooks alone, for a child that is not going to exec. 0, or -1 with the report filled in. */
int sup_child_hooks(const struct sup_launch *launch);

#endif
