;; Looks up a key that has a gigabyte, of which it has none.
;; must fail: list pointer/length out of bounds of memory
;; uses: find
;; tables: things

;;; data
things

;;; handle
(call $find (i32.const 1024) (i32.const 6) (i32.const 0) (i32.const 1073741824) (i32.const 64))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
