;; Calls itself without end.
;; must fail: wasm trap: call stack exhausted

;;; handle
(call $handle (local.get $batches) (local.get $bytes))
