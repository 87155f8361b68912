// A guest with a C library: wasi-libc speaks WASI preview 1, which an adapter turns into the interfaces of WASI 0.2.
// Answers with what it finds in the environment, the clocks and the file system, and prints to stdout and stderr.
#include "guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

void handle_request(handle request, handle outparam) {
  request_drop(request);
  printf("a line on stdout\n");
  fprintf(stderr, "a line on stderr\n");
  fflush(stdout);

  char *content = 0;
  size_t size = 0;
  FILE *out = open_memstream(&content, &size);
  fprintf(out, "HOME=%s\n", getenv("HOME") ? getenv("HOME") : "none");
  int count = 0;
  while (environ && environ[count]) count++;
  fprintf(out, "variables %d\n", count);
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  fprintf(out, "seconds %lld\n", (long long)now.tv_sec);
  clock_gettime(CLOCK_MONOTONIC, &now);
  fprintf(out, "monotonic %s\n", now.tv_sec || now.tv_nsec ? "yes" : "no");
  unsigned char bytes[16] = {0};
  fprintf(out, "random %s\n", getentropy(bytes, sizeof bytes) ? strerror(errno) : "yes");
  FILE *file = fopen("/etc/passwd", "r");
  fprintf(out, "open %s\n", file ? "yes" : strerror(errno));
  fclose(out);
  answer(outparam, 200, (text){content, (u32)size});
}
