;; Fails for a reason of 60 KB.
;; must fail: handler failed: \u{0}\u{0}

;;; handle
(call $answer (i32.const 1) (i32.const 1024) (i32.const 60000))
