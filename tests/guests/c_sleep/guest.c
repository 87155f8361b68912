// GET /sleep/NNN: waits NNN milliseconds in `poll`, then answers "slept NNN\n". Other paths do not wait.
#include "guest.h"

void handle_request(handle request, handle outparam) {
  u64 milliseconds = number_after(path_of(request), TEXT("/sleep/"), 0);
  request_drop(request);
  if (milliseconds) {
    handle timer = monotonic_subscribe_duration(milliseconds * 1000000);
    poll(&timer, 1, ret);
    pollable_drop(timer);
  }
  static builder out;
  add(&out, TEXT("slept "));
  add_number(&out, milliseconds);
  add(&out, TEXT("\n"));
  answer(outparam, 200, built(&out));
}
