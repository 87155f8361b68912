// The canonical ABI by hand, for C guests of wasi:http/proxy@0.2.12; all but those WITH_LIBC are freestanding.
//
// Host functions are declared with the flattened signatures that `wasm-tools component embed --dummy -t` prints; only
// those that a guest calls become imports. A result of more than one value comes back in `ret`, which the next call
// overwrites. Handles are plain numbers. Everything is `static` here because each guest is a single C file.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef u32 handle;

#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name), used))
#define TYPES(name) IMPORT("wasi:http/types@0.2.12", name)
#define STREAMS(name) IMPORT("wasi:io/streams@0.2.12", name)
#define POLL(name) IMPORT("wasi:io/poll@0.2.12", name)

// ---- memory ---------------------------------------------------------------------------------------------------------

#ifdef WITH_LIBC

#include <stdlib.h>
#include <string.h>

EXPORT("cabi_realloc") void *cabi_realloc(void *old, u32 old_size, u32 align, u32 size) {
  (void)old_size, (void)align;
  return realloc(old, size);
}

#else

// A heap that only grows; `heap_reset` gives back what was allocated since a mark.
extern u8 __heap_base;
static u32 heap_top;

static u32 heap_mark(void) { return heap_top ? heap_top : (u32)&__heap_base; }
static void heap_reset(u32 mark) { heap_top = mark; }

static void *allocate(u32 size, u32 align) {
  u32 at = (heap_mark() + align - 1) & -align;
  u32 end = at + size;
  u32 have = __builtin_wasm_memory_size(0) << 16;
  if (end > have && __builtin_wasm_memory_grow(0, (end - have + 65535) >> 16) == (size_t)-1) __builtin_trap();
  heap_top = end;
  return (void *)at;
}

EXPORT("cabi_realloc") void *cabi_realloc(void *old, u32 old_size, u32 align, u32 size) {
  if (old && size <= old_size) return old;
  void *at = allocate(size, align);
  if (old_size) __builtin_memcpy(at, old, old_size);
  return at;
}

int memcmp(const void *a, const void *b, size_t n) {
  const u8 *x = a, *y = b;
  for (size_t i = 0; i < n; i++)
    if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
  return 0;
}

#endif

// The largest result is that of future-incoming-response.get: 56 bytes.
static _Alignas(8) u8 ret[64];

static inline u32 ret_u32(u32 offset) { return *(u32 *)(ret + offset); }
static inline u64 ret_u64(u32 offset) { return *(u64 *)(ret + offset); }

typedef struct {
  const char *at;
  u32 size;
} text;

#define LITERAL(string) {string, sizeof(string) - 1}
#define TEXT(string) ((text)LITERAL(string))

static inline text ret_text(u32 offset) { return (text){(const char *)ret_u32(offset), ret_u32(offset + 4)}; }

static bool starts_with(text whole, text prefix) {
  return whole.size >= prefix.size && !__builtin_memcmp(whole.at, prefix.at, prefix.size);
}

static bool equal(text a, text b) { return a.size == b.size && starts_with(a, b); }

// The number that follows `prefix`, or `otherwise`.
static u64 number_after(text whole, text prefix, u64 otherwise) {
  u32 i = prefix.size;
  if (!starts_with(whole, prefix) || i == whole.size) return otherwise;
  u64 value = 0;
  for (; i < whole.size && whole.at[i] >= '0' && whole.at[i] <= '9'; i++) value = value * 10 + (u64)(whole.at[i] - '0');
  return value;
}

// ---- wasi:io, wasi:clocks, wasi:cli ---------------------------------------------------------------------------------

POLL("[method]pollable.ready") bool pollable_ready(handle self);
POLL("[method]pollable.block") void pollable_block(handle self);
POLL("[resource-drop]pollable") void pollable_drop(handle self);
POLL("poll") void poll(const handle *pollables, u32 count, void *ret_list);

IMPORT("wasi:io/error@0.2.12", "[method]error.to-debug-string") void error_to_debug_string(handle self, void *ret_text);
IMPORT("wasi:io/error@0.2.12", "[resource-drop]error") void error_drop(handle self);

STREAMS("[method]input-stream.read") void input_read(handle self, u64 size, void *ret_result);
STREAMS("[method]input-stream.blocking-read") void input_blocking_read(handle self, u64 size, void *ret_result);
STREAMS("[method]input-stream.subscribe") handle input_subscribe(handle self);
STREAMS("[resource-drop]input-stream") void input_drop(handle self);
STREAMS("[method]output-stream.check-write") void output_check_write(handle self, void *ret_result);
STREAMS("[method]output-stream.write") void output_write(handle self, const void *at, u32 size, void *ret_result);
STREAMS("[method]output-stream.blocking-write-and-flush")
void output_blocking_write_and_flush(handle self, const void *at, u32 size, void *ret_result);
STREAMS("[method]output-stream.write-zeroes") void output_write_zeroes(handle self, u64 size, void *ret_result);
STREAMS("[method]output-stream.flush") void output_flush(handle self, void *ret_result);
STREAMS("[method]output-stream.blocking-flush") void output_blocking_flush(handle self, void *ret_result);
STREAMS("[method]output-stream.subscribe") handle output_subscribe(handle self);
STREAMS("[method]output-stream.splice") void output_splice(handle self, handle source, u64 size, void *ret_result);
STREAMS("[method]output-stream.blocking-splice")
void output_blocking_splice(handle self, handle source, u64 size, void *ret_result);
STREAMS("[resource-drop]output-stream") void output_drop(handle self);

IMPORT("wasi:clocks/monotonic-clock@0.2.12", "now") u64 monotonic_now(void);
IMPORT("wasi:clocks/monotonic-clock@0.2.12", "subscribe-duration") handle monotonic_subscribe_duration(u64 nanoseconds);

IMPORT("wasi:cli/stdout@0.2.12", "get-stdout") handle get_stdout(void);
IMPORT("wasi:cli/stderr@0.2.12", "get-stderr") handle get_stderr(void);
IMPORT("wasi:cli/exit@0.2.12", "exit") void cli_exit(u32 failed);

// ---- wasi:http ------------------------------------------------------------------------------------------------------

TYPES("[constructor]fields") handle fields_new(void);
TYPES("[static]fields.from-list") void fields_from_list(const void *entries, u32 count, void *ret_result);
TYPES("[method]fields.get") void fields_get(handle self, const char *name, u32 size, void *ret_list);
TYPES("[method]fields.append")
void fields_append(handle self, const char *name, u32 size, const void *value, u32 value_size, void *ret_result);
TYPES("[method]fields.set")
void fields_set(handle self, const char *name, u32 size, const void *values, u32 count, void *ret_result);
TYPES("[method]fields.delete") void fields_delete(handle self, const char *name, u32 size, void *ret_result);
TYPES("[method]fields.has") bool fields_has(handle self, const char *name, u32 size);
TYPES("[method]fields.clone") handle fields_clone(handle self);
TYPES("[method]fields.entries") void fields_entries(handle self, void *ret_list);
TYPES("[resource-drop]fields") void fields_drop(handle self);

TYPES("[method]incoming-request.method") void request_method(handle self, void *ret_method);
TYPES("[method]incoming-request.path-with-query") void request_path(handle self, void *ret_option);
TYPES("[method]incoming-request.scheme") void request_scheme(handle self, void *ret_option);
TYPES("[method]incoming-request.authority") void request_authority(handle self, void *ret_option);
TYPES("[method]incoming-request.headers") handle request_headers(handle self);
TYPES("[method]incoming-request.consume") void request_consume(handle self, void *ret_result);
TYPES("[resource-drop]incoming-request") void request_drop(handle self);

TYPES("[method]incoming-body.stream") void incoming_body_stream(handle self, void *ret_result);
TYPES("[static]incoming-body.finish") handle incoming_body_finish(handle self);
TYPES("[resource-drop]incoming-body") void incoming_body_drop(handle self);

TYPES("[method]future-trailers.subscribe") handle future_trailers_subscribe(handle self);
TYPES("[method]future-trailers.get") void future_trailers_get(handle self, void *ret_option);
TYPES("[resource-drop]future-trailers") void future_trailers_drop(handle self);

TYPES("[constructor]outgoing-response") handle response_new(handle headers);
TYPES("[method]outgoing-response.set-status-code") u32 response_set_status(handle self, u32 status);
TYPES("[method]outgoing-response.headers") handle response_headers(handle self);
TYPES("[method]outgoing-response.body") void response_body(handle self, void *ret_result);
TYPES("[resource-drop]outgoing-response") void response_drop(handle self);

TYPES("[method]outgoing-body.write") void outgoing_body_write(handle self, void *ret_result);
TYPES("[static]outgoing-body.finish")
void outgoing_body_finish(handle self, u32 has_trailers, handle trailers, void *ret_result);
TYPES("[resource-drop]outgoing-body") void outgoing_body_drop(handle self);

// result<own<outgoing-response>, error-code>: `value` is the response or the number of the error-code's case.
TYPES("[static]response-outparam.set")
void outparam_set(handle self, u32 is_error, u32 value, u32 e1, u64 e2, u32 e3, u32 e4, u32 e5, u32 e6);
TYPES("[method]response-outparam.send-informational")
void outparam_send_informational(handle self, u32 status, handle headers, void *ret_result);
TYPES("[resource-drop]response-outparam") void outparam_drop(handle self);

TYPES("[constructor]request-options") handle options_new(void);
TYPES("[method]request-options.set-connect-timeout") u32 options_set_connect(handle self, u32 some, u64 nanoseconds);
TYPES("[method]request-options.set-first-byte-timeout")
u32 options_set_first_byte(handle self, u32 some, u64 nanoseconds);
TYPES("[method]request-options.set-between-bytes-timeout")
u32 options_set_between_bytes(handle self, u32 some, u64 nanoseconds);

TYPES("http-error-code") void http_error_code(handle error, void *ret_option);

TYPES("[constructor]outgoing-request") handle outgoing_request_new(handle headers);
TYPES("[method]outgoing-request.headers") handle outgoing_request_headers(handle self);
TYPES("[method]outgoing-request.body") void outgoing_request_body(handle self, void *ret_result);
TYPES("[method]outgoing-request.set-method")
u32 outgoing_request_set_method(handle self, u32 tag, const char *at, u32 size);
TYPES("[method]outgoing-request.set-path-with-query")
u32 outgoing_request_set_path(handle self, u32 some, const char *at, u32 size);
TYPES("[method]outgoing-request.set-scheme")
u32 outgoing_request_set_scheme(handle self, u32 some, u32 tag, const char *at, u32 size);
TYPES("[method]outgoing-request.set-authority")
u32 outgoing_request_set_authority(handle self, u32 some, const char *at, u32 size);
TYPES("[resource-drop]outgoing-request") void outgoing_request_drop(handle self);

TYPES("[method]future-incoming-response.subscribe") handle future_response_subscribe(handle self);
TYPES("[method]future-incoming-response.get") void future_response_get(handle self, void *ret_option);
TYPES("[resource-drop]future-incoming-response") void future_response_drop(handle self);

TYPES("[method]incoming-response.status") u32 incoming_response_status(handle self);
TYPES("[method]incoming-response.headers") handle incoming_response_headers(handle self);
TYPES("[method]incoming-response.consume") void incoming_response_consume(handle self, void *ret_result);
TYPES("[resource-drop]incoming-response") void incoming_response_drop(handle self);

IMPORT("wasi:http/outgoing-handler@0.2.12", "handle")
void outgoing_handle(handle request, u32 has_options, handle options, void *ret_result);

enum { METHOD_GET, METHOD_HEAD, METHOD_POST, METHOD_PUT, METHOD_DELETE, METHOD_CONNECT, METHOD_OPTIONS, METHOD_TRACE,
       METHOD_PATCH, METHOD_OTHER };
enum { ERROR_CONNECTION_REFUSED = 6, ERROR_REQUEST_BODY_SIZE = 17, ERROR_RESPONSE_BODY_SIZE = 28,
       ERROR_CONFIGURATION = 37, ERROR_INTERNAL = 38 };

// ---- what most guests do --------------------------------------------------------------------------------------------

// The handle in a result<own<T>>; a guest has no answer to its failure.
static handle ok_handle(void) {
  if (ret[0]) __builtin_trap();
  return ret_u32(4);
}

// The request's path with its query, or "/".
static text path_of(handle request) {
  request_path(request, ret);
  return ret[0] ? ret_text(4) : TEXT("/");
}

// Sends the head; the body of the response.
static handle respond(handle outparam, u32 status, handle headers) {
  handle response = response_new(headers);
  if (status != 200 && response_set_status(response, status)) __builtin_trap();
  response_body(response, ret);
  handle body = ok_handle();
  outparam_set(outparam, 0, response, 0, 0, 0, 0, 0, 0);
  return body;
}

static handle output_of(handle body) {
  outgoing_body_write(body, ret);
  return ok_handle();
}

// Writes as much at a time as the stream lets it. False when the stream failed or is closed.
static bool write_all(handle stream, const void *from, u32 size) {
  const u8 *at = from;
  handle writable = 0;
  bool good = true;
  while (size) {
    output_check_write(stream, ret);
    if (ret[0]) { good = false; break; }
    u64 room = ret_u64(8);
    if (!room) {
      if (!writable) writable = output_subscribe(stream);
      pollable_block(writable);
      continue;
    }
    u32 part = room < size ? (u32)room : size;
    output_write(stream, at, part, ret);
    if (ret[0]) { good = false; break; }
    at += part;
    size -= part;
  }
  if (writable) pollable_drop(writable);
  return good;
}

// Flushes, drops the stream, finishes the body.
static void finish(handle body, handle stream) {
  output_blocking_flush(stream, ret);
  output_drop(stream);
  outgoing_body_finish(body, 0, 0, ret);
}

// A whole response.
static void answer(handle outparam, u32 status, text content) {
  handle body = respond(outparam, status, fields_new());
  handle stream = output_of(body);
  write_all(stream, content.at, content.size);
  finish(body, stream);
}

// Text that is put together in a fixed buffer; what does not fit is left off.
typedef struct {
  char at[16384];
  u32 size;
} builder;

static void add(builder *to, text part) {
  u32 room = sizeof to->at - to->size;
  u32 size = part.size < room ? part.size : room;
  __builtin_memcpy(to->at + to->size, part.at, size);
  to->size += size;
}

static void add_number(builder *to, u64 value) {
  char digits[20];
  u32 i = sizeof digits;
  do digits[--i] = (char)('0' + value % 10);
  while (value /= 10);
  add(to, (text){digits + i, sizeof digits - i});
}

static text built(const builder *from) { return (text){from->at, from->size}; }

// What a guest defines.
EXPORT("wasi:http/incoming-handler@0.2.12#handle") void handle_request(handle request, handle outparam);
