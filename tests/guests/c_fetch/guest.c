// Fetches the URL in the request's header `x-url` (http:// or https://) and streams what comes back.
//
//   /fetch       a request without a body, with the method of the request
//   /fetch-post  the request's body is piped into the one that goes out, its content-type with it
//   /fetch-head  as /fetch, but answers with the status and the headers as text and drops the body
//   /duplex      as /fetch-post, but what comes back is streamed while the request's body still arrives
//   /fan-out     there may be 16 URLs: all are requested at once, and each is answered with a line as soon as it is
//                there, "NUMBER STATUS BYTES" or "NUMBER error-code CODE"
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

// One direction of a duplex: what can be moved without waiting. False when there is nothing more to come.
typedef struct {
  handle from, to;
  bool failed;
} direction;

static bool move(direction *d) {
  for (;;) {
    output_check_write(d->to, ret);
    if (ret[0]) return !(d->failed = true);
    u64 room = ret_u64(8);
    if (!room) return true;
    u32 mark = heap_mark();
    input_read(d->from, room < CHUNK ? room : CHUNK, ret);
    if (ret[0]) {
      d->failed = ret[4] == 0;
      if (d->failed) error_drop(ret_u32(8));
      return false;
    }
    text part = ret_text(4);
    if (!part.size) return true;
    output_write(d->to, part.at, part.size, ret);
    heap_reset(mark);
    if (ret[0]) return !(d->failed = true);
  }
}

// What a direction waits for: room, or else bytes.
static handle wait_for(const direction *d) {
  output_check_write(d->to, ret);
  return !ret[0] && !ret_u64(8) ? output_subscribe(d->to) : input_subscribe(d->from);
}

static handle stream_of(handle body) {
  incoming_body_stream(body, ret);
  return ok_handle();
}

static void duplex(handle outparam, handle request, handle to_body, handle future) {
  request_consume(request, ret);
  handle from_body = ok_handle();
  direction up = {stream_of(from_body), output_of(to_body), false}, down = {0, 0, false};
  handle back_body = 0, answer_body = 0;
  bool rising = true, falling = false;
  while (rising || falling || future) {
    u32 mark = heap_mark();
    if (rising && !(rising = move(&up))) {
      input_drop(up.from);
      incoming_body_drop(from_body);
      if (up.failed) {
        output_drop(up.to);
        outgoing_body_drop(to_body);
      } else {
        finish(to_body, up.to);
      }
    }
    if (future) {
      future_response_get(future, ret);
      if (ret[0]) {
        if (ret[8]) __builtin_trap();
        u32 response = ret_u32(24), code = ret[24];
        bool error = ret[16];
        future_response_drop(future);
        future = 0;
        if (error) {
          failed(outparam, code);
          return;
        }
        u32 status = incoming_response_status(response);
        incoming_response_consume(response, ret);
        back_body = ok_handle();
        incoming_response_drop(response);
        answer_body = respond(outparam, status, fields_new());
        down.from = stream_of(back_body);
        down.to = output_of(answer_body);
        falling = true;
      }
    }
    if (falling && !(falling = move(&down))) {
      input_drop(down.from);
      incoming_body_drop(back_body);
      if (down.failed) {
        output_drop(down.to);
        outgoing_body_drop(answer_body);
      } else {
        finish(answer_body, down.to);
      }
    }
    handle waits[2];
    u32 count = 0;
    if (rising) waits[count++] = wait_for(&up);
    if (falling) waits[count++] = wait_for(&down);
    if (future) waits[count++] = future_response_subscribe(future);
    if (count) poll(waits, count, ret);
    while (count) pollable_drop(waits[--count]);
    heap_reset(mark);
  }
}

enum { MOST = 16 };

// One of many requests: its future, then its body.
typedef struct {
  handle future, body, stream, ready;
  u32 status;
  u64 size;
} fetched;

static bool note(handle to, u32 number, text said, u64 first, const u64 *second) {
  out.size = 0;
  add_number(&out, number);
  add(&out, said);
  add_number(&out, first);
  if (second) {
    add(&out, TEXT(" "));
    add_number(&out, *second);
  }
  add(&out, TEXT("\n"));
  return write_all(to, out.at, out.size);
}

// Goes as far as it can without waiting; true when the request is done.
static bool advance(fetched *one, handle to, u32 number) {
  if (one->future) {
    future_response_get(one->future, ret);
    if (!ret[0]) return false;
    if (ret[8]) __builtin_trap();
    u32 response = ret_u32(24), code = ret[24];
    bool error = ret[16];
    pollable_drop(one->ready);
    future_response_drop(one->future);
    one->future = 0;
    if (error) {
      note(to, number, TEXT(" error-code "), code, 0);
      return true;
    }
    one->status = incoming_response_status(response);
    incoming_response_consume(response, ret);
    one->body = ok_handle();
    incoming_response_drop(response);
    one->stream = stream_of(one->body);
    one->ready = input_subscribe(one->stream);
  }
  for (;;) {
    u32 mark = heap_mark();
    input_read(one->stream, CHUNK, ret);
    heap_reset(mark);
    if (ret[0]) break;
    u32 size = ret_u32(8);
    if (!size) return false;
    one->size += size;
  }
  if (ret[4] == 0) error_drop(ret_u32(8));
  pollable_drop(one->ready);
  input_drop(one->stream);
  incoming_body_drop(one->body);
  note(to, number, TEXT(" "), one->status, &one->size);
  return true;
}

static void fan_out(handle outparam, handle fields) {
  static fetched all[MOST];
  bool left[MOST] = {false};
  fields_get(fields, "x-url", 5, ret);
  const u32 *urls = (const u32 *)ret_u32(0);
  u32 count = ret_u32(4) < MOST ? ret_u32(4) : MOST;
  handle body = respond(outparam, 200, fields_new());
  handle to = output_of(body);
  u32 waiting = 0;
  for (u32 i = 0; i < count; i++) {
    handle outgoing = request_for((text){(const char *)urls[2 * i], urls[2 * i + 1]}, fields_new());
    if (!outgoing) __builtin_trap();
    outgoing_handle(outgoing, 0, 0, ret);
    if (ret[0]) {
      note(to, i, TEXT(" error-code "), ret[8], 0);
      continue;
    }
    all[i].future = ret_u32(8);
    all[i].ready = future_response_subscribe(all[i].future);
    left[i] = true;
    waiting++;
  }
  while (waiting) {
    u32 mark = heap_mark();
    handle pollables[MOST];
    u32 numbers[MOST], size = 0;
    for (u32 i = 0; i < count; i++) {
      if (!left[i]) continue;
      pollables[size] = all[i].ready;
      numbers[size++] = i;
    }
    poll(pollables, size, ret);
    const u32 *ready = (const u32 *)ret_u32(0);
    for (u32 n = ret_u32(4), i = 0; i < n; i++) {
      u32 number = numbers[ready[i]];
      if (advance(&all[number], to, number)) {
        left[number] = false;
        waiting--;
      }
    }
    heap_reset(mark);
  }
  finish(body, to);
}

void handle_request(handle request, handle outparam) {
  text path = path_of(request);
  bool both_ways = equal(path, TEXT("/duplex"));
  bool post = both_ways || equal(path, TEXT("/fetch-post"));
  bool head_only = equal(path, TEXT("/fetch-head"));
  bool many = equal(path, TEXT("/fan-out"));
  if (!post && !head_only && !many && !equal(path, TEXT("/fetch"))) {
    answer(outparam, 404, TEXT("no such path\n"));
    return;
  }

  handle fields = request_headers(request);
  if (many) {
    fan_out(outparam, fields);
    return;
  }
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
  if (both_ways) {
    duplex(outparam, request, to_body, future);
    return;
  }
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
