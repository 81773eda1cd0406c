/* SPDX-License-Identifier: Apache-2.0 - read by the C compiler and, word for word, by cffi: no directives here. */

/* ---- stages ---- */
int sup_stage_count(void);
const char *sup_stage_name(int stage);

/* ---- spawn.c: one launch, on the calling thread ---- */
struct sup_child {
    int32_t pid, pidfd;
    int32_t cgroup_fd;   /* directory of the job's cgroup, -1 without one */
    int32_t stage, err, index; /* err is 0 on success */
    int32_t into_cgroup; /* 1: born there by clone3; 2: joined by itself before its first hook */
    int32_t listener_fd; /* of a filter that asks about denied calls, -1 without one; the caller's to watch or close */
    uint64_t requested_ns, started_ns; /* CLOCK_MONOTONIC: asked for, exec done */
    int64_t spawner_rss_kib; /* our own peak: exec carries it into the child's ru_maxrss, so only more than it is the child's */
};

/* Run the plan's cgroup steps, clone, wait for the exec. The job's directory is "job-<job>" below cgroup_root_fd. On
 * failure everything is undone, the child reaped, and stage, err and index say what failed. Returns 0 or -err. Any thread
 * may call it. */
int sup_spawn(const void *plan, uint64_t size, int cgroup_root_fd, uint64_t job, struct sup_child *ret_child);

/* The two halves of a launch for a child that Python forked by itself (Python callables as hooks):
 * the parent makes the cgroups first; the child runs the hooks, and on failure writes a struct
 * sup_report to report_fd and returns. */
int sup_prepare_cgroup(const void *plan, uint64_t size, int cgroup_root_fd, uint64_t job, struct sup_child *ret_child);
void sup_remove_cgroup(const void *plan, int cgroup_root_fd, uint64_t job);
int sup_child_exec(const void *plan, uint64_t size, int cgroup_procs_fd, int listener_socket, int report_fd);

/* ---- template.c: a template forks a worker ---- */

/* Copy the calling process, which must have one thread: the child's parent is the caller's parent, its cgroup the
 * directory leaf_fd, and the plan's hooks have run in it when this returns 0 there. In the caller: its pid, or -errno;
 * ret_report: stage, errno and index of the hook that failed, after which the child has ended, or zeros. */
int sup_template_fork(const void *plan, uint64_t size, int leaf_fd, int32_t ret_report[3]);

/* ---- engine.c: one epoll set for everything a supervisor waits for ---- */
struct sup_engine;

enum sup_event_kind { SUP_EVENT_SPAWNED = 1, SUP_EVENT_EXITED, SUP_EVENT_EMPTY, SUP_EVENT_OUTPUT_LIMIT, SUP_EVENT_OUTPUT_END, SUP_EVENT_SIGNAL, SUP_EVENT_READY, SUP_EVENT_OUTPUT, SUP_EVENT_DENIED, SUP_EVENT_OUTPUT_ERROR };

struct sup_event {
    uint64_t token;
    int32_t kind;
    int32_t code;   /* EXITED: exit status or signal; SIGNAL: its number; DENIED: the call's; OUTPUT, OUTPUT_END, OUTPUT_ERROR: stream, 0 to 2 */
    int32_t detail; /* EXITED: 0 exited, 1 killed, 2 dumped core; SIGNAL: sender's pid, 0 the kernel; OUTPUT_END, OUTPUT_ERROR: errno */
    uint64_t time_ns;
    uint64_t user_us, system_us;
    int32_t populated; /* EXITED with a cgroup: 1 while others of the tree live, 0 when it is empty; -1 without */
    int64_t cgroup_us[3]; /* EXITED, populated 0: usage, user, system of the job's cpu.stat; -1 unknown */
    int64_t maxrss_kib, minor_faults, major_faults, in_blocks, out_blocks, voluntary_switches, involuntary_switches;
    struct sup_child child; /* SPAWNED only */
};

struct sup_engine *sup_engine_new(void); /* NULL: errno is set */
void sup_engine_free(struct sup_engine *engine);
int sup_engine_fd(struct sup_engine *engine); /* readable when sup_engine_poll has something to say */

/* Wait up to timeout_ns (-1: for ever, 0: not at all) and report up to max events; one thread at a time. */
int sup_engine_poll(struct sup_engine *engine, struct sup_event *ret_events, int max, int64_t timeout_ns);

/* sup_spawn and sup_engine_adopt in one step, so that there is no moment at which a child exists that nobody watches. */
int sup_engine_launch(struct sup_engine *engine, uint64_t token, const void *plan, uint64_t size, int cgroup_root_fd, struct sup_child *ret_child);
/* Watch a child that was made for this plan; one that cannot be watched is ended, its cgroup removed, and child says why. */
int sup_engine_adopt(struct sup_engine *engine, uint64_t token, const void *plan, int cgroup_root_fd, struct sup_child *child);
/* EXITED; owns pidfd from then on. cgroup_fd (or -1) is the job's cgroup, looked at as soon as it is reaped; borrowed. */
int sup_engine_watch_child(struct sup_engine *engine, uint64_t token, int pidfd, int cgroup_fd);
/* The fields of an EXITED event that a cgroup tells, of these two files below it: its cgroup.events and a cpu.stat. */
void sup_look_at_cgroup(int cgroup_fd, const char *events, const char *account, struct sup_event *ret_event);
int sup_engine_watch_empty(struct sup_engine *engine, uint64_t token, int events_fd); /* EMPTY at "populated 0"; owns the fd */
void *sup_engine_watch_ready(struct sup_engine *engine, uint64_t token, int fd);      /* READY while readable; does not own fd; NULL: errno */
void sup_engine_unwatch(struct sup_engine *engine, void *watch);                      /* of sup_engine_watch_ready, before fd is closed */
int sup_engine_watch_signals(struct sup_engine *engine, uint64_t mask);             /* SIGNAL; blocks them in the calling thread */
int sup_engine_unwatch_signals(struct sup_engine *engine);                          /* back to the mask from before */

/* ---- spawner.c: launches on long-lived native threads ---- */
int sup_engine_start_spawners(struct sup_engine *engine, int count);
/* plan must stay valid until the SPAWNED event for the token arrives; the token is the job's number too. lend_network: instead of
 * a new network namespace it may get an empty one that other jobs of this engine had before (networks.c). */
int sup_engine_submit(struct sup_engine *engine, uint64_t token, const void *plan, uint64_t size, int cgroup_root_fd, int lend_network);

/* ---- deadline.c: wall-clock limits that hold while the event loop does not ---- */
struct sup_deadline;

struct sup_deadline *sup_deadline_new(struct sup_engine *engine, int pidfd, int cgroup_fd, int kill); /* NULL: errno is set; borrows the fds */
struct sup_deadline *sup_deadline_of_helper(struct sup_engine *engine, int control_fd); /* of a tree that an init helper holds, told to end it */
void sup_deadline_set(struct sup_deadline *deadline, uint64_t due_ns); /* CLOCK_MONOTONIC; 0: never */
int sup_deadline_free(struct sup_deadline *deadline);                  /* 1 when the process, or the helper, still ran at its deadline; before sup_engine_free */

/* ---- output.c: the pipes of one job ---- */
struct sup_output;

/* A regular file, open for writing at its end, and how it makes way for the next one. */
struct sup_capture {
    const char *name; /* below dir_fd */
    int32_t dir_fd, fd;
    uint64_t size, max_bytes; /* bytes in it already; at most; UINT64_MAX: no other file is ever begun */
    int32_t keep, lines;      /* old files, NAME.1 the youngest; end each at a line end if there is one near its end */
};

/* max_bytes: cap over stdout and stderr together, UINT64_MAX for none. */
struct sup_output *sup_output_new(struct sup_engine *engine, uint64_t token, uint64_t max_bytes);

/* Where stream 1 or 2, read from fd, goes. fd is taken over even by a call that fails, other descriptors are not;
 * another destination of the same stream has -1 for it. */
int sup_output_collect(struct sup_output *output, int stream, int fd);          /* keep the bytes */
int sup_output_relay(struct sup_output *output, int stream, int fd, int to_fd); /* copy through; borrows to_fd */
int sup_output_pipe(struct sup_output *output, int stream, int fd, int to_fd);  /* copy into a pipe that the caller reads; takes over to_fd too */
int sup_output_capture(struct sup_output *output, int stream, int fd, const struct sup_capture *plan); /* into a file, no copy if it can be; takes over both descriptors of plan, too */
int sup_output_feed(struct sup_output *output, int fd, const void *bytes, uint64_t size); /* owns fd; bytes stay the caller's */
void sup_output_announce(struct sup_output *output, int on); /* OUTPUT whenever a collected stream has grown */
int sup_output_limit(struct sup_output *output, uint64_t max_bytes); /* another cap; 1 when more than that has come already */
int sup_output_drain(struct sup_output *output); /* read what is there now, then close every reading end */
int sup_output_pending(struct sup_output *output); /* relayed bytes that their destination has not taken yet, in streams */
const void *sup_output_rest(struct sup_output *output, int stream, uint64_t *ret_size); /* after drain: what a pipe did not take, and close it */
int sup_output_open(struct sup_output *output);    /* streams 1 and 2 that have not ended */
int sup_output_error(struct sup_output *output);   /* errno with which a relay's destination refused bytes; a reader that left is none */
const void *sup_output_bytes(struct sup_output *output, int stream, uint64_t *ret_size);
uint64_t sup_output_lost(struct sup_output *output, int stream, int32_t *ret_error); /* bytes that a capture's file did not take, and why not the last time */
uint64_t sup_output_count(struct sup_output *output, int stream); /* bytes read from the job, beyond the cap too */
int sup_output_truncated(struct sup_output *output);
uint64_t sup_output_last_ns(struct sup_output *output);           /* when the last byte came, 0: never */
void sup_output_free(struct sup_output *output);

/* ---- denials.c: the system calls that one job's filter denies ---- */
struct sup_denials;

/* Answer the filter's listener (owned from now on): each call fails with errnos[number], and is counted. After most of
 * them the listener is closed, and calls fail with ENOSYS uncounted. kill: the first one stays unanswered and is a
 * DENIED event; so is, always, one of a foreign architecture. NULL: errno. */
struct sup_denials *sup_denials_new(struct sup_engine *engine, uint64_t token, int listener_fd, const void *errnos, uint64_t errno_count, uint64_t most, int kill);
uint64_t sup_denials_count(struct sup_denials *denials, uint64_t number);
uint64_t sup_denials_total(struct sup_denials *denials);
int sup_denials_overflowed(struct sup_denials *denials);
int sup_denials_foreign(struct sup_denials *denials, uint32_t *ret_architecture, uint32_t *ret_number); /* 1 when there was one */
void sup_denials_free(struct sup_denials *denials);

/* ---- packets.c: what waits in a channel's socket ---- */
enum sup_packets_state { SUP_PACKETS_NONE, SUP_PACKETS_MORE, SUP_PACKETS_END };

struct sup_packets {
    uint64_t plain;   /* bytes of packets without descriptors, one behind the other */
    uint64_t special; /* bytes of the packet behind them, which has descriptors or was cut; 0: none */
    int32_t fd_count, cut;
    int32_t fds[253]; /* close-on-exec; the caller's. As many as one packet can carry (unix(7)): the kernel would close others for us */
};

/* Receive packets of up to packet_max bytes until there is none (NONE), room for less than one is left or one is
 * special (MORE), or the other side has closed (END). wait: block for the first. Returns -errno with what came before it. */
void sup_close_given(int fd); /* what another process passed on: without the wait that it may have asked for */
void sup_close_socket(int fd); /* with the descriptors that nobody has received: sup_close_given, which the kernel would not do */
int sup_receive_packets(int fd, void *ret_bytes, uint64_t size, uint64_t packet_max, int wait, struct sup_packets *ret);

/* ---- files.c, pidfd.c: single calls that Python makes often ---- */
int64_t sup_read_at(int dir_fd, const char *path, void *ret_bytes, uint64_t size); /* one small file, whole */
int sup_write_at(int dir_fd, const char *path, const void *bytes, uint64_t size);  /* one write(2) */
int sup_lock(int fd, int wait);        /* flock(2), exclusive; wait 0: -EAGAIN when somebody holds it */
int sup_sealed_copy(const char *path); /* a descriptor of a copy in memory that can be executed and never changed (memfd_create(2)) */
int sup_duplicate(int fd, int least);  /* fcntl(F_DUPFD_CLOEXEC) */
int sup_socketpair(int32_t ret_fds[2]); /* SOCK_SEQPACKET, close-on-exec; Python's socket module costs 8 ms to import */
int64_t sup_receive(int socket, void *ret_bytes, uint64_t size, int wait, int32_t *ret_fd); /* one packet; wait 0: -EAGAIN when there is none; ret_fd: the descriptor it carries, close-on-exec, or -1 */
int sup_become_subreaper(void);
int sup_landlock_abi(void);            /* the version of Landlock's interface, or -errno */
int sup_pidfd_open(int pid);
int sup_pidfd_send_signal(int pidfd, int signal);
int sup_read_action(int signal, uint64_t ret_action[4]);          /* the kernel's struct sigaction: handler, flags, restorer, mask */
int sup_install_action(int signal, const uint64_t action[4]);
int sup_hard_rlimits(uint64_t ret_hard[16]); /* of this process, RLIM_INFINITY is the largest number */
int sup_inotify_new(void);                        /* non-blocking, close-on-exec */
int sup_inotify_add(int fd, const char *path);    /* a directory: what changes which file a name in it means; returns the watch */
uint64_t sup_now(void); /* CLOCK_MONOTONIC, ns */

/* ---- beneath.c ---- */
/* A descriptor of what lies below dir_fd, through no link of any kind, or -errno: -EXDEV it would leave the directory, -ELOOP a
 * link, -EAGAIN renamed meanwhile, -ENOSYS before Linux 5.6. */
int sup_open_beneath(int dir_fd, const char *path, uint64_t flags, uint64_t mode);

/* ---- ring.c: messages through shared memory; one thread at a time uses an end ---- */
struct sup_ring;

/* Write the first page of a ring's memory or of a reader's cell; capacity: a power of two, at least a page. */
int sup_ring_format(int fd, uint64_t capacity, uint64_t index, uint64_t count);

/* lossy: the writer never waits, a reader that is too slow loses messages. NULL: errno; EBADMSG is memory that is no
 * ring of this capacity. Descriptors of memory are not needed afterwards; sockets stay borrowed until the end is closed. */
struct sup_ring *sup_ring_open_writer(int fd, uint64_t capacity, int lossy);
struct sup_ring *sup_ring_open_reader(int fd, int cell_fd, int socket, uint64_t capacity, int lossy);
/* A writer's: the reader at slot, new or in the place of one that is gone; slots count up from 0, only 0 unless lossy. */
int sup_ring_set_reader(struct sup_ring *ring, int slot, int cell_fd, int socket);
int sup_ring_renew(int cell_fd); /* a cell whose reader has ended waits for another */
void sup_ring_close(struct sup_ring *ring);
uint64_t sup_ring_message_max(const struct sup_ring *ring);

/* How many of the messages, which lie one after another, were committed: as many as fit. None: -EAGAIN the ring is full,
 * -EMSGSIZE the first can never fit. -EBADMSG the reader's cell is damaged. */
int64_t sup_ring_write_many(struct sup_ring *ring, const void *bytes, const uint32_t *sizes, uint64_t count);
int64_t sup_ring_write(struct sup_ring *ring, const void *bytes, uint64_t size);

/* Up to max messages and about max_bytes bytes as offsets into sup_ring_messages, which stay until the advance. 0 none there,
 * -EOVERFLOW *ret_lost messages are lost and the next call goes on behind them, -EBADMSG the memory is damaged. */
int64_t sup_ring_peek(struct sup_ring *ring, uint64_t *ret_starts, uint64_t *ret_ends, uint64_t max, uint64_t max_bytes, int64_t *ret_lost);
const char *sup_ring_messages(const struct sup_ring *ring); /* twice the capacity */
/* Give back what was peeked. -EOVERFLOW as above: what was copied since the peek is not to be trusted. */
int64_t sup_ring_advance(struct sup_ring *ring, int64_t *ret_lost);
/* Peek, copy out and advance, for one message: its size. -EAGAIN none there, -EMSGSIZE it is larger and stays. */
int64_t sup_ring_read(struct sup_ring *ring, void *ret_bytes, uint64_t size, int64_t *ret_lost);

/* Until a message is there, or room for a message of size bytes. arm: 1 it is there, 0 the socket will be readable when it is
 * (then call disarm); wait: 0, -ETIMEDOUT, -EINTR. Both: -ESHUTDOWN the writer closed and all is read, -EPIPE the other side is
 * gone, -EBADMSG, -ENOTCONN a writer without a reader. timeout_ns -1: for ever. */
int sup_ring_arm(struct sup_ring *ring, uint64_t size);
void sup_ring_disarm(struct sup_ring *ring);
int sup_ring_wait(struct sup_ring *ring, uint64_t size, int64_t timeout_ns, int64_t spin_ns);
