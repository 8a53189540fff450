;; One component passes another a list of lists that all are the same bytes: two terabytes to copy, by code of the engine
;; that counts no ticks and looks at no limit.
;;! call: go()
;;! give: --time 1s
;;! code: 4
;;! error: took longer than 1s
;;! stopped
(component
  (component $taker
    (core module $m
      (memory (export "memory") 1025)
      ;; Never called twice for the same: each list lands on the one before.
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8))
      (func (export "take") (param i32 i32)))
    (core instance $i (instantiate $m))
    (func (export "take") (param "lists" (list (list u8)))
      (canon lift (core func $i "take") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
  (instance $taker (instantiate $taker))
  (component $giver
    (import "take" (func $take (param "lists" (list (list u8)))))
    (core module $memory (memory (export "memory") 1025))
    (core instance $memory (instantiate $memory))
    (core func $lowered (canon lower (func $take) (memory (core memory $memory "memory"))))
    (core module $m
      (import "memory" "memory" (memory 1025))
      (import "taker" "take" (func $take (param i32 i32)))
      (func (export "go")
        (local $at i32)
        (loop $again
          (i32.store (local.get $at) (i32.const 524288))
          (i32.store offset=4 (local.get $at) (i32.const 33554432))
          (local.set $at (i32.add (local.get $at) (i32.const 8)))
          (br_if $again (i32.lt_u (local.get $at) (i32.const 524288))))
        (call $take (i32.const 0) (i32.const 65536))))
    (core instance $i (instantiate $m
      (with "memory" (instance $memory))
      (with "taker" (instance (export "take" (func $lowered))))))
    (func (export "go") (canon lift (core func $i "go"))))
  (instance $giver (instantiate $giver (with "take" (func $taker "take"))))
  (export "go" (func $giver "go")))
