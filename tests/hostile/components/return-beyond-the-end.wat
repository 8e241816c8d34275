;; Says that its answer begins at the end of the address space, and goes on behind it.
;; must fail: list pointer/length out of bounds of memory

;;; handle
(call $answer (i32.const 0) (i32.const 0xfffffff0) (i32.const 0x20))
