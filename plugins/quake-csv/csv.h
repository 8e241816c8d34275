/* A row of comma-separated values (RFC 4180). */
#ifndef CSV_H
#define CSV_H

#include <millstream.h>

/* Bytes that grow, and are used again for the next row. */
typedef struct csv_row {
    char *text;
    size_t len;
    size_t room;
    size_t fields;
} csv_row;

void csv_begin(csv_row *row);

/* Adds a field, with quotes around it where it needs them. */
void csv_add(csv_row *row, ms_bytes field);

#endif
