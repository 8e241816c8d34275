;; Counts without end.
;; must fail: the host was called more than 1000000 times in one call
;; limits: deadline-ms 60000
;; uses: count

;;; data
calls

;;; handle
(loop $again
    (call $count (i32.const 1024) (i32.const 5) (i64.const 1))
    (br $again))
(unreachable)
