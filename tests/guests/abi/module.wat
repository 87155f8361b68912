;; A template: __init__.py fills in what begins with `;;@`, and 0 (UTF-8), 1 (UTF-16) or 2 (Latin-1 or UTF-16) for the
;; number in $encoding.
(module
  ;;@IMPORTS

  (memory (export "memory") 2)
  ;; Where results of more than one value are: up to 1 KiB. The heap is behind it.
  (global $result i32 (i32.const 1024))
  (global $heap (mut i32) (i32.const 4096))
  (global $encoding i32 (i32.const ENCODING))
  (global $realloc-mode (mut i32) (i32.const 0))
  (global $realloc-value (mut i32) (i32.const 0))
  (global $realloc-after (mut i32) (i32.const 0))
  (global $reallocs (mut i32) (i32.const 0))
  (global $post-return-mode (mut i32) (i32.const 0))
  (global $post-returns (mut i32) (i32.const 0))
  (global $dropped (mut i32) (i32.const 0))

  ;; ---- memory ----

  ;; Everything is aligned to 8, so that an image of any type is. Never freed before post-return.
  (func $allocate (param $size i32) (result i32)
    (local $at i32) (local $end i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (local.set $end (i32.add (local.get $at) (local.get $size)))
    (if (i32.lt_u (local.get $end) (local.get $at)) (then unreachable))
    (if (i32.gt_u (local.get $end) (i32.mul (memory.size) (i32.const 65536)))
      (then
        (if (i32.eq
              (memory.grow (i32.add (i32.div_u (local.get $size) (i32.const 65536)) (i32.const 1)))
              (i32.const -1))
          (then unreachable))))
    (global.set $heap (local.get $end))
    ;; So that the padding in an image is zero; what is large is for those who measure.
    (if (i32.le_u (local.get $size) (i32.const 65536))
      (then (memory.fill (local.get $at) (i32.const 0) (local.get $size))))
    (local.get $at))

  (func (export "cabi_realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32)
    (result i32)
    (local $at i32)
    (global.set $reallocs (i32.add (global.get $reallocs) (i32.const 1)))
    (if (global.get $realloc-mode)
      (then
        (if (global.get $realloc-after)
          (then (global.set $realloc-after (i32.sub (global.get $realloc-after) (i32.const 1))))
          (else
            (if (i32.eq (global.get $realloc-mode) (i32.const 1)) (then (return (global.get $realloc-value))))
            (if (i32.eq (global.get $realloc-mode) (i32.const 2)) (then unreachable))
            (if (i32.eq (global.get $realloc-mode) (i32.const 3)) (then (call $nothing)))
            (if (i32.eq (global.get $realloc-mode) (i32.const 4))
              (then (drop (memory.grow (global.get $realloc-value)))))
            (if (i32.eq (global.get $realloc-mode) (i32.const 5)) (then (loop $for-ever (br $for-ever))))))))
    (local.set $at (call $allocate (local.get $size)))
    (memory.copy (local.get $at) (local.get $old)
      (select (local.get $old-size) (local.get $size) (i32.lt_u (local.get $old-size) (local.get $size))))
    (local.get $at))

  ;; The result area as a list, a string, or the second half of a larger result.
  (func $give (param $pointer i32) (param $length i32) (result i32)
    (i32.store (global.get $result) (local.get $pointer))
    (i32.store offset=4 (global.get $result) (local.get $length))
    (global.get $result))

  ;; Spoils the result and the heap, so that a host that reads them too late notices.
  (func $after-return (param $result-pointer i32)
    (global.set $post-returns (i32.add (global.get $post-returns) (i32.const 1)))
    (if (i32.ne (local.get $result-pointer) (global.get $result)) (then unreachable))
    (if (i32.eq (global.get $post-return-mode) (i32.const 1)) (then unreachable))
    (if (i32.eq (global.get $post-return-mode) (i32.const 2)) (then (call $nothing)))
    (if (i32.eq (global.get $post-return-mode) (i32.const 3)) (then (loop $for-ever (br $for-ever))))
    (memory.fill (global.get $result) (i32.const 0xAA) (i32.const 1024))
    (memory.fill (i32.const 4096) (i32.const 0xAA) (i32.sub (global.get $heap) (i32.const 4096)))
    (global.set $heap (i32.const 4096)))

  ;; ---- echoes, images, sends ----

  ;;@FUNCTIONS

  ;; ---- raw ----

  (func (export "test:abi/raw#raw-of-string") (param $pointer i32) (param $length i32) (result i32)
    (local $size i32)
    (local.set $size (local.get $length))
    ;; UTF-16, or the tag that says so, which the shift takes away.
    (if (i32.or
          (i32.eq (global.get $encoding) (i32.const 1))
          (i32.and (i32.eq (global.get $encoding) (i32.const 2)) (i32.shr_u (local.get $length) (i32.const 31))))
      (then (local.set $size (i32.shl (local.get $length) (i32.const 1)))))
    (i32.store (global.get $result) (local.get $length))
    (i32.store offset=4 (global.get $result) (local.get $pointer))
    (i32.store offset=8 (global.get $result) (local.get $size))
    (global.get $result))
  (func (export "cabi_post_test:abi/raw#raw-of-string") (param i32) (call $after-return (local.get 0)))

  (func (export "test:abi/raw#string-of-raw") (param $length i32) (param $pointer i32) (param $size i32) (result i32)
    (call $give (local.get $pointer) (local.get $length)))
  (func (export "cabi_post_test:abi/raw#string-of-raw") (param i32) (call $after-return (local.get 0)))

  (func (export "test:abi/raw#take-bytes") (param $pointer i32) (param $length i32) (result i32) (local.get $length))
  (func (export "cabi_post_test:abi/raw#take-bytes") (param i32) (global.set $heap (i32.const 4096)))
  (func (export "test:abi/raw#give-bytes") (param $size i32) (result i32)
    (call $give (call $allocate (local.get $size)) (local.get $size)))
  (func (export "cabi_post_test:abi/raw#give-bytes") (param i32) (global.set $heap (i32.const 4096)))

  (func (export "test:abi/raw#set-realloc") (param i32 i32 i32)
    (global.set $realloc-mode (local.get 0))
    (global.set $realloc-value (local.get 1))
    (global.set $realloc-after (local.get 2)))
  (func (export "test:abi/raw#set-post-return") (param i32) (global.set $post-return-mode (local.get 0)))
  (func (export "test:abi/raw#reallocs") (result i32) (global.get $reallocs))
  (func (export "test:abi/raw#post-returns") (result i32) (global.get $post-returns))
  (func (export "test:abi/raw#memory-size") (result i32) (i32.mul (memory.size) (i32.const 65536)))

  ;; ---- handles ----

  (func (export "test:abi/handles#echo-thing") (param i32) (result i32) (call $echo-thing (local.get 0)))
  (func (export "test:abi/handles#echo-list-thing") (param i32 i32) (result i32)
    (call $echo-list-thing (local.get 0) (local.get 1) (global.get $result))
    (global.get $result))
  (func (export "test:abi/handles#echo-option-thing") (param i32 i32) (result i32)
    (call $echo-option-thing (local.get 0) (local.get 1) (global.get $result))
    (global.get $result))
  (func (export "test:abi/handles#make") (param i32) (result i32) (call $constructor.thing (local.get 0)))
  (func $value (export "test:abi/handles#value") (param i32) (result i32)
    (local $value i32)
    (local.set $value (call $method.thing.value (local.get 0)))
    (call $resource-drop.thing (local.get 0))
    (local.get $value))
  (func (export "test:abi/handles#sum") (param i32 i32) (result i32)
    (local $value i32)
    (local.set $value (call $static.thing.sum (local.get 0) (local.get 1)))
    (call $resource-drop.thing (local.get 0))
    (call $resource-drop.thing (local.get 1))
    (local.get $value))
  (func (export "test:abi/handles#take") (param i32) (call $resource-drop.thing (local.get 0)))
  (func (export "test:abi/handles#stash") (param i32) (result i32) (local.get 0))
  (func (export "test:abi/handles#unstash") (param i32) (result i32) (local.get 0))
  (func (export "test:abi/handles#stash-many") (param $count i32) (result i32)
    (local $last i32)
    (loop $more
      (if (local.get $count)
        (then
          (local.set $last (call $constructor.thing (local.get $count)))
          (local.set $count (i32.sub (local.get $count) (i32.const 1)))
          (br $more))))
    (local.get $last))

  (func (export "test:abi/handles#keep-borrow") (param i32))
  (func (export "test:abi/handles#drop-borrow-twice") (param i32)
    (call $resource-drop.thing (local.get 0))
    (call $resource-drop.thing (local.get 0)))
  (func (export "test:abi/handles#use-dropped-borrow") (param i32) (result i32)
    (call $resource-drop.thing (local.get 0))
    (call $method.thing.value (local.get 0)))
  (func (export "test:abi/handles#return-borrow") (param i32) (result i32) (local.get 0))
  (func (export "test:abi/handles#give-borrow") (param i32) (result i32) (call $take-thing (local.get 0)))
  (func (export "test:abi/handles#give-twice") (param i32) (result i32)
    (drop (call $take-thing (local.get 0)))
    (call $take-thing (local.get 0)))
  (func (export "test:abi/handles#lend-and-give") (param i32) (result i32)
    (call $lend-and-take (local.get 0) (local.get 0)))
  (func (export "test:abi/handles#drop-number") (param i32) (call $resource-drop.thing (local.get 0)))
  (func (export "test:abi/handles#drop-number-as-other") (param i32) (call $resource-drop.other (local.get 0)))
  (func (export "test:abi/handles#value-of-number") (param i32) (result i32)
    (call $method.thing.value (local.get 0)))
  (func (export "test:abi/handles#give-number") (param i32) (result i32) (call $take-thing (local.get 0)))

  ;; ---- counters: the representation is the address of the count; -1 there is a destructor that traps. ----

  (global $slots (mut i32) (i32.const 2048))
  (func $new-counter (param $start i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $slots))
    (if (i32.ge_u (local.get $at) (i32.const 4096)) (then unreachable))
    (global.set $slots (i32.add (local.get $at) (i32.const 4)))
    (i32.store (local.get $at) (local.get $start))
    (call $resource-new.counter (local.get $at)))
  (func (export "test:abi/counters#[constructor]counter") (param i32) (result i32) (call $new-counter (local.get 0)))
  (func (export "test:abi/counters#[method]counter.get") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "test:abi/counters#[method]counter.increment") (param i32 i32) (result i32)
    (i32.store (local.get 0) (i32.add (i32.load (local.get 0)) (local.get 1)))
    (i32.load (local.get 0)))
  (func (export "test:abi/counters#[static]counter.merge") (param $a i32) (param $b i32) (result i32)
    (local $sum i32)
    (local.set $sum (i32.add (i32.load (call $resource-rep.counter (local.get $a))) (i32.load (local.get $b))))
    (call $resource-drop.counter (local.get $a))
    (call $new-counter (local.get $sum)))
  (func (export "test:abi/counters#[static]counter.fragile") (result i32) (call $new-counter (i32.const -1)))
  (func (export "test:abi/counters#[dtor]counter") (param i32)
    (if (i32.eq (i32.load (local.get 0)) (i32.const -1)) (then unreachable))
    (global.set $dropped (i32.add (global.get $dropped) (i32.const 1))))
  (func (export "test:abi/counters#same") (param i32) (result i32) (local.get 0))
  (func (export "test:abi/counters#dropped") (result i32) (global.get $dropped))
)
