;; Grows its memory until it gets no more, and then traps.
;; must fail: memory limit of 4194304 bytes exceeded
;; limits: memory-bytes 4194304

;;; handle
(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
(unreachable)
