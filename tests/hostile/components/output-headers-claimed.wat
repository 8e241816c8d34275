;; Says that an emitted record has a thousand headers, of which none is there.
;; must fail: header count 1000 is not within 0 to 256

;;; data
\00\00\00\0e\00\00\00\01\01\d0\0f

;;; handle
(call $answer (i32.const 0) (i32.const 1024) (i32.const 11))
