;; Fails for a reason that would clear a terminal and forge a line of the log.
;; must fail: handler failed: \u{1b}[2J\nERROR all is lost

;;; data
\1b[2J\nERROR all is lost

;;; handle
(call $answer (i32.const 1) (i32.const 1024) (i32.const 22))
