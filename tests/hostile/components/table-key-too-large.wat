;; Looks up a key of a byte too many.
;; must fail: a key of 1025 bytes, more than 1024
;; uses: find
;; tables: things

;;; data
things

;;; handle
(call $find (i32.const 1024) (i32.const 6) (i32.const 1024) (i32.const 1025) (i32.const 64))
(if (i32.eqz (i32.load8_u (i32.const 64))) (then (unreachable)))
(call $answer (i32.const 1) (i32.load (i32.const 72)) (i32.load (i32.const 76)))
