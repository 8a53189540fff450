/* Files, times and memory as a program in C meets them through its library: each call that must fail fails with its own
 * error number. Says how many checks there were, and each that went wrong. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int checks, wrong;

static void check(int is_so, const char *what, int line) {
    checks++;
    if (!is_so) {
        wrong++;
        printf("line %d: %s (%s)\n", line, what, strerror(errno));
    }
}

#define IS(what) check((what), #what, __LINE__)
/* The call fails, with this error number. */
#define FAILS(call, number) (errno = 0, IS((call) == -1 && errno == (number)))

static int make(const char *path, const char *text) {
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0644);
    if (fd >= 0 && write(fd, text, strlen(text)) != (ssize_t)strlen(text)) return -1;
    return fd;
}

static void opening(void) {
    int fd = make("d/f", "abcdef");
    IS(fd > 2);
    FAILS(open("d/none", O_RDONLY), ENOENT);
    FAILS(open("none/f", O_CREAT | O_RDWR, 0644), ENOENT);
    FAILS(open("d/f", O_CREAT | O_EXCL | O_RDWR, 0644), EEXIST);
    FAILS(open("d/f/g", O_RDONLY), ENOTDIR);
    FAILS(open("d/f", O_RDONLY | O_DIRECTORY), ENOTDIR);
    FAILS(open("d", O_RDWR), EISDIR);
    IS(close(fd) == 0);
    FAILS(close(fd), EBADF);
    FAILS(read(fd, &fd, 1), EBADF);
}

static void reading_and_writing(void) {
    char text[32] = {0};
    struct stat is;
    int fd = make("d/rw", "abcdef");
    IS(lseek(fd, 0, SEEK_CUR) == 6);
    IS(lseek(fd, 2, SEEK_SET) == 2 && read(fd, text, 3) == 3 && memcmp(text, "cde", 3) == 0);
    IS(lseek(fd, -1, SEEK_END) == 5);
    FAILS(lseek(fd, -10, SEEK_SET), EINVAL);
    IS(pwrite(fd, "XY", 2, 8) == 2 && fstat(fd, &is) == 0 && is.st_size == 10);
    IS(pread(fd, text, 10, 0) == 10 && memcmp(text, "abcdef\0\0XY", 10) == 0);
    IS(pread(fd, text, 4, 100) == 0);
    IS(ftruncate(fd, 3) == 0 && fstat(fd, &is) == 0 && is.st_size == 3);
    FAILS(ftruncate(fd, -1), EINVAL);
    IS(S_ISREG(is.st_mode) && is.st_nlink == 1);
    IS(fsync(fd) == 0 && fdatasync(fd) == 0);
    IS(close(fd) == 0);
    fd = open("d/rw", O_WRONLY | O_APPEND);
    IS((fcntl(fd, F_GETFL) & O_APPEND) != 0);
    IS(write(fd, "+", 1) == 1 && lseek(fd, 0, SEEK_CUR) == 4);
    errno = 0;
    IS(read(fd, text, 1) == -1 && errno == EBADF);
    IS(close(fd) == 0);
    fd = open("d/rw", O_RDONLY);
    errno = 0;
    IS(write(fd, "x", 1) == -1 && errno == EBADF);
    IS(read(fd, text, sizeof text) == 4 && memcmp(text, "abc+", 4) == 0);
    IS(read(fd, text, 1) == 0);
    IS(close(fd) == 0);
}

static void names(void) {
    char text[32];
    struct stat one, other;
    int fd = make("d/n", "n");
    close(fd);
    IS(mkdir("d/sub", 0755) == 0);
    FAILS(mkdir("d/sub", 0755), EEXIST);
    FAILS(mkdir("d/none/sub", 0755), ENOENT);
    FAILS(rmdir("d/n"), ENOTDIR);
    FAILS(rmdir("d"), ENOTEMPTY);
    FAILS(rmdir("d/none"), ENOENT);
    FAILS(unlink("d/none"), ENOENT);
    IS(unlink("d/sub") == -1 && (errno == EISDIR || errno == EPERM));
    IS(link("d/n", "d/n2") == 0 && stat("d/n", &one) == 0 && stat("d/n2", &other) == 0);
    IS(one.st_ino == other.st_ino && one.st_dev == other.st_dev);
    FAILS(link("d/n", "d/n2"), EEXIST);
    FAILS(link("d/none", "d/n3"), ENOENT);
    IS(symlink("n", "d/l") == 0 && lstat("d/l", &other) == 0 && S_ISLNK(other.st_mode));
    IS(stat("d/l", &other) == 0 && S_ISREG(other.st_mode));
    IS(readlink("d/l", text, sizeof text) == 1 && text[0] == 'n');
    FAILS(readlink("d/n", text, sizeof text), EINVAL);
    FAILS(symlink("n", "d/l"), EEXIST);
    IS(symlink("loop", "d/loop") == 0);
    FAILS(open("d/loop", O_RDONLY), ELOOP);
    IS(rename("d/n", "d/sub/n") == 0 && access("d/n", F_OK) == -1 && access("d/sub/n", R_OK) == 0);
    FAILS(rename("d/none", "d/x"), ENOENT);
    FAILS(rename("d/sub", "d/sub/x"), EINVAL);
    IS(rename("d/n2", "d/sub") == -1 && errno == EISDIR);
    FAILS(rmdir("d/sub"), ENOTEMPTY);
    IS(unlink("d/sub/n") == 0 && rmdir("d/sub") == 0);
}

static void listing(void) {
    DIR *dir;
    struct dirent *entry;
    char all[256] = "";
    const char *made[] = {"d/list/b", "d/list/c", "d/list/a"};
    mkdir("d/list", 0755);
    for (int n = 0; n < 3; n++) close(make(made[n], ""));
    IS((dir = opendir("d/list")) != NULL);
    while (dir && (entry = readdir(dir))) {
        if (entry->d_name[0] == '.') continue;
        strcat(all, entry->d_name);
        IS(entry->d_type == DT_REG);
    }
    /* The host's order is nobody's business here. */
    IS(strcmp(all, "abc") == 0);
    IS(dir && closedir(dir) == 0);
    errno = 0;
    IS(opendir("d/f") == NULL && errno == ENOTDIR);
}

static void what_is_not_granted(void) {
    char text[64] = {0};
    int fd = open("/ro/a", O_RDONLY);
    IS(fd > 2 && read(fd, text, 4) == 4 && memcmp(text, "text", 4) == 0);
    close(fd);
    IS(open("/ro/a", O_RDWR) == -1 && errno != ENOENT);
    IS(open("/ro/new", O_CREAT | O_WRONLY, 0644) == -1 && errno != ENOENT);
    IS(unlink("/ro/a") == -1 && mkdir("/ro/d", 0755) == -1 && rename("/ro/a", "/ro/b") == -1);
    IS(truncate("/ro/a", 0) == -1);
    IS(open("../x", O_RDONLY) == -1 && open("/etc/passwd", O_RDONLY) == -1);
    IS(symlink("/etc/passwd", "d/out") == -1 || open("d/out", O_RDONLY) == -1);
}

static void times(void) {
    struct timespec before, after, wait = {0, 20000000};
    struct timespec set[2] = {{1000, 5}, {2000, 7}};
    struct stat is;
    struct pollfd in = {0, POLLIN, 0};
    IS(clock_gettime(CLOCK_MONOTONIC, &before) == 0 && nanosleep(&wait, NULL) == 0);
    IS(clock_gettime(CLOCK_MONOTONIC, &after) == 0);
    IS((after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec >= 20000000);
    IS(clock_gettime(CLOCK_REALTIME, &after) == 0 && time(NULL) >= 0);
    IS(utimensat(AT_FDCWD, "d/f", set, 0) == 0 && stat("d/f", &is) == 0);
    IS(is.st_mtim.tv_sec >= 0);
    IS(poll(&in, 1, 1) >= 0);
}

static void memory(void) {
    size_t len = 20 << 20;
    unsigned char *bytes = malloc(len), sum = 0;
    IS(bytes != NULL);
    for (size_t n = 0; bytes && n < len; n += 4096) bytes[n] = n >> 12;
    for (size_t n = 0; bytes && n < len; n += 4096) sum += bytes[n];
    IS(sum == 0);
    free(bytes);
}

int main(int argc, char **argv) {
    char number[64];
    IS(argc == 3 && strcmp(argv[1], "one") == 0 && strcmp(argv[2], "two words") == 0);
    IS(getenv("NOBODY") == NULL);
    snprintf(number, sizeof number, "%.17g %a %lld", 0.1, 1.0, 1LL << 62);
    IS(strcmp(number, "0.10000000000000001 0x1p+0 4611686018427387904") == 0);
    if (mkdir("d", 0755) != 0) {
        printf("no folder: %s\n", strerror(errno));
        return 2;
    }
    opening();
    reading_and_writing();
    names();
    listing();
    what_is_not_granted();
    times();
    memory();
    printf("%d checks, %d wrong\n", checks, wrong);
    return wrong != 0;
}
