/* What the files of the SDK share. Nothing of it is for plugins. */
#ifndef MILLSTREAM_INTERNAL_H
#define MILLSTREAM_INTERNAL_H

#include <stdarg.h>

#include "millstream.h"

/* Hands out memory that `ms_release_all` frees. Out of memory traps. */
void *ms_scratch(size_t len);

/* Has `ms_release_all` free what the component model has allocated. */
void ms_keep(void *memory);

void ms_release_all(void);

/* Memory that traps where there is none. */
void *ms_must_allocate(void *memory, size_t len);

/* What is no UTF-8 becomes `?`: the host takes nothing else for text. */
void ms_make_utf8(uint8_t *text, size_t len);

/* The last failure. */
typedef enum ms_failure_kind { MS_REJECT = 1, MS_RETRY = 2, MS_ABORT = 3 } ms_failure_kind;

typedef struct ms_failure {
    ms_failure_kind kind;
    uint32_t after_ms;
    ms_bytes reason;
} ms_failure;

extern ms_failure ms_last_failure;

/* An address, taken apart. */
typedef struct ms_address {
    bool https;
    ms_bytes authority;
    /* Path and query. */
    ms_bytes path;
    /* Scheme and authority. */
    const char *place;
} ms_address;

/* It fails, which rejects the record, when it is none. */
ms_result ms_read_address(const char *url, ms_address *address);

/* A request that may come to something else another time. */
ms_result ms_http_failed(const char *place, const char *how);

/* A cursor over encoded bytes. It turns `broken` instead of reading behind the end. */
typedef struct ms_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool broken;
} ms_reader;

int64_t ms_read_varint(ms_reader *reader);

/* Bytes with their length in front; -1 is no bytes. */
ms_bytes ms_read_bytes(ms_reader *reader);

/* The records of one or more batches, one after the other. */
typedef struct ms_records {
    ms_reader batch;
    uint32_t remaining;
    uint64_t base_offset;
    int64_t base_timestamp_ms;
    bool has_append_time;
    int64_t append_time_ms;
    ms_reader rest;
} ms_records;

ms_records ms_records_of(const uint8_t *batches, size_t len);

/* False at the end, and when the batches are malformed: then `rest.broken` is set. */
bool ms_next_record(ms_records *records, ms_record *record);

/* The outcomes of a call. `begin` turns to a record, `fail` withdraws what it has emitted. */
void ms_outcomes_clear(void);
void ms_outcomes_begin(uint32_t input, int64_t timestamp_ms);
void ms_outcomes_fail(const ms_failure *failure);

/* Hands over the bytes, which were allocated for the caller to free. */
uint8_t *ms_outcomes_take(size_t *len);

#endif
