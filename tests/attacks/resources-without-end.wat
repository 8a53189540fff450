;; Makes handles of its own, which take memory of the host.
;;! give: --limit resources=1000
;;! call: f()
;;! code: 4
;;! error: 1001 handles of its own | limit is 1000
(component
  (type $r (resource (rep i32)))
  (core func $new (canon resource.new $r))
  (core module $m (import "" "new" (func $new (param i32) (result i32)))
    (func (export "f") (loop (drop (call $new (i32.const 1))) (br 0))))
  (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
  (func (export "f") (canon lift (core func $i "f"))))
