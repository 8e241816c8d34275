;; Exports a handler that takes a string.
;; must be refused: whose `handle` is `func(string) -> result<list<u8>, string>`

;;; exports
(func $wrong (param "batches" string) (result (result (list u8) (error string)))
    (canon lift (core func $guest "handle")
        (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
(instance $other (export "handle" (func $wrong)))
(export "millstream:plugin/lifecycle@0.1.0" (instance $lifecycle))
(export "millstream:plugin/batch-handler@0.1.0" (instance $other))
