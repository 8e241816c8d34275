;; Answers, and traps when it is to free the answer.
;; must fail: wasm trap: wasm `unreachable` instruction executed

;;; post-return
(unreachable)
