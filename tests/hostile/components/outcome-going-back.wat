;; Gives an outcome to a record before the last.
;; must fail: input index -1 is not within 0 to

;;; data
\00\01\00\01\01\00

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 6))
