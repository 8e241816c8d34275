;; Writes 128 KiB to standard output, without asking how much it may.
;; must fail: more was written than is permitted
;; uses: write, stdout

;;; handle
(call $write (call $stdout) (i32.const 0) (i32.const 131072) (i32.const 64))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
