;; Gives an outcome of kind 9.
;; must fail: kind 9

;;; data
\00\09

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 2))
