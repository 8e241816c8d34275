;; Returns from `init` a reason of 1 GiB.
;; must not start: init failed: trapped: string pointer/length out of bounds of memory

;;; init
(call $answer (i32.const 1) (i32.const 1024) (i32.const 1073741824))
