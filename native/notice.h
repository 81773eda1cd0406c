/* SPDX-License-Identifier: Apache-2.0 - what the init helper and its supervisor say to each other over a
 * SOCK_SEQPACKET pair; read by the C compiler and, word for word, by cffi: no directives here. */

enum sup_request_kind { SUP_REQUEST_KILL = 1, SUP_REQUEST_SIGNAL, SUP_REQUEST_STOP, SUP_REQUEST_CONTINUE, SUP_REQUEST_USAGE, SUP_REQUEST_MAPPED };

/* MAPPED: the supervisor has written the helper's user and group map, which a helper whose plan does not begin with
 * USER_MAP waits for. */

struct sup_request {
    int32_t kind, signal;
};

enum sup_notice_kind { SUP_NOTICE_STARTED = 1, SUP_NOTICE_FAILED, SUP_NOTICE_ENDED, SUP_NOTICE_USAGE, SUP_NOTICE_LISTENER };

/* LISTENER comes from the job's own process before its exec and carries the descriptor of its filter's listener. ENDED
 * carries that of a directory with what the job changed in its overlays, where the plan asks for it. */

/* One size for every notice; what a kind does not say is 0. */
struct sup_notice {
    int32_t kind;
    int32_t pid;
    int32_t stage, err, index;  /* FAILED */
    int32_t code, detail, left; /* ENDED: as in sup_event; left: descendants that could not be killed */
    uint64_t time_ns;           /* STARTED, ENDED: CLOCK_MONOTONIC */
    uint64_t user_us, system_us; /* ENDED: main process with what it waited for */
    uint64_t tree_user_us, tree_system_us; /* ENDED, USAGE: every process of the tree that could be counted */
    int64_t disk_bytes, disk_free_bytes, disk_free_files; /* ENDED: of a strict sandbox's own file system, at the end; else 0 */
    int64_t maxrss_kib, minor_faults, tasks, voluntary_switches, involuntary_switches;
};
