/* SPDX-License-Identifier: Apache-2.0
 *
 * Sandbox steps on the file system: a root built from nothing in a mount namespace of the job's own.
 *
 * The new root is mounted on "/" itself, where it hides nothing: a path that starts with "/" still means the
 * host's until pivot_root(2), and a relative one the new root, because the working directory is there. No path
 * below the new root is ever followed through a link. With the mount API of Linux 5.2 and mount_setattr(2) of
 * 5.12 a mount gets its flags before it can be seen.
 */
#include "sandbox.h"
#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/stat.h>

#define SUP_AT_RECURSIVE 0x8000
#define SUP_AT_EMPTY_PATH 0x1000
#define SUP_AT_REMOVEDIR 0x200
#define SUP_MNT_DETACH 2
#ifndef MOUNT_ATTR_NOSYMFOLLOW /* Linux 5.14 */
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif
#define SUP_S_IFMT 0170000
#define SUP_S_IFDIR 0040000
#define SUP_S_IFCHR 0020000
enum { NAME_SIZE = 256, KEEP_MAX = SUP_KEEP_MAX };
enum { BIND_WRITABLE = 1, BIND_EXISTING = 2, BIND_OPTIONAL = 4, BIND_DEVICE = 8, BIND_TERMINAL = 32 };
enum { PLACE_DIRECTORY, PLACE_LINK, PLACE_FILE };
enum { NULL_MAJOR = 1, NULL_MINOR = 3 }; /* admin-guide/devices.txt */

struct mount_attributes { /* struct mount_attr, mount_setattr(2) */
    uint64_t set, clear, propagation, userns_fd;
};

static void close_fd(const long *fd)
{
    if (*fd >= 0)
        sup_sys1(__NR_close, *fd);
}
#define cleanup_close __attribute__((cleanup(close_fd)))

static long open_tree(const char *path, unsigned flags)
{
    return sup_sys3(__NR_open_tree, AT_FDCWD, path, 1u /* OPEN_TREE_CLONE */ | O_CLOEXEC | flags);
}

static long set_attributes(long fd, const char *path, uint64_t set, unsigned flags)
{
    const struct mount_attributes attributes = {.set = set};
    return sup_sys5(__NR_mount_setattr, fd, path, flags, &attributes, sizeof attributes);
}

static long move_mount(long mount, long target)
{
    return sup_sys5(__NR_move_mount, mount, "", target, "", 4 /* MOVE_MOUNT_F_EMPTY_PATH */ | 0x40 /* MOVE_MOUNT_T_EMPTY_PATH */);
}

/* ---- places below the new root, which is the working directory ---- */

/* A failure at the target and not at the source is told as a stage of its own. */
static long at_target(const struct sup_launch *launch, long r)
{
    if (r < 0)
        launch->report->stage = SUP_STAGE_TARGET;
    return r;
}

/* Open one entry of a directory without following a link. */
static long open_entry(long dir, const char *name, int flags)
{
    long fd = sup_sys4(__NR_openat, dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC | flags, 0);
    char link;
    if (fd != -ENOTDIR)
        return fd;
    return sup_sys4(__NR_readlinkat, dir, name, &link, 1) >= 0 ? -ELOOP : -ENOTDIR;
}

struct place {
    long dir;         /* AT_FDCWD, or to be closed */
    const char *name; /* in it */
};

static void close_place(const struct place *place) { close_fd(&place->dir); }
#define cleanup_place __attribute__((cleanup(close_place)))

/* The directory that holds the last part of a path, made on the way when make is set, and that part's name. */
static long find_place(const char *path, int make, struct place *place)
{
    *place = (struct place){AT_FDCWD, path};
    for (;;) {
        char name[NAME_SIZE];
        uint32_t length = 0;
        for (; path[length] != '/' && path[length] != '\0'; length++) {
            if (length + 1 >= NAME_SIZE)
                return -ENAMETOOLONG;
            name[length] = path[length];
        }
        name[length] = '\0';
        place->name = path;
        if (path[length] == '\0')
            return 0;
        long next = open_entry(place->dir, name, O_DIRECTORY);
        if (next == -ENOENT && make) {
            next = sup_sys3(__NR_mkdirat, place->dir, name, 0755);
            if (next >= 0)
                next = open_entry(place->dir, name, O_DIRECTORY);
        }
        if (next < 0)
            return next;
        close_fd(&place->dir);
        place->dir = next;
        path += length + 1;
    }
}

static int is_directory(long fd)
{
    struct statx info;
    if (sup_sys5(__NR_statx, fd, "", SUP_AT_EMPTY_PATH, STATX_TYPE, &info) < 0)
        return 0;
    return (info.stx_mode & SUP_S_IFMT) == SUP_S_IFDIR;
}

/* Open a mount point, made when it is missing and make is set. */
static long open_target(const char *path, int directory, int make)
{
    cleanup_place struct place at;
    long made = find_place(path, make, &at);
    if (made < 0)
        return made;
    if (make) { /* first, because it mostly is missing */
        made = directory ? sup_sys3(__NR_mkdirat, at.dir, at.name, 0755)
                         : sup_sys4(__NR_openat, at.dir, at.name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
        if (made >= 0 && !directory)
            return made;
    }
    long fd = open_entry(at.dir, at.name, 0);
    if (fd < 0)
        return fd == -ENOENT && made < 0 ? made : fd;
    char link;
    if (sup_sys4(__NR_readlinkat, fd, "", &link, 1) >= 0) {
        sup_sys1(__NR_close, fd);
        return -ELOOP;
    }
    return fd;
}

/* ---- hooks ---- */

static long make_private(void) { return sup_sys5(__NR_mount, 0, "/", 0, 0x4000 /* MS_REC */ | 0x40000 /* MS_PRIVATE */, 0); }

/* Nothing that is mounted from here on reaches the host, nor the other way round. */
long hook_private_mounts(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    (void)hook;
    return make_private();
}

static long configure(long fd, unsigned command, const char *key, const char *text)
{
    return sup_sys5(__NR_fsconfig, fd, command, key, text, 0);
}

/* data: size in bytes and number of files, as texts. Mounts the new root and goes there. */
long hook_root(const struct sup_launch *launch, const struct sup_hook *hook)
{
    const char *size = sup_hook_data(launch, hook), *inodes = sup_text_after(size);
    long r = make_private();
    cleanup_close long fs = r < 0 ? r : sup_sys2(__NR_fsopen, "tmpfs", 1 /* FSOPEN_CLOEXEC */);
    if (fs < 0)
        return fs;
    if ((r = configure(fs, 1 /* FSCONFIG_SET_STRING */, "size", size)) < 0 || (r = configure(fs, 1, "nr_inodes", inodes)) < 0 ||
        (r = configure(fs, 1, "mode", "755")) < 0 || (r = configure(fs, 6 /* FSCONFIG_CMD_CREATE */, 0, 0)) < 0)
        return r;
    cleanup_close long mounted = sup_sys3(__NR_fsmount, fs, 1 /* FSMOUNT_CLOEXEC */, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (mounted < 0)
        return mounted;
    r = sup_sys5(__NR_move_mount, mounted, "", AT_FDCWD, "/", 4 /* MOVE_MOUNT_F_EMPTY_PATH */);
    return r < 0 ? r : sup_sys1(__NR_fchdir, mounted);
}

/* arg 0: a directory, 1: a link, 2: a file; a: the mode; data: the path, and for the last two the link's or the
 * file's content. */
long hook_place(const struct sup_launch *launch, const struct sup_hook *hook)
{
    const char *path = sup_hook_data(launch, hook), *content = sup_text_after(path);
    cleanup_place struct place at;
    long r = find_place(path, 1, &at);
    if (r < 0)
        return r;
    if (hook->arg == PLACE_LINK)
        return sup_sys3(__NR_symlinkat, content, at.dir, at.name);
    if (hook->arg == PLACE_DIRECTORY) {
        r = sup_sys3(__NR_mkdirat, at.dir, at.name, hook->a);
        return r == -EEXIST ? 0 : r;
    }
    cleanup_close long fd = sup_sys4(__NR_openat, at.dir, at.name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, hook->a);
    if (fd < 0)
        return fd;
    uint32_t length = sup_text_length(content);
    r = sup_sys3(__NR_write, fd, content, length);
    return r < 0 ? r : r == length ? 0 : -ENOSPC;
}

static long mount_at(const struct sup_launch *launch, long mount, const char *target, int directory, int make)
{
    cleanup_close long fd = open_target(target, directory, make);
    if (fd < 0)
        return at_target(launch, fd);
    if (directory != is_directory(fd))
        return at_target(launch, directory ? -ENOTDIR : -EISDIR);
    return at_target(launch, move_mount(mount, fd));
}

/* The name of the terminal that a link of /proc/self/fd leads to: by the link itself the kernel would find the mount of the
 * surroundings, of which nothing can be cloned here. -ENOENT where the name is not that terminal's, as in a container. */
static long terminal_name(const char *link, char *ret_name, uint32_t size)
{
    long length = sup_sys4(__NR_readlinkat, AT_FDCWD, link, ret_name, size - 1);
    if (length < 0)
        return length;
    ret_name[length] = '\0';
    struct statx named, open;
    if (sup_sys5(__NR_statx, AT_FDCWD, ret_name, 0, STATX_TYPE | STATX_INO, &named) < 0 ||
        sup_sys5(__NR_statx, AT_FDCWD, link, 0, STATX_TYPE | STATX_INO, &open) < 0)
        return -ENOENT;
    const int same = named.stx_ino == open.stx_ino && named.stx_dev_major == open.stx_dev_major && named.stx_dev_minor == open.stx_dev_minor;
    return same && (named.stx_mode & SUP_S_IFMT) == SUP_S_IFCHR ? 0 : -ENOENT;
}

/* arg: 1 writable, 2 the target must exist (it lies in what another bind shows, where nothing may be made), 4 a missing
 * source is passed over, 8 devices may be opened, 32 the source is a link of /proc/self/fd to a terminal; data: source, then
 * target below the new root. */
long hook_bind(const struct sup_launch *launch, const struct sup_hook *hook)
{
    const char *source = sup_hook_data(launch, hook), *target = sup_text_after(source);
    char terminal[NAME_SIZE];
    long named = hook->arg & BIND_TERMINAL ? terminal_name(source, terminal, sizeof terminal) : 0;
    cleanup_close long tree = named < 0 ? named : open_tree(hook->arg & BIND_TERMINAL ? terminal : source, SUP_AT_RECURSIVE);
    if (tree < 0)
        return tree == -ENOENT && hook->arg & BIND_OPTIONAL ? 0 : tree;
    uint64_t set = MOUNT_ATTR_NOSUID | (hook->arg & BIND_WRITABLE ? 0 : MOUNT_ATTR_RDONLY) |
                   (hook->arg & BIND_DEVICE ? MOUNT_ATTR_NOEXEC : MOUNT_ATTR_NODEV);
    long r = set_attributes(tree, "", set, SUP_AT_EMPTY_PATH | SUP_AT_RECURSIVE);
    return r < 0 ? r : mount_at(launch, tree, target, is_directory(tree), !(hook->arg & BIND_EXISTING));
}

/* A file system on the target, and again on top of it the places of the old one that keep lists: each is "r" or "w" and a path
 * below the target. */
static long cover(const char *target, const char *options, long flags, const char *keep, int count)
{
    long trees[KEEP_MAX], r = 0;
    int opened = 0;
    const char *at = keep;
    long old = sup_sys4(__NR_openat, AT_FDCWD, target, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    for (; old >= 0 && r >= 0 && opened < count; opened++, at = sup_text_after(at)) {
        r = trees[opened] = sup_sys3(__NR_open_tree, old, at + 1, 1u /* OPEN_TREE_CLONE */ | O_CLOEXEC | SUP_AT_RECURSIVE);
        if (r >= 0)
            r = set_attributes(trees[opened], "", MOUNT_ATTR_NOSUID | (*at == 'w' ? 0 : MOUNT_ATTR_RDONLY), SUP_AT_EMPTY_PATH | SUP_AT_RECURSIVE);
    }
    if (old < 0)
        r = old;
    if (r >= 0)
        r = sup_sys5(__NR_mount, "tmpfs", target, "tmpfs", flags, options);
    if (r >= 0)
        r = sup_sys1(__NR_chdir, target); /* below which the kept ones go; the job goes to its own place later */
    at = keep;
    for (int n = 0; n < opened; n++, at = sup_text_after(at)) {
        cleanup_close long fd = r < 0 ? r : open_target(at + 1, is_directory(trees[n]), 1);
        if (r >= 0)
            r = fd < 0 ? fd : move_mount(trees[n], fd);
        close_fd(&trees[n]);
    }
    close_fd(&old);
    return r;
}

/* arg 0: a file system of its own on the target, with the options in data; 1: a directory of the new root's file system.
 * a: further mount attributes; data: the target, the options of arg 0, and b places of the old one to keep, see cover().
 * Everybody may write there. */
long hook_tmpfs(const struct sup_launch *launch, const struct sup_hook *hook)
{
    const char *target = sup_hook_data(launch, hook), *options = sup_text_after(target);
    if (hook->arg == 0) {
        const long flags = 2 /* MS_NOSUID */ | 4 /* MS_NODEV */ | hook->a;
        if (hook->b > 0)
            return cover(target, options, flags, sup_text_after(options), (int)hook->b);
        return sup_sys5(__NR_mount, "tmpfs", target, "tmpfs", flags, options);
    }
    long r = sup_sys3(__NR_fchmodat, AT_FDCWD, target, 01777);
    cleanup_close long tree = r < 0 ? r : open_tree(target, 0);
    if (tree < 0)
        return tree;
    r = set_attributes(tree, "", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (uint64_t)hook->a, SUP_AT_EMPTY_PATH);
    return r < 0 ? r : sup_sys5(__NR_move_mount, tree, "", AT_FDCWD, target, 4 /* MOVE_MOUNT_F_EMPTY_PATH */);
}

/* data: the directory, and the options of mount(2). Pseudo-terminals of an instance of its own (devpts, Linux 4.7). */
long hook_terminals(const struct sup_launch *launch, const struct sup_hook *hook)
{
    const char *target = sup_hook_data(launch, hook), *options = sup_text_after(target);
    return sup_sys5(__NR_mount, "devpts", target, "devpts", 2 /* MS_NOSUID */ | 8 /* MS_NOEXEC */, options);
}

/* Open a directory and name it as a layer by its descriptor, which must stay open until the file system is made: fsconfig(2) takes
 * texts of up to 255 bytes, and no character of the path needs escaping. */
static long name_layer(long fs, const char *key, const char *path, long *ret_fd)
{
    *ret_fd = sup_sys4(__NR_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (*ret_fd < 0)
        return *ret_fd;
    char link[32] = "/proc/self/fd/", digits[20];
    uint32_t length = sup_text_length(link);
    int count = 0;
    for (long left = *ret_fd; left > 0 || count == 0; left /= 10)
        digits[count++] = (char)('0' + left % 10);
    while (count > 0)
        link[length++] = digits[--count];
    return configure(fs, 1 /* FSCONFIG_SET_STRING */, key, link);
}

/* arg: 2 the target must exist, 16 the init helper hands the changes over at the end; data: target, lower, upper and work
 * directory (overlayfs, in a user namespace since Linux 5.11). */
long hook_overlay(const struct sup_launch *launch, const struct sup_hook *hook)
{
    const char *target = sup_hook_data(launch, hook), *lower = sup_text_after(target);
    const char *upper = sup_text_after(lower), *work = sup_text_after(upper);
    cleanup_close long fs = sup_sys2(__NR_fsopen, "overlay", 1 /* FSOPEN_CLOEXEC */);
    if (fs < 0)
        return fs;
    cleanup_close long lower_fd = -1, upper_fd = -1, work_fd = -1;
    long r;
    if ((r = name_layer(fs, "lowerdir", lower, &lower_fd)) < 0 || (r = name_layer(fs, "upperdir", upper, &upper_fd)) < 0 ||
        (r = name_layer(fs, "workdir", work, &work_fd)) < 0 || (r = configure(fs, 0 /* FSCONFIG_SET_FLAG */, "userxattr", 0)) < 0 ||
        (r = configure(fs, 6 /* FSCONFIG_CMD_CREATE */, 0, 0)) < 0)
        return r;
    cleanup_close long mounted = sup_sys3(__NR_fsmount, fs, 1 /* FSMOUNT_CLOEXEC */, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    return mounted < 0 ? mounted : mount_at(launch, mounted, target, 1, !(hook->arg & BIND_EXISTING));
}

long sup_take_changes(void)
{
    long fd = open_tree("/.changes", 0);
    const struct mount_attributes attributes = {.set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW, .clear = MOUNT_ATTR_RDONLY};
    long r = fd < 0 ? fd : sup_sys5(__NR_mount_setattr, fd, "", SUP_AT_EMPTY_PATH, &attributes, sizeof attributes);
    if (r >= 0)
        r = sup_sys3(__NR_fchmodat, fd, ".", 0700); /* hidden from the job by hook_pivot() */
    if (r < 0)
        close_fd(&fd);
    return r < 0 ? r : fd;
}

static long mask_directory(const char *path)
{
    cleanup_close long fd = sup_sys4(__NR_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    cleanup_close long cover = fd < 0 ? fd : open_tree("sys", 0);
    if (cover < 0)
        return cover;
    const long r = set_attributes(cover, "", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC, SUP_AT_EMPTY_PATH);
    return r < 0 ? r : move_mount(cover, fd);
}

/* Cover one entry of /proc, if it is there: a file with the null device as it is mounted already, a directory, whose name ends in a
 * slash, with an empty one. Which it is must be known: a bind that fails on the other kind waits for all processors (an RCU grace
 * period) before it says so. */
static long mask(const char *path)
{
    const uint32_t length = sup_text_length(path);
    const int directory = length > 0 && path[length - 1] == '/';
    const long r = directory ? mask_directory(path) : sup_sys5(__NR_mount, "dev/null", path, 0, 4096 /* MS_BIND */, 0);
    return r == -ENOENT ? 0 : r;
}

/* arg: how many names follow; data: the paths to cover, below the new root. /proc of the new pid namespace, read-only:
 * whoever is root outside could change the host's sysctls through it. */
long hook_proc(const struct sup_launch *launch, const struct sup_hook *hook)
{
    const long flags = 1 /* MS_RDONLY */ | 2 /* MS_NOSUID */ | 4 /* MS_NODEV */ | 8 /* MS_NOEXEC */;
    long r = sup_sys5(__NR_mount, "proc", "proc", "proc", flags, 0);
    const char *path = sup_hook_data(launch, hook);
    for (int n = 0; r >= 0 && n < hook->arg; n++, path = sup_text_after(path))
        r = mask(path);
    return r;
}

/* The job's streams that are the host's null device become the sandbox's own: through a descriptor of a writable mount root's
 * job could change the mode and owner of the host's node. */
static long own_null_streams(void)
{
    long r = 0;
    for (int fd = 0; fd < 3 && r >= 0; fd++) {
        struct statx info;
        if (sup_sys5(__NR_statx, fd, "", SUP_AT_EMPTY_PATH, STATX_TYPE, &info) < 0 || (info.stx_mode & SUP_S_IFMT) != SUP_S_IFCHR ||
            info.stx_rdev_major != NULL_MAJOR || info.stx_rdev_minor != NULL_MINOR)
            continue;
        cleanup_close long own = sup_sys4(__NR_openat, AT_FDCWD, "/dev/null", sup_sys3(__NR_fcntl, fd, F_GETFL, 0) & O_ACCMODE, 0);
        r = own < 0 ? own : sup_sys3(__NR_dup3, own, fd, 0);
    }
    return r;
}

/* arg 1: hide the directory "changes" first. The new root becomes read-only and the only one: nothing of the host's that was
 * not bound can be reached. */
long hook_pivot(const struct sup_launch *launch, const struct sup_hook *hook)
{
    (void)launch;
    long r = hook->arg == 1 ? sup_sys3(__NR_fchmodat, AT_FDCWD, ".changes", 0) : 0;
    if (r >= 0)
        r = set_attributes(AT_FDCWD, ".", MOUNT_ATTR_RDONLY, 0);
    if (r >= 0)
        r = sup_sys2(__NR_pivot_root, ".", ".");
    if (r >= 0)
        r = sup_sys2(__NR_umount2, ".", SUP_MNT_DETACH);
    if (r >= 0)
        r = sup_sys1(__NR_chdir, "/");
    return r < 0 ? r : own_null_streams();
}
