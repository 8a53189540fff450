;; Grows two tables.
;;! give: --limit tables=5000
;;! code: 4
;;! error: table elements | limit is 5000
(module (memory (export "memory") 1) (table $a 1 funcref) (table $b 1 funcref)
  (func (export "_start") (loop
    (drop (table.grow $a (ref.null func) (i32.const 100)))
    (drop (table.grow $b (ref.null func) (i32.const 100))) (br 0))))
