;; Grows a table until it gets no more, and then traps.
;; must fail: memory limit of 67108864 bytes exceeded

;;; core
(table $bomb 1 funcref)

;;; handle
(loop $again (br_if $again (i32.ne (table.grow $bomb (ref.null func) (i32.const 100000)) (i32.const -1))))
(unreachable)
