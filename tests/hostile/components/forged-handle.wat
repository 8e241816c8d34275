;; Waits for an event that it was never given.
;; must fail: unknown handle index 12345
;; uses: block

;;; handle
(call $block (i32.const 12345))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
