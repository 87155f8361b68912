// Fetches the URL in the request's header `x-url` (http:// or https://) and streams what comes back.
//
//   /fetch       a request without a body, with the method of the request
//   /fetch-post  the request's body is piped into the one that goes out, its content-type with it
//   /fetch-head  as /fetch, but answers with the status and the headers as text and drops the body
//
// A request that cannot be made or fails answers 502 with the number of the error-code's case.
#include "guest.h"

enum { CHUNK = 65536 };

static builder out;

static void failed(handle outparam, u32 code) {
  add(&out, TEXT("error-code "));
  add_number(&out, code);
  add(&out, TEXT("\n"));
  answer(outparam, 502, built(&out));
}

// From one stream into the other until the first closes; false when either failed.
static bool pipe(handle from, handle to) {
  u32 mark = heap_mark();
  for (;;) {
    heap_reset(mark);
    input_blocking_read(from, CHUNK, ret);
    if (ret[0]) {
      if (ret[4] == 0) error_drop(ret_u32(8));
      return ret[4] == 1;
    }
    text part = ret_text(4);
    if (!write_all(to, part.at, part.size)) return false;
  }
}

static void copy_header(handle from, handle to, text name) {
  fields_get(from, name.at, name.size, ret);
  const u32 *values = (const u32 *)ret_u32(0);
  for (u32 count = ret_u32(4); count--; values += 2)
    fields_append(to, name.at, name.size, (const void *)values[0], values[1], ret);
}

// The request for `url` or 0 when it is none.
static handle request_for(text url, handle headers) {
  bool secure = starts_with(url, TEXT("https://"));
  if (!secure && !starts_with(url, TEXT("http://"))) return 0;
  u32 skip = secure ? 8 : 7;
  text authority = {url.at + skip, 0};
  while (skip + authority.size < url.size && authority.at[authority.size] != '/') authority.size++;
  text path = {authority.at + authority.size, url.size - skip - authority.size};
  if (!path.size) path = TEXT("/");
  handle request = outgoing_request_new(headers);
  if (outgoing_request_set_scheme(request, 1, secure, 0, 0)) return 0;
  if (outgoing_request_set_authority(request, 1, authority.at, authority.size)) return 0;
  if (outgoing_request_set_path(request, 1, path.at, path.size)) return 0;
  return request;
}

// Waits for the response; 0 when there is none, with the error's number in `*error`.
static handle response_of(handle future, u32 *error) {
  handle ready = future_response_subscribe(future);
  pollable_block(ready);
  pollable_drop(ready);
  future_response_get(future, ret);
  handle response = 0;
  if (!ret[0] || ret[8]) __builtin_trap();
  if (ret[16])
    *error = ret[24];
  else
    response = ret_u32(24);
  future_response_drop(future);
  return response;
}

static void describe(handle outparam, handle response) {
  add(&out, TEXT("status "));
  add_number(&out, incoming_response_status(response));
  add(&out, TEXT("\n"));
  handle fields = incoming_response_headers(response);
  fields_entries(fields, ret);
  const u32 *entries = (const u32 *)ret_u32(0);
  for (u32 count = ret_u32(4); count--; entries += 4) {
    add(&out, (text){(const char *)entries[0], entries[1]});
    add(&out, TEXT(": "));
    add(&out, (text){(const char *)entries[2], entries[3]});
    add(&out, TEXT("\n"));
  }
  fields_drop(fields);
  incoming_response_drop(response);
  answer(outparam, 200, built(&out));
}

static void stream_back(handle outparam, handle response) {
  handle headers = fields_new();
  handle fields = incoming_response_headers(response);
  copy_header(fields, headers, TEXT("content-type"));
  fields_drop(fields);
  u32 status = incoming_response_status(response);
  incoming_response_consume(response, ret);
  handle from_body = ok_handle();
  incoming_body_stream(from_body, ret);
  handle from = ok_handle();
  handle to_body = respond(outparam, status, headers);
  handle to = output_of(to_body);
  bool good = pipe(from, to);
  input_drop(from);
  incoming_body_drop(from_body);
  incoming_response_drop(response);
  if (good) {
    finish(to_body, to);
  } else {
    output_drop(to);
    outgoing_body_drop(to_body);
  }
}

void handle_request(handle request, handle outparam) {
  text path = path_of(request);
  bool post = equal(path, TEXT("/fetch-post"));
  bool head_only = equal(path, TEXT("/fetch-head"));
  if (!post && !head_only && !equal(path, TEXT("/fetch"))) {
    answer(outparam, 404, TEXT("no such path\n"));
    return;
  }

  handle fields = request_headers(request);
  fields_get(fields, "x-url", 5, ret);
  if (!ret_u32(4)) {
    answer(outparam, 400, TEXT("no x-url\n"));
    return;
  }
  const u32 *first = (const u32 *)ret_u32(0);
  text url = {(const char *)first[0], first[1]};
  handle headers = fields_new();
  if (post) copy_header(fields, headers, TEXT("content-type"));
  fields_drop(fields);
  handle outgoing = request_for(url, headers);
  if (!outgoing) {
    answer(outparam, 400, TEXT("bad x-url\n"));
    return;
  }
  request_method(request, ret);
  text name = ret_text(4);
  if (outgoing_request_set_method(outgoing, ret[0], name.at, name.size)) __builtin_trap();

  handle to_body = 0;
  if (post) {
    outgoing_request_body(outgoing, ret);
    to_body = ok_handle();
  }
  outgoing_handle(outgoing, 0, 0, ret);
  if (ret[0]) {
    failed(outparam, ret[8]);
    return;
  }
  handle future = ret_u32(8);
  if (post) {
    request_consume(request, ret);
    handle from_body = ok_handle();
    incoming_body_stream(from_body, ret);
    handle from = ok_handle();
    handle to = output_of(to_body);
    bool good = pipe(from, to);
    input_drop(from);
    incoming_body_drop(from_body);
    if (good) {
      finish(to_body, to);
    } else {
      output_drop(to);
      outgoing_body_drop(to_body);
    }
  }
  u32 error = 0;
  handle response = response_of(future, &error);
  if (!response)
    failed(outparam, error);
  else if (head_only)
    describe(outparam, response);
  else
    stream_back(outparam, response);
}
