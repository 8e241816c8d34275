;; Waits for ever on an atomic in shared memory, which no deadline could end.
;; must be refused: not a valid component

;;; core
(memory $shared 1 1 shared)

;;; handle
(drop (memory.atomic.wait32 $shared (i32.const 0) (i32.const 0) (i64.const -1)))
(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))
