/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzing of launch plans: mutated blocks go through sup_plan_check(), and those it takes are run by the real child half
 * against a kernel that only reads (fake_kernel.h). Under AddressSanitizer and UndefinedBehaviorSanitizer: whatever is
 * taken must be safe to run.
 *
 *     plan_fuzz SECONDS SEED FIND SEED_FILE...
 *
 * An input is written to FIND before it is tried, so what ends the program is there afterwards.
 */
#include "fake_kernel.h"
#include "plan.h"
#include "random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { SEEDS_MAX = 256, BLOCK_MAX = 1 << 16, POOL_MAX = 4096 };

static volatile unsigned long seen; /* what was read, so that reading is not left out */

/* ---- the kernel ---- */

static void text(long address)
{
    if (address != 0)
        seen += strlen((const char *)address);
}

static void bytes(long address, uint64_t size)
{
    for (uint64_t at = 0; at < size; at++)
        seen += ((const unsigned char *)address)[at];
}

static void texts(long address)
{
    for (char *const *at = (char *const *)address; *at != NULL; at++)
        text((long)*at);
}

static void read_program(long address)
{
    struct {
        uint16_t length;
        const void *instructions;
    } program;
    memcpy(&program, (const void *)address, sizeof program);
    bytes((long)program.instructions, program.length * 8u);
}

static void read_arguments(long number, long a, long b, long c, long d, long e)
{
    switch (number) {
    case __NR_execve: text(a), texts(b), texts(c); break;
    case __NR_openat:
    case __NR_mkdirat:
    case __NR_readlinkat:
    case __NR_open_tree:
    case __NR_mount_setattr:
    case __NR_statx:
    case __NR_fchmodat: text(b); break;
    case __NR_symlinkat: text(a), text(c); break;
    case __NR_move_mount: text(b), text(d); break;
    case __NR_chdir:
    case __NR_fsopen: text(a); break;
    case __NR_umount2: text(a); break;
    case __NR_pivot_root: text(a), text(b); break;
    case __NR_fsconfig: text(c), text(d); break;
    case __NR_mount: text(a), text(b), text(c), text(e); break;
    case __NR_write: bytes(b, (uint64_t)c); break;
    case __NR_sethostname: bytes(a, (uint64_t)b); break;
    case __NR_setgroups: bytes(b, (uint64_t)a * 4); break;
    case __NR_sched_setaffinity: bytes(c, (uint64_t)b); break;
    case __NR_landlock_create_ruleset: bytes(a, (uint64_t)b); break;
    case __NR_landlock_add_rule: bytes(c, 12); break;
    case __NR_seccomp: read_program(c); break;
    default: break;
    }
}

static void write_results(long number, long a, long b, long d, long e)
{
    (void)a;
    if (number == __NR_clock_gettime || (number == __NR_prlimit64 && d != 0))
        for (int word = 0; word < 2; word++)
            ((uint64_t *)(number == __NR_clock_gettime ? b : d))[word] = any() >> below(64);
    if (number == __NR_statx)
        ((uint16_t *)e)[14] = below(2) ? 0040755 : 0100644; /* stx_mode */
    if (number == __NR_capget)
        for (int word = 0; word < 6; word++)
            ((uint32_t *)b)[word] = (uint32_t)any();
}

long fake_kernel(long number, long a, long b, long c, long d, long e, long f)
{
    static const int16_t errors[] = {EPERM, ENOENT, EACCES, EEXIST, ENOTDIR, EINVAL, ENOSYS, EBUSY, ENOSPC};
    (void)f;
    read_arguments(number, a, b, c, d, e);
    write_results(number, a, b, d, e);
    if (number == __NR_execve || (number == __NR_readlinkat && below(16)) || !below(24))
        return -errors[below(sizeof errors / sizeof *errors)];
    if (number == __NR_write)
        return below(8) ? c : 0;
    return below(2) ? 0 : 3 + below(100);
}

/* ---- inputs ---- */

struct block {
    unsigned char *bytes;
    uint32_t size;
};
static struct block pool[POOL_MAX];
static uint32_t pooled;

static void keep(const unsigned char *bytes_of, uint32_t size)
{
    struct block *slot = &pool[pooled < POOL_MAX ? pooled++ : 16 + below(POOL_MAX - 16)];
    free(slot->bytes);
    *slot = (struct block){.bytes = malloc(size), .size = size};
    memcpy(slot->bytes, bytes_of, size);
}

static void set_word(unsigned char *made, uint32_t at, uint32_t size)
{
    const uint32_t words[] = {0, 1, 2, 8, size, size - 1, size - 8, 0xffffffffu, 0xfffffff8u, 0x80000000u, below(size), below(size) & ~7u, below(64), SUP_STAGE_PREEXEC + below(SUP_STAGE_EXEC)};
    uint32_t word = words[below(sizeof words / sizeof *words)];
    memcpy(made + at, &word, 4);
}

/* A word of a hook changes most: kinds, arguments, offsets and lengths. */
static void change(unsigned char *made, uint32_t size)
{
    struct sup_plan plan;
    memcpy(&plan, made, sizeof plan);
    uint32_t hooks = plan.hook_count * (uint32_t)sizeof(struct sup_hook);
    switch (below(6)) {
    case 0: made[below(size)] ^= (unsigned char)(1u << below(8)); break;
    case 1: made[below(size)] = 0; break;
    case 2: set_word(made, below(sizeof plan / 4) * 4, size); break;
    case 3: set_word(made, below(size / 4) * 4, size); break;
    default:
        if (hooks != 0 && plan.hook_count < 512 && (uint64_t)plan.hooks_off + hooks <= size)
            set_word(made, plan.hooks_off + below(hooks / 4) * 4, size);
    }
}

static uint32_t mutate(unsigned char *made)
{
    const struct block *from = &pool[below(pooled)];
    uint32_t size = from->size;
    memcpy(made, from->bytes, size);
    for (uint32_t left = 1u << below(4); left > 0; left--)
        change(made, size);
    if (!below(8) && size > sizeof(struct sup_plan))
        size = (uint32_t)sizeof(struct sup_plan) + below(size - sizeof(struct sup_plan));
    if (below(32)) { /* else these two are seldom right */
        const uint32_t magic = SUP_PLAN_MAGIC;
        memcpy(made, &magic, 4);
        memcpy(made + 4, &size, 4);
    }
    return size;
}

/* ---- one input ---- */

/* On the heap in exactly its size, so that each byte beyond is noticed. Whether it was taken. */
static int try_one(const unsigned char *made, uint32_t size)
{
    void *plan = malloc(size);
    memcpy(plan, made, size);
    int taken = sup_plan_check(plan, size) == 0;
    if (taken) {
        struct sup_report report = {0};
        int64_t exec_time[2];
        struct sup_launch launch = {.cgroup_procs_fd = below(2) ? -1 : 7, .payload_fd = below(2) ? -1 : 8, .listener_socket = below(2) ? -1 : 9, .report = &report, .exec_time = exec_time};
        void *vectors = malloc(sup_plan_vectors_size(plan));
        sup_plan_vectors(plan, vectors, &launch);
        if (sup_child_setup(&launch) == 0)
            sup_child_run(&launch);
        if (report.stage < 0 || report.stage >= SUP_STAGE_COUNT || report.err < 0 || report.err > 4095) {
            fprintf(stderr, "a report that is none: stage %d, errno %d\n", report.stage, report.err);
            abort();
        }
        free(vectors);
    }
    free(plan);
    return taken;
}

static void load(const char *path)
{
    static unsigned char buffer[BLOCK_MAX];
    FILE *file = fopen(path, "rb");
    size_t size = file == NULL ? 0 : fread(buffer, 1, sizeof buffer, file);
    if (file != NULL)
        fclose(file);
    if (size >= sizeof(struct sup_plan) && pooled < SEEDS_MAX)
        keep(buffer, (uint32_t)size);
}

static unsigned char *open_find(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, BLOCK_MAX + 4) < 0)
        exit(2);
    unsigned char *find = mmap(NULL, BLOCK_MAX + 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return find == MAP_FAILED ? NULL : find;
}

int main(int argc, char **argv)
{
    static unsigned char made[BLOCK_MAX];
    if (argc < 5)
        return 2;
    const double seconds = strtod(argv[1], NULL);
    state = strtoull(argv[2], NULL, 10);
    unsigned char *find = open_find(argv[3]);
    for (int n = 4; n < argc; n++)
        load(argv[n]);
    if (pooled == 0 || find == NULL)
        return 2;
    const uint32_t seeds = pooled;
    uint64_t inputs = 0, taken = 0;
    for (uint32_t n = 0; n < seeds; n++) /* as they are, too */
        taken += (uint64_t)try_one(pool[n].bytes, pool[n].size);
    const uint64_t seeds_taken = taken;
    while ((inputs & 1023) != 0 || (double)clock() / CLOCKS_PER_SEC < seconds) {
        uint32_t size = mutate(made);
        memcpy(find, &size, 4);
        memcpy(find + 4, made, size);
        int good = try_one(made, size);
        taken += (uint64_t)good;
        inputs++;
        if (good && !below(50))
            keep(made, size);
    }
    printf("%llu inputs, %llu taken and run, %llu of %u seeds taken\n", (unsigned long long)inputs, (unsigned long long)taken, (unsigned long long)seeds_taken, seeds);
    while (pooled > 0)
        free(pool[--pooled].bytes);
    return seeds_taken > 0 ? 0 : 2;
}
