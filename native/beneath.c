/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening what lies below a directory that somebody else may change meanwhile: the kernel itself resolves the whole path
 * and never leaves the directory, so there is nothing between a check and a use (openat2(2), Linux 5.6).
 */
#include "ringfence.h"

#include "syscalls.h"

struct how { /* linux/openat2.h, which older headers lack */
    uint64_t flags, mode, resolve;
};
enum { NO_MAGICLINKS = 0x02, NO_SYMLINKS = 0x04, BENEATH = 0x08, SYS_OPENAT2 = 437 };

int sup_open_beneath(int dir_fd, const char *path, uint64_t flags, uint64_t mode)
{
    struct how how = {.flags = flags, .mode = mode, .resolve = BENEATH | NO_SYMLINKS | NO_MAGICLINKS};
    return (int)sup_sys4(SYS_OPENAT2, dir_fd, path, &how, sizeof how);
}
