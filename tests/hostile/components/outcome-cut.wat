;; Stops in the middle of an outcome.
;; must fail: the end is missing

;;; data
\00\00\02

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 3))
