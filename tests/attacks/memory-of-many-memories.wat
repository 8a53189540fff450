;; Grows two memories in turn.
;;! give: --limit memory=4MiB
;;! call: f()
;;! code: 4
;;! error: bytes of memory | limit is 4194304
(component
  (core module $m (memory 1) (func (export "grow") (drop (memory.grow (i32.const 8)))))
  (core instance $a (instantiate $m))
  (core instance $b (instantiate $m))
  (core module $f (import "a" "grow" (func $a)) (import "b" "grow" (func $b))
    (func (export "f") (loop (call $a) (call $b) (br 0))))
  (core instance $i (instantiate $f (with "a" (instance $a)) (with "b" (instance $b))))
  (func (export "f") (canon lift (core func $i "f"))))
