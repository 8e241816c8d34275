;; Writes a number of eleven bytes.
;; must fail: varint

;;; data
\80\80\80\80\80\80\80\80\80\80\01

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 11))
