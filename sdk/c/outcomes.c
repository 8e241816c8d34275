/* Writes the outcomes of a call. Their layout is that of `wit/batch-handler.wit`. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#define EMIT 0

#define MAX_VARINT_BYTES 10
#define MAX_RECORD_BYTES ((size_t)4 << 20)
#define MAX_HEADERS 256
#define MAX_HEADER_NAME_BYTES 1024

/* Grows, and is handed over as a whole. */
static uint8_t *bytes;
static size_t len, room;

/* The record at hand, and the record of the last entry. */
static uint32_t input, last_input;
static int64_t input_timestamp_ms;
/* Both as they were before the record at hand. */
static size_t len_before;
static uint32_t last_input_before;

static uint8_t *reserve(size_t more) {
    if (room - len < more) {
        room = (room < more ? more : room) * 2;
        bytes = ms_must_allocate(bytes, room);
    }
    return bytes + len;
}

static size_t varint_len(int64_t number) {
    uint64_t raw = (uint64_t)number << 1 ^ (uint64_t)(number >> 63);
    size_t count = 1;
    for (; raw >= 0x80; raw >>= 7)
        count++;
    return count;
}

static void write_varint(int64_t number) {
    uint64_t raw = (uint64_t)number << 1 ^ (uint64_t)(number >> 63);
    uint8_t *at = reserve(MAX_VARINT_BYTES);
    for (; raw >= 0x80; raw >>= 7)
        *at++ = (uint8_t)raw | 0x80;
    *at++ = (uint8_t)raw;
    len = (size_t)(at - bytes);
}

static void write_raw(ms_bytes raw) {
    if (raw.len > 0)
        memcpy(reserve(raw.len), raw.data, raw.len);
    len += raw.len;
}

static size_t optional_len(ms_bytes optional) {
    return optional.data ? varint_len((int64_t)optional.len) + optional.len : varint_len(-1);
}

static void write_optional(ms_bytes optional) {
    write_varint(optional.data ? (int64_t)optional.len : -1);
    write_raw(optional);
}

static void entry(uint8_t kind) {
    write_varint((int64_t)input - last_input);
    *reserve(1) = kind;
    len++;
    last_input = input;
}

void ms_outcomes_clear(void) {
    len = 0;
    last_input = 0;
}

void ms_outcomes_begin(uint32_t index, int64_t timestamp_ms) {
    input = index;
    input_timestamp_ms = timestamp_ms;
    len_before = len;
    last_input_before = last_input;
}

void ms_outcomes_fail(const ms_failure *failure) {
    len = len_before;
    last_input = last_input_before;
    entry((uint8_t)failure->kind);
    if (failure->kind == MS_RETRY)
        write_varint(failure->after_ms);
    write_optional(failure->reason);
}

uint8_t *ms_outcomes_take(size_t *taken) {
    uint8_t *whole = bytes;
    *taken = len;
    bytes = NULL;
    len = room = 0;
    return whole;
}

ms_new_record ms_same(const ms_record *record) {
    return (ms_new_record){
        .key = record->key,
        .value = record->value,
        .timestamp_ms = &record->timestamp_ms,
        .copied_headers = record->headers,
    };
}

/* Refuses what the host would refuse. */
static ms_result check(const ms_new_record *record) {
    size_t total = record->key.len + record->value.len + record->copied_headers.encoded.len;
    for (size_t i = 0; i < record->header_count; i++) {
        const ms_header *header = &record->headers[i];
        if (header->name.len > MAX_HEADER_NAME_BYTES)
            return ms_reject("an output has a header's name of %zu bytes, more than %d",
                             header->name.len, MAX_HEADER_NAME_BYTES);
        total += header->name.len + header->value.len;
    }
    if (total > MAX_RECORD_BYTES)
        return ms_reject("an output has %zu bytes, more than %zu", total, MAX_RECORD_BYTES);
    size_t count = record->copied_headers.count + record->header_count;
    if (count > MAX_HEADERS)
        return ms_reject("an output has %zu headers, more than %d", count, MAX_HEADERS);
    return MS_OK;
}

ms_result ms_emit(ms_output output, const ms_new_record *record) {
    if (check(record) != MS_OK)
        return MS_FAILED;
    int64_t timestamp_ms = record->timestamp_ms ? *record->timestamp_ms : input_timestamp_ms;
    int64_t header_count = (int64_t)(record->copied_headers.count + record->header_count);
    /* Attributes and offset delta are a byte each. */
    size_t encoded_len = 2 + varint_len(timestamp_ms) + optional_len(record->key) +
                         optional_len(record->value) + varint_len(header_count) +
                         record->copied_headers.encoded.len;
    for (size_t i = 0; i < record->header_count; i++)
        encoded_len +=
            optional_len(record->headers[i].name) + optional_len(record->headers[i].value);

    entry(EMIT);
    write_varint(output.index);
    write_varint((int64_t)encoded_len);
    *reserve(1) = 0;
    len++;
    write_varint(timestamp_ms);
    write_varint(0);
    write_optional(record->key);
    write_optional(record->value);
    write_varint(header_count);
    write_raw(record->copied_headers.encoded);
    for (size_t i = 0; i < record->header_count; i++) {
        write_optional(record->headers[i].name);
        write_optional(record->headers[i].value);
    }
    return MS_OK;
}
