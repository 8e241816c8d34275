;; Emits a record of the year 292 million.
;; must fail: timestamp

;;; data
\00\00\00\1e\00\fe\ff\ff\ff\ff\ff\ff\ff\ff\01\00\01\01\00

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 19))
