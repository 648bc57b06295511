// blkio-client verify SOCKET SECONDS SEED
// blkio-client bench SOCKET SECONDS read|write DEPTH BYTES PID
//
// A front-end made of libblkio (driver virtio-blk-vhost-user), that is, of somebody else's virtqueue and vhost-user code.
// verify: random reads, writes, discards, writes of zeros and flushes, 16 on their way, against a copy in memory.
// bench: random requests; prints requests a second and microseconds of processor time of process PID for each.
// cc -O2 -o blkio-client blkio-client.c -lblkio
#include <blkio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 16, AREA = 2 << 20, MOST = 64 << 10, BATCH = 64 };

static struct blkio *disk;
static struct blkioq *queue;
static struct blkio_mem_region memory;

#define CHECK(call) \
  do { \
    if ((call) < 0) { \
      fprintf(stderr, "blkio-client: %s: %s\n", #call, blkio_get_error_msg()); \
      exit(1); \
    } \
  } while (0)

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static void connect_to(const char *path, size_t size) {
  CHECK(blkio_create("virtio-blk-vhost-user", &disk));
  CHECK(blkio_set_str(disk, "path", path));
  CHECK(blkio_connect(disk));
  CHECK(blkio_start(disk));
  CHECK(blkio_alloc_mem_region(disk, &memory, size));
  CHECK(blkio_map_mem_region(disk, &memory));
  queue = blkio_get_queue(disk, 0);
}

static int take(struct blkio_completion *done, int most) {
  int count = blkioq_do_io(queue, done, 1, most, NULL);
  CHECK(count);
  for (int i = 0; i < count; i++)
    if (done[i].ret) {
      fprintf(stderr, "blkio-client: request failed: %d\n", done[i].ret);
      exit(1);
    }
  return count;
}

// Each slot has a part of the disk, so that no two requests overlap.
static struct slot {
  uint8_t *buffer, *copy, *undefined;
  uint64_t start;
  size_t offset, length;
  int is_read;
} slots[SLOTS];
static unsigned long counts[5];

static void check(struct slot *slot) {
  for (size_t i = 0; i < slot->length; i++) {
    size_t place = slot->offset + i;
    // What was discarded reads as anything until it is written.
    if (slot->undefined[place] || slot->buffer[i] == slot->copy[place]) continue;
    fprintf(stderr, "blkio-client: byte %llu is wrong\n", (unsigned long long)(slot->start + place));
    exit(1);
  }
}

static void submit(struct slot *slot) {
  slot->length = 512 * (1 + random() % (MOST / 512));
  slot->offset = 512 * (random() % ((AREA - slot->length) / 512 + 1));
  uint64_t place = slot->start + slot->offset;
  int kind = random() % 20;
  kind = kind < 9 ? 0 : kind < 17 ? 1 : kind - 15;
  counts[kind]++;
  slot->is_read = kind == 0;
  switch (kind) {
  case 0: blkioq_read(queue, place, slot->buffer, slot->length, slot, 0); return;
  case 1:
    for (size_t i = 0; i < slot->length; i += 8) *(uint64_t *)(slot->buffer + i) = (uint64_t)random() << 32 | random();
    memcpy(slot->copy + slot->offset, slot->buffer, slot->length);
    memset(slot->undefined + slot->offset, 0, slot->length);
    blkioq_write(queue, place, slot->buffer, slot->length, slot, 0);
    return;
  case 2: blkioq_flush(queue, slot, 0); return;
  case 3:
    memset(slot->undefined + slot->offset, 1, slot->length);
    blkioq_discard(queue, place, slot->length, slot, 0);
    return;
  default:
    memset(slot->copy + slot->offset, 0, slot->length);
    memset(slot->undefined + slot->offset, 0, slot->length);
    blkioq_write_zeroes(queue, place, slot->length, slot, random() % 2 ? BLKIO_REQ_NO_UNMAP : 0);
  }
}

static void verify(double seconds) {
  struct blkio_completion done[SLOTS];
  for (int i = 0; i < SLOTS; i++) {
    slots[i] = (struct slot){(uint8_t *)memory.addr + i * MOST, calloc(1, AREA), calloc(1, AREA), (uint64_t)i * AREA};
    // The disk may hold anything.
    memset(slots[i].undefined, 1, AREA);
    submit(&slots[i]);
  }
  int left = SLOTS;
  for (double end = now() + seconds; left;) {
    int count = take(done, SLOTS);
    for (int i = 0; i < count; i++) {
      struct slot *slot = done[i].user_data;
      if (slot->is_read) check(slot);
      if (now() < end) submit(slot);
      else left--;
    }
  }
  printf("%lu reads, %lu writes, %lu flushes, %lu discards, %lu writes of zeros\n", counts[0], counts[1], counts[2], counts[3], counts[4]);
}

static double processor_time(const char *pid) {
  char path[64];
  unsigned long user = 0, kernel = 0;
  snprintf(path, sizeof path, "/proc/%s/stat", pid);
  FILE *file = fopen(path, "r");
  if (!file || fscanf(file, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) != 2) exit(1);
  fclose(file);
  return (double)(user + kernel) / sysconf(_SC_CLK_TCK);
}

static void bench(double seconds, int is_read, int depth, size_t length, const char *pid) {
  struct blkio_completion done[BATCH];
  uint64_t capacity, count = 0;
  CHECK(blkio_get_uint64(disk, "capacity", &capacity));
  double start = now(), before = processor_time(pid);
  int out = 0;
  do {
    for (; out < depth; out++) {
      uint64_t place = (uint64_t)random() % (capacity / length) * length;
      void *buffer = (uint8_t *)memory.addr + (count + out) % depth * length;
      if (is_read) blkioq_read(queue, place, buffer, length, NULL, 0);
      else blkioq_write(queue, place, buffer, length, NULL, 0);
    }
    int taken = take(done, BATCH);
    out -= taken;
    count += taken;
  } while (now() - start < seconds);
  double time = now() - start;
  printf("%.0f %.2f\n", count / time, (processor_time(pid) - before) * 1e6 / count);
}

int main(int argc, char **argv) {
  if (argc == 5 && !strcmp(argv[1], "verify")) {
    srandom(atoi(argv[4]));
    connect_to(argv[2], SLOTS * MOST);
    verify(atof(argv[3]));
  } else if (argc == 8 && !strcmp(argv[1], "bench")) {
    size_t length = atol(argv[6]);
    int depth = atoi(argv[5]);
    connect_to(argv[2], (depth * length + 4095) / 4096 * 4096);
    bench(atof(argv[3]), !strcmp(argv[4], "read"), depth, length, argv[7]);
  } else {
    fprintf(stderr, "usage: see the first lines of blkio-client.c\n");
    return 2;
  }
  blkio_destroy(&disk);
}
