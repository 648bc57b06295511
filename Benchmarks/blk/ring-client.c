// A front-end for vhost-user-blk without a guest: one split ring in a memfd, and what a driver does with it. It checks a
// back-end (verify) and measures one (bench). It is a client to compare with, and no part of what it is used on.
//
//   cc -O2 -Wall -o ring-client ring-client.c
//   ring-client verify SOCKET [--seconds N] [--seed N] [--depth N] [--dump FILE] [--reconnect]
//   ring-client bench SOCKET --pid PID [--op read|write] [--order random|sequential] [--block BYTES] [--depth N]
//                            [--seconds N] [--poll]
//
// verify: random reads, writes, discards, write zeroes and flushes, in direct and indirect chains with buffers of odd
// lengths, against a copy of the disk's first 64 MiB in memory. --dump leaves that copy in a file. With --reconnect a
// back-end that dies is looked for again on the same socket, and gets its inflight region and the ring as they are: each
// request must then be completed once, and never be done again after it was.
// bench: prints requests a second, bytes a second, and microseconds of processor time that the process PID, threads
// included, used for each request. Without --poll the client sleeps until it is called.
// Exit status 0, 1 for a back-end that is not right, 2 for a wrong command line.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
  GET_FEATURES = 1, SET_FEATURES = 2, SET_OWNER = 3, SET_MEM_TABLE = 5, SET_VRING_NUM = 8, SET_VRING_ADDR = 9,
  SET_VRING_BASE = 10, SET_VRING_KICK = 12, SET_VRING_CALL = 13, GET_PROTOCOL_FEATURES = 15, SET_PROTOCOL_FEATURES = 16,
  SET_VRING_ENABLE = 18, GET_CONFIG = 24, GET_INFLIGHT_FD = 31, SET_INFLIGHT_FD = 32,
};
enum { PROTOCOL_CONFIG = 9, PROTOCOL_INFLIGHT = 12, FEATURE_PROTOCOL = 30 };
enum { QUEUE = 256, PER_SLOT = 6, SLOTS = QUEUE / PER_SLOT, LARGEST = 128 << 10, PIECES = PER_SLOT - 2, SECTOR = 512 };
enum { WINDOW = 64 << 20, HOT = 4 << 20 };

struct message {
  uint32_t request, flags, size;
  union {
    uint64_t number;
    struct { uint32_t index, value; } ring;
    struct { uint32_t index, flags; uint64_t descriptors, used, available, log; } addresses;
    struct { uint32_t count, padding; uint64_t guest, size, user, offset; } memory;
    struct { uint32_t offset, size, flags; uint8_t bytes[60]; } config;
    struct { uint64_t size, offset; uint16_t queues, queue_size; } inflight;
    uint8_t bytes[256];
  };
} __attribute__((packed));

// What the device can reach: its address in the guest is its offset in here.
struct guest {
  struct vring_desc descriptors[QUEUE];
  struct { uint16_t flags, index, ring[QUEUE], used_event; } available;
  struct { uint16_t flags, index; struct vring_used_elem ring[QUEUE]; uint16_t available_event; } used
      __attribute__((aligned(4096)));
  struct slot {
    struct vring_desc indirect[PER_SLOT] __attribute__((aligned(16)));
    struct virtio_blk_outhdr header;
    struct virtio_blk_discard_write_zeroes range;
    uint8_t status;
  } slots[SLOTS] __attribute__((aligned(4096)));
  uint8_t data[SLOTS][LARGEST] __attribute__((aligned(4096)));
};

struct request {
  bool out;
  uint32_t type, bytes, writable;
  uint64_t at;
};

static const char *socket_path;
static struct guest *guest;
static struct virtio_blk_config config;
static struct message inflight;
static struct request requests[SLOTS];
static int connection = -1, memory_fd, kick_fd, call_fd, inflight_fd = -1;
static uint64_t features, random_state = 1;
static uint16_t submitted, seen, kicked;
static int outstanding;
static bool polling;

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...) {
  va_list values;
  va_start(values, format);
  fputs("ring-client: ", stderr);
  vfprintf(stderr, format, values);
  fputc('\n', stderr);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static uint64_t draw(void) {  // splitmix64
  uint64_t z = random_state += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

static bool has(int feature) { return features >> feature & 1; }

// The protocol

static bool transmit(struct message *message, size_t size, int descriptor) {
  message->flags = 1;
  message->size = size;
  struct iovec bytes = {message, offsetof(struct message, bytes) + size};
  char control[CMSG_SPACE(sizeof(int))] = {0};
  struct msghdr header = {.msg_iov = &bytes, .msg_iovlen = 1};
  if (descriptor >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &descriptor, sizeof(int));
  }
  return sendmsg(connection, &header, MSG_NOSIGNAL) == (ssize_t)bytes.iov_len;
}

static bool take_reply(struct message *message, int *descriptor) {
  uint32_t request = message->request;
  struct iovec bytes = {message, offsetof(struct message, bytes)};
  char control[CMSG_SPACE(sizeof(int))];
  struct msghdr header = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  if (recvmsg(connection, &header, MSG_WAITALL) != (ssize_t)bytes.iov_len) return false;
  struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
  if (descriptor && rights) memcpy(descriptor, CMSG_DATA(rights), sizeof(int));
  if (message->request != request || message->size > sizeof message->bytes)
    fail("the answer to request %u is %u with %u bytes", request, message->request, message->size);
  return recv(connection, message->bytes, message->size, MSG_WAITALL) == (ssize_t)message->size;
}

static bool ask_number(uint32_t request, uint64_t *number) {
  struct message message = {.request = request};
  bool answered = transmit(&message, 0, -1) && take_reply(&message, NULL);
  *number = message.number;
  return answered;
}

static bool tell(uint32_t request, uint64_t number, int descriptor) {
  struct message message = {.request = request, .number = number};
  return transmit(&message, 8, descriptor);
}

static bool tell_ring(uint32_t request, uint32_t value) {
  struct message message = {.request = request, .ring = {0, value}};
  return transmit(&message, 8, -1);
}

static bool share_inflight(void) {
  if (inflight_fd < 0) {
    inflight.request = GET_INFLIGHT_FD;
    inflight.inflight.queues = 1;
    inflight.inflight.queue_size = QUEUE;
    if (!transmit(&inflight, sizeof inflight.inflight, -1) || !take_reply(&inflight, &inflight_fd)) return false;
    if (inflight_fd < 0) fail("no descriptor came with GET_INFLIGHT_FD");
  }
  inflight.request = SET_INFLIGHT_FD;
  return transmit(&inflight, sizeof inflight.inflight, inflight_fd);
}

static bool set_up(void) {
  const uint64_t wanted = 1ull << VIRTIO_F_VERSION_1 | 1 << FEATURE_PROTOCOL | 1 << VIRTIO_RING_F_EVENT_IDX |
                          1 << VIRTIO_RING_F_INDIRECT_DESC | 1 << VIRTIO_BLK_F_FLUSH | 1 << VIRTIO_BLK_F_DISCARD |
                          1 << VIRTIO_BLK_F_WRITE_ZEROES | 1 << VIRTIO_BLK_F_SEG_MAX | 1 << VIRTIO_BLK_F_BLK_SIZE;
  uint64_t offered, protocol = 0, barrier;
  struct message owner = {.request = SET_OWNER};
  if (!transmit(&owner, 0, -1) || !ask_number(GET_FEATURES, &offered)) return false;
  features = offered & wanted;
  if (!has(FEATURE_PROTOCOL) || !has(VIRTIO_F_VERSION_1)) fail("features 0x%llx are too few", (long long)offered);
  if (!ask_number(GET_PROTOCOL_FEATURES, &protocol)) return false;
  if (!(protocol >> PROTOCOL_CONFIG & 1)) fail("no configuration space is offered");
  bool restartable = protocol >> PROTOCOL_INFLIGHT & 1;
  if (!tell(SET_PROTOCOL_FEATURES, 1 << PROTOCOL_CONFIG | restartable << PROTOCOL_INFLIGHT, -1)) return false;
  if (!tell(SET_FEATURES, features, -1)) return false;

  struct message message = {.request = GET_CONFIG, .config = {.size = 60}};
  if (!transmit(&message, sizeof message.config, -1) || !take_reply(&message, NULL)) return false;
  memcpy(&config, message.config.bytes, sizeof message.config.bytes);
  if (restartable && !share_inflight()) return false;

  uint64_t base = (uintptr_t)guest;
  struct message memory = {.request = SET_MEM_TABLE, .memory = {1, 0, 0, sizeof *guest, base, 0}};
  struct message addresses = {.request = SET_VRING_ADDR,
                              .addresses = {.descriptors = base + offsetof(struct guest, descriptors),
                                            .used = base + offsetof(struct guest, used),
                                            .available = base + offsetof(struct guest, available)}};
  return transmit(&memory, sizeof memory.memory, memory_fd) && tell_ring(SET_VRING_NUM, QUEUE) &&
         tell_ring(SET_VRING_BASE, guest->used.index) && transmit(&addresses, sizeof addresses.addresses, -1) &&
         tell(SET_VRING_CALL, 0, call_fd) && tell(SET_VRING_KICK, 0, kick_fd) && tell_ring(SET_VRING_ENABLE, 1) &&
         ask_number(GET_FEATURES, &barrier);
}

static void kick(void) {
  if (eventfd_write(kick_fd, 1)) fail("kick: %s", strerror(errno));
}

static void connect_to_backend(double patience) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, socket_path, sizeof address.sun_path - 1);
  double end = now() + patience;
  for (;;) {
    if (connection >= 0) close(connection);
    connection = socket(AF_UNIX, SOCK_STREAM, 0);
    if (!connect(connection, (struct sockaddr *)&address, sizeof address) && set_up()) break;
    if (now() > end) fail("%s: %s", socket_path, strerror(errno));
    poll(NULL, 0, 5);
  }
  // The ring may hold requests that nobody has been told of.
  kick();
}

static void make_guest(void) {
  memory_fd = memfd_create("ring-client", 0);
  if (ftruncate(memory_fd, sizeof *guest)) fail("ftruncate: %s", strerror(errno));
  guest = mmap(NULL, sizeof *guest, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memory_fd, 0);
  if (guest == MAP_FAILED) fail("mmap: %s", strerror(errno));
  kick_fd = eventfd(0, 0);
  call_fd = eventfd(0, 0);
}

// The ring

static uint64_t place(const void *here) { return (const uint8_t *)here - (const uint8_t *)guest; }

static bool carries_range(uint32_t type) { return type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES; }

// Puts the slot's request into the ring, its data in `pieces` buffers, directly or in an indirect table.
static void submit(int slot, int pieces, bool indirect) {
  struct request *request = &requests[slot];
  struct slot *shared = &guest->slots[slot];
  struct vring_desc chain[PER_SLOT];
  bool from_device = request->type == VIRTIO_BLK_T_IN || request->type == VIRTIO_BLK_T_GET_ID;
  int count = 0;
  shared->header = (struct virtio_blk_outhdr){.type = request->type, .sector = request->at / SECTOR};
  shared->status = 0xff;
  request->writable = 1 + (from_device ? request->bytes : 0);
  chain[count++] = (struct vring_desc){place(&shared->header), sizeof shared->header, 0, 0};
  if (carries_range(request->type)) {
    shared->header.sector = 0;
    shared->range = (struct virtio_blk_discard_write_zeroes){request->at / SECTOR, request->bytes / SECTOR, 0};
    chain[count++] = (struct vring_desc){place(&shared->range), sizeof shared->range, 0, 0};
  } else {
    uint32_t left = request->bytes, done = 0;
    for (int piece = 0; left > 0; piece++) {
      uint32_t length = piece == pieces - 1 || left == 1 ? left : pieces == 1 ? left : 1 + draw() % (left - 1);
      chain[count++] = (struct vring_desc){place(&guest->data[slot][done]), length, from_device ? VRING_DESC_F_WRITE : 0, 0};
      done += length;
      left -= length;
    }
  }
  chain[count++] = (struct vring_desc){place(&shared->status), 1, VRING_DESC_F_WRITE, 0};

  uint16_t head = slot * PER_SLOT, first = indirect ? 0 : head;
  struct vring_desc *table = indirect ? shared->indirect : &guest->descriptors[head];
  for (int i = 0; i < count; i++) {
    table[i] = chain[i];
    if (i < count - 1) table[i].flags |= VRING_DESC_F_NEXT, table[i].next = first + i + 1;
  }
  if (indirect)
    guest->descriptors[head] = (struct vring_desc){place(table), count * sizeof *table, VRING_DESC_F_INDIRECT, 0};
  guest->available.ring[submitted++ % QUEUE] = head;
  request->out = true;
  outstanding++;
}

static void publish(void) {
  __atomic_store_n(&guest->available.index, submitted, __ATOMIC_RELEASE);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  uint16_t event = __atomic_load_n(&guest->used.available_event, __ATOMIC_RELAXED);
  bool wanted = has(VIRTIO_RING_F_EVENT_IDX) ? vring_need_event(event, submitted, kicked)
                                             : !(__atomic_load_n(&guest->used.flags, __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
  kicked = submitted;
  if (wanted) kick();
}

// The next slot that the device has completed, or -1.
static int reap(void) {
  if (__atomic_load_n(&guest->used.index, __ATOMIC_ACQUIRE) == seen) return -1;
  struct vring_used_elem element = guest->used.ring[seen++ % QUEUE];
  int slot = element.id / PER_SLOT;
  if (element.id % PER_SLOT || slot >= SLOTS || !requests[slot].out)
    fail("descriptor %u was completed, which is not out: lost or done twice", element.id);
  // A request that fails may leave its data unwritten, and then nothing of its chain counts as written from its start.
  bool filled = requests[slot].type == VIRTIO_BLK_T_IN && !guest->slots[slot].status;
  if (element.len > requests[slot].writable || (filled && element.len != requests[slot].writable))
    fail("%u bytes written into a chain that takes %u", element.len, requests[slot].writable);
  requests[slot].out = false;
  outstanding--;
  return slot;
}

// Sleeps until the device has completed something, or the socket has news. True if it is the latter.
static bool sleep_until_called(int limit) {
  guest->available.used_event = seen;
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  if (__atomic_load_n(&guest->used.index, __ATOMIC_ACQUIRE) != seen) return false;
  struct pollfd watched[] = {{call_fd, POLLIN, 0}, {connection, POLLIN, 0}};
  int ready = poll(watched, 2, limit);
  if (ready == 0) fail("%d requests out and none completed in %d ms", outstanding, limit);
  eventfd_t count;
  if (watched[0].revents) eventfd_read(call_fd, &count);
  return watched[1].revents != 0;
}

// Checking

static uint8_t *model;
static uint64_t window;
static long done[32], reconnects;

static bool in_the_way(const struct request *wanted) {
  for (int i = 0; i < SLOTS; i++) {
    const struct request *other = &requests[i];
    bool apart = other->at >= wanted->at + wanted->bytes || wanted->at >= other->at + other->bytes;
    if (other->out && !apart && !(other->type == VIRTIO_BLK_T_IN && wanted->type == VIRTIO_BLK_T_IN)) return true;
  }
  return false;
}

static bool choose(struct request *request) {
  uint64_t dice = draw() % 100;
  request->type = dice < 45 ? VIRTIO_BLK_T_IN : dice < 90 ? VIRTIO_BLK_T_OUT : dice < 94 ? VIRTIO_BLK_T_WRITE_ZEROES
                : dice < 97 ? VIRTIO_BLK_T_DISCARD : VIRTIO_BLK_T_FLUSH;
  if ((request->type == VIRTIO_BLK_T_WRITE_ZEROES && !has(VIRTIO_BLK_F_WRITE_ZEROES)) ||
      (request->type == VIRTIO_BLK_T_DISCARD && !has(VIRTIO_BLK_F_DISCARD)) ||
      (request->type == VIRTIO_BLK_T_FLUSH && !has(VIRTIO_BLK_F_FLUSH)))
    return false;
  // Most work in one place, so that a request that is done late or again meets newer data.
  uint64_t room = draw() % 4 ? (HOT < window ? HOT : window) : window;
  uint64_t largest = draw() % 2 ? 8 : LARGEST / SECTOR;
  request->bytes = request->type == VIRTIO_BLK_T_FLUSH ? 0 : SECTOR * (1 + draw() % largest);
  request->at = request->type == VIRTIO_BLK_T_FLUSH ? 0 : draw() % (room / SECTOR) * SECTOR;
  return request->at + request->bytes <= window && !in_the_way(request);
}

static void check_completed(int slot) {
  struct request *request = &requests[slot];
  uint8_t *here = model + request->at, *data = guest->data[slot];
  if (guest->slots[slot].status)
    fail("request of type %u, %u bytes at %llu: status %u", request->type, request->bytes, (long long)request->at,
         guest->slots[slot].status);
  done[request->type & 31]++;
  if (request->type == VIRTIO_BLK_T_OUT) memcpy(here, data, request->bytes);
  if (request->type == VIRTIO_BLK_T_WRITE_ZEROES) memset(here, 0, request->bytes);
  if (request->type != VIRTIO_BLK_T_IN) return;
  for (uint32_t i = 0; i < request->bytes; i++)
    if (data[i] != here[i])
      fail("byte %u of a read of %u bytes at %llu is 0x%02x and not 0x%02x", i, request->bytes, (long long)request->at, data[i],
           here[i]);
}

static int wait_for_one(bool reconnect) {
  int slot;
  while ((slot = reap()) < 0) {
    if (!sleep_until_called(10000)) continue;
    // What was completed before the back-end went is still to be taken.
    if (!reconnect) fail("the back-end closed the connection");
    connect_to_backend(20);
    reconnects++;
  }
  return slot;
}

// One request by itself; returns its status.
static int single(uint32_t type, uint64_t at, uint32_t bytes, bool reconnect) {
  requests[0] = (struct request){.type = type, .at = at, .bytes = bytes};
  submit(0, 1, false);
  publish();
  while (wait_for_one(reconnect) != 0) continue;
  return guest->slots[0].status;
}

static void read_window(uint8_t *into, bool reconnect) {
  for (uint64_t at = 0; at < window; at += LARGEST) {
    if (single(VIRTIO_BLK_T_IN, at, LARGEST, reconnect)) fail("cannot read at %llu", (long long)at);
    memcpy(into + at, guest->data[0], LARGEST);
  }
}

static void check_answers(void) {
  if (single(VIRTIO_BLK_T_IN, config.capacity * SECTOR, SECTOR, false) != VIRTIO_BLK_S_IOERR)
    fail("a read behind the end is not refused");
  if (single(0x7777, 0, SECTOR, false) != VIRTIO_BLK_S_UNSUPP) fail("an unknown type is not unsupported");
  if (single(VIRTIO_BLK_T_GET_ID, 0, VIRTIO_BLK_ID_BYTES, false)) fail("no ID");
}

static int verify(double seconds, int depth, const char *dump, bool reconnect) {
  connect_to_backend(5);
  window = config.capacity * SECTOR / LARGEST * LARGEST;
  if (window > WINDOW) window = WINDOW;
  model = malloc(window);
  read_window(model, reconnect);
  double end = now() + seconds;
  // What a discard leaves is the device's to say, so it is asked before anything else is done there.
  bool discarded = false;
  struct request hole = {0};
  while (now() < end || outstanding) {
    for (int slot = 0; slot < depth && now() < end && !discarded; slot++) {
      struct request next = {0};
      if (requests[slot].out || !choose(&next)) continue;
      requests[slot] = next;
      if (next.type == VIRTIO_BLK_T_OUT)
        for (uint32_t i = 0; i < next.bytes; i += 8) *(uint64_t *)&guest->data[slot][i] = draw();
      else
        memset(guest->data[slot], 0xa5, next.bytes);
      submit(slot, 1 + draw() % PIECES, has(VIRTIO_RING_F_INDIRECT_DESC) && draw() % 2);
      if (next.type == VIRTIO_BLK_T_DISCARD) hole = next, discarded = true;
      if (draw() % 4 == 0) publish();
    }
    publish();
    if (outstanding) check_completed(wait_for_one(reconnect));
    for (int slot; (slot = reap()) >= 0;) check_completed(slot);
    if (discarded && !outstanding) {
      if (single(VIRTIO_BLK_T_IN, hole.at, hole.bytes, reconnect)) fail("cannot read what was discarded");
      for (uint32_t i = 0; i < hole.bytes; i++)
        if (guest->data[0][i] && guest->data[0][i] != model[hole.at + i]) fail("a discard left what was never there");
      memcpy(model + hole.at, guest->data[0], hole.bytes);
      discarded = false;
    }
  }
  uint8_t *disk = malloc(window);
  read_window(disk, reconnect);
  if (memcmp(disk, model, window)) fail("the disk differs in the end");
  if (has(VIRTIO_BLK_F_FLUSH) && single(VIRTIO_BLK_T_FLUSH, 0, 0, reconnect)) fail("flush");
  if (!reconnect) check_answers();
  if (dump) {
    FILE *file = fopen(dump, "w");
    if (!file || fwrite(model, window, 1, file) != 1 || fclose(file)) fail("%s: %s", dump, strerror(errno));
  }
  printf("%ld reads, %ld writes, %ld write zeroes, %ld discards, %ld flushes, %ld reconnects%s\n", done[VIRTIO_BLK_T_IN],
         done[VIRTIO_BLK_T_OUT], done[VIRTIO_BLK_T_WRITE_ZEROES], done[VIRTIO_BLK_T_DISCARD], done[VIRTIO_BLK_T_FLUSH], reconnects,
         inflight_fd < 0 ? ", no inflight region offered" : "");
  return 0;
}

// Measuring

// Nanoseconds of processor time that all threads of a process have used.
static double processor_time(int pid) {
  char path[300];
  snprintf(path, sizeof path, "/proc/%d/task", pid);
  DIR *tasks = opendir(path);
  if (!tasks) fail("%s: %s", path, strerror(errno));
  double sum = 0;
  for (struct dirent *task; (task = readdir(tasks));) {
    if (task->d_name[0] == '.') continue;
    unsigned long long used = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, task->d_name);
    FILE *file = fopen(path, "r");
    if (file && fscanf(file, "%llu", &used) == 1) sum += used;
    if (file) fclose(file);
  }
  closedir(tasks);
  return sum;
}

static long run(double seconds, int depth, uint32_t type, uint32_t block, bool sequential) {
  uint64_t blocks = config.capacity * SECTOR / block, at = 0;
  long completed = 0;
  double end = now() + seconds;
  for (bool open = true; open || outstanding;) {
    bool more = false;
    for (int slot = 0; open && slot < depth; slot++) {
      if (requests[slot].out) continue;
      requests[slot] = (struct request){.type = type, .bytes = block, .at = (sequential ? at++ % blocks : draw() % blocks) * block};
      submit(slot, 1, false);
      more = true;
    }
    if (more) publish();
    int slot = reap();
    while (slot < 0) {
      if (!polling && sleep_until_called(10000)) fail("the back-end closed the connection");
      slot = reap();
    }
    for (; slot >= 0; slot = reap()) {
      if (guest->slots[slot].status) fail("status %u", guest->slots[slot].status);
      completed++;
    }
    if (open && now() > end) open = false;
  }
  return completed;
}

static int bench(double seconds, int depth, uint32_t type, uint32_t block, bool sequential, int pid) {
  connect_to_backend(5);
  guest->available.flags = polling ? VRING_AVAIL_F_NO_INTERRUPT : 0;
  guest->available.used_event = polling ? 0x8000 : 0;
  run(0.2, depth, type, block, sequential);
  double cpu = processor_time(pid), start = now();
  long completed = run(seconds, depth, type, block, sequential);
  double took = now() - start;
  cpu = processor_time(pid) - cpu;
  printf("%.0f %.1f %.3f\n", completed / took, completed * (double)block / took / 1e6, cpu / 1e3 / completed);
  return 0;
}

static void __attribute__((noreturn)) misused(const char *what) {
  fprintf(stderr, "ring-client: %s; its first lines say how it is used\n", what);
  exit(2);
}

int main(int count, char **words) {
  double seconds = 3;
  int depth = 32, pid = 0;
  uint32_t type = VIRTIO_BLK_T_IN, block = 4096;
  bool sequential = false, reconnect = false;
  const char *dump = NULL;
  if (count < 3) misused("needs verify or bench, and a socket");
  socket_path = words[2];
  for (int i = 3; i < count; i++) {
    const char *word = words[i], *value = i + 1 < count ? words[i + 1] : "";
    if (!strcmp(word, "--poll")) { polling = true; continue; }
    if (!strcmp(word, "--reconnect")) { reconnect = true; continue; }
    i++;
    if (!strcmp(word, "--seconds")) seconds = atof(value);
    else if (!strcmp(word, "--seed")) random_state = strtoull(value, NULL, 0);
    else if (!strcmp(word, "--depth")) depth = atoi(value);
    else if (!strcmp(word, "--pid")) pid = atoi(value);
    else if (!strcmp(word, "--block")) block = atoi(value);
    else if (!strcmp(word, "--dump")) dump = value;
    else if (!strcmp(word, "--op")) type = strcmp(value, "write") ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT;
    else if (!strcmp(word, "--order")) sequential = !strcmp(value, "sequential");
    else misused(word);
  }
  if (depth < 1 || depth > SLOTS) misused("--depth is 1 to 42");
  if (block < SECTOR || block > LARGEST || block % SECTOR) misused("--block is 512 to 131072");
  make_guest();
  if (!strcmp(words[1], "verify")) return verify(seconds, depth, dump, reconnect);
  if (strcmp(words[1], "bench") || !pid) misused("needs verify or bench with --pid");
  return bench(seconds, depth, type, block, sequential, pid);
}
