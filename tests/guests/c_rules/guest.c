// Keeps and breaks the rules of wasi:http, and says what the host made of it; the table at the end lists the ways. What
// becomes of a response goes to stderr, all else into the response.
#include "guest.h"

typedef struct {
  handle request;
  handle outparam;
  text path;
} call;

enum { MANY = 40000 };

static builder out;

static void say(text what) { add(&out, what); }

static void say_number(text what, u64 value) {
  add(&out, what);
  add_number(&out, value);
  add(&out, TEXT("\n"));
}

static void complain(void) {
  handle to = get_stderr();
  write_all(to, out.at, out.size);
  output_drop(to);
}

static void say_and_answer(call c) { answer(c.outparam, 200, built(&out)); }

// The segment of the path at `index`, counted from 0.
static text segment(text path, u32 index) {
  u32 start = 1;
  for (; index && start <= path.size; start++)
    if (path.at[start] == '/') index--;
  u32 end = start;
  while (end < path.size && path.at[end] != '/' && path.at[end] != '?') end++;
  return start < path.size ? (text){path.at + start, end - start} : TEXT("");
}

static u64 number_of(text digits) { return number_after(digits, TEXT(""), 0); }

// ---- the length of a body -------------------------------------------------------------------------------------------

// An error-code, which starts at `at` in `ret`: its number, and the size if it is one of a body.
static void say_code(text what, u32 at) {
  add(&out, what);
  add_number(&out, ret[at]);
  if ((ret[at] == ERROR_REQUEST_BODY_SIZE || ret[at] == ERROR_RESPONSE_BODY_SIZE) && ret[at + 8]) {
    add(&out, TEXT(" size "));
    add_number(&out, ret_u64(at + 16));
  }
  add(&out, TEXT("\n"));
}

// Writes `size` bytes, then finishes or drops. "stream" takes a stream and writes nothing.
static void fill(handle body, text size, text end) {
  if (!equal(size, TEXT("none"))) {
    handle stream = output_of(body);
    u32 left = (u32)number_of(size);
    if (left) {
      output_blocking_write_and_flush(stream, "0123456789abcdefghijklmnopqrstuvwxyz", left, ret);
      if (!ret[0]) {
        say(TEXT("write: ok\n"));
      } else if (ret[4]) {
        say(TEXT("write: closed\n"));
      } else {
        handle error = ret_u32(8);
        http_error_code(error, ret);
        if (ret[0])
          say_code(TEXT("write: error "), 8);
        else
          say(TEXT("write: some error\n"));
        error_drop(error);
      }
    }
    output_drop(stream);
  }
  if (equal(end, TEXT("drop"))) {
    outgoing_body_drop(body);
    return;
  }
  outgoing_body_finish(body, 0, 0, ret);
  if (ret[0])
    say_code(TEXT("finish: error "), 8);
  else
    say(TEXT("finish: ok\n"));
}

static handle fields_with_length(text length) {
  handle fields = fields_new();
  if (!equal(length, TEXT("none")))
    fields_append(fields, "content-length", 14, length.at, length.size, ret);
  return fields;
}

// /response/STATUS/CONTENT-LENGTH or none/BYTES, none (no stream) or no-body/finish or drop
static void response_body_of(call c) {
  handle response = response_new(fields_with_length(segment(c.path, 2)));
  if (response_set_status(response, (u32)number_of(segment(c.path, 1)))) __builtin_trap();
  text size = segment(c.path, 3);
  handle body = 0;
  if (!equal(size, TEXT("no-body"))) {
    response_body(response, ret);
    body = ok_handle();
  }
  outparam_set(c.outparam, 0, response, 0, 0, 0, 0, 0, 0);
  if (body) fill(body, size, segment(c.path, 4));
  complain();
}

// ---- requests -------------------------------------------------------------------------------------------------------

// The request for the URL (http://…) in the header `x-url`.
static handle request_to_url(call c, handle headers) {
  handle fields = request_headers(c.request);
  fields_get(fields, "x-url", 5, ret);
  const u32 *first = (const u32 *)ret_u32(0);
  text url = {(const char *)first[0] + 7, first[1] - 7};
  fields_drop(fields);
  text authority = {url.at, 0};
  while (authority.size < url.size && authority.at[authority.size] != '/') authority.size++;
  handle request = outgoing_request_new(headers);
  bool refused = outgoing_request_set_scheme(request, 1, 0, 0, 0) ||
                 outgoing_request_set_authority(request, 1, authority.at, authority.size) ||
                 outgoing_request_set_path(request, 1, url.at + authority.size, url.size - authority.size);
  if (refused) __builtin_trap();
  return request;
}

// What `handle` gave, at once or in the end.
static void say_outcome(void) {
  if (ret[0]) {
    say_code(TEXT("handle: error "), 8);
    return;
  }
  handle future = ret_u32(8);
  handle ready = future_response_subscribe(future);
  pollable_block(ready);
  pollable_drop(ready);
  future_response_get(future, ret);
  if (ret[16]) {
    say_code(TEXT("response: error "), 24);
  } else {
    handle response = ret_u32(24);
    say_number(TEXT("response: "), incoming_response_status(response));
    incoming_response_drop(response);
  }
  future_response_get(future, ret);
  say(ret[0] && ret[8] ? TEXT("again: error\n") : TEXT("again: ok\n"));
  future_response_drop(future);
}

// /request/CONTENT-LENGTH or none/BYTES, none or no-body/finish or drop: a POST
static void request_body_of(call c) {
  handle request = request_to_url(c, fields_with_length(segment(c.path, 1)));
  outgoing_request_set_method(request, METHOD_POST, 0, 0);
  text size = segment(c.path, 2);
  handle body = 0;
  if (!equal(size, TEXT("no-body"))) {
    outgoing_request_body(request, ret);
    body = ok_handle();
  }
  outgoing_handle(request, 0, 0, ret);
  u8 handled[sizeof ret];
  __builtin_memcpy(handled, ret, sizeof ret);
  if (body) fill(body, size, segment(c.path, 3));
  __builtin_memcpy(ret, handled, sizeof ret);
  say_outcome();
  say_and_answer(c);
}

// The headers that came, as they are or cloned, go out again.
static void resend(call c) {
  handle fields = request_headers(c.request);
  if (equal(segment(c.path, 1), TEXT("clone"))) {
    handle copy = fields_clone(fields);
    fields_drop(fields);
    fields = copy;
  }
  outgoing_handle(request_to_url(c, fields), 0, 0, ret);
  say_outcome();
  say_and_answer(c);
}

// Requests that say too little, or what nobody knows: no authority, no path, a strange scheme.
static void unsendable(call c) {
  handle request = outgoing_request_new(fields_new());
  text what = segment(c.path, 1);
  if (!equal(what, TEXT("no-authority"))) outgoing_request_set_authority(request, 1, "localhost:1", 11);
  if (!equal(what, TEXT("no-path"))) outgoing_request_set_path(request, 1, "/", 1);
  if (equal(what, TEXT("scheme")))
    outgoing_request_set_scheme(request, 1, 2, "WS", 2);
  else
    outgoing_request_set_scheme(request, 1, 0, 0, 0);
  outgoing_handle(request, 0, 0, ret);
  say_outcome();
  say_and_answer(c);
}

// /timeouts/connect, first-byte or between-bytes/NANOSECONDS
static void timeouts(call c) {
  handle options = options_new();
  text which = segment(c.path, 1);
  u64 nanoseconds = number_of(segment(c.path, 2));
  bool refused = equal(which, TEXT("connect"))      ? options_set_connect(options, 1, nanoseconds)
                 : equal(which, TEXT("first-byte")) ? options_set_first_byte(options, 1, nanoseconds)
                                                    : options_set_between_bytes(options, 1, nanoseconds);
  if (refused) __builtin_trap();
  outgoing_handle(request_to_url(c, fields_new()), 1, options, ret);
  say_outcome();
  say_and_answer(c);
}

// ---- fields ---------------------------------------------------------------------------------------------------------

static void many_names(call c) {
  bool empty = equal(segment(c.path, 2), TEXT("empty"));
  handle fields = fields_new();
  for (u32 i = 0; i < MANY; i++) {
    builder name = {.at = {'n'}, .size = 1};
    add_number(&name, i);
    fields_append(fields, name.at, name.size, "v", !empty, ret);
    if (ret[0]) break;
  }
  say_and_answer(c);
}

static void many_values(call c) {
  bool empty = equal(segment(c.path, 2), TEXT("empty"));
  handle fields = fields_new();
  for (u32 i = 0; i < MANY; i++) fields_append(fields, "n", 1, "v", !empty, ret);
  say_and_answer(c);
}

static void many_set(call c) {
  u32 *values = allocate(MANY * 8, 4);
  for (u32 i = 0; i < MANY; i++) values[2 * i] = (u32) "v", values[2 * i + 1] = 1;
  fields_set(fields_new(), "n", 1, values, MANY, ret);
  say_and_answer(c);
}

static void many_from_list(call c) {
  u32 *entries = allocate(MANY * 16, 4);
  for (u32 i = 0; i < MANY; i++) {
    entries[4 * i] = (u32) "n", entries[4 * i + 1] = 1;
    entries[4 * i + 2] = (u32) "v", entries[4 * i + 3] = 0;
  }
  fields_from_list(entries, MANY, ret);
  say_and_answer(c);
}

// /fields/grow/SIZE: a clone of what arrived, with a value of that size appended
static void grow(call c) {
  u32 size = (u32)number_of(segment(c.path, 2));
  u8 *value = allocate(size, 1);
  __builtin_memset(value, 'v', size);
  handle fields = request_headers(c.request);
  fields_entries(fields, ret);
  say_number(TEXT("entries "), ret_u32(4));
  handle copy = fields_clone(fields);
  fields_append(copy, "x-more", 6, (const char *)value, size, ret);
  say(ret[0] ? TEXT("append: error\n") : TEXT("append: ok\n"));
  say_and_answer(c);
}

// /hoard/fields, clones, bodies, views or paths/COUNT: all of them kept, each as large as it may be
static void hoard(call c) {
  text what = segment(c.path, 1);
  u8 *value = allocate(262144, 1);
  __builtin_memset(value, 'v', 262144);
  handle first = fields_new();
  fields_append(first, "n", 1, (const char *)value, 100000, ret);
  u64 count = number_of(segment(c.path, 2));
  for (u64 i = 1; i < count; i++) {
    if (equal(what, TEXT("clones"))) {
      fields_clone(first);
    } else if (equal(what, TEXT("fields"))) {
      fields_append(fields_new(), "n", 1, (const char *)value, 100000, ret);
    } else if (equal(what, TEXT("views"))) {
      handle fields = fields_new();
      fields_append(fields, "n", 1, (const char *)value, 100000, ret);
      handle request = outgoing_request_new(fields);
      outgoing_request_headers(request);
      outgoing_request_drop(request);
    } else if (equal(what, TEXT("paths"))) {
      value[0] = '/';
      handle request = outgoing_request_new(fields_new());
      if (outgoing_request_set_path(request, 1, (const char *)value, 65534)) __builtin_trap();
      if (!outgoing_request_set_path(request, 1, (const char *)value, 65535)) __builtin_trap();
    } else {
      response_body(response_new(fields_new()), ret);
      write_all(output_of(ok_handle()), value, 262144);
    }
  }
  say_number(TEXT("kept "), count);
  say_and_answer(c);
}

static void immutable(call c) {
  static const text REASONS[] = {LITERAL("invalid-syntax\n"), LITERAL("forbidden\n"), LITERAL("immutable\n")};
  handle request = outgoing_request_new(fields_new());
  handle response = response_new(fields_new());
  handle made[] = {request_headers(c.request), outgoing_request_headers(request), response_headers(response)};
  say(fields_has(made[0], "Host", 4) ? TEXT("host is there\n") : TEXT("no host\n"));
  outgoing_request_drop(request);
  response_drop(response);
  for (u32 i = 0; i < 3; i++) {
    fields_set(made[i], "x-new", 5, 0, 0, ret);
    say(ret[0] ? REASONS[ret[1]] : TEXT("set: ok\n"));
    fields_append(made[i], "x-new", 5, "v", 1, ret);
    say(ret[0] ? REASONS[ret[1]] : TEXT("append: ok\n"));
    fields_delete(made[i], "x-new", 5, ret);
    say(ret[0] ? REASONS[ret[1]] : TEXT("delete: ok\n"));
  }
  say_and_answer(c);
}

// Cookies, high bytes, and the order of it all
static void in_order(call c) {
  static const text ENTRIES[][2] = {
      {LITERAL("Set-Cookie"), LITERAL("b=2")}, {LITERAL("x-high"), LITERAL("\x80\xe9\xff")},
      {LITERAL("set-cookie"), LITERAL("a=1")}, {LITERAL("x-empty"), LITERAL("")},
      {LITERAL("Set-Cookie"), LITERAL("b=2")},
  };
  handle fields = fields_new();
  for (u32 i = 0; i < sizeof ENTRIES / sizeof *ENTRIES; i++)
    fields_append(fields, ENTRIES[i][0].at, ENTRIES[i][0].size, ENTRIES[i][1].at, ENTRIES[i][1].size, ret);
  handle body = respond(c.outparam, 200, fields);
  outgoing_body_finish(body, 0, 0, ret);
}

// ---- parents and children -------------------------------------------------------------------------------------------

static handle consumed(call c) {
  request_consume(c.request, ret);
  return ok_handle();
}

static void drop_body_before_stream(call c) {
  handle body = consumed(c);
  incoming_body_stream(body, ret);
  incoming_body_drop(body);
}

static void finish_body_before_stream(call c) {
  handle body = consumed(c);
  incoming_body_stream(body, ret);
  incoming_body_finish(body);
}

static void drop_stream_before_pollable(call c) {
  handle body = consumed(c);
  incoming_body_stream(body, ret);
  handle stream = ok_handle();
  input_subscribe(stream);
  input_drop(stream);
}

static void drop_trailers_before_pollable(call c) {
  handle future = incoming_body_finish(consumed(c));
  future_trailers_subscribe(future);
  future_trailers_drop(future);
}

// The request goes first; its headers and its body are still good.
static void orphans(call c) {
  handle fields = request_headers(c.request);
  handle body = consumed(c);
  request_drop(c.request);
  say(fields_has(fields, "X-Mark", 6) ? TEXT("headers ok\n") : TEXT("headers lost\n"));
  incoming_body_stream(body, ret);
  handle stream = ok_handle();
  input_blocking_read(stream, 100, ret);
  say_number(TEXT("bytes "), ret[0] ? 0 : ret_u32(8));
  handle response = response_new(fields_new());
  response_body(response, ret);
  handle to_body = ok_handle();
  outparam_set(c.outparam, 0, response, 0, 0, 0, 0, 0, 0);
  handle to = output_of(to_body);
  write_all(to, out.at, out.size);
  finish(to_body, to);
  fields_drop(fields);
}

// ---- trailers -------------------------------------------------------------------------------------------------------

static void trailers_twice(call c) {
  handle future = incoming_body_finish(consumed(c));
  handle ready = future_trailers_subscribe(future);
  pollable_block(ready);
  pollable_drop(ready);
  future_trailers_get(future, ret);
  say(ret[0] && !ret[8] && !ret[16] ? TEXT("get: ok\n") : TEXT("get: error\n"));
  future_trailers_get(future, ret);
  say(ret[0] && ret[8] ? TEXT("again: error\n") : TEXT("again: ok\n"));
  say_and_answer(c);
}

// Finishes with a trailer that would frame the message; says what came of it on stderr.
static void bad_trailer(call c) {
  handle body = respond(c.outparam, 200, fields_new());
  handle stream = output_of(body);
  output_blocking_write_and_flush(stream, "body", 4, ret);
  output_drop(stream);
  outgoing_body_finish(body, 1, fields_with_length(TEXT("3")), ret);
  if (ret[0])
    say_number(TEXT("finish: error "), ret[8]);
  else
    say(TEXT("finish: ok\n"));
  complain();
}

// ---- streams --------------------------------------------------------------------------------------------------------

// /zero-writes/COUNT, then one byte
static void zero_writes(call c) {
  handle body = respond(c.outparam, 200, fields_new());
  handle stream = output_of(body);
  for (u64 left = number_of(segment(c.path, 1)); left--;) {
    output_write(stream, 0, 0, ret);
    output_write_zeroes(stream, 0, ret);
    if (ret[0]) __builtin_trap();
  }
  output_blocking_write_and_flush(stream, "x", 1, ret);
  finish(body, stream);
}

static void write_zeroes(call c) {
  handle body = respond(c.outparam, 200, fields_new());
  handle stream = output_of(body);
  output_write_zeroes(stream, number_of(segment(c.path, 1)), ret);
  finish(body, stream);
}

// ---- before the response --------------------------------------------------------------------------------------------

static handle hints(void) {
  handle fields = fields_new();
  fields_append(fields, "Link", 4, "</style.css>; rel=preload", 25, ret);
  return fields;
}

// /informational/STATUS
static void informational(call c) {
  outparam_send_informational(c.outparam, (u32)number_of(segment(c.path, 1)), hints(), ret);
  if (ret[0])
    say_number(TEXT("error "), ret[8]);
  else
    say(TEXT("ok\n"));
  say_and_answer(c);
}

static void informational_that_frames(call c) {
  outparam_send_informational(c.outparam, 103, fields_with_length(TEXT("3")), ret);
  if (ret[0])
    say_number(TEXT("error "), ret[8]);
  else
    say(TEXT("ok\n"));
  say_and_answer(c);
}

static void informational_too_late(call c) {
  say(TEXT("in time\n"));
  say_and_answer(c);
  outparam_send_informational(c.outparam, 103, hints(), ret);
}

// ---- anything else ---------------------------------------------------------------------------------------------------

// The request line, as the guest is given it.
static void describe(call c) {
  request_method(c.request, ret);
  say_number(TEXT("method "), ret[0]);
  request_scheme(c.request, ret);
  say(!ret[0] ? TEXT("no scheme\n") : ret[4] ? TEXT("not http\n") : TEXT("http\n"));
  request_authority(c.request, ret);
  say(ret[0] ? ret_text(4) : TEXT("no authority"));
  say(TEXT("\n"));
  request_path(c.request, ret);
  say(ret[0] ? ret_text(4) : TEXT("no path"));
  say(TEXT("\n"));
  say_and_answer(c);
}

static void poll_dropped(call c) {
  (void)c;
  handle timers[] = {monotonic_subscribe_duration(0), monotonic_subscribe_duration(0)};
  pollable_drop(timers[1]);
  poll(timers, 2, ret);
}

// ---- the table ------------------------------------------------------------------------------------------------------

static const struct {
  text path;  // one that ends with '/' stands for all that begin with it
  void (*run)(call);
} PATHS[] = {
    {LITERAL("/response/"), response_body_of},
    {LITERAL("/request/"), request_body_of},
    {LITERAL("/resend/"), resend},
    {LITERAL("/unsendable/"), unsendable},
    {LITERAL("/timeouts/"), timeouts},
    {LITERAL("/fields/names/"), many_names},
    {LITERAL("/fields/values/"), many_values},
    {LITERAL("/fields/set"), many_set},
    {LITERAL("/fields/from-list"), many_from_list},
    {LITERAL("/fields/grow/"), grow},
    {LITERAL("/hoard/"), hoard},
    {LITERAL("/fields/immutable"), immutable},
    {LITERAL("/fields/in-order"), in_order},
    {LITERAL("/children/drop-body"), drop_body_before_stream},
    {LITERAL("/children/finish-body"), finish_body_before_stream},
    {LITERAL("/children/drop-stream"), drop_stream_before_pollable},
    {LITERAL("/children/drop-trailers"), drop_trailers_before_pollable},
    {LITERAL("/children/orphans"), orphans},
    {LITERAL("/trailers-twice"), trailers_twice},
    {LITERAL("/bad-trailer"), bad_trailer},
    {LITERAL("/zero-writes/"), zero_writes},
    {LITERAL("/write-zeroes/"), write_zeroes},
    {LITERAL("/informational/"), informational},
    {LITERAL("/informational-that-frames"), informational_that_frames},
    {LITERAL("/informational-too-late"), informational_too_late},
    {LITERAL("/poll-dropped"), poll_dropped},
    {LITERAL("/"), describe},  // what is left, and no path at all
    {LITERAL("*"), describe},
};

void handle_request(handle request, handle outparam) {
  call c = {request, outparam, path_of(request)};
  for (u32 i = 0; i < sizeof PATHS / sizeof *PATHS; i++) {
    text at = PATHS[i].path;
    if (at.at[at.size - 1] == '/' ? starts_with(c.path, at) : equal(c.path, at)) {
      PATHS[i].run(c);
      return;
    }
  }
  __builtin_trap();
}
