/* SPDX-License-Identifier: Apache-2.0
 *
 * inotify: the two calls that Python's standard library lacks.
 */
#include "ringfence.h"

#include <errno.h>
#include <sys/inotify.h>

/* What may change which file a name in a directory means. Not IN_MODIFY: a file that is being written is
 * not looked at before its writer closes it. */
static const uint32_t MEANINGFUL = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF
                                   | IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK;

int sup_inotify_new(void)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int sup_inotify_add(int fd, const char *path)
{
    int watch = inotify_add_watch(fd, path, MEANINGFUL);
    return watch < 0 ? -errno : watch;
}
