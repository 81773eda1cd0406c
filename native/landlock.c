/* SPDX-License-Identifier: Apache-2.0
 *
 * Landlock (Linux 5.13): a second fence that the job puts around itself before it begins, and can never take down.
 */
#include "sandbox.h"
#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>

struct ruleset_attributes { /* struct landlock_ruleset_attr, as of ABI 6 */
    uint64_t handled_files, handled_network, scoped;
};
struct path_beneath { /* struct landlock_path_beneath_attr */
    uint64_t allowed;
    int32_t parent_fd;
} __attribute__((packed));

/* What a rule on a file may grant; the rest has a meaning for directories only: EXECUTE, WRITE_FILE, READ_FILE, TRUNCATE, IOCTL_DEV. */
#define SUP_FILE_RIGHTS (1ull << 0 | 1ull << 1 | 1ull << 2 | 1ull << 14 | 1ull << 15)

static uint64_t number_at(const char *bytes)
{
    uint64_t number = 0;
    for (int n = 7; n >= 0; n--)
        number = number << 8 | (unsigned char)bytes[n];
    return number;
}

/* A path that is not there needs no rule. */
static long allow(long ruleset, const char *path, uint64_t rights)
{
    long fd = sup_sys4(__NR_openat, AT_FDCWD, path, O_PATH | O_CLOEXEC, 0);
    if (fd < 0)
        return fd == -ENOENT || fd == -EACCES ? 0 : fd;
    struct path_beneath rule = {rights, (int32_t)fd};
    long r = sup_sys4(__NR_landlock_add_rule, ruleset, 1 /* LANDLOCK_RULE_PATH_BENEATH */, &rule, 0);
    if (r == -EINVAL) { /* a file */
        rule.allowed &= SUP_FILE_RIGHTS;
        r = sup_sys4(__NR_landlock_add_rule, ruleset, 1, &rule, 0);
    }
    sup_sys1(__NR_close, fd);
    return r;
}

/* arg: bytes of the attributes this kernel knows; a: the rights on files that are denied unless allowed; b: the scopes;
 * data: 8 bytes of rights and a path, again and again. */
long hook_landlock(const struct sup_launch *launch, const struct sup_hook *hook)
{
    const struct ruleset_attributes attributes = {(uint64_t)hook->a, 0, (uint64_t)hook->b};
    long ruleset = sup_sys3(__NR_landlock_create_ruleset, &attributes, hook->arg, 0);
    if (ruleset < 0)
        return ruleset;
    long r = 0;
    const char *at = sup_hook_data(launch, hook), *end = at + hook->data_len;
    while (r >= 0 && at < end) {
        r = allow(ruleset, at + 8, number_at(at));
        at = sup_text_after(at + 8);
    }
    if (r >= 0)
        r = sup_sys2(__NR_landlock_restrict_self, ruleset, 0);
    sup_sys1(__NR_close, ruleset);
    return r;
}
