;; Rejects a record for a reason of 5000 bytes.
;; must fail: 5000

;;; data
\00\01\90\4e

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 5004))
