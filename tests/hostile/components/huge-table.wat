;; Begins with a table of ten million elements.
;; must not start: init failed: memory limit of 67108864 bytes exceeded

;;; core
(table $huge 10000000 funcref)
