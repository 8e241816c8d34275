;; Refuses to start, in words that would clear a terminal.
;; must not start: init refused: \u{1b}[2Jno

;;; data
\1b[2Jno

;;; init
(call $answer (i32.const 1) (i32.const 1024) (i32.const 6))
