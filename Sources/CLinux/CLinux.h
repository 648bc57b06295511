// Kernel and libc interfaces that Swift's Glibc module leaves out: includes and declarations only.
#pragma once

// Types that Glibc declares too stay Glibc's: without this line they would belong to whichever module Swift loads first.
#pragma clang module import SwiftGlibc

#include <linux/if_packet.h>
#include <linux/userfaultfd.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/vfs.h>

// Declared by glibc only under _GNU_SOURCE, which cannot be set for a module that Glibc shares headers with.
int accept4(int socket, struct sockaddr *_Nullable address, unsigned int *_Nullable length, int flags);
int fallocate(int descriptor, int mode, off_t offset, off_t length);
int mlock2(const void *_Nonnull address, size_t length, unsigned int flags);
int memfd_create(const char *_Nonnull name, unsigned int flags);
int pipe2(int descriptors[2], int flags);
int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *_Nonnull actions, const char *_Nonnull path);
int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *_Nonnull actions, int first);
ssize_t preadv2(int descriptor, const struct iovec *_Nonnull vectors, int count, off_t offset, int flags);
int pthread_setname_np(pthread_t thread, const char *_Nonnull name);
ssize_t splice(
  int source, off_t *_Nullable sourceOffset, int target, off_t *_Nullable targetOffset, size_t length, unsigned int flags);
ssize_t vmsplice(int pipe, const struct iovec *_Nonnull vectors, size_t count, unsigned int flags);
int sched_getaffinity(pid_t process, size_t size, cpu_set_t *_Nonnull processors);

struct mmsghdr {
  struct msghdr msg_hdr;
  unsigned int msg_len;
};

int recvmmsg(
  int socket, struct mmsghdr *_Nonnull messages, unsigned int count, int flags, struct timespec *_Nullable limit);
int sendmmsg(int socket, struct mmsghdr *_Nonnull messages, unsigned int count, int flags);

enum {
  CLINUX_MFD_CLOEXEC = 0x1,
  CLINUX_MFD_ALLOW_SEALING = 0x2,
  CLINUX_MFD_HUGETLB = 0x4,
  CLINUX_MFD_HUGE_2MB = 21 << 26,
  CLINUX_F_ADD_SEALS = 1033,
  CLINUX_F_GET_SEALS = 1034,
  CLINUX_F_SEAL_SHRINK = 0x2,
  CLINUX_F_SEAL_GROW = 0x4,
  CLINUX_FALLOC_FL_KEEP_SIZE = 0x1,
  CLINUX_FALLOC_FL_PUNCH_HOLE = 0x2,
  CLINUX_FALLOC_FL_ZERO_RANGE = 0x10,
  CLINUX_F_OFD_GETLK = 36,
  CLINUX_F_OFD_SETLK = 37,
#if defined(__aarch64__)
  CLINUX_O_DIRECT = 0x10000,
#else
  CLINUX_O_DIRECT = 0x4000,
#endif
  CLINUX_SO_ZEROCOPY = 60,
  CLINUX_MSG_ZEROCOPY = 0x4000000,
  CLINUX_MSG_ERRQUEUE = 0x2000,
  CLINUX_SO_EE_ORIGIN_ZEROCOPY = 5,
  CLINUX_SO_EE_CODE_ZEROCOPY_COPIED = 1,
  CLINUX_MADV_DONTNEED_LOCKED = 24,
  CLINUX_MADV_COLLAPSE = 25,
  CLINUX_MLOCK_ONFAULT = 0x1,
  CLINUX_RWF_NOWAIT = 0x8,
  CLINUX_F_SETPIPE_SZ = 1031,
  CLINUX_SPLICE_F_NONBLOCK = 0x2,
  CLINUX_SEEK_DATA = 3,
  CLINUX_SEEK_HOLE = 4,
};

// The magic numbers by which statfs(2) names file systems that live in memory.
enum { CLINUX_HUGETLBFS_MAGIC = 0x958458f6, CLINUX_TMPFS_MAGIC = 0x01021994 };

// userfaultfd(2) has no function of its own in glibc: this is `syscall`, without the variable arguments that Swift cannot
// pass.
long clinux_userfaultfd(long number, int flags) __asm__("syscall");

// Older versions of glibc have no function for pidfd_open(2).
long clinux_pidfd_open(long number, int process, unsigned int flags) __asm__("syscall");

enum {
  CLINUX_SYS_PIDFD_OPEN = __NR_pidfd_open,
  CLINUX_SYS_USERFAULTFD = __NR_userfaultfd,
  // The requests that linux/userfaultfd.h has as macros with arguments.
  CLINUX_UFFDIO_API = 0xc018aa3f,
  CLINUX_UFFDIO_REGISTER = 0xc020aa00,
  CLINUX_UFFDIO_UNREGISTER = 0x8010aa01,
  CLINUX_UFFDIO_WAKE = 0x8010aa02,
  CLINUX_UFFDIO_COPY = 0xc028aa03,
  CLINUX_UFFDIO_ZEROPAGE = 0xc020aa04,
  CLINUX_UFFDIO_WRITEPROTECT = 0xc018aa06,
  CLINUX_UFFDIO_CONTINUE = 0xc020aa07,
  // That of /dev/userfaultfd.
  CLINUX_USERFAULTFD_IOC_NEW = 0xaa00,
};

// The page map's request of linux/fs.h since Linux 6.7, of which older headers know nothing.
struct clinux_page_region {
  unsigned long long start;
  unsigned long long end;
  unsigned long long categories;
};

struct clinux_pm_scan_arg {
  unsigned long long size;
  unsigned long long flags;
  unsigned long long start;
  unsigned long long end;
  unsigned long long walk_end;
  unsigned long long vec;
  unsigned long long vec_len;
  unsigned long long max_pages;
  unsigned long long category_inverted;
  unsigned long long category_mask;
  unsigned long long category_anyof_mask;
  unsigned long long return_mask;
};

enum {
  CLINUX_PAGEMAP_SCAN = 0xc0606610,
  CLINUX_PM_SCAN_WP_MATCHING = 0x1,
  CLINUX_PM_SCAN_CHECK_WPASYNC = 0x2,
  CLINUX_PAGE_IS_WRITTEN = 0x2,
};

// linux/if_tun.h has its requests as macros with arguments, and not all flags in older versions.
enum {
  CLINUX_TUNSETIFF = 0x400454ca,
  CLINUX_TUNSETOFFLOAD = 0x400454d0,
  CLINUX_TUNGETIFF = 0x800454d2,
  CLINUX_TUNSETVNETHDRSZ = 0x400454d8,
  CLINUX_IFF_TAP = 0x2,
  CLINUX_IFF_MULTI_QUEUE = 0x100,
  CLINUX_IFF_NO_PI = 0x1000,
  CLINUX_IFF_VNET_HDR = 0x4000,
  CLINUX_TUN_F_CSUM = 0x1,
  CLINUX_TUN_F_TSO4 = 0x2,
  CLINUX_TUN_F_TSO6 = 0x4,
  CLINUX_TUN_F_TSO_ECN = 0x8,
  CLINUX_TUN_F_UFO = 0x10,
  CLINUX_TUN_F_USO4 = 0x20,
  CLINUX_TUN_F_USO6 = 0x40,
};
