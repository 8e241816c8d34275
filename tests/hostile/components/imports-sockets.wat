;; Wants to connect to the network.
;; must be refused: imports `wasi:sockets/tcp@0.2.6`, which is not granted

;;; imports
(import "wasi:sockets/tcp@0.2.6" (instance))
