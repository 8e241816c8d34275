;; Looks a key up without end.
;; must fail: the host was called more than 1000000 times in one call
;; limits: deadline-ms 60000
;; uses: find
;; tables: things

;;; data
things

;;; handle
(loop $again
    (call $find (i32.const 1024) (i32.const 6) (i32.const 1024) (i32.const 6) (i32.const 64))
    (br $again))
(unreachable)
