;; Traps on every record.
;; must fail: wasm trap: wasm `unreachable` instruction executed

;;; handle
(unreachable)
