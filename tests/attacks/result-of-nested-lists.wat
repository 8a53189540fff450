;; Gives back lists of lists that all lie over each other, so that little memory means much.
;;! call: f()
;;! code: 4
;;! error: more bytes than the limit
(component
  (core module $m (memory (export "memory") 16)
    (func (export "f") (result i32) (local $at i32)
      ;; 100,000 lists, each of the same 100,000 bytes
      (local.set $at (i32.const 16))
      (loop $next
        (i32.store (local.get $at) (i32.const 16))
        (i32.store offset=4 (local.get $at) (i32.const 100000))
        (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 800016))))
      (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 100000)) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func (export "f") (result (list (list u8))) (canon lift (core func $i "f") (memory (core memory $i "memory")))))
