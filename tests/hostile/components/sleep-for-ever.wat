;; Sleeps for 584 years.
;; must go on:
;; uses: block, subscribe

;;; handle
(call $block (call $subscribe (i64.const -1)))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
