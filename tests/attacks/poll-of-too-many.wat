;; Waits for one pollable five thousand times in one call.
;;! call: f()
;;! code: 4
;;! error: waits for 5000 pollables at once | limit is 4096
;;! log: poll
(component
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $p (sub resource)))
    (export "poll" (func (param "in" (list (borrow $p))) (result (list u32))))))
  (alias export $poll "pollable" (type $p))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (export "pollable" (type $t (eq $p)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $t))))))
  (core module $libc
    (memory (export "memory") 2)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $wait (canon lower (func $clock "subscribe-duration")))
  (core func $poll (canon lower (func $poll "poll") (memory $memory) (realloc $realloc)))
  (core module $m
    (import "libc" "memory" (memory 1))
    (import "" "wait" (func $wait (param i64) (result i32))) (import "" "poll" (func $poll (param i32 i32 i32)))
    (func (export "f") (local $p i32) (local $n i32)
      (local.set $p (call $wait (i64.const 1)))
      (loop $again
        (i32.store (i32.add (i32.const 1024) (i32.shl (local.get $n) (i32.const 2))) (local.get $p))
        (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 5000))))
      (call $poll (i32.const 1024) (i32.const 5000) (i32.const 64))))
  (core instance $i (instantiate $m (with "libc" (instance $libc))
    (with "" (instance (export "wait" (func $wait)) (export "poll" (func $poll))))))
  (func (export "f") (canon lift (core func $i "f"))))
