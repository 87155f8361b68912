;; "Hello, WASI!": a whole wasi:http/proxy component by hand, without a compiler or a bindings generator.
;;
;;     wasi-http serve examples/hello.wat
;;
;; It reads from top to bottom in four parts:
;;
;;   1. the host interfaces that the component imports, as far as it uses them, with their types;
;;   2. a core module that holds the memory, with its constants in place, and the allocator;
;;   3. the host functions, lowered to core functions, and the core module that calls them;
;;   4. the core function `handle`, lifted and exported as wasi:http/incoming-handler.
;;
;; The memory has a module of its own because lowering a host function needs the memory (that is where results larger
;; than one value are written), and the module that calls the host function needs the lowered function: so the memory
;; comes first, the functions second, the code last.

(component $hello

  ;; ---- 1. Imports -------------------------------------------------------------------------------------------------

  (import "wasi:io/error@0.2.12" (instance $error
    (export "error" (type (sub resource)))))
  (alias export $error "error" (type $io-error))

  (import "wasi:io/streams@0.2.12" (instance $streams
    (export "output-stream" (type $output-stream (sub resource)))
    (export "error" (type $error (eq $io-error)))
    (type $stream-error-cases (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $stream-error-cases)))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $output-stream)) (param "contents" (list u8))
      (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output-stream))

  (import "wasi:http/types@0.2.12" (instance $types
    (export "fields" (type $fields (sub resource)))
    (export "incoming-request" (type (sub resource)))
    (export "outgoing-response" (type $outgoing-response (sub resource)))
    (export "outgoing-body" (type $outgoing-body (sub resource)))
    (export "response-outparam" (type $response-outparam (sub resource)))
    (export "output-stream" (type $output-stream' (eq $output-stream)))

    ;; `error-code`: never used here, but part of the signature of two of the functions.
    (type $dns (record (field "rcode" (option string)) (field "info-code" (option u16))))
    (export "DNS-error-payload" (type $dns-error (eq $dns)))
    (type $tls (record (field "alert-id" (option u8)) (field "alert-message" (option string))))
    (export "TLS-alert-received-payload" (type $tls-alert (eq $tls)))
    (type $size (record (field "field-name" (option string)) (field "field-size" (option u32))))
    (export "field-size-payload" (type $field-size (eq $size)))
    (type $error-cases (variant
      (case "DNS-timeout") (case "DNS-error" $dns-error)
      (case "destination-not-found") (case "destination-unavailable")
      (case "destination-IP-prohibited") (case "destination-IP-unroutable")
      (case "connection-refused") (case "connection-terminated") (case "connection-timeout")
      (case "connection-read-timeout") (case "connection-write-timeout") (case "connection-limit-reached")
      (case "TLS-protocol-error") (case "TLS-certificate-error") (case "TLS-alert-received" $tls-alert)
      (case "HTTP-request-denied") (case "HTTP-request-length-required") (case "HTTP-request-body-size" (option u64))
      (case "HTTP-request-method-invalid") (case "HTTP-request-URI-invalid") (case "HTTP-request-URI-too-long")
      (case "HTTP-request-header-section-size" (option u32)) (case "HTTP-request-header-size" (option $field-size))
      (case "HTTP-request-trailer-section-size" (option u32)) (case "HTTP-request-trailer-size" $field-size)
      (case "HTTP-response-incomplete") (case "HTTP-response-header-section-size" (option u32))
      (case "HTTP-response-header-size" $field-size) (case "HTTP-response-body-size" (option u64))
      (case "HTTP-response-trailer-section-size" (option u32)) (case "HTTP-response-trailer-size" $field-size)
      (case "HTTP-response-transfer-coding" (option string)) (case "HTTP-response-content-coding" (option string))
      (case "HTTP-response-timeout") (case "HTTP-upgrade-failed") (case "HTTP-protocol-error")
      (case "loop-detected") (case "configuration-error") (case "internal-error" (option string))))
    (export "error-code" (type $error-code (eq $error-cases)))

    (export "[constructor]fields" (func (result (own $fields))))
    (export "[constructor]outgoing-response" (func (param "headers" (own $fields)) (result (own $outgoing-response))))
    (export "[method]outgoing-response.body" (func
      (param "self" (borrow $outgoing-response)) (result (result (own $outgoing-body)))))
    (export "[method]outgoing-body.write" (func
      (param "self" (borrow $outgoing-body)) (result (result (own $output-stream')))))
    (export "[static]outgoing-body.finish" (func
      (param "this" (own $outgoing-body)) (param "trailers" (option (own $fields)))
      (result (result (error $error-code)))))
    (export "[static]response-outparam.set" (func
      (param "param" (own $response-outparam))
      (param "response" (result (own $outgoing-response) (error $error-code)))))))
  (alias export $types "incoming-request" (type $incoming-request))
  (alias export $types "response-outparam" (type $response-outparam))

  ;; ---- 2. Memory --------------------------------------------------------------------------------------------------

  (core module $Memory
    (memory (export "memory") 1)
    (data (i32.const 16) "Hello, WASI!\n")
    ;; 64..112: where host functions write their results; 1024 and up: the allocator's.
    (global $free (mut i32) (i32.const 1024))

    ;; The host asks for room here when a result holds a string: the reason why `outgoing-body.finish` failed. Nothing
    ;; is ever freed, because the instance does not outlive the request; the host checks that what it gets lies inside
    ;; the memory, so running over its end is a trap and not our concern.
    (func (export "realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      ;; at = (free + align - 1) & -align
      (local.set $at (i32.and
        (i32.sub (i32.add (global.get $free) (local.get $align)) (i32.const 1))
        (i32.sub (i32.const 0) (local.get $align))))
      (global.set $free (i32.add (local.get $at) (local.get $size)))
      (local.get $at)))
  (core instance $data (instantiate $Memory))
  (alias core export $data "memory" (core memory $memory))
  (alias core export $data "realloc" (core func $realloc))

  ;; ---- 3. Host functions as core functions, and the handler -------------------------------------------------------

  (core func $new-fields (canon lower (func $types "[constructor]fields")))
  (core func $new-response (canon lower (func $types "[constructor]outgoing-response")))
  (core func $response-body (canon lower (func $types "[method]outgoing-response.body") (memory $memory)))
  (core func $set-response (canon lower (func $types "[static]response-outparam.set") (memory $memory)))
  (core func $body-write (canon lower (func $types "[method]outgoing-body.write") (memory $memory)))
  (core func $stream-write (canon lower
    (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
  (core func $drop-stream (canon resource.drop $output-stream))
  (core func $body-finish (canon lower
    (func $types "[static]outgoing-body.finish") (memory $memory) (realloc $realloc)))
  (core func $drop-request (canon resource.drop $incoming-request))

  (core module $Main
    (import "data" "memory" (memory 1))
    (import "host" "new-fields" (func $new-fields (result i32)))
    (import "host" "new-response" (func $new-response (param i32) (result i32)))
    (import "host" "response-body" (func $response-body (param i32 i32)))
    (import "host" "set-response" (func $set-response (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (import "host" "body-write" (func $body-write (param i32 i32)))
    (import "host" "stream-write" (func $stream-write (param i32 i32 i32 i32)))
    (import "host" "drop-stream" (func $drop-stream (param i32)))
    (import "host" "body-finish" (func $body-finish (param i32 i32 i32 i32)))
    (import "host" "drop-request" (func $drop-request (param i32)))

    ;; Resources are numbers here: indices into the table of handles that the host keeps for this instance.
    (func (export "handle") (param $request i32) (param $response-out i32)
      (local $response i32) (local $body i32) (local $stream i32)

      (local.set $response (call $new-response (call $new-fields)))

      ;; result<outgoing-body>: a byte at 64 that is 0 for ok, then the handle at 68.
      (call $response-body (local.get $response) (i32.const 64))
      (if (i32.load8_u (i32.const 64)) (then unreachable))
      (local.set $body (i32.load (i32.const 68)))

      ;; result<outgoing-response, error-code>: 0 for ok, the response, and seven values that only an error would use.
      ;; The head of the response goes out from here on; the body may follow as slowly as it likes.
      (call $set-response (local.get $response-out)
        (i32.const 0) (local.get $response)
        (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))

      (call $body-write (local.get $body) (i32.const 64))
      (if (i32.load8_u (i32.const 64)) (then unreachable))
      (local.set $stream (i32.load (i32.const 68)))

      ;; Whether the write fails (the client is gone) makes no difference to what is left to do. The stream is a child
      ;; of the body and must go before the body is finished.
      (call $stream-write (local.get $stream) (i32.const 16) (i32.const 13) (i32.const 64))
      (call $drop-stream (local.get $stream))
      (call $body-finish (local.get $body) (i32.const 0) (i32.const 0) (i32.const 64))
      (call $drop-request (local.get $request))))

  (core instance $main (instantiate $Main
    (with "data" (instance $data))
    (with "host" (instance
      (export "new-fields" (func $new-fields))
      (export "new-response" (func $new-response))
      (export "response-body" (func $response-body))
      (export "set-response" (func $set-response))
      (export "body-write" (func $body-write))
      (export "stream-write" (func $stream-write))
      (export "drop-stream" (func $drop-stream))
      (export "body-finish" (func $body-finish))
      (export "drop-request" (func $drop-request))))))

  ;; ---- 4. Export --------------------------------------------------------------------------------------------------

  (func $handle (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))
    (canon lift (core func $main "handle")))

  ;; The interface does not only have the function but also the names of the types in its signature. A component around
  ;; the function is what gives it that shape; the host sees through it when the component is loaded.
  (component $Handler
    (import "incoming-request" (type $incoming-request (sub resource)))
    (import "response-outparam" (type $response-outparam (sub resource)))
    (import "handle" (func $handle
      (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))))
    (export $request "incoming-request" (type $incoming-request))
    (export $outparam "response-outparam" (type $response-outparam))
    (export "handle" (func $handle) (func
      (param "request" (own $request)) (param "response-out" (own $outparam)))))
  (instance $handler (instantiate $Handler
    (with "incoming-request" (type $incoming-request))
    (with "response-outparam" (type $response-outparam))
    (with "handle" (func $handle))))
  (export "wasi:http/incoming-handler@0.2.12" (instance $handler)))
