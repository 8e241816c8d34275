;; Says that a record has 8 KiB, of which nothing is there.
;; must fail: 8192 bytes claimed, 0 are there

;;; data
\00\00\00\80\80\01

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 6))
