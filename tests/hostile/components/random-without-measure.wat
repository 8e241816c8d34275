;; Asks for 16 EiB of random bytes at once.
;; must fail: 18446744073709551615 random bytes asked for, more than 65536
;; uses: random

;;; handle
(call $random (i64.const -1) (i32.const 64))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
