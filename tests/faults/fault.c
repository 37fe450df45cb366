// Preloaded into a program (LD_PRELOAD): makes the n-th call of one kind fail, be short, be slow or kill the process.
// Only calls on files below EPD_FAULT_FOLDER count, so that the start of LibTorch is not what is tested.
//
// - EPD_FAULT_CALL: open, read, write, fsync, link, rename, mmap, mkdir, unlink, close or memory (an allocation; they
//   count from the first open below the folder).
// - EPD_FAULT_NUMBER: which call, from 1; 0 counts alone.
// - EPD_FAULT_ACTION: ENOSPC, EIO, EMFILE, ENOMEM, short, slow or kill.
// - EPD_FAULT_LOG: this file gets, at exit and at the fault, whether the fault came (0 or 1) and the calls of each kind.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum { kMaxDescriptors = 4096 };

static const char *wanted_call, *action, *folder, *log_path;
static long wanted_number;
static const char* const kCalls[] = {"open", "read",  "write",  "fsync", "link",  "rename",
                                     "mmap", "mkdir", "unlink", "close", "memory"};
enum { kNumCalls = 11 };
static atomic_long counts[kNumCalls];
static atomic_int fired, begun, ready;
static atomic_char inside[kMaxDescriptors];  // descriptors of files below the folder

static void write_log(void) {
  if (log_path == NULL) return;
  char line[256];
  int length = snprintf(line, sizeof line, "%d", atomic_load(&fired));
  for (int i = 0; i < kNumCalls; ++i) {
    length += snprintf(line + length, sizeof line - (size_t)length, " %ld", atomic_load(&counts[i]));
  }
  const int file = (int)syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (file < 0) return;
  if (syscall(SYS_write, file, line, (size_t)length) < 0) errno = 0;
  syscall(SYS_close, file);
}

__attribute__((constructor)) static void start(void) {
  wanted_call = getenv("EPD_FAULT_CALL");
  action = getenv("EPD_FAULT_ACTION");
  folder = getenv("EPD_FAULT_FOLDER");
  log_path = getenv("EPD_FAULT_LOG");
  const char* number = getenv("EPD_FAULT_NUMBER");
  wanted_number = number != NULL ? atol(number) : 0;
  ready = wanted_call != NULL && action != NULL && folder != NULL;
}

__attribute__((destructor)) static void stop(void) { write_log(); }

// 0: go on; -1: fail with errno; 1: be short.
static int fault(const char* call) {
  if (!ready) return 0;
  int kind = 0;
  while (strcmp(call, kCalls[kind]) != 0) ++kind;
  const long number = atomic_fetch_add(&counts[kind], 1) + 1;
  if (number != wanted_number || strcmp(call, wanted_call) != 0) return 0;
  fired = 1;
  write_log();
  if (strcmp(action, "kill") == 0) syscall(SYS_kill, getpid(), SIGKILL);
  if (strcmp(action, "short") == 0) return 1;
  if (strcmp(action, "slow") == 0) {
    usleep(300000);
    return 0;
  }
  errno = strcmp(action, "ENOSPC") == 0 ? ENOSPC : strcmp(action, "EMFILE") == 0 ? EMFILE : EIO;
  if (strcmp(action, "ENOMEM") == 0) errno = ENOMEM;
  return -1;
}

static int is_below(const char* path) { return ready && path != NULL && strncmp(path, folder, strlen(folder)) == 0; }
static int is_inside(int file) { return file >= 0 && file < kMaxDescriptors && inside[file]; }

static int open_file(int at, const char* path, int flags, mode_t mode) {
  const int below = is_below(path);
  if (below) begun = 1;
  if (below && fault("open") < 0) return -1;
  const int file = (int)syscall(SYS_openat, at, path, flags, mode);
  if (file >= 0 && file < kMaxDescriptors) inside[file] = (char)below;
  return file;
}

#define MODE_OF(flags, mode)               \
  mode_t mode = 0;                         \
  if ((flags) & (O_CREAT | __O_TMPFILE)) { \
    va_list list;                          \
    va_start(list, flags);                 \
    mode = va_arg(list, mode_t);           \
    va_end(list);                          \
  }

int open(const char* path, int flags, ...) {
  MODE_OF(flags, mode)
  return open_file(AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  MODE_OF(flags, mode)
  return open_file(AT_FDCWD, path, flags, mode);
}
int openat(int at, const char* path, int flags, ...) {
  MODE_OF(flags, mode)
  return open_file(at, path, flags, mode);
}

int close(int file) {
  const int bad = is_inside(file) && fault("close") < 0;
  if (is_inside(file)) inside[file] = 0;
  const int error = errno;
  const int result = (int)syscall(SYS_close, file);  // a close that fails has closed all the same
  if (bad) errno = error;
  return bad ? -1 : result;
}

// libc's own streams call internal opens: fopen is caught by itself.
static FILE* open_stream(const char* name, const char* path, const char* mode) {
  FILE* (*next)(const char*, const char*) = (FILE * (*)(const char*, const char*)) dlsym(RTLD_NEXT, name);
  const int below = is_below(path);
  if (below) begun = 1;
  if (below && fault("open") < 0) return NULL;
  FILE* stream = next(path, mode);
  if (stream != NULL && fileno(stream) < kMaxDescriptors) inside[fileno(stream)] = (char)below;
  return stream;
}
FILE* fopen(const char* path, const char* mode) { return open_stream("fopen", path, mode); }
FILE* fopen64(const char* path, const char* mode) { return open_stream("fopen64", path, mode); }

// A stream is never short before its end, so that only failures, death and slowness are for fread (libzip's reads).
size_t fread(void* bytes, size_t size, size_t items, FILE* stream) {
  static size_t (*next)(void*, size_t, size_t, FILE*);
  if (next == NULL) next = (size_t(*)(void*, size_t, size_t, FILE*))dlsym(RTLD_NEXT, "fread");
  if (is_inside(fileno(stream)) && fault("read") < 0) {
    stream->_flags |= 0x20;  // glibc's _IO_ERR_SEEN: what ferror asks
    return 0;
  }
  return next(bytes, size, items, stream);
}

ssize_t write(int file, const void* bytes, size_t size) {
  const int result = is_inside(file) ? fault("write") : 0;
  if (result < 0) return -1;
  return syscall(SYS_write, file, bytes, result > 0 && size > 1 ? size / 2 : size);
}
static ssize_t write_at(int file, const void* bytes, size_t size, off_t offset) {
  const int result = is_inside(file) ? fault("write") : 0;
  if (result < 0) return -1;
  return syscall(SYS_pwrite64, file, bytes, result > 0 && size > 1 ? size / 2 : size, offset);
}
ssize_t pwrite(int file, const void* bytes, size_t size, off_t offset) { return write_at(file, bytes, size, offset); }
ssize_t pwrite64(int file, const void* bytes, size_t size, off_t offset) { return write_at(file, bytes, size, offset); }

ssize_t read(int file, void* bytes, size_t size) {
  const int result = is_inside(file) ? fault("read") : 0;
  if (result < 0) return -1;
  return syscall(SYS_read, file, bytes, result > 0 && size > 1 ? size / 2 : size);
}
static ssize_t read_at(int file, void* bytes, size_t size, off_t offset) {
  const int result = is_inside(file) ? fault("read") : 0;
  if (result < 0) return -1;
  return syscall(SYS_pread64, file, bytes, result > 0 && size > 1 ? size / 2 : size, offset);
}
ssize_t pread(int file, void* bytes, size_t size, off_t offset) { return read_at(file, bytes, size, offset); }
ssize_t pread64(int file, void* bytes, size_t size, off_t offset) { return read_at(file, bytes, size, offset); }

int fsync(int file) { return is_inside(file) && fault("fsync") < 0 ? -1 : (int)syscall(SYS_fsync, file); }

int rename(const char* from, const char* to) {
  return is_below(to) && fault("rename") < 0 ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int linkat(int from_at, const char* from, int to_at, const char* to, int flags) {
  return is_below(to) && fault("link") < 0 ? -1 : (int)syscall(SYS_linkat, from_at, from, to_at, to, flags);
}

int mkdir(const char* path, mode_t mode) {
  return is_below(path) && fault("mkdir") < 0 ? -1 : (int)syscall(SYS_mkdir, path, mode);
}
int unlink(const char* path) { return is_below(path) && fault("unlink") < 0 ? -1 : (int)syscall(SYS_unlink, path); }

static void* map(void* address, size_t size, int protection, int flags, int file, off_t offset) {
  if (is_inside(file) && fault("mmap") < 0) return MAP_FAILED;
  return (void*)syscall(SYS_mmap, address, size, protection, flags, file, offset);
}
void* mmap(void* address, size_t size, int protection, int flags, int file, off_t offset) {
  return map(address, size, protection, flags, file, offset);
}
void* mmap64(void* address, size_t size, int protection, int flags, int file, off_t offset) {
  return map(address, size, protection, flags, file, offset);
}

extern void* __libc_malloc(size_t size);
extern void* __libc_calloc(size_t count, size_t size);
extern void* __libc_realloc(void* block, size_t size);
extern void* __libc_memalign(size_t alignment, size_t size);
void* calloc(size_t count, size_t size) { return begun && fault("memory") < 0 ? NULL : __libc_calloc(count, size); }
void* realloc(void* block, size_t size) { return begun && fault("memory") < 0 ? NULL : __libc_realloc(block, size); }
void* malloc(size_t size) { return begun && fault("memory") < 0 ? NULL : __libc_malloc(size); }
int posix_memalign(void** out, size_t alignment, size_t size) {
  if (begun && fault("memory") < 0) return ENOMEM;
  *out = __libc_memalign(alignment, size);
  return *out != NULL ? 0 : ENOMEM;
}
