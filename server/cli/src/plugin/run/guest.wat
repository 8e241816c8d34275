(component
    ;; A guest that does what the bytes of its records say, without looking further:
    ;;
    ;;   !  it traps
    ;;   +  it writes the state of the key `k`
    ;;   %  it wants the first record again, after a second
    ;;   ?  it rejects the first record
    ;;
    ;; and else emits `v` to the first output for the first record of the call. None of these bytes
    ;; occurs in a batch of a few short records for another reason, behind its header.
    (import "millstream:plugin/state@0.1.0" (instance $state
        (type $error' (variant (case "too-large" string) (case "quota-exceeded" string) (case "read-only")))
        (export "error" (type $error (eq $error')))
        (export "put" (func (param "key" (list u8)) (param "value" (list u8)) (result (result (error $error)))))))

    (core module $libc
        (memory (export "memory") 2)
        (global $top (mut i32) (i32.const 4096))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
            global.get $top
            ;; The next is aligned to 8.
            (global.set $top
                (i32.and (i32.add (i32.add (global.get $top) (local.get 3)) (i32.const 7)) (i32.const -8)))))
    (core instance $libc (instantiate $libc))
    (core func $put (canon lower (func $state "put")
        (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
    (core module $guest
        (import "libc" "memory" (memory 2))
        (import "host" "put" (func $put (param i32 i32 i32 i32 i32)))
        ;; An emit, a reject and a retry of input 0, as `wit/batch-handler.wit` has them.
        (data (i32.const 1024) "\00\00\00\0e\00\00\00\01\02v\00")
        (data (i32.const 1040) "\00\01\04no")
        (data (i32.const 1056) "\00\02\d0\0f\0alater")
        (data (i32.const 1072) "k")
        (func $answer (param $at i32) (param $bytes i32) (result i32)
            (i32.store8 (i32.const 16) (i32.const 0))
            (i32.store (i32.const 20) (local.get $at))
            (i32.store (i32.const 24) (local.get $bytes))
            (i32.const 16))
        ;; Whether the byte is among those behind the first header.
        (func $has (param $at i32) (param $bytes i32) (param $byte i32) (result i32)
            (local $end i32)
            (local.set $end (i32.add (local.get $at) (local.get $bytes)))
            (local.set $at (i32.add (local.get $at) (i32.const 61)))
            (loop $next (result i32)
                (if (i32.ge_u (local.get $at) (local.get $end)) (then (return (i32.const 0))))
                (if (i32.eq (i32.load8_u (local.get $at)) (local.get $byte)) (then (return (i32.const 1))))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br $next)))
        (func (export "init") (param i32 i32 i32 i32 i32 i32 i32) (result i32)
            (call $answer (i32.const 1024) (i32.const 0)))
        (func (export "handle") (param $at i32) (param $bytes i32) (result i32)
            (if (call $has (local.get $at) (local.get $bytes) (i32.const 0x21)) (then unreachable))
            (if (call $has (local.get $at) (local.get $bytes) (i32.const 0x2b))
                (then (call $put (i32.const 1072) (i32.const 1) (i32.const 1072) (i32.const 1) (i32.const 32))))
            (if (call $has (local.get $at) (local.get $bytes) (i32.const 0x25))
                (then (return (call $answer (i32.const 1056) (i32.const 10)))))
            (if (call $has (local.get $at) (local.get $bytes) (i32.const 0x3f))
                (then (return (call $answer (i32.const 1040) (i32.const 5)))))
            (call $answer (i32.const 1024) (i32.const 11))))
    (core instance $guest (instantiate $guest
        (with "libc" (instance $libc))
        (with "host" (instance (export "put" (func $put))))))

    (type $context (record
        (field "deployment" string) (field "topic" string)
        (field "partition" u32) (field "outputs" (list string))))
    (func $init (param "ctx" $context) (result (result (error string)))
        (canon lift (core func $guest "init")
            (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
    (func $handle (param "batches" (list u8)) (result (result (list u8) (error string)))
        (canon lift (core func $guest "handle")
            (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))

    (component $named
        (type $context' (record
            (field "deployment" string) (field "topic" string)
            (field "partition" u32) (field "outputs" (list string))))
        (import "context" (type $context (eq $context')))
        (import "init" (func $init (param "ctx" $context) (result (result (error string)))))
        (export $exported "context" (type $context'))
        (export "init" (func $init) (func (param "ctx" $exported) (result (result (error string))))))
    (instance $lifecycle (instantiate $named (with "context" (type $context)) (with "init" (func $init))))
    (instance $batch-handler (export "handle" (func $handle)))
    (export "millstream:plugin/lifecycle@0.1.0" (instance $lifecycle))
    (export "millstream:plugin/batch-handler@0.1.0" (instance $batch-handler)))
