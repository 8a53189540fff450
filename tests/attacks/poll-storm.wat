;; Waits for ever, for nothing, as often as it can: time passes without any.
;;! give: --limit calls=3000
;;! code: 4
;;! error: host calls
;;! log: poll
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    ;; a clock that ends at the end of time
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const -1))
    (loop (drop (call $poll (i32.const 0) (i32.const 512) (i32.const 1) (i32.const 1024))) (br 0))))
