;; Calls the host for ever.
;;! give: --limit calls=100
;;! code: 4
;;! error: 101 host calls | limit is 100
;;! log: now
(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (loop (drop (call $time (i32.const 1) (i64.const 1) (i32.const 0))) (br 0))))
