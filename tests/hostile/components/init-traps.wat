;; Traps in `init`.
;; must not start: init failed: trapped: wasm trap: wasm `unreachable` instruction executed

;;; init
(unreachable)
