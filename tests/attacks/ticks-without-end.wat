;; Computes for ever.
;;! give: --limit ticks=100000
;;! code: 4
;;! error: 100000 ticks
(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))
