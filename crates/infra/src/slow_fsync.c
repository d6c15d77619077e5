/* Preloaded into a database server: fsync and fdatasync do their real work, and then take
 * longer. The delay, in microseconds, is the eight bytes of the file that
 * INFRA_FSYNC_DELAY_FILE names; it is mapped, so that it can change while the server runs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const volatile uint64_t *delay_us;
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void set_up(void)
{
    real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    const char *path = getenv("INFRA_FSYNC_DELAY_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *mapped = mmap(NULL, sizeof(uint64_t), PROT_READ, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED)
        delay_us = mapped;
    close(fd);
}

/* Sleeps to the end of the delay even when signals interrupt it, and keeps errno for the
 * caller of the sync. */
static int after(int result)
{
    int saved = errno;
    uint64_t us = delay_us ? *delay_us : 0;
    if (us > 0) {
        struct timespec rest = { .tv_sec = us / 1000000, .tv_nsec = (us % 1000000) * 1000 };
        while (nanosleep(&rest, &rest) != 0 && errno == EINTR) {
        }
    }
    errno = saved;
    return result;
}

int fsync(int fd) { return after(real_fsync(fd)); }
int fdatasync(int fd) { return after(real_fdatasync(fd)); }
