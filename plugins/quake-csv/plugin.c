/* Makes a row of comma-separated values of the fields that one asks for.
 *
 * In: one JSON object a record. Out, on `rows`: the values of the configured fields, in their order. */
#include <millstream.h>
#include <stdlib.h>
#include <string.h>

#include "csv.h"

#define MAX_FIELDS 64

static const char *names[MAX_FIELDS];
static size_t name_count;
static ms_output rows;

/* Takes the names apart at their commas. */
static ms_result read_names(const char *configured) {
    char *list = strdup(configured);
    if (!list)
        abort();
    for (char *name = strtok(list, ", "); name; name = strtok(NULL, ", ")) {
        if (name_count == MAX_FIELDS)
            return ms_abort("fields has more than %d names", MAX_FIELDS);
        names[name_count++] = name;
    }
    if (name_count == 0)
        return ms_abort("fields must name the fields of a row, for example `time,mag,place`");
    return MS_OK;
}

ms_result init(const ms_context *context) {
    const char *configured = ms_config("fields");
    if (read_names(configured ? configured : "") != MS_OK)
        return MS_FAILED;
    return ms_find_output(context, "rows", &rows);
}

/* A JSON value as a field: a string without its quotes and escapes, null as nothing, all else as it is
 * written. */
static ms_result field_of(ms_bytes value, ms_bytes *field) {
    if (value.len > 0 && value.data[0] == '"')
        return ms_json_string(value, field);
    *field = ms_equal(value, ms_text("null")) ? (ms_bytes){0} : value;
    return MS_OK;
}

ms_result handle(const ms_record *record) {
    static csv_row row;
    ms_bytes values[MAX_FIELDS];
    if (ms_json_fields(record->value, name_count, names, values) != MS_OK)
        return MS_FAILED;
    csv_begin(&row);
    for (size_t i = 0; i < name_count; i++) {
        ms_bytes field;
        if (field_of(values[i], &field) != MS_OK)
            return MS_FAILED;
        if (!values[i].data)
            ms_counter_add("fields_missing", 1);
        csv_add(&row, field);
    }
    ms_new_record told = ms_same(record);
    told.value = (ms_bytes){(const uint8_t *)row.text, row.len};
    /* A row of one empty field has no bytes, and is a value all the same. */
    if (row.len == 0)
        told.value = ms_text("");
    return ms_emit(rows, &told);
}
