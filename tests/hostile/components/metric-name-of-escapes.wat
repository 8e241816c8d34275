;; Counts under a name of 60 KB that begins with an escape sequence.
;; must go on: metric `\u{1b}[2J
;; uses: count

;;; data
\1b[2J

;;; handle
(call $count (i32.const 1024) (i32.const 60000) (i64.const 1))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
