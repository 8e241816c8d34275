;; Wants to send messages, but is not called with any.
;; must be refused: imports `wasi:messaging/producer@0.2.0-draft`, but lacks the export `wasi:messaging/incoming-handler@0.2.0-draft`

;;; imports
(import "wasi:messaging/producer@0.2.0-draft" (instance))
