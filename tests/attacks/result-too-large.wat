;; Gives back more than the operator takes.
;;! give: --limit result=1KiB
;;! call: f()
;;! code: 4
;;! error: bytes of results | limit is 1024
(component
  (core module $m (memory (export "memory") 2)
    (func (export "f") (result i32)
      (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 100000)) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func (export "f") (result (list u8)) (canon lift (core func $i "f") (memory (core memory $i "memory")))))
