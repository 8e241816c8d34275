(component
    ;; A guest that does what the bytes of its records say, without looking further:
    ;;
    ;;   !  it traps
    ;;   +  it writes the state of the key `k`
    ;;   %  it wants the first record again, after a second
    ;;   ?  it rejects the first record
    ;;
    ;; and else emits `v` to the first output for the first record of the call. Besides:
    ;;
    ;;   @5a  it sets the record-time timer `a` for 2020-01-01T00:00:00.005Z
    ;;   #5a  it sets the wall-time timer `a` for then
    ;;
    ;; None of these bytes occurs in a batch of a few short records for another reason, behind its
    ;; header. Timers do what their keys say: with `t` it traps, with `p` it writes the state, with `l`
    ;; it sets the record-time timer again a second later and with `s` for the same time; the first
    ;; timer of the call it wants again (`r`), rejects (`n`), or emits `v` for.
    (import "millstream:plugin/state@0.1.0" (instance $state
        (type $error' (variant (case "too-large" string) (case "quota-exceeded" string) (case "read-only")))
        (export "error" (type $error (eq $error')))
        (export "put" (func (param "key" (list u8)) (param "value" (list u8)) (result (result (error $error)))))))

    (import "millstream:plugin/timers@0.1.0" (instance $timers
        (type $clock' (enum "record-time" "wall-time"))
        (export "clock" (type $clock (eq $clock')))
        (type $error' (variant (case "too-large" string) (case "quota-exceeded" string) (case "read-only")))
        (export "error" (type $error (eq $error')))
        (export "set" (func (param "clock" $clock) (param "key" (list u8)) (param "at-ms" s64) (result (result (error $error)))))))
    (alias export $timers "clock" (type $clock))

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
    (core func $set (canon lower (func $timers "set")
        (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
    (core module $guest
        (import "libc" "memory" (memory 2))
        (import "host" "put" (func $put (param i32 i32 i32 i32 i32)))
        (import "host" "set" (func $set (param i32 i32 i32 i64 i32)))
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
        ;; Where the byte is among those behind the first header; 0: it is not.
        (func $find (param $at i32) (param $bytes i32) (param $byte i32) (result i32)
            (local $end i32)
            (local.set $end (i32.add (local.get $at) (local.get $bytes)))
            (local.set $at (i32.add (local.get $at) (i32.const 61)))
            (loop $next (result i32)
                (if (i32.ge_u (local.get $at) (local.get $end)) (then (return (i32.const 0))))
                (if (i32.eq (i32.load8_u (local.get $at)) (local.get $byte)) (then (return (local.get $at))))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br $next)))
        ;; The first timer whose key begins with the byte; 0: there is none.
        (func $timer (param $at i32) (param $count i32) (param $byte i32) (result i32)
            (loop $next (result i32)
                (if (i32.eqz (local.get $count)) (then (return (i32.const 0))))
                (if (i32.eq (i32.load8_u (i32.load offset=4 (local.get $at))) (local.get $byte))
                    (then (return (local.get $at))))
                (local.set $at (i32.add (local.get $at) (i32.const 24)))
                (local.set $count (i32.sub (local.get $count) (i32.const 1)))
                (br $next)))
        (func $put-k
            (call $put (i32.const 1072) (i32.const 1) (i32.const 1072) (i32.const 1) (i32.const 32)))
        ;; Sets what stands behind the byte, unless there is no byte.
        (func $set-as-told (param $clock i32) (param $at i32)
            (if (local.get $at) (then
                (call $set (local.get $clock)
                    (i32.add (local.get $at) (i32.const 2)) (i32.const 1)
                    (i64.add (i64.const 1577836799952) (i64.load8_u offset=1 (local.get $at)))
                    (i32.const 32)))))
        ;; Sets a timer again, unless there is none.
        (func $set-again (param $timer i32) (param $later i64)
            (if (local.get $timer) (then
                (call $set (i32.const 0)
                    (i32.load offset=4 (local.get $timer)) (i32.load offset=8 (local.get $timer))
                    (i64.add (i64.load offset=16 (local.get $timer)) (local.get $later))
                    (i32.const 32)))))
        (func (export "init") (param i32 i32 i32 i32 i32 i32 i32) (result i32)
            (call $answer (i32.const 1024) (i32.const 0)))
        (func (export "handle") (param $at i32) (param $bytes i32) (result i32)
            (if (call $find (local.get $at) (local.get $bytes) (i32.const 0x21)) (then unreachable))
            (if (call $find (local.get $at) (local.get $bytes) (i32.const 0x2b))
                (then (call $put-k)))
            (call $set-as-told (i32.const 0) (call $find (local.get $at) (local.get $bytes) (i32.const 0x40)))
            (call $set-as-told (i32.const 1) (call $find (local.get $at) (local.get $bytes) (i32.const 0x23)))
            (if (call $find (local.get $at) (local.get $bytes) (i32.const 0x25))
                (then (return (call $answer (i32.const 1056) (i32.const 10)))))
            (if (call $find (local.get $at) (local.get $bytes) (i32.const 0x3f))
                (then (return (call $answer (i32.const 1040) (i32.const 5)))))
            (call $answer (i32.const 1024) (i32.const 11)))
        (func (export "fire") (param $at i32) (param $count i32) (result i32)
            (if (call $timer (local.get $at) (local.get $count) (i32.const 0x74)) (then unreachable))
            (if (call $timer (local.get $at) (local.get $count) (i32.const 0x70)) (then (call $put-k)))
            (call $set-again (call $timer (local.get $at) (local.get $count) (i32.const 0x6c)) (i64.const 1000))
            (call $set-again (call $timer (local.get $at) (local.get $count) (i32.const 0x73)) (i64.const 0))
            (if (call $timer (local.get $at) (i32.const 1) (i32.const 0x72))
                (then (return (call $answer (i32.const 1056) (i32.const 10)))))
            (if (call $timer (local.get $at) (i32.const 1) (i32.const 0x6e))
                (then (return (call $answer (i32.const 1040) (i32.const 5)))))
            (call $answer (i32.const 1024) (i32.const 11))))
    (core instance $guest (instantiate $guest
        (with "libc" (instance $libc))
        (with "host" (instance (export "put" (func $put)) (export "set" (func $set))))))

    (type $context (record
        (field "deployment" string) (field "topic" string)
        (field "partition" u32) (field "outputs" (list string))))
    (func $init (param "ctx" $context) (result (result (error string)))
        (canon lift (core func $guest "init")
            (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
    (func $handle (param "batches" (list u8)) (result (result (list u8) (error string)))
        (canon lift (core func $guest "handle")
            (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
    (type $fired (record (field "clock" $clock) (field "key" (list u8)) (field "at-ms" s64)))
    (func $fire (param "timers" (list $fired)) (result (result (list u8) (error string)))
        (canon lift (core func $guest "fire")
            (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))

    (component $named
        (type $context' (record
            (field "deployment" string) (field "topic" string)
            (field "partition" u32) (field "outputs" (list string))))
        (import "context" (type $context (eq $context')))
        (import "init" (func $init (param "ctx" $context) (result (result (error string)))))
        (export $exported "context" (type $context'))
        (export "init" (func $init) (func (param "ctx" $exported) (result (result (error string))))))
    (component $timed
        (type $clock' (enum "record-time" "wall-time"))
        (import "clock" (type $clock (eq $clock')))
        (type $fired' (record (field "clock" $clock) (field "key" (list u8)) (field "at-ms" s64)))
        (import "fired" (type $fired (eq $fired')))
        (import "handle" (func $handle (param "timers" (list $fired)) (result (result (list u8) (error string)))))
        (export $clock-out "clock" (type $clock'))
        (type $fired-out' (record (field "clock" $clock-out) (field "key" (list u8)) (field "at-ms" s64)))
        (export $fired-out "fired" (type $fired-out'))
        (export "handle" (func $handle)
            (func (param "timers" (list $fired-out)) (result (result (list u8) (error string))))))
    (instance $lifecycle (instantiate $named (with "context" (type $context)) (with "init" (func $init))))
    (instance $batch-handler (export "handle" (func $handle)))
    (instance $timer-handler (instantiate $timed
        (with "clock" (type $clock)) (with "fired" (type $fired)) (with "handle" (func $fire))))
    (export "millstream:plugin/lifecycle@0.1.0" (instance $lifecycle))
    (export "millstream:plugin/batch-handler@0.1.0" (instance $batch-handler))
    (export "millstream:plugin/timer-handler@0.1.0" (instance $timer-handler)))
