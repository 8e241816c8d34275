;; Exports the handler of a version that does not exist.
;; must be refused: but this broker calls `millstream:plugin/batch-handler@0.1.0`

;;; exports
(export "millstream:plugin/lifecycle@0.1.0" (instance $lifecycle))
(export "millstream:plugin/batch-handler@0.9.0" (instance $batch-handler))
