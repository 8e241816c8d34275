;; Makes messages without end, and drops each.
;; must fail: the host was called more than 1000000 times in one call
;; limits: deadline-ms 60000
;; uses: message

;;; imports
(core func $drop (canon resource.drop $message))

;;; host
(export "drop" (func $drop))

;;; takes
(import "host" "drop" (func $drop (param i32)))

;;; data
message

;;; core
(func (export "handle-message") (param i32) (result i32)
    (loop $again
        (call $drop (call $message (i32.const 1024) (i32.const 7)))
        (br $again))
    (unreachable))

;;; exports
(func $handle-message (param "message" (own $message)) (result (result (error $messaging-error)))
    (canon lift (core func $guest "handle-message")
        (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
(instance $incoming-handler (export "handle" (func $handle-message)))
(export "wasi:messaging/incoming-handler@0.2.0-draft" (instance $incoming-handler))
