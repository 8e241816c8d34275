;; Wants to send requests, and is granted no host.
;; must be refused: imports `wasi:http/outgoing-handler@0.2.0`, but the deployment is granted no host

;;; imports
(import "wasi:http/outgoing-handler@0.2.0" (instance))
