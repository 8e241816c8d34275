;; Asks for the time without end.
;; must fail: the host was called more than 1000000 times in one call
;; limits: deadline-ms 60000
;; uses: wall-clock

;;; handle
(loop $again
    (call $wall-clock (i32.const 64))
    (br $again))
(unreachable)
