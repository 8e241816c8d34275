;; Exports both handlers, so that it is not clear which is called.
;; must be refused: a component has one handler

;;; exports
(export "millstream:plugin/lifecycle@0.1.0" (instance $lifecycle))
(export "millstream:plugin/batch-handler@0.1.0" (instance $batch-handler))
(export "millstream:plugin/record-handler@0.1.0" (instance $batch-handler))
