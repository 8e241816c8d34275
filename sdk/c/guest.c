/* The exports of the component: what the host calls, and how it calls the plugin. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

#define MAX_REASON_BYTES 4096
#define MAX_RETRY_MS 86400000

ms_failure ms_last_failure;

/* A copy that lasts, with a NUL behind it. */
static char *copy_of(const plugin_string_t *text) {
    char *copy = ms_must_allocate(NULL, text->len + 1);
    memcpy(copy, text->ptr, text->len);
    copy[text->len] = 0;
    return copy;
}

static void hand_over_reason(plugin_string_t *reason) {
    plugin_string_dup_n(reason, (const char *)ms_last_failure.reason.data,
                        ms_last_failure.reason.len);
    ms_release_all();
}

bool exports_millstream_plugin_lifecycle_init(exports_millstream_plugin_lifecycle_context_t *given,
                                              plugin_string_t *error) {
    static ms_context context;
    const char **outputs = ms_must_allocate(NULL, given->outputs.len * sizeof *outputs + 1);
    for (size_t i = 0; i < given->outputs.len; i++)
        outputs[i] = copy_of(&given->outputs.ptr[i]);
    context = (ms_context){
        .deployment = copy_of(&given->deployment),
        .topic = copy_of(&given->topic),
        .partition = given->partition,
        .outputs = outputs,
        .output_count = given->outputs.len,
    };
    exports_millstream_plugin_lifecycle_context_free(given);
    if (init(&context) != MS_OK) {
        hand_over_reason(error);
        return false;
    }
    ms_release_all();
    return true;
}

/* What becomes of a record, or timer, that was handled. False when the call as a whole has failed. */
static bool settle(ms_result handled, plugin_string_t *error) {
    if (handled != MS_OK) {
        if (ms_last_failure.kind == MS_ABORT) {
            hand_over_reason(error);
            return false;
        }
        ms_outcomes_fail(&ms_last_failure);
    }
    ms_release_all();
    return true;
}

bool exports_millstream_plugin_batch_handler_handle(plugin_list_u8_t *batches,
                                                    plugin_list_u8_t *outcomes,
                                                    plugin_string_t *error) {
    ms_outcomes_clear();
    ms_records records = ms_records_of(batches->ptr, batches->len);
    ms_record record;
    for (uint32_t input = 0; ms_next_record(&records, &record); input++) {
        ms_outcomes_begin(input, record.timestamp_ms);
        if (!settle(handle(&record), error)) {
            plugin_list_u8_free(batches);
            return false;
        }
    }
    plugin_list_u8_free(batches);
    if (records.rest.broken) {
        plugin_string_dup(error, "malformed batch");
        return false;
    }
    outcomes->ptr = ms_outcomes_take(&outcomes->len);
    return true;
}

#ifndef MS_NO_TIMERS
bool exports_millstream_plugin_timer_handler_handle(
    exports_millstream_plugin_timer_handler_list_fired_t *fired, plugin_list_u8_t *outcomes,
    plugin_string_t *error) {
    ms_outcomes_clear();
    bool goes_on = true;
    for (size_t i = 0; i < fired->len && goes_on; i++) {
        const exports_millstream_plugin_timer_handler_fired_t *given = &fired->ptr[i];
        ms_timer timer = {
            .clock = (ms_clock)given->clock,
            /* A key without bytes is a key. */
            .key = {given->key.len > 0 ? given->key.ptr : (const uint8_t *)"", given->key.len},
            .at_ms = given->at_ms,
        };
        ms_outcomes_begin((uint32_t)i, timer.at_ms);
        goes_on = settle(on_timer(&timer), error);
    }
    exports_millstream_plugin_timer_handler_list_fired_free(fired);
    if (goes_on)
        outcomes->ptr = ms_outcomes_take(&outcomes->len);
    return goes_on;
}
#endif

/* --- Failures ----------------------------------------------------------------------------------- */

static ms_result fail(ms_failure_kind kind, uint32_t after_ms, const char *format,
                      va_list arguments) {
    char *reason = ms_scratch(MAX_REASON_BYTES + 1);
    int wanted = vsnprintf(reason, MAX_REASON_BYTES + 1, format, arguments);
    size_t len = wanted < 0 ? 0 : wanted > MAX_REASON_BYTES ? MAX_REASON_BYTES : (size_t)wanted;
    ms_make_utf8((uint8_t *)reason, len);
    ms_last_failure = (ms_failure){kind, after_ms, {(uint8_t *)reason, len}};
    return MS_FAILED;
}

ms_result ms_reject(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    ms_result failed = fail(MS_REJECT, 0, format, arguments);
    va_end(arguments);
    return failed;
}

ms_result ms_retry(uint32_t after_ms, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    uint32_t within = after_ms > MAX_RETRY_MS ? MAX_RETRY_MS : after_ms;
    ms_result failed = fail(MS_RETRY, within, format, arguments);
    va_end(arguments);
    return failed;
}

ms_result ms_abort(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    ms_result failed = fail(MS_ABORT, 0, format, arguments);
    va_end(arguments);
    return failed;
}
