/* Write a Millstream plugin in C: two functions, `init` and `handle`, and `on_timer` if it sets timers.
 *
 * A plugin is a WebAssembly component that the broker runs next to the data. Put the two functions
 * into `plugin.c`; `millstream plugin build` compiles every .c file of the folder together with this
 * SDK.
 *
 *     #include <millstream.h>
 *
 *     static ms_output keyed;
 *
 *     ms_result init(const ms_context *context) {
 *         return ms_find_output(context, "keyed", &keyed);
 *     }
 *
 *     // Forwards what has a key, and drops the rest.
 *     ms_result handle(const ms_record *record) {
 *         if (record->key.data == NULL)
 *             return MS_OK;
 *         ms_new_record same = ms_same(record);
 *         return ms_emit(keyed, &same);
 *     }
 *
 * A worker has one thread and one instance of the program: static variables are kept from record to
 * record, and gone when the worker is started anew. What must last longer is kept in the state.
 *
 * Memory: what the functions below hand out, and what a record points to, may be used until `handle`
 * (or `init`) returns. There is nothing to free. What must last longer is copied, with `malloc`.
 */
#ifndef MILLSTREAM_H
#define MILLSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MS_PRINTF(format, arguments) __attribute__((__format__(__printf__, format, arguments)))

/* --- Bytes ------------------------------------------------------------------------------------ */

/* Some bytes, or none: `data` is NULL when there is no key, value or entry. Bytes that are there have
 * a `data` even if their `len` is 0. They do not end with a NUL. */
typedef struct ms_bytes {
    const uint8_t *data;
    size_t len;
} ms_bytes;

/* For the conversion `%.*s`: `ms_info("the key is %.*s", MS_ARG(record->key))`. */
#define MS_ARG(bytes) (int)(bytes).len, (const char *)((bytes).data ? (bytes).data : (const uint8_t *)"")

/* The bytes of a C string, without its NUL. */
ms_bytes ms_text(const char *text);

/* The bytes that `printf` would print. */
ms_bytes ms_format(const char *format, ...) MS_PRINTF(1, 2);

/* Whether both are there and the same, or neither is there. */
bool ms_equal(ms_bytes a, ms_bytes b);

/* --- How it went ------------------------------------------------------------------------------ */

/* What `init`, `handle`, `on_timer` and most functions below return. Hand a failure on: `return` it. */
typedef enum ms_result {
    MS_OK = 0,
    /* It failed, and the reason is known: `ms_reject`, `ms_retry` and `ms_abort` return this. */
    MS_FAILED = 1,
} ms_result;

/* The record is bad and will always be. It goes where the deployment sends what cannot be handled;
 * what was emitted for it is withdrawn. Of a reason the first 4096 bytes count. */
ms_result ms_reject(const char *format, ...) MS_PRINTF(1, 2);

/* The record cannot be handled now, but perhaps later: not before `after_ms` have passed, a day at
 * most. What was emitted for it is withdrawn. */
ms_result ms_retry(uint32_t after_ms, const char *format, ...) MS_PRINTF(2, 3);

/* The worker cannot go on, whatever the record; in `init`, it does not start. Nothing of the call
 * counts, and a new worker handles the same records later. */
ms_result ms_abort(const char *format, ...) MS_PRINTF(1, 2);

/* --- The two functions of a plugin -------------------------------------------------------------- */

/* What a worker is told about itself. It may be kept: it lives as long as the worker. */
typedef struct ms_context {
    const char *deployment;
    /* The input topic, and the partition of it whose records this worker handles. */
    const char *topic;
    uint32_t partition;
    /* The names of the declared outputs. */
    const char *const *outputs;
    size_t output_count;
} ms_context;

typedef struct ms_record ms_record;

/* Yours: called once, before the first record. A failure keeps the worker from starting. */
ms_result init(const ms_context *context);

/* Yours: called for each record, in the order of their offsets. It emits any number of records.
 * MS_OK without an emit drops the record: it is done. */
ms_result handle(const ms_record *record);

/* --- Configuration and outputs ------------------------------------------------------------------ */

/* The deployment's value for a name, or NULL when it sets none. */
const char *ms_config(const char *name);

/* The deployment's value for a name as a number, or `usual` when it sets none. Anything else fails,
 * and says so. */
ms_result ms_config_number(const char *name, double usual, double *number);

/* A declared output. */
typedef struct ms_output {
    uint32_t index;
} ms_output;

/* Finds the output of this name. It fails when the deployment declares none. */
ms_result ms_find_output(const ms_context *context, const char *name, ms_output *output);

/* --- Records ------------------------------------------------------------------------------------ */

/* A named value beside a record. The name does not end with a NUL. */
typedef struct ms_header {
    ms_bytes name;
    ms_bytes value;
} ms_header;

/* Headers as they are stored, to be read one by one. */
typedef struct ms_headers {
    ms_bytes encoded;
    uint32_t count;
} ms_headers;

/* A record as it comes in. */
struct ms_record {
    uint64_t offset;
    /* Milliseconds since 1970. */
    int64_t timestamp_ms;
    ms_bytes key;
    ms_bytes value;
    ms_headers headers;
};

/* Takes the next header off; false when there is none:
 *
 *     ms_headers rest = record->headers;
 *     for (ms_header header; ms_next_header(&rest, &header);) ...
 */
bool ms_next_header(ms_headers *rest, ms_header *header);

/* The value of the first header of this name; false when there is none. */
bool ms_find_header(const ms_record *record, const char *name, ms_bytes *value);

/* A record to emit. What is left out is not there: `(ms_new_record){.value = bytes}`. */
typedef struct ms_new_record {
    ms_bytes key;
    ms_bytes value;
    /* Milliseconds since 1970; NULL for the time of the record at hand. */
    const int64_t *timestamp_ms;
    /* Those of a record that came in, and behind them one's own: 256 at most. */
    ms_headers copied_headers;
    const ms_header *headers;
    size_t header_count;
} ms_new_record;

/* A record with the key, value, time and headers of the record at hand. */
ms_new_record ms_same(const ms_record *record);

/* Emits a record. It fails, which rejects the record at hand, when the new one has more than 4 MiB of
 * key, value and headers, more than 256 headers, or a header's name of more than 1024 bytes. */
ms_result ms_emit(ms_output output, const ms_new_record *record);

/* --- State -------------------------------------------------------------------------------------- */

/* Keys and values that outlive the worker. They belong to the deployment and the partition, and
 * what is written counts if and only if the call with this record and its neighbours counts. Keys have
 * at most 1024 bytes, values 1 MiB. A failure rejects the record. `init` can read but not write. */

/* The value of a key; its `data` is NULL when there is none. */
ms_result ms_state_get(ms_bytes key, ms_bytes *value);
ms_result ms_state_put(ms_bytes key, ms_bytes value);
ms_result ms_state_delete(ms_bytes key);

typedef struct ms_state_entry {
    ms_bytes key;
    ms_bytes value;
} ms_state_entry;

typedef struct ms_state_page {
    const ms_state_entry *entries;
    size_t count;
    /* Whether there are more behind the last. */
    bool more;
} ms_state_page;

/* One page, of 1000 entries and 1 MiB at most, of the entries whose keys begin with `prefix` and come
 * behind `after`, in the order of their keys. The first page has `(ms_bytes){0}` as `after`, each
 * further one the last key of the page before. */
ms_result ms_state_scan(ms_bytes prefix, ms_bytes after, uint32_t limit, ms_state_page *page);

/* --- Tables ------------------------------------------------------------------------------------- */

/* What others keep, by key: compacted topics that the deployment names as its tables. A table has the latest
 * value of each key of its topic, and moves on as the topic does: also within a call. A look-up sees it as it
 * is at that moment, whatever the time of the record at hand. When the first record is handled, each table has
 * all that its topic had when the worker began. A plugin that calls these functions is refused by deployments
 * without any table. */

/* A table of the deployment. */
typedef struct ms_table {
    const char *name;
} ms_table;

/* Finds the table of this name, which is not copied. It fails, which fails the call, when the deployment names
 * none so. */
ms_result ms_find_table(const char *name, ms_table *table);

/* The value of a key as it is now; its `data` is NULL when there is none. A key of more than 1024 bytes
 * rejects the record. */
ms_result ms_table_get(ms_table table, ms_bytes key, ms_bytes *value);

/* --- Secrets ------------------------------------------------------------------------------------ */

/* The value of a secret as it is now, a password, key or token: ask when it is needed, the operator may set
 * it anew at any time. Its `data` is NULL when the deployment is not granted one of this name, or the
 * operator has taken it away. In what the plugin logs, and in its reasons, the host masks what it has told.
 * A plugin that calls this is refused by deployments without any secret. */
ms_bytes ms_secret_get(const char *name);

/* --- Requests ----------------------------------------------------------------------------------- */

/* Requests to the hosts that the deployment is granted, as `http=https://geo.example.com`. In `init` none is
 * sent, and no redirect is followed. A plugin that calls `ms_http_send` is refused by deployments without
 * any host.
 *
 * What a plugin emits counts once. A request does not: a call that fails, or that a crash interrupts, is
 * made again and sends again. A host that changes something should bear it, or be told by something in the
 * request, such as an `idempotency-key` made of topic, partition and offset. The records of a call wait for
 * one another: one call of a plugin that is granted hosts has at most 100 records, each call may send 1,000
 * requests, and lasts no longer than sixty times its deadline by the clock. */

/* A request: `(ms_http_request){.url = "https://geo.example.com/v1"}`. */
typedef struct ms_http_request {
    /* NULL is "GET". */
    const char *method;
    const char *url;
    /* `host`, `connection` and `transfer-encoding` are the broker's. */
    const ms_header *headers;
    size_t header_count;
    /* 8 MiB at most. */
    ms_bytes body;
    /* How long to wait at most for the connection, the response, and each further part of it; 0 for as long as
     * the broker does: 5 seconds for the connection, 10 for the response, 30 for all of it. */
    uint32_t timeout_ms;
} ms_http_request;

/* What has come back. */
typedef struct ms_http_response {
    uint16_t status;
    const ms_header *headers;
    size_t header_count;
    ms_bytes body;
} ms_http_response;

/* Sends a request and waits for the whole response: its body may have 8 MiB. It fails when there is none:
 * where that would be the same another time, because the host is not granted or the request is none, it
 * rejects the record, and otherwise has it tried again. A status that tells of a failure is none. */
ms_result ms_http_send(const ms_http_request *request, ms_http_response *response);

/* Fails unless the status is one of success, 200 to 299: from 300 to 499, but for 408, 425 and 429, it
 * rejects the record, and otherwise has it tried again. */
ms_result ms_http_successful(const ms_http_response *response);

/* The value of the first header of this name, in upper or lower case; false when there is none. */
bool ms_http_find_header(const ms_http_response *response, const char *name, ms_bytes *value);

/* --- Timers ------------------------------------------------------------------------------------- */

/* A plugin has itself called later, when records, or the clock on the wall, have reached a time. A timer is
 * known by its clock and its key: setting it again moves it. Timers outlive the worker, and count if and
 * only if the call does, as the state. A plugin that sets timers has a function `on_timer` in plugin.c:
 * `millstream plugin build` looks for that word, and makes a component that is called by timers. */

/* What a timer's time is measured by. */
typedef enum ms_clock {
    /* The greatest timestamp of all records that the worker has handled: it never goes back, and stands
     * still while no records come. */
    MS_RECORD_TIME = 0,
    /* The broker's clock. */
    MS_WALL_TIME = 1,
} ms_clock;

/* A timer whose time has come. It is gone, unless it is set again. */
typedef struct ms_timer {
    /* The clock that has reached it. */
    ms_clock clock;
    /* The key it was set with. */
    ms_bytes key;
    /* The time it was set for, milliseconds since 1970. It fires at that time or later. */
    int64_t at_ms;
} ms_timer;

/* Yours, if you set timers: called for each one whose time has come, those of an earlier time first. It
 * emits, and fails, as `handle` does; what it emits without a time has that of the timer. */
ms_result on_timer(const ms_timer *timer);

#ifdef MS_NO_TIMERS
#define MS_TIMERS __attribute__((__unavailable__("timers call a function `on_timer`: plugin.c names none")))
#else
#define MS_TIMERS
#endif

/* Sets a timer: it fires once its clock has reached `at_ms`, milliseconds since 1970. In the past is
 * allowed: it fires soon. A key of more than 1024 bytes rejects the record; more than 10000 timers that are
 * set and cancelled in one call, or one in `init`, fail the call. */
MS_TIMERS ms_result ms_timer_set(ms_clock clock, ms_bytes key, int64_t at_ms);

/* Cancels a timer, if there is one. It fails as `ms_timer_set`. */
MS_TIMERS ms_result ms_timer_cancel(ms_clock clock, ms_bytes key);

/* --- For the operator ------------------------------------------------------------------------- */

typedef enum ms_level {
    MS_TRACE = 0,
    MS_DEBUG = 1,
    MS_INFO = 2,
    MS_WARN = 3,
    MS_ERROR = 4,
    MS_CRITICAL = 5,
} ms_level;

/* A line for the plugin's log; the macros add where it comes from. */
void ms_log(ms_level level, const char *file, int line, const char *format, ...) MS_PRINTF(4, 5);

#define ms_debug(...) ms_log(MS_DEBUG, __FILE__, __LINE__, __VA_ARGS__)
#define ms_info(...) ms_log(MS_INFO, __FILE__, __LINE__, __VA_ARGS__)
#define ms_warn(...) ms_log(MS_WARN, __FILE__, __LINE__, __VA_ARGS__)
#define ms_error(...) ms_log(MS_ERROR, __FILE__, __LINE__, __VA_ARGS__)

/* Adds to a counter, which `millstream plugin describe` shows. A name has 1 to 64 bytes: letters,
 * digits and `_`, the first a letter. */
void ms_counter_add(const char *name, uint64_t delta);

/* Sets a gauge. */
void ms_gauge_set(const char *name, double value);

/* --- JSON ----------------------------------------------------------------------------------------- */

/* The values of the fields of these names of a JSON object, as they are written: a number as its
 * digits, a string with its quotes. A field that is not there has no `data`. It fails, which rejects
 * the record, when the text is not one JSON object. Nothing is built for the other fields.
 *
 *     static const char *const names[] = {"sensor", "celsius"};
 *     ms_bytes values[2];
 *     if (ms_json_fields(record->value, 2, names, values) != MS_OK)
 *         return MS_FAILED;
 */
ms_result ms_json_fields(ms_bytes json, size_t count, const char *const names[], ms_bytes values[]);

/* A value as a number. It fails, which rejects the record, when it is none. */
ms_result ms_json_number(ms_bytes value, double *number);

/* The characters of a value that is a JSON string, without quotes and escapes, as UTF-8. It fails,
 * which rejects the record, when it is none. */
ms_result ms_json_string(ms_bytes value, ms_bytes *text);

#endif
