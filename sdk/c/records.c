/* Reads record batches. Their layout is that of `wit/batch-handler.wit`. */
#include "internal.h"

#include <string.h>

/* Up to the length, which counts what follows it. */
#define LENGTH_END 12
#define HEADER_BYTES 61
#define ATTRIBUTES_AT 21
#define BASE_TIMESTAMP_AT 27
#define MAX_TIMESTAMP_AT 35
#define COUNT_AT 57
#define APPEND_TIME_BIT 0x08

static uint64_t big_endian(const uint8_t *at, size_t len) {
    uint64_t number = 0;
    for (size_t i = 0; i < len; i++)
        number = number << 8 | at[i];
    return number;
}

int64_t ms_read_varint(ms_reader *reader) {
    uint64_t raw = 0;
    for (unsigned shift = 0; shift < 64 && reader->at < reader->end; shift += 7) {
        uint8_t byte = *reader->at++;
        raw |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return (int64_t)(raw >> 1) ^ -(int64_t)(raw & 1);
    }
    reader->broken = true;
    return 0;
}

ms_bytes ms_read_bytes(ms_reader *reader) {
    int64_t len = ms_read_varint(reader);
    if (len < 0)
        return (ms_bytes){0};
    if (reader->broken || len > reader->end - reader->at) {
        reader->broken = true;
        return (ms_bytes){0};
    }
    ms_bytes bytes = {reader->at, (size_t)len};
    reader->at += len;
    return bytes;
}

ms_records ms_records_of(const uint8_t *batches, size_t len) {
    return (ms_records){.rest = {batches, batches + len, false}};
}

/* Opens the next batch. */
static bool open_batch(ms_records *records) {
    ms_reader *rest = &records->rest;
    if (rest->at == rest->end)
        return false;
    size_t there = (size_t)(rest->end - rest->at);
    const uint8_t *header = rest->at;
    size_t len = there < HEADER_BYTES ? 0 : LENGTH_END + (size_t)big_endian(header + 8, 4);
    if (len < HEADER_BYTES || len > there) {
        rest->broken = true;
        return false;
    }
    uint64_t attributes = big_endian(header + ATTRIBUTES_AT, 2);
    records->base_offset = big_endian(header, 8);
    records->base_timestamp_ms = (int64_t)big_endian(header + BASE_TIMESTAMP_AT, 8);
    records->append_time_ms = (int64_t)big_endian(header + MAX_TIMESTAMP_AT, 8);
    records->has_append_time = (attributes & APPEND_TIME_BIT) != 0;
    records->remaining = (uint32_t)big_endian(header + COUNT_AT, 4);
    records->batch = (ms_reader){header + HEADER_BYTES, header + len, false};
    rest->at += len;
    return true;
}

bool ms_next_record(ms_records *records, ms_record *record) {
    while (records->remaining == 0)
        if (!open_batch(records))
            return false;
    records->remaining--;
    ms_bytes encoded = ms_read_bytes(&records->batch);
    ms_reader reader = {encoded.data, encoded.data + encoded.len, encoded.len == 0};
    /* The attributes of a record are 0. */
    reader.at += !reader.broken;
    int64_t timestamp_delta = ms_read_varint(&reader);
    int64_t offset_delta = ms_read_varint(&reader);
    record->offset = records->base_offset + (uint64_t)offset_delta;
    record->timestamp_ms = records->has_append_time ? records->append_time_ms
                                                    : records->base_timestamp_ms + timestamp_delta;
    record->key = ms_read_bytes(&reader);
    record->value = ms_read_bytes(&reader);
    int64_t headers = ms_read_varint(&reader);
    record->headers.count = (uint32_t)headers;
    record->headers.encoded = (ms_bytes){reader.at, (size_t)(reader.end - reader.at)};
    records->rest.broken = reader.broken || headers < 0 || headers > UINT32_MAX;
    return !records->rest.broken;
}

bool ms_next_header(ms_headers *rest, ms_header *header) {
    if (rest->count == 0)
        return false;
    ms_reader reader = {rest->encoded.data, rest->encoded.data + rest->encoded.len, false};
    header->name = ms_read_bytes(&reader);
    header->value = ms_read_bytes(&reader);
    rest->count = reader.broken ? 0 : rest->count - 1;
    rest->encoded = (ms_bytes){reader.at, (size_t)(reader.end - reader.at)};
    return !reader.broken;
}

bool ms_find_header(const ms_record *record, const char *name, ms_bytes *value) {
    ms_bytes wanted = ms_text(name);
    ms_headers rest = record->headers;
    for (ms_header header; ms_next_header(&rest, &header);) {
        if (ms_equal(header.name, wanted)) {
            *value = header.value;
            return true;
        }
    }
    return false;
}
