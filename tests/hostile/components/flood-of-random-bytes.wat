;; Asks for 64 KiB of random bytes without end.
;; must fail: deadline of 100 ms exceeded
;; uses: random

;;; handle
(loop $again
    (call $random (i64.const 65536) (i32.const 64))
    (br $again))
(unreachable)
