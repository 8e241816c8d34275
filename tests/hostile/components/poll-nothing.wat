;; Waits for the first of no events.
;; must fail: empty poll list
;; uses: poll

;;; handle
(call $poll (i32.const 0) (i32.const 0) (i32.const 64))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
