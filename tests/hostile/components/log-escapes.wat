;; Logs what would clear a terminal, forge a line and turn text around.
;; must go on: \u{1b}[2J\rERROR\n\u{202e}
;; uses: log

;;; data
\1b[2J\0dERROR\n\e2\80\ae

;;; handle
(call $log (i32.const 2) (i32.const 1024) (i32.const 4) (i32.const 1024) (i32.const 14))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
