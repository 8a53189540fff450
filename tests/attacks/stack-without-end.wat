;; Calls itself.
;;! give: --limit depth=64KiB
;;! code: 4
;;! error: too deep | 65536 bytes
(module (memory (export "memory") 1) (func $f (param i64) (result i64) (i64.add (call $f (local.get 0)) (i64.const 1)))
  (func (export "_start") (drop (call $f (i64.const 1)))))
