/* Appends to the files of its arguments for ever: a process for the test of power.c to take the power from. */
#include <fcntl.h>
#include <unistd.h>

int main(int count, char **arguments) {
    int files[count];
    for (int at = 1; at < count; at++)
        if ((files[at] = open(arguments[at], O_WRONLY | O_APPEND)) < 0) return 1;
    for (int at = 0;; at = (at + 1) % (count - 1)) {
        if (write(files[at + 1], "unsynced", 8) != 8) return 1;
        usleep(1); /* The power shall also go while it is not in a write. */
    }
}
