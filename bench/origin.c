// The origin of forward.py: answers every request with a body of a fixed size, on connections that are kept.
//
//   origin SMALL LARGE
//
// prints the port that it listens on. `/large` has a body of LARGE bytes, everything else one of SMALL: 'x' all of it.
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BLOCK = 1 << 18, HEAD = 4096 };

typedef struct {
  char request[HEAD];
  size_t got;
  char head[128];
  size_t head_size, head_sent;
  size_t body;  // how much of the body is left to be sent
} connection;

static char block[BLOCK];

static void fail(const char *what) {
  perror(what);
  exit(1);
}

// True when everything is sent, false when the peer has to read first; a connection that broke is reported in errno.
static int flush(int fd, connection *c) {
  while (c->head_sent < c->head_size || c->body) {
    struct iovec parts[2] = {{c->head + c->head_sent, c->head_size - c->head_sent}, {block, c->body < BLOCK ? c->body : BLOCK}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN ? 0 : -1;
    size_t of_head = (size_t)sent < parts[0].iov_len ? (size_t)sent : parts[0].iov_len;
    c->head_sent += of_head;
    c->body -= (size_t)sent - of_head;
  }
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  size_t small = strtoull(argv[1], NULL, 10), large = strtoull(argv[2], NULL, 10);
  memset(block, 'x', BLOCK);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  if (listener < 0 || bind(listener, (void *)&address, size) || listen(listener, 1024)) fail("listen");
  getsockname(listener, (void *)&address, &size);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  int poll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  static connection *connections[65536];
  for (;;) {
    struct epoll_event events[256];
    int count = epoll_wait(poll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        int fresh;
        while ((fresh = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
          int one = 1;
          setsockopt(fresh, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
          free(connections[fresh]);
          connections[fresh] = calloc(1, sizeof(connection));
          struct epoll_event add = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = fresh};
          epoll_ctl(poll, EPOLL_CTL_ADD, fresh, &add);
        }
        continue;
      }
      connection *c = connections[fd];
      for (;;) {
        int sent = flush(fd, c);
        if (sent == 0) break;
        ssize_t got = sent < 0 ? 0 : read(fd, c->request + c->got, HEAD - c->got);
        if (got < 0 && errno == EAGAIN) break;
        if (got <= 0) {
          close(fd);
          break;
        }
        c->got += (size_t)got;
        char *end = memmem(c->request, c->got, "\r\n\r\n", 4);
        if (!end) continue;
        c->body = memmem(c->request, c->got, " /large ", 8) ? large : small;
        c->head_size = (size_t)sprintf(c->head, "HTTP/1.1 200 OK\r\ncontent-length: %zu\r\n\r\n", c->body);
        c->head_sent = 0;
        c->got -= (size_t)(end + 4 - c->request);
        memmove(c->request, end + 4, c->got);
      }
    }
  }
}
