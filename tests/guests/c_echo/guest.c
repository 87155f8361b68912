// Streams the request's body into the response's, at most 64 KiB at a time and never more than that in memory.
#include "guest.h"

enum { CHUNK = 65536 };

void handle_request(handle request, handle outparam) {
  handle request_fields = request_headers(request);
  handle headers = fields_new();
  fields_get(request_fields, "content-type", 12, ret);
  if (ret_u32(4)) {
    const u32 *first = (const u32 *)ret_u32(0);
    fields_append(headers, "content-type", 12, (const void *)first[0], first[1], ret);
  }
  fields_drop(request_fields);

  request_consume(request, ret);
  handle from_body = ok_handle();
  incoming_body_stream(from_body, ret);
  handle from = ok_handle();
  handle to_body = respond(outparam, 200, headers);
  handle to = output_of(to_body);

  u32 mark = heap_mark();
  bool good = true;
  while (good) {
    heap_reset(mark);
    input_blocking_read(from, CHUNK, ret);
    if (ret[0]) {
      // Closed is the end of the body; a body that failed fails the response too, which is left unfinished.
      good = ret[4] == 1;
      if (!good) error_drop(ret_u32(8));
      break;
    }
    text part = ret_text(4);
    good = write_all(to, part.at, part.size);
  }
  input_drop(from);
  incoming_body_drop(from_body);
  request_drop(request);
  if (good) {
    finish(to_body, to);
  } else {
    output_drop(to);
    outgoing_body_drop(to_body);
  }
}
