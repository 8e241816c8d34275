;; Logs a line of 1 MiB.
;; must go on: \u{0}\u{0}
;; uses: log

;;; handle
(drop (memory.grow (i32.const 32)))
(call $log (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 131072) (i32.const 1048576))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
