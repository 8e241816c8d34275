;; Wants to send requests to anyone.
;; must be refused: imports `wasi:http/outgoing-handler@0.2.0`

;;; imports
(import "wasi:http/outgoing-handler@0.2.0" (instance))
