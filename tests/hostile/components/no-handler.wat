;; Exports no handler.
;; must be refused: lacks the export `millstream:plugin/batch-handler@0.1.0`

;;; exports
(export "millstream:plugin/lifecycle@0.1.0" (instance $lifecycle))
