/* The parts of the SDK that need no host, run natively:
 *
 *     cc -std=c11 -I.. sdk_test.c ../http.c ../json.c ../memory.c ../outcomes.c ../records.c && ./a.out
 */
#include "../internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checks, failures;

#define CHECK(condition) check(condition, #condition, __LINE__)

static void check(bool holds, const char *what, int line) {
    checks++;
    if (!holds) {
        failures++;
        fprintf(stderr, "line %d: %s\n", line, what);
    }
}

/* In a guest, these are next to the exports. */
ms_failure ms_last_failure;

static ms_result fail(ms_failure_kind kind, const char *format, va_list arguments) {
    char *reason = ms_scratch(4096);
    int len = vsnprintf(reason, 4096, format, arguments);
    ms_last_failure = (ms_failure){kind, 0, {(uint8_t *)reason, (size_t)len}};
    return MS_FAILED;
}

ms_result ms_reject(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    ms_result failed = fail(MS_REJECT, format, arguments);
    va_end(arguments);
    return failed;
}

ms_result ms_retry(uint32_t after_ms, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    ms_result failed = fail(MS_RETRY, format, arguments);
    va_end(arguments);
    ms_last_failure.after_ms = after_ms;
    return failed;
}

static bool failed_with(const char *reason) {
    return ms_equal(ms_last_failure.reason, ms_text(reason));
}

static ms_bytes field(const char *json) {
    static const char *const names[] = {"a"};
    ms_bytes value;
    ms_last_failure.reason = (ms_bytes){0};
    return ms_json_fields(ms_text(json), 1, names, &value) == MS_OK ? value : (ms_bytes){0};
}

static void test_fields(void) {
    CHECK(ms_equal(field("{\"a\":1}"), ms_text("1")));
    CHECK(ms_equal(field(" { \"b\" : [1, {\"a\": 2}] , \"a\" : \"x\\\"y\" } "), ms_text("\"x\\\"y\"")));
    CHECK(ms_equal(field("{\"a\":1,\"a\":null}"), ms_text("null")));
    CHECK(!field("{}").data && !ms_last_failure.reason.data);
    CHECK(!field("{\"ab\":1,\"\":2}").data && !ms_last_failure.reason.data);

    static const struct {
        const char *json, *reason;
    } wrong[] = {
        {"", "invalid JSON at byte 0: expected an object"},
        {"[]", "invalid JSON at byte 0: expected an object"},
        {"{\"a\":1", "invalid JSON at byte 6: expected `,` or `}`"},
        {"{\"a\":1} x", "invalid JSON at byte 8: expected the end"},
        {"{\"a\" 1}", "invalid JSON at byte 5: expected `:`"},
        {"{\"a\":01}", "invalid JSON at byte 6: expected `,` or `}`"},
        {"{\"a\":-}", "invalid JSON at byte 6: expected a digit"},
        {"{\"a\":1.}", "invalid JSON at byte 7: expected a digit"},
        {"{\"a\":1e+}", "invalid JSON at byte 8: expected a digit"},
        {"{\"a\":nul}", "invalid JSON at byte 5: expected a value"},
        {"{\"a\":\"\\q\"}", "invalid JSON at byte 7: unknown escape"},
        {"{\"a\":\"\\u12\"}", "invalid JSON at byte 10: expected a hexadecimal digit"},
        {"{\"a\":\"\n\"}", "invalid JSON at byte 6: a control character in a string"},
        {"{\"a\":\"x", "invalid JSON at byte 7: expected the end of a string"},
        {"{\"a\":[1,]}", "invalid JSON at byte 8: expected a value"},
        {"{\"a\":[1", "invalid JSON at byte 7: expected `,` or `]`"},
        {"{\"a\":1,}", "invalid JSON at byte 7: expected a string"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        bool told = !field(wrong[i].json).data && failed_with(wrong[i].reason);
        if (!told)
            fprintf(stderr, "%s: %.*s\n", wrong[i].json, MS_ARG(ms_last_failure.reason));
        CHECK(told);
    }

    char deep[400] = "{\"a\":";
    memset(deep + 5, '[', 200);
    CHECK(!field(deep).data && failed_with("invalid JSON at byte 132: nested too deep"));
    static const char *const names[] = {"a"};
    ms_bytes value;
    CHECK(ms_json_fields((ms_bytes){0}, 1, names, &value) == MS_FAILED);
}

static void test_values(void) {
    double number;
    CHECK(ms_json_number(ms_text("-1.5e2"), &number) == MS_OK && number == -150);
    CHECK(ms_json_number(ms_text("\"1\""), &number) == MS_FAILED && failed_with("not a number: \"1\""));
    CHECK(ms_json_number(ms_text("1 "), &number) == MS_FAILED);
    CHECK(ms_json_number((ms_bytes){0}, &number) == MS_FAILED);

    static const struct {
        const char *json, *text;
    } strings[] = {
        {"\"\"", ""},
        {"\"a\\\"\\\\\\/\\n\\t\"", "a\"\\/\n\t"},
        {"\"gr\\u00fcn\"", "gr\xc3\xbcn"},
        {"\"\\u20AC\"", "\xe2\x82\xac"},
        {"\"\\ud83d\\ude00!\"", "\xf0\x9f\x98\x80!"},
        {"\"\\ud83d!\"", "\xef\xbf\xbd!"},
        {"\"\\ude00\\ud83d\"", "\xef\xbf\xbd\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        ms_bytes text;
        CHECK(ms_json_string(ms_text(strings[i].json), &text) == MS_OK);
        CHECK(ms_equal(text, ms_text(strings[i].text)));
    }
    ms_bytes text;
    CHECK(ms_json_string(ms_text("7"), &text) == MS_FAILED);
    CHECK(ms_json_string((ms_bytes){0}, &text) == MS_FAILED);
}

static void test_utf8(void) {
    static const struct {
        const char *given, *made;
    } texts[] = {
        {"gr\xc3\xbcn \xf0\x9f\x98\x80", "gr\xc3\xbcn \xf0\x9f\x98\x80"},
        {"\xff", "?"},
        {"\xc3", "?"},
        {"\xc0\x80", "??"},
        {"\xed\xa0\x80", "???"},
        {"\xf4\x90\x80\x80", "????"},
        {"a\xe2\x82z", "a??z"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char text[32];
        size_t len = strlen(texts[i].given);
        memcpy(text, texts[i].given, len + 1);
        ms_make_utf8((uint8_t *)text, len);
        CHECK(strcmp(text, texts[i].made) == 0);
    }
}

/* A batch at offset 258 and time 1000: (+0 ms, key "k", value "v", header h = none), and (+64 ms, no
 * key, no value). Bit 3 of the attributes gives both the time 2000. */
static uint8_t batch[] = {
    0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 69, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    0, 0, 0, 0, 0, 0, 3, 0xe8, 0, 0, 0, 0, 0, 0, 7, 0xd0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 0, 0, 0, 2,
    22, 0, 0, 0, 2, 'k', 2, 'v', 2, 2, 'h', 1,
    14, 0, 0x80, 1, 2, 1, 1, 0,
};

static void test_records(void) {
    CHECK(sizeof batch == 12 + 69);
    ms_records records = ms_records_of(batch, sizeof batch);
    ms_record record;
    CHECK(ms_next_record(&records, &record));
    CHECK(record.offset == 258 && record.timestamp_ms == 1000);
    CHECK(ms_equal(record.key, ms_text("k")) && ms_equal(record.value, ms_text("v")));
    ms_bytes value = ms_text("x");
    CHECK(ms_find_header(&record, "h", &value) && !value.data);
    CHECK(!ms_find_header(&record, "H", &value));
    CHECK(ms_next_record(&records, &record));
    CHECK(record.offset == 259 && record.timestamp_ms == 1064);
    CHECK(!record.key.data && !record.value.data && record.headers.count == 0);
    CHECK(!ms_next_record(&records, &record) && !records.rest.broken);

    batch[22] = 0x08;
    records = ms_records_of(batch, sizeof batch);
    CHECK(ms_next_record(&records, &record) && record.timestamp_ms == 2000);
    batch[22] = 0;
}

/* Whatever is cut off, nothing is read behind the end. */
static void test_broken_batches(void) {
    for (size_t len = 1; len < sizeof batch; len++) {
        uint8_t *cut = malloc(len);
        memcpy(cut, batch, len);
        ms_records records = ms_records_of(cut, len);
        for (ms_record record; ms_next_record(&records, &record);) {
            ms_bytes value;
            ms_find_header(&record, "none", &value);
        }
        CHECK(records.rest.broken);
        free(cut);
    }
}

static void test_outcomes(void) {
    ms_records records = ms_records_of(batch, sizeof batch);
    ms_record record;
    ms_next_record(&records, &record);
    ms_outcomes_clear();
    ms_outcomes_begin(0, record.timestamp_ms);
    ms_new_record same = ms_same(&record);
    CHECK(ms_emit((ms_output){1}, &same) == MS_OK);
    ms_outcomes_begin(1, 5);
    CHECK(ms_emit((ms_output){0}, &(ms_new_record){.key = ms_text("k")}) == MS_OK);
    ms_outcomes_fail(&(ms_failure){MS_REJECT, 0, ms_text("bad")});
    ms_outcomes_begin(2, 5);
    ms_outcomes_fail(&(ms_failure){MS_RETRY, 100, ms_text("")});
    ms_outcomes_begin(4, 5);
    ms_header header = {ms_text("n"), ms_text("w")};
    ms_new_record listed = {.value = ms_text(""), .headers = &header, .header_count = 1};
    CHECK(ms_emit((ms_output){0}, &listed) == MS_OK);
    static const uint8_t expect[] = {
        0, 0, 2, 24, 0, 0xd0, 0x0f, 0, 2, 'k', 2, 'v', 2, 2, 'h', 1,
        2, 1, 6, 'b', 'a', 'd',
        2, 2, 0xc8, 1, 0,
        4, 0, 0, 20, 0, 10, 0, 1, 0, 2, 2, 'n', 2, 'w',
    };
    size_t len;
    uint8_t *bytes = ms_outcomes_take(&len);
    CHECK(ms_equal((ms_bytes){bytes, len}, (ms_bytes){expect, sizeof expect}));
    free(bytes);

    static uint8_t large[((size_t)4 << 20) + 1];
    ms_new_record too_large = {.value = {large, sizeof large}};
    CHECK(ms_emit((ms_output){0}, &too_large) == MS_FAILED);
    CHECK(failed_with("an output has 4194305 bytes, more than 4194304"));
}

static void test_addresses(void) {
    static const struct {
        const char *url;
        bool https;
        const char *authority, *path, *place;
    } addresses[] = {
        {"https://a.test", true, "a.test", "/", "https://a.test"},
        {"http://a.test:81/b/c?d=e/f#g", false, "a.test:81", "/b/c?d=e/f", "http://a.test:81"},
        {"https://a.test?b/c", true, "a.test", "/?b/c", "https://a.test"},
        {"https://a.test#b", true, "a.test", "/", "https://a.test"},
    };
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        ms_address address;
        CHECK(ms_read_address(addresses[i].url, &address) == MS_OK);
        CHECK(address.https == addresses[i].https);
        CHECK(ms_equal(address.authority, ms_text(addresses[i].authority)));
        CHECK(ms_equal(address.path, ms_text(addresses[i].path)));
        CHECK(strcmp(address.place, addresses[i].place) == 0);
    }
    static const char *const wrong[] = {"a.test", "ftp://a.test", "https://", "https:///path", ""};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ms_address address;
        CHECK(ms_read_address(wrong[i], &address) == MS_FAILED && ms_last_failure.kind == MS_REJECT);
    }
    CHECK(failed_with("no request: the address \"\""));
}

static void test_responses(void) {
    static const uint16_t passing[] = {100, 408, 425, 429, 500, 503}, final[] = {301, 400, 404, 499};
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++) {
        ms_http_response response = {.status = passing[i]};
        CHECK(ms_http_successful(&response) == MS_FAILED);
        CHECK(ms_last_failure.kind == MS_RETRY && ms_last_failure.after_ms == 100);
    }
    CHECK(failed_with("the response has the status 503"));
    for (size_t i = 0; i < sizeof final / sizeof *final; i++) {
        ms_http_response response = {.status = final[i]};
        CHECK(ms_http_successful(&response) == MS_FAILED && ms_last_failure.kind == MS_REJECT);
    }
    ms_header header = {ms_text("Retry-After"), ms_text("7")};
    ms_http_response response = {.status = 204, .headers = &header, .header_count = 1};
    CHECK(ms_http_successful(&response) == MS_OK);
    ms_bytes value;
    CHECK(ms_http_find_header(&response, "retry-after", &value) && ms_equal(value, ms_text("7")));
    CHECK(!ms_http_find_header(&response, "age", &value));
}

int main(void) {
    test_fields();
    test_values();
    test_utf8();
    test_records();
    test_broken_batches();
    test_outcomes();
    test_addresses();
    test_responses();
    ms_release_all();
    printf("%d checks, %d failed\n", checks, failures);
    return failures > 0;
}
