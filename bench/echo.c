/* A client that sends a body while it receives the response's, fast enough not to be what is measured, and a server
 * that shows how fast that is.
 *
 *     echo client PORT BYTES     POSTs BYTES bytes to 127.0.0.1:PORT, expects them back (by content-length or chunked),
 *                                compares every byte, and prints the seconds that it took and
 *                                those of them in which the client's processor was busy
 *     echo server                prints its port, and answers such requests without an HTTP server: the ceiling
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The body repeats this many bytes: a prime, so that a chunk that is lost, doubled or moved shows. */
#define PERIOD 65537
#define REPEATS 8
#define BUFFER (256 * 1024)

static unsigned char pattern[PERIOD * REPEATS];
static unsigned char buffer[BUFFER];

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void fill_pattern(void) {
    unsigned state = 12345;
    for (int i = 0; i < PERIOD; i++) {
        state = state * 1103515245 + 12345;
        pattern[i] = state >> 16;
    }
    for (int i = 1; i < REPEATS; i++) memcpy(pattern + i * PERIOD, pattern, PERIOD);
}

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static void write_all(int fd, const void *data, size_t size) {
    for (const char *at = data; size;) {
        ssize_t n = write(fd, at, size);
        if (n < 0) fail("cannot write");
        at += n;
        size -= n;
    }
}

/* ---- the response, as it arrives ---- */

static enum { STATUS, HEADERS, SIZE, DATA, AFTER_DATA, TRAILERS, DONE } state = STATUS;
static char line[4096];
static size_t line_length;
static bool chunked;
static long left;     /* of the body, or of this chunk */
static long received; /* of the body */

static void on_line(void) {
    switch (state) {
    case STATUS:
        if (strncmp(line, "HTTP/1.1 200", 12)) fail(line);
        state = HEADERS;
        break;
    case HEADERS:
        if (!line_length) {
            state = chunked ? SIZE : left ? DATA : DONE;
        } else if (!strncasecmp(line, "content-length:", 15)) {
            left = atol(line + 15);
        } else if (!strncasecmp(line, "transfer-encoding: chunked", 26)) {
            chunked = true;
        }
        break;
    case SIZE:
        left = strtol(line, NULL, 16);
        state = left ? DATA : TRAILERS;
        break;
    case AFTER_DATA:
        if (line_length) fail("a chunk is longer than it says");
        state = SIZE;
        break;
    case TRAILERS:
        if (!line_length) state = DONE;
        break;
    default:
        fail("bytes after the response");
    }
    line_length = 0;
}

static void on_bytes(const unsigned char *at, size_t count) {
    while (count) {
        if (state == DATA) {
            size_t part = count < (size_t)left ? count : (size_t)left;
            size_t offset = received % PERIOD;
            if (part > sizeof pattern - PERIOD) part = sizeof pattern - PERIOD;
            if (memcmp(at, pattern + offset, part)) fail("the body that came back is another");
            received += part;
            left -= part;
            at += part;
            count -= part;
            if (!left) state = chunked ? AFTER_DATA : DONE;
        } else {
            if (*at == '\n') {
                if (line_length && line[line_length - 1] == '\r') line_length--;
                line[line_length] = 0;
                on_line();
            } else if (line_length < sizeof line - 1) {
                line[line_length++] = *at;
            } else {
                fail("a line is too long");
            }
            at++;
            count--;
        }
    }
}

static int client(int port, long size) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    char head[256];
    long sent = 0;
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) fail("cannot connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    int length = snprintf(head, sizeof head,
                          "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/octet-stream\r\n"
                          "content-length: %ld\r\n\r\n", size);
    double began = now(CLOCK_MONOTONIC), busy = now(CLOCK_PROCESS_CPUTIME_ID);
    write_all(fd, head, length);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (state != DONE) {
        struct pollfd wait = {.fd = fd, .events = POLLIN | (sent < size ? POLLOUT : 0)};
        int ready = poll(&wait, 1, 60000);
        if (ready < 0) fail("cannot poll");
        if (!ready) fail("nothing happened for a minute");
        if (wait.revents & (POLLIN | POLLHUP | POLLERR)) {
            ssize_t n = read(fd, buffer, sizeof buffer);
            if (n == 0) fail("the server closed the connection in the middle");
            if (n < 0 && errno != EAGAIN) fail("cannot read");
            if (n > 0) on_bytes(buffer, n);
        }
        if (wait.revents & POLLOUT) {
            long part = size - sent < BUFFER ? size - sent : BUFFER;
            ssize_t n = write(fd, pattern + sent % PERIOD, part);
            if (n < 0 && errno != EAGAIN) fail("cannot write");
            if (n > 0) sent += n;
        }
    }
    busy = now(CLOCK_PROCESS_CPUTIME_ID) - busy;
    double took = now(CLOCK_MONOTONIC) - began;
    if (sent != size || received != size) fail("the body that came back has another length");
    printf("%f %f\n", took, busy);
    return 0;
}

static _Noreturn void server(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8)) fail("cannot listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        size_t have = 0;
        char *end = NULL;
        while (!end) {
            ssize_t n = read(fd, line + have, sizeof line - 1 - have);
            if (n <= 0) fail("no request");
            have += n;
            line[have] = 0;
            end = strstr(line, "\r\n\r\n");
        }
        long size = atol(strstr(line, "content-length:") + 15);
        dprintf(fd, "HTTP/1.1 200 OK\r\ncontent-length: %ld\r\n\r\n", size);
        size -= have - (end + 4 - line);
        write_all(fd, end + 4, have - (end + 4 - line));
        while (size) {
            ssize_t n = read(fd, buffer, sizeof buffer);
            if (n <= 0) break;
            write_all(fd, buffer, n);
            size -= n;
        }
        close(fd);
    }
}

int main(int count, char **arguments) {
    fill_pattern();
    if (count == 4 && !strcmp(arguments[1], "client")) return client(atoi(arguments[2]), atol(arguments[3]));
    if (count == 2 && !strcmp(arguments[1], "server")) server();
    fail("usage: echo client PORT BYTES | echo server");
}
