/* A disk whose power and whose fsync are in a test's hands, for one process: preloaded into a store, it remembers for every
 * file below POWER_DIR what has been made durable by fsync. Bytes on the FIFO named by POWER_CONTROL are commands:
 *
 *   x  lose power: the files are taken back to exactly what is durable, and the process ends with status 99;
 *   i  from now on fsync succeeds and makes nothing durable: the switch under which a test of durability must fail;
 *   e  from now on fsync fails with EIO;
 *   h  from now on fsync does not return, until
 *   g  it does.
 *
 * Each command but x is written to POWER_CONTROL.taken once it is in force.
 *
 * What a loss of power means: bytes written behind the last fsync of their file are gone; bytes overwritten since then are
 * as before; a file whose directory was not synced since it was created is gone; a rename whose directory was not synced
 * did not happen. A deletion is durable at once.
 *
 * One lock over everything: this is for correctness, not for speed.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* Bytes that lay in a file when it was last synced and have been overwritten or cut off since. */
struct undo {
    off_t offset;
    size_t length;
    char *bytes;
    struct undo *older;
};

struct file {
    char path[PATH_MAX];
    off_t synced_length;
    struct undo *undo;
    int is_entry_durable;
    struct file *next;
};

/* A rename whose directory has not been synced. */
struct renamed {
    char from[PATH_MAX], to[PATH_MAX], replaced[PATH_MAX];
    struct renamed *older;
};

enum { FD_MAX = 65536 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file *files;
static struct renamed *renames;
static struct file *open_files[FD_MAX];
static char *open_directories[FD_MAX];
static char power_dir[PATH_MAX];
static size_t power_dir_length;
static int is_fsync_ignored, is_fsync_failing, is_fsync_held;
static pthread_cond_t fsync_released = PTHREAD_COND_INITIALIZER;
static int replaced_count;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_watched(const char *path) {
    return power_dir_length > 0 && strncmp(path, power_dir, power_dir_length) == 0;
}

static int is_in_directory(const char *path, const char *directory) {
    size_t length = strlen(directory);
    return strncmp(path, directory, length) == 0 && path[length] == '/' && !strchr(path + length + 1, '/');
}

static int resolve(int folder, const char *path, char *out) {
    char joined[PATH_MAX * 2];
    if (path[0] == '/' || folder == AT_FDCWD) {
        snprintf(joined, sizeof joined, "%s", path);
    } else {
        char link[64], base[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length < 0) return 0;
        base[length] = 0;
        snprintf(joined, sizeof joined, "%s/%s", base, path);
    }
    if (realpath(joined, out)) return 1;
    /* The file may not exist yet: its folder does. */
    char *slash = strrchr(joined, '/');
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s", slash ? slash + 1 : joined);
    if (slash) *slash = 0;
    char base[PATH_MAX];
    if (!realpath(slash ? (joined[0] ? joined : "/") : ".", base)) return 0;
    return snprintf(out, PATH_MAX, "%s/%s", base, name) < PATH_MAX;
}

static struct file *find(const char *path) {
    for (struct file *file = files; file; file = file->next)
        if (strcmp(file->path, path) == 0) return file;
    return NULL;
}

static struct file *watch(const char *path, int existed, off_t length) {
    struct file *file = find(path);
    if (!file) {
        file = calloc(1, sizeof *file);
        snprintf(file->path, sizeof file->path, "%s", path);
        file->next = files;
        files = file;
        file->is_entry_durable = existed;
        file->synced_length = existed ? length : 0;
    } else if (!existed) {
        file->is_entry_durable = 0;
        file->synced_length = 0;
    }
    return file;
}

static void forget_undo(struct file *file) {
    while (file->undo) {
        struct undo *undo = file->undo;
        file->undo = undo->older;
        free(undo->bytes);
        free(undo);
    }
}

/* Keeps what [offset, offset + length) holds of the synced part of the file. */
static void keep(int fd, struct file *file, off_t offset, size_t length) {
    if (offset >= file->synced_length) return;
    if ((off_t)(offset + length) > file->synced_length) length = file->synced_length - offset;
    struct undo *undo = calloc(1, sizeof *undo);
    undo->offset = offset;
    undo->bytes = malloc(length);
    int reader = fd;
    int own = REAL(open)(file->path, O_RDONLY);
    if (own >= 0) reader = own;
    ssize_t got = pread(reader, undo->bytes, length, offset);
    if (own >= 0) REAL(close)(own);
    undo->length = got > 0 ? (size_t)got : 0;
    undo->older = file->undo;
    file->undo = undo;
}

static off_t write_offset(int fd) {
    struct stat stat;
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && (flags & O_APPEND) && fstat(fd, &stat) == 0) return stat.st_size;
    return lseek(fd, 0, SEEK_CUR);
}

static struct file *watched(int fd) {
    return fd >= 0 && fd < FD_MAX ? open_files[fd] : NULL;
}

static void restore(struct file *file) {
    int fd = REAL(open)(file->path, O_RDWR);
    if (fd < 0) return;
    for (struct undo *undo = file->undo; undo; undo = undo->older)
        if (REAL(pwrite)(fd, undo->bytes, undo->length, undo->offset) < 0) perror("power: restore");
    struct stat stat;
    if (fstat(fd, &stat) == 0 && stat.st_size > file->synced_length && REAL(ftruncate)(fd, file->synced_length) != 0)
        perror("power: truncate");
    REAL(close)(fd);
}

static void lose_power(void) {
    /* It is never given back, so nothing is written behind what is restored: whoever writes to a watched file waits. */
    pthread_mutex_lock(&lock);
    for (struct file *file = files; file; file = file->next) {
        if (file->is_entry_durable) restore(file);
        else REAL(unlink)(file->path);
    }
    for (struct renamed *entry = renames; entry; entry = entry->older) {
        REAL(rename)(entry->to, entry->from);
        if (entry->replaced[0]) REAL(rename)(entry->replaced, entry->to);
    }
    _exit(99);
}

static void obey(char command) {
    if (command == 'x') lose_power();
    pthread_mutex_lock(&lock);
    if (command == 'i') is_fsync_ignored = 1;
    if (command == 'e') is_fsync_failing = 1;
    is_fsync_held = command == 'h';
    pthread_cond_broadcast(&fsync_released);
    pthread_mutex_unlock(&lock);
}

static void *wait_for_commands(void *path) {
    char taken[PATH_MAX], command;
    snprintf(taken, sizeof taken, "%s.taken", (const char *)path);
    /* Also for writing: so it does not end when a test closes its side. */
    int commands = REAL(open)((const char *)path, O_RDWR);
    int answers = REAL(open)(taken, O_WRONLY | O_CREAT | O_APPEND, 0600);
    while (commands >= 0 && read(commands, &command, 1) == 1) {
        obey(command);
        if (REAL(write)(answers, &command, 1) != 1) perror("power: answer");
    }
    return NULL;
}

__attribute__((constructor)) static void start(void) {
    const char *dir = getenv("POWER_DIR");
    const char *control = getenv("POWER_CONTROL");
    if (!dir || !control || !realpath(dir, power_dir)) return;
    power_dir_length = strlen(power_dir);
    pthread_t thread;
    pthread_create(&thread, NULL, wait_for_commands, strdup(control));
}

static int open_watched(int folder, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    if (!power_dir_length || !resolve(folder, path, full) || !is_watched(full))
        return REAL(openat)(folder, path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat before;
    int existed = stat(full, &before) == 0;
    if (existed && S_ISREG(before.st_mode) && (flags & O_TRUNC)) {
        struct file *file = watch(full, 1, before.st_size);
        keep(-1, file, 0, file->synced_length);
    }
    int fd = REAL(openat)(folder, path, flags, mode);
    if (fd >= 0 && fd < FD_MAX) {
        struct stat after;
        free(open_directories[fd]);
        open_directories[fd] = NULL;
        open_files[fd] = NULL;
        if (fstat(fd, &after) == 0 && S_ISDIR(after.st_mode)) open_directories[fd] = strdup(full);
        /* Also where it is only read: a sync of any of a file's descriptors makes all of the file durable. */
        else if (S_ISREG(after.st_mode))
            open_files[fd] = watch(full, existed, existed ? before.st_size : 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE_OF(flags)                                          \
    mode_t mode = 0;                                            \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                      \
        va_list arguments;                                      \
        va_start(arguments, flags);                             \
        mode = va_arg(arguments, mode_t);                       \
        va_end(arguments);                                      \
    }

int open(const char *path, int flags, ...) { MODE_OF(flags) return open_watched(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) return open_watched(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE_OF(flags) return open_watched(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE_OF(flags) return open_watched(folder, path, flags, mode); }

/* Calls `doing` under the lock, after what it overwrites of a watched file was kept. */
#define WRITE(fd, offset, length, doing)                \
    struct file *file = watched(fd);                    \
    if (!file) return doing;                            \
    pthread_mutex_lock(&lock);                          \
    keep(fd, file, offset, length);                     \
    __typeof__(doing) result = doing;                   \
    pthread_mutex_unlock(&lock);                        \
    return result

ssize_t write(int fd, const void *bytes, size_t length) {
    WRITE(fd, write_offset(fd), length, REAL(write)(fd, bytes, length));
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    WRITE(fd, offset, length, REAL(pwrite)(fd, bytes, length, offset));
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) {
    WRITE(fd, offset, length, REAL(pwrite64)(fd, bytes, length, offset));
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    size_t length = 0;
    for (int at = 0; at < count; at++) length += parts[at].iov_len;
    WRITE(fd, write_offset(fd), length, REAL(writev)(fd, parts, count));
}

int ftruncate(int fd, off_t length) {
    WRITE(fd, length, file->synced_length > length ? file->synced_length - length : 0, REAL(ftruncate)(fd, length));
}

int ftruncate64(int fd, off_t length) {
    WRITE(fd, length, file->synced_length > length ? file->synced_length - length : 0, REAL(ftruncate64)(fd, length));
}

static void sync_directory(const char *directory) {
    for (struct file *file = files; file; file = file->next)
        if (is_in_directory(file->path, directory)) file->is_entry_durable = 1;
    for (struct renamed **at = &renames; *at;) {
        struct renamed *entry = *at;
        if (!is_in_directory(entry->to, directory)) {
            at = &entry->older;
            continue;
        }
        if (entry->replaced[0]) REAL(unlink)(entry->replaced);
        *at = entry->older;
        free(entry);
    }
}

static int sync_watched(int fd, int (*sync)(int)) {
    struct file *file = watched(fd);
    const char *directory = fd >= 0 && fd < FD_MAX ? open_directories[fd] : NULL;
    if (!file && !directory) return sync(fd);
    pthread_mutex_lock(&lock);
    while (is_fsync_held) pthread_cond_wait(&fsync_released, &lock);
    int result = 0;
    if (is_fsync_failing) {
        errno = EIO;
        result = -1;
    } else if (!is_fsync_ignored) {
        struct stat stat;
        result = sync(fd);
        if (result == 0 && file && fstat(fd, &stat) == 0) {
            forget_undo(file);
            file->synced_length = stat.st_size;
        }
        if (result == 0 && directory) sync_directory(directory);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return sync_watched(fd, REAL(fsync)); }
int fdatasync(int fd) { return sync_watched(fd, REAL(fdatasync)); }

int rename(const char *from, const char *to) {
    char full_from[PATH_MAX], full_to[PATH_MAX];
    if (!power_dir_length || !resolve(AT_FDCWD, from, full_from) || !resolve(AT_FDCWD, to, full_to)
        || !is_watched(full_to))
        return REAL(rename)(from, to);
    pthread_mutex_lock(&lock);
    struct renamed *entry = calloc(1, sizeof *entry);
    snprintf(entry->from, sizeof entry->from, "%s", full_from);
    snprintf(entry->to, sizeof entry->to, "%s", full_to);
    if (access(full_to, F_OK) == 0) {
        snprintf(entry->replaced, sizeof entry->replaced, "%.3000s.replaced-%d", power_dir, replaced_count++);
        if (link(full_to, entry->replaced) != 0) entry->replaced[0] = 0;
    }
    int result = REAL(rename)(from, to);
    if (result == 0) {
        struct file *old = find(full_to);
        if (old) old->path[0] = 0;
        struct file *file = find(full_from);
        if (file) {
            snprintf(file->path, sizeof file->path, "%s", full_to);
            file->is_entry_durable = 1; /* The rename itself is what may be undone. */
        }
        entry->older = renames;
        renames = entry;
    } else {
        free(entry);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int unlink(const char *path) {
    char full[PATH_MAX];
    int is_known = power_dir_length && resolve(AT_FDCWD, path, full) && is_watched(full);
    if (!is_known) return REAL(unlink)(path);
    pthread_mutex_lock(&lock);
    int result = REAL(unlink)(path);
    struct file *file = find(full);
    if (result == 0 && file) file->path[0] = 0;
    pthread_mutex_unlock(&lock);
    return result;
}

int close(int fd) {
    if (fd >= 0 && fd < FD_MAX) {
        open_files[fd] = NULL;
        free(open_directories[fd]);
        open_directories[fd] = NULL;
    }
    return REAL(close)(fd);
}
