/* Requests by `wasi:http`. A resource is dropped before the one it comes from. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "plugin.h"

#define WRITE_BYTES 4096
#define READ_BYTES (64 << 10)

static plugin_string_t lent(ms_bytes text) {
    return (plugin_string_t){(uint8_t *)text.data, text.len};
}

/* --- What went wrong ---------------------------------------------------------------------------- */

static ms_result incomplete(const ms_address *address) {
    return ms_http_failed(address->place, "the response is incomplete");
}

/* An error code in words, if it has no text of its own. */
static const char *in_words(uint8_t code) {
    switch (code) {
    case WASI_HTTP_TYPES_ERROR_CODE_DNS_ERROR:
        return "no address";
    case WASI_HTTP_TYPES_ERROR_CODE_CONNECTION_REFUSED:
        return "the connection was refused";
    case WASI_HTTP_TYPES_ERROR_CODE_CONNECTION_TERMINATED:
        return "the connection was terminated";
    case WASI_HTTP_TYPES_ERROR_CODE_CONNECTION_TIMEOUT:
        return "the connection took too long";
    case WASI_HTTP_TYPES_ERROR_CODE_CONNECTION_LIMIT_REACHED:
        return "the call has sent as many requests as it may";
    case WASI_HTTP_TYPES_ERROR_CODE_TLS_PROTOCOL_ERROR:
    case WASI_HTTP_TYPES_ERROR_CODE_TLS_CERTIFICATE_ERROR:
    case WASI_HTTP_TYPES_ERROR_CODE_TLS_ALERT_RECEIVED:
        return "TLS failed";
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_RESPONSE_TIMEOUT:
        return "the response took too long";
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_RESPONSE_INCOMPLETE:
        return "the response is incomplete";
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_REQUEST_BODY_SIZE:
        return "the request's body is too large";
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_RESPONSE_BODY_SIZE:
        return "the response's body is too large";
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_PROTOCOL_ERROR:
        return "the response is no HTTP";
    default:
        return NULL;
    }
}

/* Fails with an error code, and frees it. */
static ms_result told(wasi_http_types_error_code_t *code, const ms_address *address) {
    const char *how = in_words(code->tag);
    const plugin_option_string_t *text = NULL;
    ms_result failed;
    if (code->tag == WASI_HTTP_TYPES_ERROR_CODE_DNS_ERROR)
        text = &code->val.dns_error.rcode;
    if (code->tag == WASI_HTTP_TYPES_ERROR_CODE_INTERNAL_ERROR)
        text = &code->val.internal_error;
    switch (code->tag) {
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_REQUEST_DENIED:
        failed = ms_reject("requests to %s are not granted", address->place);
        break;
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_REQUEST_URI_INVALID:
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_REQUEST_METHOD_INVALID:
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_REQUEST_URI_TOO_LONG:
        failed = ms_reject("no request: address or method for %s", address->place);
        break;
    default: {
        ms_bytes words = text && text->is_some
                             ? ms_format("%.*s%c", (int)text->val.len, (const char *)text->val.ptr, 0)
                         : how ? ms_format("%s%c", how, 0)
                               : ms_format("error %d of wasi:http%c", code->tag, 0);
        failed = ms_http_failed(address->place, (const char *)words.data);
    }
    }
    wasi_http_types_error_code_free(code);
    return failed;
}

/* --- The request ------------------------------------------------------------------------------- */

static bool append(wasi_http_types_borrow_fields_t fields, ms_bytes name, ms_bytes value) {
    plugin_string_t key = lent(name);
    wasi_http_types_field_value_t content = {(uint8_t *)value.data, value.len};
    wasi_http_types_header_error_t error;
    return wasi_http_types_method_fields_append(fields, &key, &content, &error);
}

static ms_result append_all(wasi_http_types_borrow_fields_t fields, const ms_http_request *request) {
    ms_bytes length = ms_text("content-length");
    bool has_length = false;
    for (size_t i = 0; i < request->header_count; i++) {
        ms_bytes name = request->headers[i].name;
        has_length |= name.len == length.len &&
                      strncasecmp((const char *)name.data, (const char *)length.data, name.len) == 0;
        if (!append(fields, name, request->headers[i].value))
            return ms_reject("no request: the header \"%.*s\"", MS_ARG(name));
    }
    if (request->body.len > 0 && !has_length &&
        !append(fields, length, ms_format("%zu", request->body.len)))
        return ms_reject("no request: the header \"content-length\"");
    return MS_OK;
}

static wasi_http_types_method_t method_of(const char *name) {
    static const struct {
        const char *name;
        uint8_t tag;
    } known[] = {
        {"GET", WASI_HTTP_TYPES_METHOD_GET},         {"HEAD", WASI_HTTP_TYPES_METHOD_HEAD},
        {"POST", WASI_HTTP_TYPES_METHOD_POST},       {"PUT", WASI_HTTP_TYPES_METHOD_PUT},
        {"DELETE", WASI_HTTP_TYPES_METHOD_DELETE},   {"OPTIONS", WASI_HTTP_TYPES_METHOD_OPTIONS},
        {"PATCH", WASI_HTTP_TYPES_METHOD_PATCH},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0)
            return (wasi_http_types_method_t){.tag = known[i].tag};
    return (wasi_http_types_method_t){WASI_HTTP_TYPES_METHOD_OTHER, {lent(ms_text(name))}};
}

/* Makes the request, without its body. */
static ms_result make(const ms_http_request *request, const ms_address *address,
                      wasi_http_types_own_outgoing_request_t *made) {
    wasi_http_types_own_fields_t fields = wasi_http_types_constructor_fields();
    if (append_all(wasi_http_types_borrow_fields(fields), request) != MS_OK) {
        wasi_http_types_fields_drop_own(fields);
        return MS_FAILED;
    }
    *made = wasi_http_types_constructor_outgoing_request(fields);
    wasi_http_types_borrow_outgoing_request_t outgoing = wasi_http_types_borrow_outgoing_request(*made);
    const char *name = request->method ? request->method : "GET";
    wasi_http_types_method_t method = method_of(name);
    wasi_http_types_scheme_t scheme = {.tag = address->https ? WASI_HTTP_TYPES_SCHEME_HTTPS
                                                             : WASI_HTTP_TYPES_SCHEME_HTTP};
    plugin_string_t authority = lent(address->authority), path = lent(address->path);
    ms_result result = MS_OK;
    if (!wasi_http_types_method_outgoing_request_set_method(outgoing, &method))
        result = ms_reject("no request: the method \"%s\"", name);
    else if (!wasi_http_types_method_outgoing_request_set_scheme(outgoing, &scheme) ||
             !wasi_http_types_method_outgoing_request_set_authority(outgoing, &authority) ||
             !wasi_http_types_method_outgoing_request_set_path_with_query(outgoing, &path))
        result = ms_reject("no request: the address \"%s\"", request->url);
    if (result != MS_OK)
        wasi_http_types_outgoing_request_drop_own(*made);
    return result;
}

static wasi_http_types_own_request_options_t options_of(uint32_t timeout_ms) {
    wasi_http_types_own_request_options_t made = wasi_http_types_constructor_request_options();
    wasi_http_types_borrow_request_options_t options = wasi_http_types_borrow_request_options(made);
    wasi_http_types_duration_t ns = (uint64_t)timeout_ms * 1000000;
    /* The broker bounds all three, and refuses none. */
    wasi_http_types_method_request_options_set_connect_timeout(options, &ns);
    wasi_http_types_method_request_options_set_first_byte_timeout(options, &ns);
    wasi_http_types_method_request_options_set_between_bytes_timeout(options, &ns);
    return made;
}

/* Writes the body, and hands it over. If that fails, the response says why. */
static void write_body(wasi_http_types_own_outgoing_body_t body, ms_bytes bytes) {
    wasi_http_types_own_output_stream_t stream;
    bool written = wasi_http_types_method_outgoing_body_write(
        wasi_http_types_borrow_outgoing_body(body), &stream);
    if (written) {
        for (size_t at = 0; at < bytes.len && written; at += WRITE_BYTES) {
            size_t len = bytes.len - at < WRITE_BYTES ? bytes.len - at : WRITE_BYTES;
            plugin_list_u8_t part = {(uint8_t *)bytes.data + at, len};
            wasi_io_streams_stream_error_t error;
            written = wasi_io_streams_method_output_stream_blocking_write_and_flush(
                wasi_io_streams_borrow_output_stream(stream), &part, &error);
            if (!written && error.tag == WASI_IO_STREAMS_STREAM_ERROR_LAST_OPERATION_FAILED)
                wasi_io_error_error_drop_own(error.val.last_operation_failed);
        }
        wasi_io_streams_output_stream_drop_own(stream);
    }
    wasi_http_types_error_code_t code;
    if (!written)
        wasi_http_types_outgoing_body_drop_own(body);
    else if (!wasi_http_types_static_outgoing_body_finish(body, NULL, &code))
        wasi_http_types_error_code_free(&code);
}

/* --- The response ------------------------------------------------------------------------------- */

static ms_result read_failed(wasi_io_error_own_error_t failed, const ms_address *address) {
    wasi_io_error_borrow_error_t error = wasi_io_error_borrow_error(failed);
    wasi_http_types_error_code_t code;
    ms_result result;
    if (wasi_http_types_http_error_code(error, &code)) {
        result = told(&code, address);
    } else {
        plugin_string_t text;
        wasi_io_error_method_error_to_debug_string(error, &text);
        ms_bytes words = ms_format("%.*s%c", (int)text.len, (const char *)text.ptr, 0);
        result = ms_http_failed(address->place, (const char *)words.data);
        plugin_string_free(&text);
    }
    wasi_io_error_error_drop_own(failed);
    return result;
}

/* All of a body. */
static ms_result read_stream(wasi_io_streams_borrow_input_stream_t stream, const ms_address *address,
                             ms_bytes *body) {
    uint8_t *bytes = ms_must_allocate(NULL, 0);
    size_t len = 0, room = 0;
    plugin_list_u8_t part;
    wasi_io_streams_stream_error_t ended;
    while (wasi_io_streams_method_input_stream_blocking_read(stream, READ_BYTES, &part, &ended)) {
        if (room - len < part.len) {
            room = (len + part.len) * 2;
            bytes = ms_must_allocate(bytes, room);
        }
        memcpy(bytes + len, part.ptr, part.len);
        len += part.len;
        plugin_list_u8_free(&part);
    }
    ms_keep(bytes);
    *body = (ms_bytes){bytes, len};
    if (ended.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED)
        return MS_OK;
    return read_failed(ended.val.last_operation_failed, address);
}

static ms_result read_body(wasi_http_types_borrow_incoming_response_t response,
                           const ms_address *address, ms_bytes *body) {
    wasi_http_types_own_incoming_body_t incoming;
    if (!wasi_http_types_method_incoming_response_consume(response, &incoming))
        return incomplete(address);
    wasi_http_types_own_input_stream_t stream;
    ms_result result;
    if (wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(incoming),
                                                    &stream)) {
        result = read_stream(wasi_io_streams_borrow_input_stream(stream), address, body);
        wasi_io_streams_input_stream_drop_own(stream);
    } else {
        result = incomplete(address);
    }
    wasi_http_types_incoming_body_drop_own(incoming);
    return result;
}

/* Bytes that are freed with the record. */
static ms_bytes copy_of(const uint8_t *bytes, size_t len) {
    uint8_t *copy = ms_scratch(len);
    if (len > 0)
        memcpy(copy, bytes, len);
    return (ms_bytes){copy, len};
}

static void read_headers(wasi_http_types_borrow_incoming_response_t from, ms_http_response *response) {
    wasi_http_types_own_headers_t fields = wasi_http_types_method_incoming_response_headers(from);
    wasi_http_types_list_tuple2_field_key_field_value_t entries;
    wasi_http_types_method_fields_entries(wasi_http_types_borrow_fields(fields), &entries);
    ms_header *headers = ms_scratch(entries.len * sizeof *headers);
    for (size_t i = 0; i < entries.len; i++)
        headers[i] = (ms_header){copy_of(entries.ptr[i].f0.ptr, entries.ptr[i].f0.len),
                                 copy_of(entries.ptr[i].f1.ptr, entries.ptr[i].f1.len)};
    response->headers = headers;
    response->header_count = entries.len;
    wasi_http_types_list_tuple2_field_key_field_value_free(&entries);
    wasi_http_types_fields_drop_own(fields);
}

/* Waits for the response. */
static ms_result await(wasi_http_types_borrow_future_incoming_response_t sent,
                       const ms_address *address, ms_http_response *response) {
    wasi_io_poll_own_pollable_t there =
        wasi_http_types_method_future_incoming_response_subscribe(sent);
    wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(there));
    wasi_io_poll_pollable_drop_own(there);
    wasi_http_types_result_result_own_incoming_response_error_code_void_t answered;
    if (!wasi_http_types_method_future_incoming_response_get(sent, &answered) || answered.is_err)
        return incomplete(address);
    if (answered.val.ok.is_err)
        return told(&answered.val.ok.val.err, address);
    wasi_http_types_own_incoming_response_t incoming = answered.val.ok.val.ok;
    wasi_http_types_borrow_incoming_response_t from = wasi_http_types_borrow_incoming_response(incoming);
    response->status = wasi_http_types_method_incoming_response_status(from);
    read_headers(from, response);
    ms_result result = read_body(from, address, &response->body);
    wasi_http_types_incoming_response_drop_own(incoming);
    return result;
}

ms_result ms_http_send(const ms_http_request *request, ms_http_response *response) {
    ms_address address;
    wasi_http_types_own_outgoing_request_t outgoing;
    if (ms_read_address(request->url, &address) != MS_OK ||
        make(request, &address, &outgoing) != MS_OK)
        return MS_FAILED;
    wasi_http_types_own_outgoing_body_t body;
    bool has_body = request->body.len > 0 &&
                    wasi_http_types_method_outgoing_request_body(
                        wasi_http_types_borrow_outgoing_request(outgoing), &body);
    wasi_http_types_own_request_options_t options;
    if (request->timeout_ms > 0)
        options = options_of(request->timeout_ms);
    wasi_http_types_own_future_incoming_response_t sent;
    wasi_http_types_error_code_t code;
    if (!wasi_http_outgoing_handler_handle(outgoing, request->timeout_ms > 0 ? &options : NULL, &sent,
                                           &code)) {
        if (has_body)
            wasi_http_types_outgoing_body_drop_own(body);
        return told(&code, &address);
    }
    if (has_body)
        write_body(body, request->body);
    ms_result result =
        await(wasi_http_types_borrow_future_incoming_response(sent), &address, response);
    wasi_http_types_future_incoming_response_drop_own(sent);
    return result;
}
