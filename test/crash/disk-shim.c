/*
 * LD_PRELOAD: sees every operation by which the processes of a test change files below one directory, also those of SQLite.
 *
 *     WAGGLE_DISK_DIR      the directory, resolved
 *     WAGGLE_DISK_CONTROL  a file of CONTROL_BYTES zeros, shared by all processes: which operation fails, and how
 *     WAGGLE_DISK_TRACE    where operations are written to, in their order (disk-trace.ts has the layout); absent: they are not
 *
 * With a trace nothing is synced in truth: what a sync would have done is the simulator's business (simulated-disk.ts).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <limits.h>
#include <stdio.h>

enum { CREATE = 1, WRITE, TRUNCATE, SYNC_BEGIN, SYNC_END, RENAME, UNLINK, MKDIR, RMDIR, OPEN };
enum { FAIL_EIO = 1, FAIL_ENOSPC, SHORT_WRITE, TORN_WRITE, DIE };

/* All words are written by the harness, but for `count` and `fired`. */
struct control {
  uint32_t ready;
  uint32_t kind;
  uint32_t at;    /* 0: nothing fails */
  uint32_t count; /* operations below `scope` so far */
  uint32_t fired;
  uint32_t sticky; /* every later operation fails, too */
  char scope[1024]; /* only below this directory operations are counted */
  char what[256];  /* the operation that failed */
  pthread_mutex_t mutex;
};
#define CONTROL_BYTES 8192

#define MAX_FD 65536
static unsigned char watched[MAX_FD]; /* 1: below the directory; 2: below the scope, too */
static struct control *control;
static char directory[PATH_MAX];
static int trace_fd = -1;
static size_t directory_length;

#define REAL(name) ((__typeof__(&name))real_of(&real_##name, #name))
#define DECLARE(name) static void *real_##name;
DECLARE(open) DECLARE(openat) DECLARE(close) DECLARE(write) DECLARE(pwrite) DECLARE(writev) DECLARE(pwritev) DECLARE(ftruncate)
DECLARE(fsync) DECLARE(fdatasync) DECLARE(rename) DECLARE(unlink) DECLARE(unlinkat) DECLARE(mkdir) DECLARE(rmdir)
static void *real_of(void **slot, const char *name) {
  if (*slot == NULL) *slot = dlsym(RTLD_NEXT, name);
  return *slot;
}

__attribute__((constructor)) static void begin(void) {
  const char *dir = getenv("WAGGLE_DISK_DIR"), *path = getenv("WAGGLE_DISK_CONTROL"), *trace = getenv("WAGGLE_DISK_TRACE");
  if (dir == NULL || path == NULL) return;
  int fd = REAL(open)(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  control = mmap(NULL, CONTROL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  REAL(close)(fd);
  if (control == MAP_FAILED) abort();
  uint32_t none = 0;
  if (__atomic_compare_exchange_n(&control->ready, &none, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&control->mutex, &attributes);
    __atomic_store_n(&control->ready, 2, __ATOMIC_SEQ_CST);
  }
  while (__atomic_load_n(&control->ready, __ATOMIC_SEQ_CST) != 2) usleep(100);
  if (trace != NULL) trace_fd = REAL(open)(trace, O_WRONLY | O_APPEND | O_CLOEXEC);
  directory_length = strlen(dir);
  memcpy(directory, dir, directory_length + 1);
}

static void lock(void) {
  /* A process that was killed inside left nothing half done but its own operation. */
  if (pthread_mutex_lock(&control->mutex) == EOWNERDEAD) pthread_mutex_consistent(&control->mutex);
}
static void unlock(void) { pthread_mutex_unlock(&control->mutex); }

static int below(const char *path, const char *dir, size_t length) {
  return length > 0 && strncmp(path, dir, length) == 0 && (path[length] == '/' || path[length] == 0);
}
static int place(const char *path) {
  if (control == NULL || path == NULL || !below(path, directory, directory_length)) return 0;
  return below(path, control->scope, strlen(control->scope)) ? 2 : 1;
}
static int place_fd(int fd) { return control != NULL && fd >= 0 && fd < MAX_FD ? watched[fd] : 0; }

static void record_at(uint8_t kind, uint64_t inode, uint64_t number, uint64_t time, const void *data, uint32_t length, const char *other) {
  if (trace_fd < 0) return;
  uint32_t other_length = other == NULL ? 0 : strlen(other);
  struct __attribute__((packed)) { uint8_t kind; uint64_t inode, number, time; uint32_t length, other; } head = { kind, inode, number, time, length, other_length };
  struct iovec parts[3] = { { &head, sizeof head }, { (void *)data, length }, { (void *)other, other_length } };
  if (REAL(writev)(trace_fd, parts, 3) != (ssize_t)(sizeof head + length + other_length)) abort();
}

static void record(uint8_t kind, uint64_t inode, uint64_t number, const void *data, uint32_t length, const char *other) {
  record_at(kind, inode, number, 0, data, length, other);
}

/* A change of a file's content, with the time that the file bears now. */
static void record_content(uint8_t kind, int fd, uint64_t number, const void *data, uint32_t length) {
  struct stat found;
  if (trace_fd < 0 || fstat(fd, &found) != 0) return;
  record_at(kind, found.st_ino, number, (uint64_t)found.st_mtim.tv_sec * 1000000000u + found.st_mtim.tv_nsec, data, length, NULL);
}

/* Counts the operation. 0: it is to be done; else how it is to fail. Holds the lock. */
static int fault(int where, const char *name, const char *path, int fd) {
  if (where != 2) return 0;
  uint32_t n = ++control->count;
  if (control->at == 0 || n < control->at || (n > control->at && !control->sticky)) return 0;
  if (!control->fired) {
    char self[64], target[200] = "";
    if (path == NULL) {
      snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
      ssize_t length = readlink(self, target, sizeof target - 1);
      target[length < 0 ? 0 : length] = 0;
      path = target;
    }
    const char *base = strrchr(path, '/');
    snprintf(control->what, sizeof control->what, "%s %s", name, base == NULL ? path : base + 1);
  }
  control->fired = 1;
  return control->kind;
}

static int fail_with(int kind) {
  errno = kind == FAIL_ENOSPC || kind == SHORT_WRITE ? ENOSPC : EIO;
  return -1;
}

static uint64_t inode_of(int fd) {
  struct stat found;
  return fstat(fd, &found) == 0 ? found.st_ino : 0;
}

/* --- names ------------------------------------------------------------------------------------------------------ */

static int opened(const char *path, int flags, mode_t mode) {
  int where = place(path);
  if (!where) {
    int fd = REAL(open)(path, flags, mode);
    if (fd >= 0 && fd < MAX_FD) watched[fd] = 0;
    return fd;
  }
  lock();
  struct stat found;
  int is_there = stat(path, &found) == 0;
  int changes = (!is_there && (flags & O_CREAT)) || (is_there && (flags & O_TRUNC) && found.st_size > 0);
  int kind = changes ? fault(where, "open", path, -1) : 0;
  int fd = -1;
  if (kind == DIE) kill(getpid(), SIGKILL);
  if (kind) fail_with(kind);
  else {
    fd = REAL(open)(path, flags, mode);
    if (fd >= 0 && fd < MAX_FD) {
      watched[fd] = where;
      if (!is_there) record(CREATE, inode_of(fd), 0, path, strlen(path), NULL);
      else {
        record(OPEN, inode_of(fd), 0, path, strlen(path), NULL);
        if (flags & O_TRUNC) record_content(TRUNCATE, fd, 0, NULL, 0);
      }
    }
  }
  int error = errno;
  unlock();
  errno = error;
  return fd;
}

#define OPEN_ARGUMENTS                    \
  mode_t mode = 0;                        \
  if (flags & (O_CREAT | __O_TMPFILE)) {  \
    va_list list;                         \
    va_start(list, flags);                \
    mode = va_arg(list, int);             \
    va_end(list);                         \
  }
int open(const char *path, int flags, ...) { OPEN_ARGUMENTS return opened(path, flags, mode); }
int open64(const char *path, int flags, ...) { OPEN_ARGUMENTS return opened(path, flags | O_LARGEFILE, mode); }
int openat(int at, const char *path, int flags, ...) {
  OPEN_ARGUMENTS
  if (at == AT_FDCWD || path[0] == '/') return opened(path, flags, mode);
  int fd = REAL(openat)(at, path, flags, mode);
  if (fd >= 0 && fd < MAX_FD) watched[fd] = 0;
  return fd;
}
int openat64(int at, const char *path, int flags, ...) { OPEN_ARGUMENTS return openat(at, path, flags, mode); }
int close(int fd) {
  if (fd >= 0 && fd < MAX_FD) watched[fd] = 0;
  return REAL(close)(fd);
}

#define NAME_OPERATION(where, call, kind_of_record, inode, path, other) \
  lock();                                                               \
  int kind = fault(where, #kind_of_record, path, -1), result, error;    \
  uint64_t number = inode;                                              \
  if (kind == DIE) kill(getpid(), SIGKILL);                             \
  if (kind) result = fail_with(kind);                                   \
  else {                                                                \
    result = call;                                                      \
    if (result == 0) record(kind_of_record, number, 0, path, strlen(path), other); \
  }                                                                     \
  error = errno;                                                        \
  unlock();                                                             \
  errno = error;                                                        \
  return result;

static uint64_t inode_at(const char *path) {
  struct stat found;
  return stat(path, &found) == 0 ? found.st_ino : 0;
}
int rename(const char *from, const char *to) {
  int where = place(from);
  if (!where) return REAL(rename)(from, to);
  NAME_OPERATION(where, REAL(rename)(from, to), RENAME, inode_at(from), from, to)
}
int unlink(const char *path) {
  int where = place(path);
  if (!where) return REAL(unlink)(path);
  NAME_OPERATION(where, REAL(unlink)(path), UNLINK, inode_at(path), path, NULL)
}
int mkdir(const char *path, mode_t mode) {
  int where = place(path);
  if (!where) return REAL(mkdir)(path, mode);
  NAME_OPERATION(where, REAL(mkdir)(path, mode), MKDIR, 0, path, NULL)
}
int rmdir(const char *path) {
  int where = place(path);
  if (!where) return REAL(rmdir)(path);
  NAME_OPERATION(where, REAL(rmdir)(path), RMDIR, 0, path, NULL)
}
/* rm -r goes down by descriptors: their path is asked for. */
int unlinkat(int at, const char *name, int flags) {
  char path[PATH_MAX] = "", self[64];
  if (at == AT_FDCWD || name[0] == '/') snprintf(path, sizeof path, "%s", name);
  else {
    snprintf(self, sizeof self, "/proc/self/fd/%d", at);
    ssize_t length = readlink(self, path, sizeof path - 1);
    if (length < 0) length = 0;
    snprintf(path + length, sizeof path - length, "/%s", name);
  }
  int where = place(path);
  if (!where) return REAL(unlinkat)(at, name, flags);
  if (flags & AT_REMOVEDIR) {
    NAME_OPERATION(where, REAL(unlinkat)(at, name, flags), RMDIR, 0, path, NULL)
  }
  NAME_OPERATION(where, REAL(unlinkat)(at, name, flags), UNLINK, inode_at(path), path, NULL)
}

/* --- contents --------------------------------------------------------------------------------------------------- */

static ssize_t written(int fd, const void *data, size_t length, off_t offset, int where, int moves) {
  lock();
  int kind = fault(where, "write", NULL, fd), error;
  ssize_t result;
  size_t take = length;
  /* Half of it, torn at a sector where there are sectors. */
  if (kind == TORN_WRITE || kind == SHORT_WRITE || kind == DIE) take = length / 2 > 512 ? length / 2 / 512 * 512 : length / 2;
  if (kind == FAIL_EIO || kind == FAIL_ENOSPC) result = fail_with(kind);
  else if (take == 0 && kind) result = fail_with(kind);
  else {
    result = moves ? REAL(write)(fd, data, take) : REAL(pwrite)(fd, data, take, offset);
    if (result > 0) record_content(WRITE, fd, offset, data, result);
  }
  if (kind == DIE) kill(getpid(), SIGKILL);
  if (kind == TORN_WRITE) result = fail_with(kind);
  error = errno;
  unlock();
  errno = error;
  return result;
}
/* Where write() will write to. */
static off_t end_of_write(int fd) {
  struct stat found;
  if ((fcntl(fd, F_GETFL) & O_APPEND) && fstat(fd, &found) == 0) return found.st_size;
  return lseek(fd, 0, SEEK_CUR);
}
ssize_t write(int fd, const void *data, size_t length) {
  int where = place_fd(fd);
  if (!where) return REAL(write)(fd, data, length);
  return written(fd, data, length, end_of_write(fd), where, 1);
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
  int where = place_fd(fd);
  return where ? written(fd, data, length, offset, where, 0) : REAL(pwrite)(fd, data, length, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) { return pwrite(fd, data, length, offset); }
static ssize_t written_parts(int fd, const struct iovec *parts, int count, off_t offset, int where, int moves) {
  ssize_t total = 0;
  for (int index = 0; index < count; index++) {
    ssize_t result = written(fd, parts[index].iov_base, parts[index].iov_len, offset + total, where, moves);
    if (result < 0) return total > 0 ? total : result;
    total += result;
    if ((size_t)result < parts[index].iov_len) break;
  }
  return total;
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  int where = place_fd(fd);
  if (!where) return REAL(writev)(fd, parts, count);
  return written_parts(fd, parts, count, end_of_write(fd), where, 1);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
  int where = place_fd(fd);
  return where ? written_parts(fd, parts, count, offset, where, 0) : REAL(pwritev)(fd, parts, count, offset);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) { return pwritev(fd, parts, count, offset); }

int ftruncate(int fd, off_t length) {
  int where = place_fd(fd);
  if (!where) return REAL(ftruncate)(fd, length);
  lock();
  int kind = fault(where, "ftruncate", NULL, fd), result, error;
  if (kind == DIE) kill(getpid(), SIGKILL);
  if (kind) result = fail_with(kind);
  else if ((result = REAL(ftruncate)(fd, length)) == 0) record_content(TRUNCATE, fd, length, NULL, 0);
  error = errno;
  unlock();
  errno = error;
  return result;
}
int ftruncate64(int fd, off_t length) { return ftruncate(fd, length); }

/* What was written before the call began is on the disk when it has ended. */
static int synced(int fd, int where, int (*real)(int)) {
  static uint32_t tokens;
  lock();
  int kind = fault(where, "sync", NULL, fd);
  uint64_t token = (uint64_t)getpid() << 32 | ++tokens;
  if (!kind) record(SYNC_BEGIN, inode_of(fd), token, NULL, 0, NULL);
  unlock();
  if (kind == DIE) kill(getpid(), SIGKILL);
  if (kind) return fail_with(kind);
  int result = trace_fd >= 0 ? 0 : real(fd);
  lock();
  record(SYNC_END, inode_of(fd), token, NULL, 0, NULL);
  unlock();
  return result;
}
int fsync(int fd) {
  int where = place_fd(fd);
  return where ? synced(fd, where, REAL(fsync)) : REAL(fsync)(fd);
}
int fdatasync(int fd) {
  int where = place_fd(fd);
  return where ? synced(fd, where, REAL(fdatasync)) : REAL(fdatasync)(fd);
}
