;; Is a core module, which has no interfaces.
;; must be refused: a core WebAssembly module, not a component

;;; component
(module)
