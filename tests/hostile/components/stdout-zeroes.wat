;; Has the host write 16 EiB of zeroes to standard output.
;; must fail: Buffer too large for blocking-write-zeroes-and-flush
;; uses: write-zeroes, stdout

;;; handle
(call $write-zeroes (call $stdout) (i64.const -1) (i32.const 64))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
