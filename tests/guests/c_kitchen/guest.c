// One guest for the many ways in which a handler may behave, chosen by the path of the request; the table at the end
// lists them. A path that is not there answers 404.
#include "guest.h"

typedef struct {
  handle request;
  handle outparam;
  text path;
} call;

enum { CHUNK = 65536, PAGE = 65536 };

static builder out;
static u8 chunk[CHUNK];

static void answer_number(handle outparam, text before, u64 value) {
  add(&out, before);
  add_number(&out, value);
  add(&out, TEXT("\n"));
  answer(outparam, 200, built(&out));
}

static handle header(text name, text value) {
  handle fields = fields_new();
  fields_append(fields, name.at, name.size, value.at, value.size, ret);
  return fields;
}

static void sleep_for(u64 milliseconds) {
  handle timer = monotonic_subscribe_duration(milliseconds * 1000000);
  pollable_block(timer);
  pollable_drop(timer);
}

static void spin(void) {
  for (volatile u32 i = 0;; i++) {
  }
}

// Sends the head and "partial" as far as the network, and gives the stream; the body's handle goes to `body`.
static handle begin(handle outparam, handle *body) {
  *body = respond(outparam, 200, fields_new());
  handle stream = output_of(*body);
  write_all(stream, "partial", 7);
  output_blocking_flush(stream, ret);
  sleep_for(1);  // hosts send while guests wait
  return stream;
}

typedef struct {
  handle body;
  handle stream;
} source;

static source open_body(handle request) {
  request_consume(request, ret);
  source from = {.body = ok_handle()};
  incoming_body_stream(from.body, ret);
  from.stream = ok_handle();
  return from;
}

// Reads to the end: how many bytes there were. Sets `*failed` when it was not an ordinary end.
static u64 read_all(handle stream, bool *failed) {
  u64 size = 0;
  u32 mark = heap_mark();
  for (;;) {
    heap_reset(mark);
    input_blocking_read(stream, CHUNK, ret);
    if (ret[0]) break;
    size += ret_u32(8);
  }
  *failed = ret[4] == 0;
  if (*failed) error_drop(ret_u32(8));
  return size;
}

// ---- refusing to answer ---------------------------------------------------------------------------------------------

static void trap(call c) {
  (void)c;
  __builtin_trap();
}

static void no_set(call c) { request_drop(c.request); }

static void drop_outparam(call c) { outparam_drop(c.outparam); }

static void error_set(call c) {
  u32 which = (u32)number_after(c.path, TEXT("/error-set/"), ERROR_INTERNAL);
  text why = TEXT("the guest said so");
  bool internal = which == ERROR_INTERNAL;
  outparam_set(c.outparam, 1, which, internal, internal ? (u64)(u32)why.at : 0, internal ? why.size : 0, 0, 0, 0);
}

static void endless(call c) {
  (void)c;
  spin();
}

static void sleep_forever(call c) {
  (void)c;
  sleep_for(86400000);
}

// Not a tail call, and nothing that a compiler can turn into a loop.
static u32 recurse_deeper(u32 depth) {
  static volatile u32 bottom = UINT32_MAX;
  return depth == bottom ? 0 : recurse_deeper(depth + 1) / 3 + depth;
}

static void recurse(call c) { answer_number(c.outparam, TEXT("depth "), recurse_deeper(0)); }

static void exit_(call c) { cli_exit(number_after(c.path, TEXT("/exit/"), 0) != 0); }

// ---- failing half-way -----------------------------------------------------------------------------------------------

static void trap_after_head(call c) {
  handle body;
  begin(c.outparam, &body);
  __builtin_trap();
}

static void spin_after_head(call c) {
  handle body;
  begin(c.outparam, &body);
  spin();
}

static void sleep_after_head(call c) {
  handle body;
  begin(c.outparam, &body);
  sleep_for(86400000);
}

static void exit_after_head(call c) {
  handle body;
  begin(c.outparam, &body);
  cli_exit(1);
}

static void no_finish(call c) {
  handle body;
  handle stream = begin(c.outparam, &body);
  output_drop(stream);
  outgoing_body_drop(body);
}

// Returns with the stream and the body still in its hands.
static void abandon(call c) {
  handle body;
  begin(c.outparam, &body);
}

// Writes `size` bytes under a header that says `length`; the result of finish goes to stderr.
static void wrong_length(call c, text length, u32 size) {
  handle body = respond(c.outparam, 200, header(TEXT("content-length"), length));
  handle stream = output_of(body);
  write_all(stream, "0123456789", size);
  output_blocking_flush(stream, ret);
  output_drop(stream);
  outgoing_body_finish(body, 0, 0, ret);
  bool failed = ret[0];
  u32 which = ret[8];
  add(&out, failed ? TEXT("finish: error ") : TEXT("finish: ok "));
  add_number(&out, failed ? which : 0);
  add(&out, TEXT("\n"));
  write_all(get_stderr(), out.at, out.size);
}

static void content_length_short(call c) { wrong_length(c, TEXT("10"), 5); }

static void content_length_long(call c) { wrong_length(c, TEXT("5"), 10); }

// ---- misusing handles -----------------------------------------------------------------------------------------------

static void bad_handle(call c) {
  (void)c;
  pollable_drop(123456);
}

static void bad_self(call c) {
  (void)c;
  input_read(123456, 1, ret);
}

static void wrong_type(call c) { fields_drop(c.request); }

static void double_drop(call c) {
  request_drop(c.request);
  request_drop(c.request);
}

static void use_after_drop(call c) {
  request_drop(c.request);
  request_method(c.request, ret);
}

static void set_twice(call c) {
  respond(c.outparam, 200, fields_new());
  respond(c.outparam, 200, fields_new());
}

static void drop_parent(call c) {
  handle body;
  begin(c.outparam, &body);
  outgoing_body_drop(body);
}

static void finish_parent(call c) {
  handle body;
  begin(c.outparam, &body);
  outgoing_body_finish(body, 0, 0, ret);
}

static void bad_pointer(call c) {
  handle fields = fields_new();
  fields_append(fields, (const char *)0xfffffff0, 64, "x", 1, ret);
  answer(c.outparam, 200, TEXT("the host read past the end of the memory\n"));
}

static void bad_result_pointer(call c) {
  request_method(c.request, (void *)0xfffffff8);
  answer(c.outparam, 200, TEXT("the host wrote past the end of the memory\n"));
}

static void many_handles(call c) {
  u64 wanted = number_after(c.path, TEXT("/many-handles/"), UINT64_MAX);
  for (u64 i = 0; i < wanted; i++) fields_new();
  answer_number(c.outparam, TEXT("handles "), wanted);
}

// ---- the head -------------------------------------------------------------------------------------------------------

static void status(call c) {
  handle response = response_new(fields_new());
  bool refused = response_set_status(response, (u32)number_after(c.path, TEXT("/status/"), 200));
  response_drop(response);
  if (refused)
    answer(c.outparam, 500, TEXT("the host refused the status\n"));
  else
    answer(c.outparam, (u32)number_after(c.path, TEXT("/status/"), 200), TEXT("status\n"));
}

static void headers(call c) {
  handle fields = request_headers(c.request);
  fields_entries(fields, ret);
  const u32 *entries = (const u32 *)ret_u32(0);
  for (u32 count = ret_u32(4); count--; entries += 4) {
    add(&out, (text){(const char *)entries[0], entries[1]});
    add(&out, TEXT(": "));
    add(&out, (text){(const char *)entries[2], entries[3]});
    add(&out, TEXT("\n"));
  }
  fields_drop(fields);
  answer(c.outparam, 200, built(&out));
}

static void method(call c) {
  static const text NAMES[] = {LITERAL("GET"), LITERAL("HEAD"), LITERAL("POST"), LITERAL("PUT"), LITERAL("DELETE"),
                               LITERAL("CONNECT"), LITERAL("OPTIONS"), LITERAL("TRACE"), LITERAL("PATCH")};
  add(&out, TEXT("method: "));
  request_method(c.request, ret);
  if (ret[0] < METHOD_OTHER)
    add(&out, NAMES[ret[0]]);
  else
    add(&out, ret_text(4));
  add(&out, TEXT("\nscheme: "));
  request_scheme(c.request, ret);
  if (!ret[0])
    add(&out, TEXT("none"));
  else if (ret[4] == 2)
    add(&out, ret_text(8));
  else
    add(&out, ret[4] ? TEXT("HTTPS") : TEXT("HTTP"));
  add(&out, TEXT("\nauthority: "));
  request_authority(c.request, ret);
  add(&out, ret[0] ? ret_text(4) : TEXT("none"));
  add(&out, TEXT("\npath: "));
  add(&out, c.path);
  add(&out, TEXT("\n"));
  answer(c.outparam, 200, built(&out));
}

static void try_header(handle fields, text name, text value) {
  static const text RESULTS[] = {LITERAL("invalid-syntax"), LITERAL("forbidden"), LITERAL("immutable")};
  fields_append(fields, name.at, name.size, value.at, value.size, ret);
  text result = ret[0] ? RESULTS[ret[1]] : TEXT("ok");
  add(&out, result);
  add(&out, TEXT("\n"));
}

// What the host says to headers that it has to refuse, one line each; then to one that it has to take.
static void header_errors(call c) {
  handle fields = fields_new();
  try_header(fields, TEXT("bad name"), TEXT("x"));
  try_header(fields, TEXT(""), TEXT("x"));
  try_header(fields, TEXT("x-split"), TEXT("a\r\nx-injected: b"));
  try_header(fields, TEXT("x-nul"), TEXT("a\0b"));
  try_header(fields, TEXT("connection"), TEXT("close"));
  try_header(fields, TEXT("Transfer-Encoding"), TEXT("chunked"));
  handle request_fields = request_headers(c.request);
  try_header(request_fields, TEXT("x-late"), TEXT("x"));
  try_header(fields, TEXT("X-Good"), TEXT("x"));
  fields_drop(request_fields);
  handle body = respond(c.outparam, 200, fields);
  handle stream = output_of(body);
  write_all(stream, out.at, out.size);
  finish(body, stream);
}

// ---- response bodies ------------------------------------------------------------------------------------------------

static void pattern(handle outparam, handle fields, u64 size) {
  for (u32 i = 0; i < CHUNK; i++) chunk[i] = (u8)i;
  handle body = respond(outparam, 200, fields);
  handle stream = output_of(body);
  for (u64 left = size; left;) {
    u32 part = left < CHUNK ? (u32)left : CHUNK;
    if (!write_all(stream, chunk, part)) break;
    left -= part;
  }
  finish(body, stream);
}

static void big(call c) { pattern(c.outparam, fields_new(), number_after(c.path, TEXT("/big/"), 1) << 20); }

static void sized(call c) {
  u64 size = number_after(c.path, TEXT("/sized/"), 0);
  add_number(&out, size);
  pattern(c.outparam, header(TEXT("content-length"), built(&out)), size);
}

// The response is set without anyone having asked for its body.
static void no_body(call c) {
  handle response = response_new(header(TEXT("x-body"), TEXT("none")));
  outparam_set(c.outparam, 0, response, 0, 0, 0, 0, 0, 0);
}

// The response is set; its body is taken and finished without a stream.
static void empty(call c) {
  handle body = respond(c.outparam, 200, fields_new());
  outgoing_body_finish(body, 0, 0, ret);
}

static void body_twice(call c) {
  handle response = response_new(fields_new());
  response_body(response, ret);
  handle body = ok_handle();
  response_body(response, ret);
  add(&out, ret[0] ? TEXT("body: error\n") : TEXT("body: ok\n"));
  outgoing_body_write(body, ret);
  handle stream = ok_handle();
  outgoing_body_write(body, ret);
  add(&out, ret[0] ? TEXT("write: error\n") : TEXT("write: ok\n"));
  outparam_set(c.outparam, 0, response, 0, 0, 0, 0, 0, 0);
  write_all(stream, out.at, out.size);
  finish(body, stream);
}

static void trailers(call c) {
  handle body = respond(c.outparam, 200, header(TEXT("trailer"), TEXT("x-checksum")));
  handle stream = output_of(body);
  write_all(stream, "with trailers\n", 14);
  output_blocking_flush(stream, ret);
  output_drop(stream);
  outgoing_body_finish(body, 1, header(TEXT("x-checksum"), TEXT("abc123")), ret);
}

// N lines, 20 ms apart, each flushed.
static void drip(call c) {
  u64 count = number_after(c.path, TEXT("/drip/"), 3);
  handle body = respond(c.outparam, 200, fields_new());
  handle stream = output_of(body);
  for (u64 i = 0; i < count; i++) {
    if (i) sleep_for(20);
    out.size = 0;
    add(&out, TEXT("tick "));
    add_number(&out, i);
    add(&out, TEXT("\n"));
    if (!write_all(stream, out.at, out.size)) break;
    output_blocking_flush(stream, ret);
    if (ret[0]) break;
  }
  finish(body, stream);
}

// Finishes the response, then goes on for 50 ms and says so on stderr.
static void after(call c) {
  answer(c.outparam, 200, TEXT("answered\n"));
  sleep_for(50);
  write_all(get_stderr(), "still here\n", 11);
}

// More than check-write allows, which is a trap.
static void over_budget(call c) {
  handle body = respond(c.outparam, 200, fields_new());
  handle stream = output_of(body);
  output_check_write(stream, ret);
  u64 room = ret_u64(8);
  u8 *much = allocate((u32)room + 1, 1);
  output_write(stream, much, (u32)room + 1, ret);
}

// ---- request bodies -------------------------------------------------------------------------------------------------

static void ignore_body(call c) { answer(c.outparam, 200, TEXT("ignored\n")); }

static void discard(call c) {
  source from = open_body(c.request);
  bool failed;
  u64 size = read_all(from.stream, &failed);
  answer_number(c.outparam, failed ? TEXT("failed after ") : TEXT("bytes "), size);
}

// The head and a first line before the request's body is read, the count of its bytes afterwards.
static void early(call c) {
  handle body = respond(c.outparam, 200, fields_new());
  handle stream = output_of(body);
  write_all(stream, "early\n", 6);
  output_blocking_flush(stream, ret);
  source from = open_body(c.request);
  bool failed;
  u64 size = read_all(from.stream, &failed);
  add(&out, failed ? TEXT("failed after ") : TEXT("bytes "));
  add_number(&out, size);
  add(&out, TEXT("\n"));
  write_all(stream, out.at, out.size);
  finish(body, stream);
}

// Reads what it may without waiting for more, then answers while the body still comes.
static void first_part(call c) {
  source from = open_body(c.request);
  input_blocking_read(from.stream, CHUNK, ret);
  u64 size = ret[0] ? 0 : ret_u32(8);
  answer_number(c.outparam, TEXT("first "), size);
}

static void splice(call c) {
  source from = open_body(c.request);
  handle body = respond(c.outparam, 200, fields_new());
  handle stream = output_of(body);
  do output_blocking_splice(stream, from.stream, CHUNK, ret);
  while (!ret[0]);
  finish(body, stream);
}

static void consume_twice(call c) {
  request_consume(c.request, ret);
  handle body = ok_handle();
  request_consume(c.request, ret);
  add(&out, ret[0] ? TEXT("consume: error\n") : TEXT("consume: ok\n"));
  incoming_body_stream(body, ret);
  ok_handle();
  incoming_body_stream(body, ret);
  add(&out, ret[0] ? TEXT("stream: error\n") : TEXT("stream: ok\n"));
  answer(c.outparam, 200, built(&out));
}

static void request_trailers(call c) {
  source from = open_body(c.request);
  bool failed;
  add(&out, TEXT("bytes "));
  add_number(&out, read_all(from.stream, &failed));
  input_drop(from.stream);
  handle future = incoming_body_finish(from.body);
  handle ready = future_trailers_subscribe(future);
  pollable_block(ready);
  pollable_drop(ready);
  future_trailers_get(future, ret);
  if (ret[8] || ret[16]) {
    add(&out, TEXT("\ntrailers failed\n"));
  } else if (!ret[24]) {
    add(&out, TEXT("\nno trailers\n"));
  } else {
    add(&out, TEXT("\n"));
    handle fields = ret_u32(28);
    fields_entries(fields, ret);
    const u32 *entries = (const u32 *)ret_u32(0);
    for (u32 count = ret_u32(4); count--; entries += 4) {
      add(&out, (text){(const char *)entries[0], entries[1]});
      add(&out, TEXT(": "));
      add(&out, (text){(const char *)entries[2], entries[3]});
      add(&out, TEXT("\n"));
    }
    fields_drop(fields);
  }
  future_trailers_drop(future);
  answer(c.outparam, 200, built(&out));
}

// ---- resources of the host ------------------------------------------------------------------------------------------

static void huge_alloc(call c) {
  u32 pages = __builtin_wasm_memory_size(0);
  while (__builtin_wasm_memory_grow(0, 16) != (size_t)-1) pages += 16;
  answer_number(c.outparam, TEXT("MiB "), ((u64)pages * PAGE) >> 20);
}

// Polls N timers of 10, 11, 12, … ms until all are over; says how many calls of `poll` it took at least: one.
static void poll_many(call c) {
  u32 left = (u32)number_after(c.path, TEXT("/poll/"), 10);
  u32 total = left;
  handle *timers = allocate(left * 4, 4);
  for (u32 i = 0; i < left; i++) timers[i] = monotonic_subscribe_duration((10 + i % 100) * 1000000ull);
  u32 mark = heap_mark();
  while (left) {
    heap_reset(mark);
    poll(timers, left, ret);
    const u32 *ready = (const u32 *)ret_u32(0);
    for (u32 count = ret_u32(4); count--;) {
      pollable_drop(timers[ready[count]]);
      timers[ready[count]] = timers[--left];
    }
  }
  answer_number(c.outparam, TEXT("timers "), total);
}

// Polls what is always ready, for ever: no call of the host ever waits.
static void spin_poll(call c) {
  (void)c;
  handle ready[] = {output_subscribe(get_stdout())};
  for (u32 mark = heap_mark();; heap_reset(mark)) poll(ready, 1, ret);
}

static void poll_nothing(call c) {
  poll(0, 0, ret);
  answer(c.outparam, 200, TEXT("polled nothing\n"));
}

static void print(call c) {
  handle to_out = get_stdout(), to_err = get_stderr();
  write_all(to_out, "first line\nsecond line\n", 23);
  write_all(to_err, "a complaint\n", 12);
  write_all(to_out, "no newline", 10);
  output_blocking_flush(to_out, ret);
  output_blocking_flush(to_err, ret);
  answer(c.outparam, 200, TEXT("printed\n"));
}

// Prints so many lines of 64 bytes, each with its number.
static void print_many(call c) {
  u32 lines = (u32)number_after(c.path, TEXT("/print/"), 1000);
  handle to_out = get_stdout();
  char line[64];
  for (u32 i = 0; i < lines; i++) {
    u32 number = i;
    for (u32 at = 0; at < 63; at++) line[at] = '.';
    line[63] = '\n';
    for (u32 at = 8; at--; number /= 10) line[at] = (char)('0' + number % 10);
    write_all(to_out, line, 64);
  }
  answer_number(c.outparam, TEXT("printed "), lines);
}

// Prints what a terminal would act upon.
static void print_controls(call c) {
  write_all(get_stdout(), "\x1b[2J\rred\x9b\xc2\x9b \xe2\x80\xae\tgr\xc3\xbc\xc3\x9f\r\n", 24);
  answer(c.outparam, 200, TEXT("printed\n"));
}

// The same to handles that an instance has from its first request on.
static void print_kept(call c) {
  static handle to_out, to_err;
  static bool have;
  if (!have) {
    to_out = get_stdout();
    to_err = get_stderr();
    have = true;
  }
  write_all(to_out, "first line\nsecond line\n", 23);
  write_all(to_err, "a complaint\n", 12);
  write_all(to_out, "no newline", 10);
  answer(c.outparam, 200, TEXT("printed\n"));
}

// ---- the table ------------------------------------------------------------------------------------------------------

static const struct {
  text path;  // one that ends with '/' stands for all that begin with it
  void (*run)(call);
} PATHS[] = {
    {LITERAL("/trap"), trap},
    {LITERAL("/no-set"), no_set},
    {LITERAL("/drop-outparam"), drop_outparam},
    {LITERAL("/error-set"), error_set},
    {LITERAL("/error-set/"), error_set},
    {LITERAL("/spin"), endless},
    {LITERAL("/sleep-forever"), sleep_forever},
    {LITERAL("/recurse"), recurse},
    {LITERAL("/exit/"), exit_},
    {LITERAL("/trap-after-head"), trap_after_head},
    {LITERAL("/spin-after-head"), spin_after_head},
    {LITERAL("/sleep-after-head"), sleep_after_head},
    {LITERAL("/exit-after-head"), exit_after_head},
    {LITERAL("/no-finish"), no_finish},
    {LITERAL("/abandon"), abandon},
    {LITERAL("/content-length-short"), content_length_short},
    {LITERAL("/content-length-long"), content_length_long},
    {LITERAL("/bad-handle"), bad_handle},
    {LITERAL("/bad-self"), bad_self},
    {LITERAL("/wrong-type"), wrong_type},
    {LITERAL("/double-drop"), double_drop},
    {LITERAL("/use-after-drop"), use_after_drop},
    {LITERAL("/set-twice"), set_twice},
    {LITERAL("/drop-parent"), drop_parent},
    {LITERAL("/finish-parent"), finish_parent},
    {LITERAL("/bad-pointer"), bad_pointer},
    {LITERAL("/bad-result-pointer"), bad_result_pointer},
    {LITERAL("/many-handles"), many_handles},
    {LITERAL("/many-handles/"), many_handles},
    {LITERAL("/status/"), status},
    {LITERAL("/headers"), headers},
    {LITERAL("/method"), method},
    {LITERAL("/header-errors"), header_errors},
    {LITERAL("/big/"), big},
    {LITERAL("/sized/"), sized},
    {LITERAL("/no-body"), no_body},
    {LITERAL("/empty"), empty},
    {LITERAL("/body-twice"), body_twice},
    {LITERAL("/trailers"), trailers},
    {LITERAL("/drip/"), drip},
    {LITERAL("/after"), after},
    {LITERAL("/over-budget"), over_budget},
    {LITERAL("/ignore-body"), ignore_body},
    {LITERAL("/discard"), discard},
    {LITERAL("/early"), early},
    {LITERAL("/first-part"), first_part},
    {LITERAL("/splice"), splice},
    {LITERAL("/consume-twice"), consume_twice},
    {LITERAL("/request-trailers"), request_trailers},
    {LITERAL("/huge-alloc"), huge_alloc},
    {LITERAL("/poll/"), poll_many},
    {LITERAL("/poll-nothing"), poll_nothing},
    {LITERAL("/spin-poll"), spin_poll},
    {LITERAL("/stdout"), print},
    {LITERAL("/stdout-kept"), print_kept},
    {LITERAL("/stdout-controls"), print_controls},
    {LITERAL("/print/"), print_many},
};

void handle_request(handle request, handle outparam) {
  call c = {request, outparam, path_of(request)};
  text path = c.path;
  for (u32 i = 0; i < path.size; i++)
    if (path.at[i] == '?') path.size = i;
  for (u32 i = 0; i < sizeof PATHS / sizeof *PATHS; i++) {
    text at = PATHS[i].path;
    if (at.at[at.size - 1] == '/' ? starts_with(path, at) : equal(path, at)) {
      PATHS[i].run(c);
      return;
    }
  }
  answer(outparam, 404, TEXT("no such path\n"));
}
