;; Takes a little memory in each of many instances: the limit is for all together.
;;! give: --limit memory=4MiB
;;! call: f()
;;! code: 4
;;! error: bytes of memory | limit is 4194304
(component (core module $m (memory 16)) (core instance (instantiate $m)) (core instance (instantiate $m)) (core instance (instantiate $m)) (core instance (instantiate $m)) (core instance (instantiate $m))
  (core module $f (func (export "f")))
  (core instance $i (instantiate $f))
  (func (export "f") (canon lift (core func $i "f"))))
