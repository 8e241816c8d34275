;; Logs without end.
;; must fail: the host was called more than 1000000 times in one call
;; limits: deadline-ms 60000
;; uses: log

;;; data
loop, again

;;; handle
(loop $again
    (call $log (i32.const 4) (i32.const 1024) (i32.const 4) (i32.const 1024) (i32.const 11))
    (br $again))
(unreachable)
