;; Says that its answer is described outside of its memory.
;; must fail: pointer out of bounds of memory

;;; handle
(i32.const 0x7ffffff0)
