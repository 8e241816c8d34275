;; Looks up in a table whose name has 60 KB.
;; must go on:
;; uses: find
;; tables: things

;;; handle
(call $find (i32.const 1024) (i32.const 60000) (i32.const 1024) (i32.const 6) (i32.const 64))
(if (i32.eqz (i32.load8_u (i32.const 64))) (then (unreachable)))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
