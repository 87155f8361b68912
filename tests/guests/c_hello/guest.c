// "Hello from C!" with a header.
#include "guest.h"

void handle_request(handle request, handle outparam) {
  request_drop(request);
  handle headers = fields_new();
  fields_append(headers, "content-type", 12, "text/plain", 10, ret);
  handle body = respond(outparam, 200, headers);
  handle stream = output_of(body);
  write_all(stream, "Hello from C!\n", 14);
  finish(body, stream);
}
