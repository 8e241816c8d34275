;; Says that its answer is described at an odd address.
;; must fail: return pointer not aligned

;;; handle
(i32.const 17)
