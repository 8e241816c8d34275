;; Fails for a reason that is no UTF-8.
;; must fail: invalid utf-8 sequence

;;; data
\ff\fe

;;; handle
(call $answer (i32.const 1) (i32.const 1024) (i32.const 2))
