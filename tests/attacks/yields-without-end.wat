;; A task that gives way for ever: it crosses no wall and turns in no loop.
;;! call: f()
;;! give: --ticks 1000
;;! code: 4
;;! error: 1000 ticks
(component
  (core module $m
    (func (export "start") (result i32) (i32.const 1))
    (func (export "again") (param i32 i32 i32) (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func (export "f") async
    (canon lift (core func $i "start") async (callback (core func $i "again")))))
