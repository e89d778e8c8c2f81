/* Attempts to get out of, or to reach beyond, the root that a package's script runs in.
 *
 *   escape MARKER PID SOCKET KEY FIRST     every attempt, a line each: NAME<TAB>worked|blocked|n/a<TAB>detail
 *
 * MARKER is a file of the host outside the root, PID a process outside, SOCKET the name of an abstract unix
 * socket that a process outside listens on, KEY a System V shared memory segment made outside, FIRST the process
 * to be looked into: 1 inside, where that is the sandbox's own, and PID in the control, since process 1 of the
 * host may be guarded by other means.
 *
 * No attempt does harm where it works: what would (loading a module, rebooting) is called with arguments that
 * the kernel refuses only after it has looked at the caller's rights.
 *
 * Built with `cc -static`; no other file needed. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/loop.h>
#include <linux/perf_event.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <sys/io.h>
#endif

enum { WORKED = 0, BLOCKED = 1, NOT_HERE = 2 };

static const char *marker, *abstract_name;
static int outside_pid, shared_key, first_pid;

static int say(int verdict, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    fflush(stdout);
    return verdict;
}

static int blocked(const char *what) { return say(BLOCKED, "%s: %s", what, strerror(errno)); }

/* A call that must fail, but for another reason than the caller's rights. */
static int rights(const char *what, long answer) {
    if (answer >= 0) return say(WORKED, "%s succeeded", what);
    if (errno == EPERM || errno == EACCES) return blocked(what);
    if (errno == ENOSYS) return say(NOT_HERE, "%s: not in this kernel, or hidden", what);
    return say(WORKED, "%s got past the check of rights: %s", what, strerror(errno));
}

static int can_open(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return blocked(path);
    close(fd);
    return say(WORKED, "opened %s", path);
}

/* The same for a file that not every kernel has. */
static int can_write(const char *path) {
    if (access(path, F_OK) && errno == ENOENT) return say(NOT_HERE, "this kernel has no %s", path);
    return can_open(path, O_WRONLY);
}

/* --- Devices ------------------------------------------------------------------------------------------- */

static int node(const char *path, mode_t kind, dev_t number, int open_it) {
    unlink(path);
    if (mknod(path, kind | 0600, number)) return blocked("mknod");
    int fd = open_it ? open(path, O_RDONLY | O_NONBLOCK) : -1;
    int why = errno;
    unlink(path);
    if (open_it && fd < 0) { errno = why; return blocked("opening the node"); }
    return say(WORKED, "made the node");
}

static int mknod_block(void) { return node("/var/tmp/probe-block", S_IFBLK, makedev(7, 0), 0); }
static int mknod_char(void) { return node("/var/tmp/probe-mem", S_IFCHR, makedev(1, 1), 0); }

static int debugfs_on_the_disk(void) {
    struct stat found;
    char block[2];
    if (stat("/", &found)) return blocked("stat");
    if (major(found.st_dev) == 0) return say(NOT_HERE, "the root is on no disk");
    const char *path = "/var/tmp/probe-disk";
    unlink(path);
    if (mknod(path, S_IFBLK | 0600, found.st_dev)) return blocked("mknod");
    int fd = open(path, O_RDONLY);
    int why = errno;
    unlink(path);
    if (fd < 0) { errno = why; return blocked("opening the disk"); }
    if (pread(fd, block, 2, 1024) != 2) return blocked("reading the disk");
    return say(WORKED, "read the superblock of %u:%u", major(found.st_dev), minor(found.st_dev));
}

static int node_of_the_image(void) { return can_open("/var/planted-null", O_RDONLY); }

static int disks_in_dev(void) {
    DIR *dev = opendir("/dev");
    struct dirent *entry;
    struct stat found;
    if (!dev) return blocked("/dev");
    while ((entry = readdir(dev)))
        if (!fstatat(dirfd(dev), entry->d_name, &found, AT_SYMLINK_NOFOLLOW) && S_ISBLK(found.st_mode))
            return say(WORKED, "found /dev/%s", entry->d_name);
    return say(BLOCKED, "no block device in /dev");
}

static int loop_attach(void) {
    int control = open("/dev/loop-control", O_RDWR);
    if (control < 0) {
        if (mknod("/var/tmp/probe-loop", S_IFCHR | 0600, makedev(10, 237))) return blocked("/dev/loop-control");
        control = open("/var/tmp/probe-loop", O_RDWR);
        unlink("/var/tmp/probe-loop");
    }
    if (control < 0) return blocked("loop-control");
    int number = ioctl(control, LOOP_CTL_GET_FREE);
    return number < 0 ? blocked("LOOP_CTL_GET_FREE") : say(WORKED, "loop%d is free to attach", number);
}

static int dev_mem(void) {
    int fd = open("/dev/mem", O_RDONLY);
    if (fd < 0 && errno == ENOENT) fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
    if (fd < 0) return blocked("/dev/mem and /dev/kmsg");
    return say(WORKED, "opened the kernel's memory or log");
}

/* --- /proc and /sys ------------------------------------------------------------------------------------- */

static int kernel_addresses(void) {
    char line[256] = "";
    int fd = open("/proc/kallsyms", O_RDONLY);
    if (fd < 0) return blocked("/proc/kallsyms");
    if (read(fd, line, 32) <= 0) return say(BLOCKED, "/proc/kallsyms is empty");
    return say(WORKED, "read kernel symbols");
}

static int kcore(void) {
    char head[4];
    int fd = open("/proc/kcore", O_RDONLY);
    if (fd < 0 && errno == ENOENT) return say(NOT_HERE, "this kernel has no /proc/kcore");
    if (fd < 0) return blocked("/proc/kcore");
    if (read(fd, head, 4) != 4) return say(BLOCKED, "/proc/kcore is empty");
    return say(WORKED, "read the kernel's memory");
}

static int kernel_log(void) {
    char line[512];
    int size = klogctl(3, line, sizeof line);
    return size < 0 ? blocked("syslog(2)") : say(WORKED, "read %d bytes of the kernel's log", size);
}

static int kernel_keys(void) {
    char line[64];
    int fd = open("/proc/keys", O_RDONLY);
    if (fd < 0) return blocked("/proc/keys");
    if (read(fd, line, 32) <= 0) return say(BLOCKED, "/proc/keys is empty");
    return say(WORKED, "listed keys");
}

static int sysrq(void) { return can_write("/proc/sysrq-trigger"); }
static int core_pattern(void) { return can_write("/proc/sys/kernel/core_pattern"); }
static int modprobe_path(void) { return can_write("/proc/sys/kernel/modprobe"); }

static int sys_write(void) {
    const char *paths[] = {"/sys/kernel/uevent_helper", "/sys/kernel/mm/ksm/run", "/sys/block/loop0/uevent",
                           "/sys/devices/system/cpu/cpu0/uevent", "/sys/class/net/lo/uevent"};
    for (size_t at = 0; at < sizeof paths / sizeof *paths; at++) {
        if (access(paths[at], F_OK)) continue;
        return can_open(paths[at], O_WRONLY);
    }
    return say(NOT_HERE, "none of the files of /sys is there");
}

static int remount_proc_sys(void) {
    if (mount(NULL, "/proc", NULL, MS_REMOUNT | MS_BIND, NULL)) return blocked("remounting /proc");
    return say(WORKED, "remounted /proc");
}

/* --- Mounts and namespaces ------------------------------------------------------------------------------ */

static int mount_tmpfs(void) {
    if (mount("none", "/mnt", "tmpfs", 0, NULL)) return blocked("mount");
    umount2("/mnt", MNT_DETACH);
    return say(WORKED, "mounted a tmpfs");
}

static int mount_sysfs_writable(void) {
    int fd = syscall(SYS_fsopen, "sysfs", 0);
    return fd < 0 ? blocked("fsopen") : say(WORKED, "opened a new sysfs");
}

static int release_agent(void) {
    mkdir("/var/tmp/probe-cgroup", 0700);
    int answer = mount("none", "/var/tmp/probe-cgroup", "cgroup", 0, "memory");
    if (answer && errno != EPERM && errno != EACCES)
        answer = mount("none", "/var/tmp/probe-cgroup", "cgroup2", 0, NULL);
    int why = errno;
    if (!answer) umount2("/var/tmp/probe-cgroup", MNT_DETACH);
    rmdir("/var/tmp/probe-cgroup");
    errno = why;
    if (answer && errno != EPERM && errno != EACCES) return say(NOT_HERE, "mounting cgroups: %s", strerror(errno));
    return answer ? blocked("mounting cgroups") : say(WORKED, "mounted cgroups");
}

static int cgroup_files(void) {
    DIR *folder = opendir("/sys/fs/cgroup");
    struct dirent *entry;
    int count = 0;
    if (!folder) return blocked("/sys/fs/cgroup");
    while ((entry = readdir(folder))) count += entry->d_name[0] != '.';
    return count ? say(WORKED, "%d entries in /sys/fs/cgroup", count) : say(BLOCKED, "/sys/fs/cgroup is empty");
}

static int unshare_mounts(void) { return unshare(CLONE_NEWNS) ? blocked("unshare") : say(WORKED, "own mounts"); }
static int unshare_user(void) { return unshare(CLONE_NEWUSER) ? blocked("unshare") : say(WORKED, "own users"); }

static int clone_user(void) {
    pid_t child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (child == 0) _exit(0);
    if (child < 0) return blocked("clone");
    waitpid(child, NULL, 0);
    return say(WORKED, "made a process with users of its own");
}

static int clone3_user(void) {
    unsigned long long arguments[8] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
    pid_t child = syscall(SYS_clone3, arguments, sizeof arguments);
    if (child == 0) _exit(0);
    if (child < 0) return blocked("clone3");
    waitpid(child, NULL, 0);
    return say(WORKED, "made a process with users of its own");
}

static int open_of_first(const char *what, int flags) {
    static char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", first_pid, what);
    return open(path, flags);
}

static int nsenter_init(void) {
    int fd = open_of_first("ns/mnt", O_RDONLY);
    if (fd < 0) return blocked("ns/mnt");
    return setns(fd, CLONE_NEWNS) ? blocked("setns") : say(WORKED, "entered its mounts");
}

static int proc_1_root(void) {
    int fd = open_of_first("root/", O_RDONLY | O_DIRECTORY);
    return fd < 0 ? blocked("root") : say(WORKED, "opened its root");
}

/* By which a container's root once rewrote the program that had started it (CVE-2019-5736). */
static int proc_1_exe(void) {
    int fd = open_of_first("exe", O_RDONLY);
    return fd < 0 ? blocked("exe") : say(WORKED, "opened its program");
}

static int proc_1_fds(void) {
    int fd = open_of_first("fd/0", O_RDONLY | O_NONBLOCK);
    return fd < 0 ? blocked("fd/0") : say(WORKED, "opened its standard input");
}

static int proc_1_environ(void) {
    char byte;
    int fd = open_of_first("environ", O_RDONLY);
    if (fd < 0) return blocked("environ");
    return read(fd, &byte, 1) == 1 ? say(WORKED, "read its environment") : say(BLOCKED, "environ is empty");
}

static int sees_marker(const char *how) {
    struct stat found;
    return stat(marker, &found) ? say(BLOCKED, "%s: %s is not there", how, marker)
                                : say(WORKED, "%s: found %s", how, marker);
}

static void climb(void) {
    for (int step = 0; step < 64; step++)
        if (chdir("..")) break;
    if (chroot(".")) perror("chroot");
}

/* Leaves the working directory outside the new root, then climbs. */
static int chroot_nested(void) {
    mkdir("/var/tmp/probe-root", 0700);
    int answer = chroot("/var/tmp/probe-root");
    if (answer) return blocked("chroot");
    climb();
    return sees_marker("nested chroot");
}

/* Keeps a descriptor of a folder outside the new root, then climbs. */
static int chroot_kept_fd(void) {
    int fd = open("/", O_RDONLY | O_DIRECTORY);
    mkdir("/var/tmp/probe-root", 0700);
    if (chroot("/var/tmp/probe-root") || chdir("/")) return blocked("chroot");
    if (fchdir(fd)) return blocked("fchdir");
    climb();
    return sees_marker("kept descriptor");
}

/* The topmost folder of the filesystem that the root is on, by its handle: inode 2 of ext4. */
static int file_handle(void) {
    struct { struct file_handle head; unsigned int words[32]; } handle;
    int mount_id;
    memset(&handle, 0, sizeof handle);
    handle.head.handle_bytes = sizeof handle.words;
    if (name_to_handle_at(AT_FDCWD, "/", &handle.head, &mount_id, 0)) {
        handle.head.handle_bytes = 8;
        handle.head.handle_type = 1;
    }
    handle.words[0] = 2;
    handle.words[1] = 0;
    int here = open("/", O_RDONLY | O_DIRECTORY);
    int fd = open_by_handle_at(here, &handle.head, O_RDONLY);
    if (fd < 0 && errno == EPERM) return blocked("open_by_handle_at");
    return say(WORKED, "open_by_handle_at got past the check of rights");
}

static int pivot(void) {
    return rights("pivot_root", syscall(SYS_pivot_root, "/nonexistent", "/nonexistent"));
}

/* --- Processes ------------------------------------------------------------------------------------------ */

static int see_outside(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/cmdline", outside_pid);
    return can_open(path, O_RDONLY);
}

static int kill_outside(void) {
    return kill(outside_pid, SIGCONT) ? blocked("kill") : say(WORKED, "signalled process %d", outside_pid);
}

static int trace(int pid) {
    if (ptrace(PTRACE_SEIZE, pid, 0, 0)) return blocked("ptrace");
    ptrace(PTRACE_INTERRUPT, pid, 0, 0);
    waitpid(pid, NULL, __WALL);
    ptrace(PTRACE_DETACH, pid, 0, 0);
    return say(WORKED, "traced process %d", pid);
}

static int trace_outside(void) { return trace(outside_pid); }
static int trace_first(void) { return trace(first_pid); }

static int read_init_memory(void) {
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)0x1000, 1};
    ssize_t count = process_vm_readv(first_pid, &here, 1, &there, 1, 0);
    if (count < 0 && (errno == EPERM || errno == EACCES)) return blocked("process_vm_readv");
    return say(WORKED, "its memory may be read");
}

static int steal_descriptor(void) {
    int pidfd = syscall(434 /* pidfd_open */, first_pid, 0);
    if (pidfd < 0) return blocked("pidfd_open");
    int fd = syscall(438 /* pidfd_getfd */, pidfd, 0, 0);
    return fd < 0 ? blocked("pidfd_getfd") : say(WORKED, "took a descriptor of it");
}

static int shared_memory(void) {
    int id = shmget(shared_key, 0, 0);
    return id < 0 ? blocked("shmget") : say(WORKED, "found the segment");
}

static int host_shm(void) {
    char path[128];
    snprintf(path, sizeof path, "/dev/shm/bakehouse-probe-%d", outside_pid);
    return can_open(path, O_RDONLY);
}

/* --- Calls on the kernel --------------------------------------------------------------------------------- */

static int init_module_call(void) { return rights("init_module", syscall(SYS_init_module, NULL, 0, "")); }
static int finit_module_call(void) { return rights("finit_module", syscall(SYS_finit_module, -1, "", 0)); }
static int delete_module_call(void) {
    return rights("delete_module", syscall(SYS_delete_module, "no-such-module", O_NONBLOCK));
}
static int kexec(void) { return rights("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0xffffUL)); }
static int reboot_call(void) { return rights("reboot", syscall(SYS_reboot, 0, 0, 0, NULL)); }
static int swap(void) { return rights("swapon", swapon("/nonexistent", 0)); }
static int accounting(void) { return rights("acct", syscall(SYS_acct, "/nonexistent")); }
static int keyring(void) { return rights("keyctl", syscall(SYS_keyctl, 0, -3, 1)); }
static int add_key_call(void) {
    return rights("add_key", syscall(SYS_add_key, "user", "bakehouse-probe", "x", 1, -2));
}

static int bpf_map(void) {
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.map_type = BPF_MAP_TYPE_ARRAY;
    attributes.key_size = attributes.value_size = 4;
    attributes.max_entries = 1;
    return rights("bpf", syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes));
}

static int perf(void) {
    struct perf_event_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.size = sizeof attributes;
    attributes.type = PERF_TYPE_SOFTWARE;
    return rights("perf_event_open", syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0));
}

static int userfault(void) { return rights("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC)); }

static int io_uring(void) {
    char parameters[120] = {0};
    long fd = syscall(425, 1, parameters);
    return fd < 0 ? blocked("io_uring_setup") : say(WORKED, "made a ring");
}

static int set_time(void) {
    struct timex clock = {.modes = 0};
    if (adjtimex(&clock) < 0) return blocked("adjtimex");
    clock.modes = ADJ_STATUS;
    return adjtimex(&clock) < 0 ? blocked("adjtimex") : say(WORKED, "set the clock (to what it was)");
}

static int host_name(void) {
    char name[65] = "";
    gethostname(name, 64);
    return sethostname(name, strlen(name)) ? blocked("sethostname") : say(WORKED, "set the host's name");
}

static int input_output_ports(void) {
#if defined(__x86_64__)
    return rights("iopl", iopl(3));
#else
    return say(NOT_HERE, "no ports on this architecture");
#endif
}

static int type_into(unsigned long request) {
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY), zero = 0, number;
    if (master < 0 || ioctl(master, TIOCSPTLCK, &zero) || ioctl(master, TIOCGPTN, &number)) return blocked("ptmx");
    char path[32];
    snprintf(path, sizeof path, "/dev/pts/%d", number);
    int slave = open(path, O_RDWR | O_NOCTTY);
    if (slave < 0) return blocked(path);
    if (syscall(SYS_ioctl, slave, request, "x")) return blocked("TIOCSTI");
    return say(WORKED, "typed into a terminal");
}

static int tiocsti(void) { return type_into(TIOCSTI); }
/* The kernel looks at the low half of the request alone; a filter must too. */
static int tiocsti_high_bits(void) { return type_into(0x100000000UL | TIOCSTI); }

#if defined(__x86_64__)
static long call_i386(long number, long first, long second, long third) {
    long answer;
    __asm__ volatile("int $0x80" : "=a"(answer) : "a"(number), "b"(first), "c"(second), "d"(third) : "memory",
                     "r8", "r9", "r10", "r11");
    if (answer < 0 && answer > -4096) { errno = -answer; return -1; }
    return answer;
}
#endif

static int i386_keyring(void) {
#if defined(__x86_64__)
    return rights("keyctl by i386's number", call_i386(288, 0, -3, 1));
#else
    return say(NOT_HERE, "no i386 on this architecture");
#endif
}

static int i386_unshare(void) {
#if defined(__x86_64__)
    return rights("unshare by i386's number", call_i386(310, CLONE_NEWUSER, 0, 0));
#else
    return say(NOT_HERE, "no i386 on this architecture");
#endif
}

static int x32_keyring(void) {
#if defined(__x86_64__)
    return rights("keyctl by x32's number", syscall(0x40000000L | 250, 0, -3, 1));
#else
    return say(NOT_HERE, "no x32 on this architecture");
#endif
}

/* --- Network --------------------------------------------------------------------------------------------- */

static int reach(int family, const char *address, int kind) {
    union { struct sockaddr any; struct sockaddr_in four; struct sockaddr_in6 six; } to;
    socklen_t length = family == AF_INET ? sizeof to.four : sizeof to.six;
    memset(&to, 0, sizeof to);
    to.any.sa_family = family;
    if (family == AF_INET) { to.four.sin_port = htons(80); inet_pton(AF_INET, address, &to.four.sin_addr); }
    else { to.six.sin6_port = htons(80); inet_pton(AF_INET6, address, &to.six.sin6_addr); }
    int fd = socket(family, kind, 0);
    if (fd < 0) return errno == EAFNOSUPPORT ? say(NOT_HERE, "no such family") : blocked("socket");
    struct timeval wait = {5, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    char answer[64] = "";
    if (kind == SOCK_STREAM) {
        if (connect(fd, &to.any, length)) return blocked("connect");
        if (write(fd, "GET /\n", 6) < 0) return blocked("write");
    } else if (sendto(fd, "GET /\n", 6, 0, &to.any, length) < 0) return blocked("sendto");
    if (read(fd, answer, sizeof answer - 1) <= 0) return blocked("read");
    return say(WORKED, "%s answered: %.20s", address, answer);
}

static int metadata_tcp(void) { return reach(AF_INET, "169.254.169.254", SOCK_STREAM); }
static int metadata_udp(void) { return reach(AF_INET, "169.254.169.254", SOCK_DGRAM); }
static int metadata_tcp6(void) { return reach(AF_INET6, "fd00:ec2::254", SOCK_STREAM); }
static int metadata_udp6(void) { return reach(AF_INET6, "fd00:ec2::254", SOCK_DGRAM); }
static int metadata_mapped(void) { return reach(AF_INET6, "::ffff:169.254.169.254", SOCK_STREAM); }
static int metadata_mapped_udp(void) { return reach(AF_INET6, "::ffff:169.254.169.254", SOCK_DGRAM); }
static int container_credentials(void) { return reach(AF_INET, "169.254.170.2", SOCK_STREAM); }

/* Not through connect at all: data in the first packet (TCP Fast Open). */
static int metadata_fast_open(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(80)};
    inet_pton(AF_INET, "169.254.169.254", &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char answer[64] = "";
    if (sendto(fd, "GET /\n", 6, 0x20000000 /* MSG_FASTOPEN */, (void *)&to, sizeof to) < 0) return blocked("sendto");
    struct timeval wait = {5, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    return read(fd, answer, 60) > 0 ? say(WORKED, "answered: %.20s", answer) : blocked("read");
}

static int metadata_raw(void) {
    struct sockaddr_in to = {.sin_family = AF_INET};
    inet_pton(AF_INET, "169.254.169.254", &to.sin_addr);
    int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    if (fd < 0) return blocked("raw socket");
    char echo[8] = {8, 0, (char)0xf7, (char)0xff};
    return sendto(fd, echo, 8, 0, (void *)&to, sizeof to) < 0 ? blocked("sendto") : say(WORKED, "sent a packet");
}

static int packet_socket(void) {
    return socket(AF_PACKET, SOCK_RAW, htons(3)) < 0 ? blocked("packet socket") : say(WORKED, "made a packet socket");
}

/* A ping socket needs no capability where net.ipv4.ping_group_range allows it, and never connects. */
static int metadata_ping(void) {
    struct sockaddr_in to = {.sin_family = AF_INET};
    inet_pton(AF_INET, "169.254.169.254", &to.sin_addr);
    int fd = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
    if (fd < 0 && errno == EACCES) return say(NOT_HERE, "ping sockets are not allowed here");
    if (fd < 0) return blocked("ping socket");
    char echo[8] = {8, 0, 0, 0, 0, 0, 0, 0};
    return sendto(fd, echo, 8, 0, (void *)&to, sizeof to) < 0 ? blocked("sendto") : say(WORKED, "sent a packet");
}

/* To an address that is allowed, by way of the one that is not (loose source routing, RFC 791). */
static int source_route(void) {
    unsigned char route[12] = {1, 131, 11, 4, 169, 254, 169, 254, 127, 0, 0, 1};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(80)};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (setsockopt(fd, IPPROTO_IP, IP_OPTIONS, route, sizeof route)) return blocked("IP_OPTIONS");
    return sendto(fd, "x", 1, 0, (void *)&to, sizeof to) < 0 ? blocked("sendto") : say(WORKED, "sent a packet");
}

/* A name whose address changes once it was looked at: the resolver of the test answers an allowed address
 * first and the metadata service's then. */
static int dns_rebinding(void) {
    static const unsigned char query[] = "\x12\x34\x01\0\0\1\0\0\0\0\0\0\6rebind\4test\0\0\1\0\1";
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct timeval wait = {5, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    char name[INET_ADDRSTRLEN] = "";
    for (int round = 0; round < 2; round++) {
        unsigned char answer[512];
        if (sendto(fd, query, sizeof query - 1, 0, (void *)&to, sizeof to) < 0) return blocked("asking the resolver");
        ssize_t length = recv(fd, answer, sizeof answer, 0);
        if (length < 16) return say(NOT_HERE, "no answer from the resolver");
        inet_ntop(AF_INET, answer + length - 4, name, sizeof name);
        if (round == 0 && strncmp(name, "127.", 4)) return say(NOT_HERE, "the first answer is %s", name);
    }
    return reach(AF_INET, name, SOCK_STREAM);
}

static int abstract_socket(void) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t length = strlen(abstract_name);
    memcpy(to.sun_path + 1, abstract_name, length);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (void *)&to, sizeof(sa_family_t) + 1 + length)) return blocked("connect");
    return say(WORKED, "connected");
}

static int vsock(void) {
    int fd = socket(40, SOCK_STREAM, 0);
    if (fd >= 0) return say(WORKED, "made a vsock socket");
    return errno == EAFNOSUPPORT ? say(BLOCKED, "no such family") : blocked("vsock");
}

static int network_settings(void) {
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (ioctl(fd, SIOCGIFFLAGS, &request)) return blocked("reading lo's flags");
    return ioctl(fd, SIOCSIFFLAGS, &request) ? blocked("setting lo's flags") : say(WORKED, "set lo's flags");
}

/* --------------------------------------------------------------------------------------------------------- */

static const struct { const char *name; int (*attempt)(void); } probes[] = {
    {"mknod of a block device", mknod_block},
    {"mknod of a character device", mknod_char},
    {"debugfs on the bake's disk", debugfs_on_the_disk},
    {"a device node that came with the image", node_of_the_image},
    {"disks in /dev", disks_in_dev},
    {"loop device attached", loop_attach},
    {"/dev/mem, /dev/kmsg", dev_mem},
    {"/proc/kallsyms", kernel_addresses},
    {"/proc/kcore", kcore},
    {"kernel log", kernel_log},
    {"/proc/keys", kernel_keys},
    {"/proc/sysrq-trigger", sysrq},
    {"core_pattern", core_pattern},
    {"modprobe path", modprobe_path},
    {"write to /sys", sys_write},
    {"remount /proc", remount_proc_sys},
    {"mount", mount_tmpfs},
    {"mount by fsopen", mount_sysfs_writable},
    {"cgroup release_agent", release_agent},
    {"cgroup files", cgroup_files},
    {"unshare of mounts", unshare_mounts},
    {"user namespace by unshare", unshare_user},
    {"user namespace by clone", clone_user},
    {"user namespace by clone3", clone3_user},
    {"nsenter of process 1", nsenter_init},
    {"/proc/1/root", proc_1_root},
    {"/proc/1/exe", proc_1_exe},
    {"/proc/1/fd", proc_1_fds},
    {"/proc/1/environ", proc_1_environ},
    {"chroot break by nested chroot", chroot_nested},
    {"chroot break by kept descriptor", chroot_kept_fd},
    {"open_by_handle_at", file_handle},
    {"pivot_root", pivot},
    {"see a process outside", see_outside},
    {"kill a process outside", kill_outside},
    {"ptrace a process outside", trace_outside},
    {"ptrace process 1", trace_first},
    {"read process 1's memory", read_init_memory},
    {"take a descriptor of process 1", steal_descriptor},
    {"System V memory of the host", shared_memory},
    {"/dev/shm of the host", host_shm},
    {"init_module", init_module_call},
    {"finit_module", finit_module_call},
    {"delete_module", delete_module_call},
    {"kexec", kexec},
    {"reboot", reboot_call},
    {"swapon", swap},
    {"process accounting", accounting},
    {"keyctl", keyring},
    {"add_key", add_key_call},
    {"bpf", bpf_map},
    {"perf_event_open", perf},
    {"userfaultfd", userfault},
    {"io_uring", io_uring},
    {"set the clock", set_time},
    {"set the host name", host_name},
    {"iopl", input_output_ports},
    {"TIOCSTI", tiocsti},
    {"TIOCSTI with high bits", tiocsti_high_bits},
    {"keyctl by i386's number", i386_keyring},
    {"user namespace by i386's number", i386_unshare},
    {"keyctl by x32's number", x32_keyring},
    {"metadata by TCP", metadata_tcp},
    {"metadata by UDP", metadata_udp},
    {"metadata by IPv6 TCP", metadata_tcp6},
    {"metadata by IPv6 UDP", metadata_udp6},
    {"metadata by IPv4-mapped IPv6", metadata_mapped},
    {"metadata by IPv4-mapped IPv6 UDP", metadata_mapped_udp},
    {"metadata by TCP Fast Open", metadata_fast_open},
    {"metadata by raw socket", metadata_raw},
    {"metadata by ping socket", metadata_ping},
    {"packet socket", packet_socket},
    {"source route by the metadata address", source_route},
    {"DNS rebinding to the metadata address", dns_rebinding},
    {"container credentials (169.254.170.2)", container_credentials},
    {"abstract unix socket of the host", abstract_socket},
    {"vsock", vsock},
    {"network settings", network_settings},
};

static void attempt(size_t at) {
    printf("%s\t", probes[at].name);
    fflush(stdout);
    int ends[2];
    if (pipe(ends)) return;
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        alarm(20);
        _exit(probes[at].attempt());
    }
    close(ends[1]);
    char detail[512];
    size_t length = 0;
    ssize_t count;
    while ((count = read(ends[0], detail + length, sizeof detail - 1 - length)) > 0) length += count;
    detail[length] = 0;
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    const char *verdicts[] = {"worked", "blocked", "n/a"};
    if (WIFEXITED(status) && WEXITSTATUS(status) < 3) printf("%s\t%s\n", verdicts[WEXITSTATUS(status)], detail);
    else printf("blocked\tended by signal %d\n", WTERMSIG(status));
    fflush(stdout);
}

int main(int count, char **arguments) {
    if (count != 6) return 64;
    marker = arguments[1];
    outside_pid = atoi(arguments[2]);
    abstract_name = arguments[3];
    shared_key = atoi(arguments[4]);
    first_pid = atoi(arguments[5]);
    for (size_t at = 0; at < sizeof probes / sizeof *probes; at++) attempt(at);
    return 0;
}
