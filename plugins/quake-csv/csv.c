#include "csv.h"

#include <stdlib.h>
#include <string.h>

static void append(csv_row *row, const void *bytes, size_t len) {
    if (row->room - row->len < len) {
        row->room = (row->room + len) * 2;
        row->text = realloc(row->text, row->room);
        if (!row->text)
            abort();
    }
    memcpy(row->text + row->len, bytes, len);
    row->len += len;
}

void csv_begin(csv_row *row) {
    row->len = 0;
    row->fields = 0;
}

static bool needs_quotes(ms_bytes field) {
    for (size_t i = 0; i < field.len; i++)
        if (field.data[i] == ',' || field.data[i] == '"' || field.data[i] == '\n' ||
            field.data[i] == '\r')
            return true;
    return false;
}

void csv_add(csv_row *row, ms_bytes field) {
    if (row->fields++ > 0)
        append(row, ",", 1);
    if (field.len == 0)
        return;
    if (!needs_quotes(field)) {
        append(row, field.data, field.len);
        return;
    }
    append(row, "\"", 1);
    for (size_t i = 0; i < field.len; i++) {
        if (field.data[i] == '"')
            append(row, "\"", 1);
        append(row, &field.data[i], 1);
    }
    append(row, "\"", 1);
}
