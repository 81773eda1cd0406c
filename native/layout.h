/* SPDX-License-Identifier: Apache-2.0 - the plan block's structs, see plan.h; read by the C compiler and, word
 * for word, by cffi: no directives here. */

/* One preexec hook. What arg, a, b and the data mean is said at each stage in child.c. */
struct sup_hook {
    uint32_t stage;
    int32_t arg;
    int64_t a, b;
    uint32_t data_off, data_len;
};

/* One step on the cgroup tree before the clone, on a path below the job's own directory; the first makes that
 * directory, path "". value_off 0: create the directory. expect_off not 0: after the write some line of the file must
 * hold every blank-separated word of that text. */
struct sup_cgroup_step {
    uint32_t path_off, value_off, expect_off;
};

struct sup_plan {
    uint32_t magic, size;
    uint32_t hook_count, hooks_off;
    uint32_t step_count, steps_off;
    uint32_t cgroup_leaf_off; /* the cgroup to be born in, below the job's own directory; 0: the parent's own */
    uint32_t argc, argv_off;  /* argc strings one after another */
    uint32_t envc, env_off;
    uint32_t pathc, paths_off; /* files to try in turn with execve(2) */
    uint32_t namespaces;      /* CLONE_NEW* of clone(2) for the child */
    uint32_t setup_count;     /* the first hooks are the init helper's own, run before it clones the job */
    uint32_t payload_off;     /* the cgroup that the init helper shall put the job in, below the job's directory; 0: none */
    uint32_t stay_processors; /* a launcher that may run on so many keeps the child on its own processor; 0: none does */
};
