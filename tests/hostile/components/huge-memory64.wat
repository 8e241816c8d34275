;; Begins with 16 TiB of 64-bit memory.
;; must not start: init failed: memory limit of 67108864 bytes exceeded

;;; core
(memory $huge i64 0x10000000)
