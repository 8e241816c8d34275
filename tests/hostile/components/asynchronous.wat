;; Lifts its handler asynchronously, to return before it is done.
;; must be refused: requires the component model async feature

;;; exports
(core func $task-return (canon task.return (result (list u8)) (memory (core memory $libc "memory"))))
(export "millstream:plugin/lifecycle@0.1.0" (instance $lifecycle))
(export "millstream:plugin/batch-handler@0.1.0" (instance $batch-handler))
