;; Begins with data outside of its memory.
;; must not start: init failed: trapped: wasm trap: out of bounds memory access

;;; core
(data (i32.const 0x7fffffff) "outside")
