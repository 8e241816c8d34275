/* What the host offers: configuration, state, tables, secrets, timers, log and metrics. The linker drops what
 * a plugin does not call, and with it what the component imports for that. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

#define MAX_LOG_LINE_BYTES 8192

static plugin_string_t lent(const char *text) {
    return (plugin_string_t){(uint8_t *)text, strlen(text)};
}

static plugin_list_u8_t lent_bytes(ms_bytes bytes) {
    return (plugin_list_u8_t){(uint8_t *)bytes.data, bytes.len};
}

/* Bytes that the host has handed over. Empty ones were not allocated. */
static ms_bytes kept_bytes(plugin_list_u8_t list) {
    if (list.len > 0)
        ms_keep(list.ptr);
    return (ms_bytes){list.len > 0 ? list.ptr : (const uint8_t *)"", list.len};
}

/* --- Configuration and outputs ------------------------------------------------------------------ */

const char *ms_config(const char *name) {
    plugin_string_t key = lent(name);
    plugin_option_string_t value;
    wasi_config_store_error_t error;
    if (!wasi_config_store_get(&key, &value, &error) || !value.is_some)
        return NULL;
    char *text = ms_must_allocate(NULL, value.val.len + 1);
    memcpy(text, value.val.ptr, value.val.len);
    text[value.val.len] = 0;
    plugin_option_string_free(&value);
    return text;
}

ms_result ms_config_number(const char *name, double usual, double *number) {
    const char *text = ms_config(name);
    *number = usual;
    if (!text)
        return MS_OK;
    char *end;
    *number = strtod(text, &end);
    if (end == text || *end != 0)
        return ms_abort("%s must be a number, not `%s`", name, text);
    return MS_OK;
}

ms_result ms_find_output(const ms_context *context, const char *name, ms_output *output) {
    for (size_t i = 0; i < context->output_count; i++) {
        if (strcmp(context->outputs[i], name) == 0) {
            output->index = (uint32_t)i;
            return MS_OK;
        }
    }
    return ms_abort("the deployment declares no output `%s`", name);
}

/* --- State -------------------------------------------------------------------------------------- */

static ms_result state_failed(millstream_plugin_state_error_t *error) {
    ms_result failed;
    if (error->tag == MILLSTREAM_PLUGIN_STATE_ERROR_READ_ONLY) {
        failed = ms_reject("the state cannot be written in init");
    } else {
        /* Both of the other cases have a text. */
        plugin_string_t *text = &error->val.too_large;
        failed = ms_reject("%.*s", (int)text->len, (const char *)text->ptr);
    }
    millstream_plugin_state_error_free(error);
    return failed;
}

ms_result ms_state_get(ms_bytes key, ms_bytes *value) {
    plugin_list_u8_t lent_key = lent_bytes(key);
    plugin_option_list_u8_t found;
    millstream_plugin_state_error_t error;
    if (!millstream_plugin_state_get(&lent_key, &found, &error))
        return state_failed(&error);
    *value = found.is_some ? kept_bytes(found.val) : (ms_bytes){0};
    return MS_OK;
}

ms_result ms_state_put(ms_bytes key, ms_bytes value) {
    plugin_list_u8_t lent_key = lent_bytes(key), lent_value = lent_bytes(value);
    millstream_plugin_state_error_t error;
    if (!millstream_plugin_state_put(&lent_key, &lent_value, &error))
        return state_failed(&error);
    return MS_OK;
}

ms_result ms_state_delete(ms_bytes key) {
    plugin_list_u8_t lent_key = lent_bytes(key);
    millstream_plugin_state_error_t error;
    if (!millstream_plugin_state_delete(&lent_key, &error))
        return state_failed(&error);
    return MS_OK;
}

ms_result ms_state_scan(ms_bytes prefix, ms_bytes after, uint32_t limit, ms_state_page *page) {
    plugin_list_u8_t lent_prefix = lent_bytes(prefix), lent_after = lent_bytes(after);
    millstream_plugin_state_page_t found;
    millstream_plugin_state_error_t error;
    if (!millstream_plugin_state_scan(&lent_prefix, after.data ? &lent_after : NULL, limit, &found,
                                      &error))
        return state_failed(&error);
    ms_state_entry *entries = ms_scratch(found.entries.len * sizeof *entries);
    for (size_t i = 0; i < found.entries.len; i++) {
        entries[i].key = kept_bytes(found.entries.ptr[i].key);
        entries[i].value = kept_bytes(found.entries.ptr[i].value);
    }
    if (found.entries.len > 0)
        ms_keep(found.entries.ptr);
    *page = (ms_state_page){entries, found.entries.len, found.more};
    return MS_OK;
}

/* --- Tables and secrets ------------------------------------------------------------------------- */

/* Says which tables there are, at the end of why one is not. */
static ms_result no_such_table(const char *name, const plugin_list_string_t *declared) {
    size_t len = 0;
    for (size_t i = 0; i < declared->len; i++)
        len += declared->ptr[i].len + sizeof "`, `";
    char *there = ms_scratch(len + 1), *end = there;
    *end = 0;
    for (size_t i = 0; i < declared->len; i++)
        end += sprintf(end, "%s`%.*s`", i > 0 ? ", " : "", (int)declared->ptr[i].len,
                       (const char *)declared->ptr[i].ptr);
    return ms_abort("the deployment has no table `%s` (it has %s)", name,
                    declared->len > 0 ? there : "none");
}

ms_result ms_find_table(const char *name, ms_table *table) {
    plugin_list_string_t declared;
    millstream_plugin_tables_names(&declared);
    bool found = false;
    for (size_t i = 0; i < declared.len && !found; i++) {
        const plugin_string_t *other = &declared.ptr[i];
        found = other->len == strlen(name) && memcmp(other->ptr, name, other->len) == 0;
    }
    ms_result result = MS_OK;
    if (found)
        *table = (ms_table){name};
    else
        result = no_such_table(name, &declared);
    plugin_list_string_free(&declared);
    return result;
}

ms_result ms_table_get(ms_table table, ms_bytes key, ms_bytes *value) {
    plugin_string_t name = lent(table.name);
    plugin_list_u8_t lent_key = lent_bytes(key);
    plugin_option_list_u8_t found;
    millstream_plugin_tables_error_t error;
    if (!millstream_plugin_tables_get(&name, &lent_key, &found, &error)) {
        /* Both cases have a text. */
        const plugin_string_t *text = &error.val.too_large;
        ms_result failed =
            error.tag == MILLSTREAM_PLUGIN_TABLES_ERROR_TOO_LARGE
                ? ms_reject("too large for a table: %.*s", (int)text->len, (const char *)text->ptr)
                : ms_abort("%.*s", (int)text->len, (const char *)text->ptr);
        millstream_plugin_tables_error_free(&error);
        return failed;
    }
    *value = found.is_some ? kept_bytes(found.val) : (ms_bytes){0};
    return MS_OK;
}

ms_bytes ms_secret_get(const char *name) {
    plugin_string_t lent_name = lent(name), value;
    if (!millstream_plugin_secrets_get(&lent_name, &value))
        return (ms_bytes){0};
    return kept_bytes((plugin_list_u8_t){value.ptr, value.len});
}

/* --- Timers ------------------------------------------------------------------------------------- */

#ifndef MS_NO_TIMERS
static ms_result timer_failed(millstream_plugin_timers_error_t *error) {
    ms_result failed;
    switch (error->tag) {
    case MILLSTREAM_PLUGIN_TIMERS_ERROR_TOO_LARGE: {
        plugin_string_t *text = &error->val.too_large;
        failed = ms_reject("too large for a timer: %.*s", (int)text->len, (const char *)text->ptr);
        break;
    }
    case MILLSTREAM_PLUGIN_TIMERS_ERROR_QUOTA_EXCEEDED: {
        plugin_string_t *text = &error->val.quota_exceeded;
        failed = ms_abort("too many timers: %.*s", (int)text->len, (const char *)text->ptr);
        break;
    }
    default:
        failed = ms_abort("timers cannot be changed in init");
    }
    millstream_plugin_timers_error_free(error);
    return failed;
}

ms_result ms_timer_set(ms_clock clock, ms_bytes key, int64_t at_ms) {
    plugin_list_u8_t lent_key = lent_bytes(key);
    millstream_plugin_timers_error_t error;
    if (!millstream_plugin_timers_set((millstream_plugin_timers_clock_t)clock, &lent_key, at_ms,
                                      &error))
        return timer_failed(&error);
    return MS_OK;
}

ms_result ms_timer_cancel(ms_clock clock, ms_bytes key) {
    plugin_list_u8_t lent_key = lent_bytes(key);
    millstream_plugin_timers_error_t error;
    if (!millstream_plugin_timers_cancel((millstream_plugin_timers_clock_t)clock, &lent_key, &error))
        return timer_failed(&error);
    return MS_OK;
}
#endif

/* --- For the operator --------------------------------------------------------------------------- */

void ms_log(ms_level level, const char *file, int line, const char *format, ...) {
    static char message_text[MAX_LOG_LINE_BYTES + 1];
    char place_text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message_text, sizeof message_text, format, arguments);
    va_end(arguments);
    snprintf(place_text, sizeof place_text, "%s:%d", file, line);
    plugin_string_t place = lent(place_text), message = lent(message_text);
    ms_make_utf8(place.ptr, place.len);
    ms_make_utf8(message.ptr, message.len);
    wasi_logging_logging_log((wasi_logging_logging_level_t)level, &place, &message);
}

void ms_counter_add(const char *name, uint64_t delta) {
    plugin_string_t lent_name = lent(name);
    millstream_plugin_metrics_counter_add(&lent_name, delta);
}

void ms_gauge_set(const char *name, double value) {
    plugin_string_t lent_name = lent(name);
    millstream_plugin_metrics_gauge_set(&lent_name, value);
}
