;; Answers with what is neither a result nor an error.
;; must fail: invalid expected discriminant

;;; handle
(call $answer (i32.const 7) (i32.const 1024) (i32.const 0))
