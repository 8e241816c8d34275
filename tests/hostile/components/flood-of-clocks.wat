;; Asks for the time without end.
;; must fail: deadline of 100 ms exceeded
;; uses: wall-clock

;;; handle
(loop $again
    (call $wall-clock (i32.const 64))
    (br $again))
(unreachable)
