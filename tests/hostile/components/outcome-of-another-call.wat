;; Gives an outcome to record 1000 of a smaller call.
;; must fail: input 1000 of a call with

;;; data
\d0\0f\01\00

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 4))
