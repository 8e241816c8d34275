;; Begins with 1 GiB of memory.
;; must not start: init failed: memory limit of 67108864 bytes exceeded

;;; core
(memory $huge 16384)
