;; Looks up in a table that its deployment does not name, and fails with what it is told.
;; must fail: handler failed: no table "others", but `things`
;; uses: find
;; tables: things

;;; data
others

;;; handle
(call $find (i32.const 1024) (i32.const 6) (i32.const 1024) (i32.const 6) (i32.const 64))
(if (i32.eqz (i32.load8_u (i32.const 64))) (then (unreachable)))
(call $answer (i32.const 1) (i32.load (i32.const 72)) (i32.load (i32.const 76)))
