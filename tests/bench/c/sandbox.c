/* SPDX-License-Identifier: Apache-2.0
 *
 * sandbox IN_FLIGHT COUNT COMMAND: the kernel's part of a strict sandbox and nothing else: clone3 with all namespaces, a root from
 * nothing, exec; no init helper, no cgroup, no filter.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void must(long result, const char *what)
{
    if (result >= 0)
        return;
    dprintf(2, "%s: %s\n", what, strerror(errno));
    _exit(125);
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    must(fd, path);
    must(write(fd, text, strlen(text)), path);
    close(fd);
}

static void show(const char *path, unsigned long long flags)
{
    struct stat info;
    char text[256];
    if (lstat(path, &info) < 0)
        return;
    if (S_ISLNK(info.st_mode)) {
        long n = readlink(path, text, sizeof text - 1);
        text[n > 0 ? n : 0] = '\0';
        must(symlink(text, path + 1), path);
        return;
    }
    struct {
        unsigned long long set, clear, propagation, userns;
    } readonly = {flags, 0, 0, 0};
    long tree = syscall(SYS_open_tree, AT_FDCWD, path, 1 /* OPEN_TREE_CLONE */ | O_CLOEXEC | AT_RECURSIVE);
    must(tree, path);
    must(syscall(442 /* mount_setattr */, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &readonly, sizeof readonly), path);
    if (S_ISDIR(info.st_mode))
        must(mkdir(path + 1, 0755), path);
    else
        close(open(path + 1, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    must(syscall(SYS_move_mount, tree, "", AT_FDCWD, path + 1, 4), path);
    close((int)tree);
}

static char user_map[32], group_map[32]; /* made before the clone: inside, nobody has an id yet */

static void build(void)
{
    put("/proc/self/setgroups", "deny");
    put("/proc/self/uid_map", user_map);
    put("/proc/self/gid_map", group_map);
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
    must(mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=64m,mode=755"), "root");
    must(chdir("/tmp"), "root");
    const char *const places[] = {"/usr", "/bin", "/lib", "/lib64", "/sbin"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        show(places[i], MS_RDONLY | MS_NOSUID | MS_NODEV);
    mkdir("dev", 0755);
    const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"};
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        show(devices[i], MS_NOSUID);
    mkdir("tmp", 01777);
    must(mount("tmpfs", "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=64m,mode=1777"), "tmp");
    mkdir("proc", 0555);
    must(mount("proc", "proc", "proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "proc");
    must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    must(umount2(".", MNT_DETACH), "umount");
    must(chdir("/"), "chdir");
}

static void start(const char *command)
{
    struct clone_args args = {
        .flags = CLONE_VFORK | CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS,
        .exit_signal = SIGCHLD,
    };
    long pid = syscall(SYS_clone3, &args, sizeof args);
    must(pid, "clone3");
    if (pid != 0)
        return;
    build();
    execl(command, command, (char *)NULL);
    _exit(127);
}

static void reap(void)
{
    int status;
    if (wait(&status) < 0 || status != 0)
        exit(1);
}

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    int in_flight = atoi(argv[1]), count = atoi(argv[2]), running = 0;
    snprintf(user_map, sizeof user_map, "1000 %d 1", geteuid());
    snprintf(group_map, sizeof group_map, "1000 %d 1", getegid());
    for (int i = 0; i < 8; i++) {
        start(argv[3]);
        reap();
    }
    double begun = seconds(CLOCK_MONOTONIC);
    for (int i = 0; i < count; i++) {
        if (running == in_flight) {
            reap();
            running--;
        }
        start(argv[3]);
        running++;
    }
    for (; running > 0; running--)
        reap();
    printf("rate %.1f runs/s\n", count / (seconds(CLOCK_MONOTONIC) - begun));
    return 0;
}
