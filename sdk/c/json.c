/* Fields of a JSON object (RFC 8259), without building anything for the rest. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

/* Arrays and objects within each other, counted from the outermost. */
#define MAX_DEPTH 128

/* Numbers that are longer are none. */
#define MAX_NUMBER_BYTES 511

typedef struct scanner {
    const uint8_t *begin, *at, *end;
    /* What is wrong, if anything. */
    const char *wrong;
} scanner;

/* The next byte; 0, which begins nothing, at the end. */
static uint8_t peek(const scanner *text) {
    return text->at < text->end ? *text->at : 0;
}

static bool wrong(scanner *text, const char *what) {
    text->wrong = what;
    return false;
}

static bool expect(scanner *text, uint8_t byte, const char *what) {
    if (peek(text) != byte)
        return wrong(text, what);
    text->at++;
    return true;
}

static void skip_space(scanner *text) {
    while (peek(text) == ' ' || peek(text) == '\t' || peek(text) == '\n' || peek(text) == '\r')
        text->at++;
}

static bool is_digit(uint8_t byte) {
    return byte >= '0' && byte <= '9';
}

static int hex_digit(uint8_t byte) {
    if (is_digit(byte))
        return byte - '0';
    uint8_t lower = byte | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static bool skip_escape(scanner *text) {
    text->at++;
    uint8_t kind = peek(text);
    if (kind == 0 || !strchr("\"\\/bfnrtu", kind))
        return wrong(text, "unknown escape");
    text->at++;
    for (int i = 0; kind == 'u' && i < 4; i++, text->at++)
        if (hex_digit(peek(text)) < 0)
            return wrong(text, "expected a hexadecimal digit");
    return true;
}

static bool skip_string(scanner *text) {
    if (!expect(text, '"', "expected a string"))
        return false;
    while (text->at < text->end) {
        uint8_t byte = *text->at;
        if (byte == '"') {
            text->at++;
            return true;
        }
        if (byte < 0x20)
            return wrong(text, "a control character in a string");
        if (byte != '\\')
            text->at++;
        else if (!skip_escape(text))
            return false;
    }
    return wrong(text, "expected the end of a string");
}

static bool skip_digits(scanner *text) {
    if (!is_digit(peek(text)))
        return wrong(text, "expected a digit");
    while (is_digit(peek(text)))
        text->at++;
    return true;
}

static bool skip_number(scanner *text) {
    if (peek(text) == '-')
        text->at++;
    if (peek(text) == '0')
        text->at++;
    else if (!skip_digits(text))
        return false;
    if (peek(text) == '.') {
        text->at++;
        if (!skip_digits(text))
            return false;
    }
    if ((peek(text) | 0x20) == 'e') {
        text->at++;
        if (peek(text) == '+' || peek(text) == '-')
            text->at++;
        return skip_digits(text);
    }
    return true;
}

static bool skip_literal(scanner *text, const char *literal) {
    size_t len = strlen(literal);
    if ((size_t)(text->end - text->at) < len || memcmp(text->at, literal, len) != 0)
        return wrong(text, "expected a value");
    text->at += len;
    return true;
}

static bool skip_nested(scanner *text, unsigned depth);

static bool skip_value(scanner *text, unsigned depth) {
    switch (peek(text)) {
    case '"':
        return skip_string(text);
    case 't':
        return skip_literal(text, "true");
    case 'f':
        return skip_literal(text, "false");
    case 'n':
        return skip_literal(text, "null");
    case '{':
    case '[':
        return skip_nested(text, depth + 1);
    default:
        if (peek(text) == '-' || is_digit(peek(text)))
            return skip_number(text);
        return wrong(text, "expected a value");
    }
}

/* Names that are looked for, and where their values go. */
typedef struct wanted {
    size_t count;
    const char *const *names;
    ms_bytes *values;
} wanted;

static void tell(const wanted *fields, ms_bytes name, ms_bytes value) {
    for (size_t i = 0; i < fields->count; i++)
        if (strncmp(fields->names[i], (const char *)name.data, name.len) == 0 &&
            fields->names[i][name.len] == 0)
            fields->values[i] = value;
}

/* One member of an object; of an array, when there are no names, one element. */
static bool skip_member(scanner *text, unsigned depth, bool named, const wanted *fields) {
    ms_bytes name = {0};
    if (named) {
        name.data = text->at + 1;
        if (!skip_string(text))
            return false;
        name.len = (size_t)(text->at - 1 - name.data);
        skip_space(text);
        if (!expect(text, ':', "expected `:`"))
            return false;
        skip_space(text);
    }
    const uint8_t *begin = text->at;
    if (!skip_value(text, depth))
        return false;
    if (fields)
        tell(fields, name, (ms_bytes){begin, (size_t)(text->at - begin)});
    return true;
}

/* What is between the brackets, and the closing one. */
static bool skip_members(scanner *text, unsigned depth, uint8_t closing, const wanted *fields) {
    skip_space(text);
    if (peek(text) == closing) {
        text->at++;
        return true;
    }
    while (skip_member(text, depth, closing == '}', fields)) {
        skip_space(text);
        if (peek(text) == closing) {
            text->at++;
            return true;
        }
        if (!expect(text, ',', closing == '}' ? "expected `,` or `}`" : "expected `,` or `]`"))
            return false;
        skip_space(text);
    }
    return false;
}

static bool skip_nested(scanner *text, unsigned depth) {
    if (depth >= MAX_DEPTH)
        return wrong(text, "nested too deep");
    uint8_t closing = peek(text) == '{' ? '}' : ']';
    text->at++;
    return skip_members(text, depth, closing, NULL);
}

ms_result ms_json_fields(ms_bytes json, size_t count, const char *const names[], ms_bytes values[]) {
    for (size_t i = 0; i < count; i++)
        values[i] = (ms_bytes){0};
    if (!json.data)
        return ms_reject("the record has no value");
    scanner text = {json.data, json.data, json.data + json.len, NULL};
    wanted fields = {count, names, values};
    skip_space(&text);
    bool whole = expect(&text, '{', "expected an object") && skip_members(&text, 0, '}', &fields);
    if (whole) {
        skip_space(&text);
        whole = text.at == text.end || wrong(&text, "expected the end");
    }
    if (!whole)
        return ms_reject("invalid JSON at byte %zu: %s", (size_t)(text.at - text.begin), text.wrong);
    return MS_OK;
}

ms_result ms_json_number(ms_bytes value, double *number) {
    char digits[MAX_NUMBER_BYTES + 1];
    scanner text = {value.data, value.data, value.data + value.len, NULL};
    if (!value.data || value.len > MAX_NUMBER_BYTES || !skip_number(&text) || text.at != text.end)
        return ms_reject("not a number: %.*s", MS_ARG(value));
    memcpy(digits, value.data, value.len);
    digits[value.len] = 0;
    *number = strtod(digits, NULL);
    return MS_OK;
}

static uint8_t *write_character(uint8_t *to, uint32_t character) {
    if (character < 0x80) {
        *to++ = (uint8_t)character;
        return to;
    }
    if (character < 0x800) {
        *to++ = (uint8_t)(0xc0 | character >> 6);
    } else {
        if (character < 0x10000) {
            *to++ = (uint8_t)(0xe0 | character >> 12);
        } else {
            *to++ = (uint8_t)(0xf0 | character >> 18);
            *to++ = (uint8_t)(0x80 | (character >> 12 & 0x3f));
        }
        *to++ = (uint8_t)(0x80 | (character >> 6 & 0x3f));
    }
    *to++ = (uint8_t)(0x80 | (character & 0x3f));
    return to;
}

static uint32_t hex_unit(const uint8_t *digits) {
    uint32_t unit = 0;
    for (int i = 0; i < 4; i++)
        unit = unit << 4 | (uint32_t)hex_digit(digits[i]);
    return unit;
}

/* The character of an escape `\uXXXX`, or of two that belong together. One that stands alone is
 * U+FFFD. Moves behind it. */
static uint32_t unicode_escape(const uint8_t **at, const uint8_t *end) {
    uint32_t high = hex_unit(*at);
    *at += 4;
    if (high < 0xd800 || high > 0xdfff)
        return high;
    const uint8_t *next = *at;
    if (high < 0xdc00 && end - next >= 6 && next[0] == '\\' && next[1] == 'u') {
        uint32_t low = hex_unit(next + 2);
        if (low >= 0xdc00 && low <= 0xdfff) {
            *at += 6;
            return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        }
    }
    return 0xfffd;
}

ms_result ms_json_string(ms_bytes value, ms_bytes *decoded) {
    scanner text = {value.data, value.data, value.data + value.len, NULL};
    if (!value.data || !skip_string(&text) || text.at != text.end)
        return ms_reject("not a string: %.*s", MS_ARG(value));
    static const char escapes[] = "bfnrt", characters[] = "\b\f\n\r\t";
    const uint8_t *at = value.data + 1, *end = text.end - 1;
    /* An escape is longer than what it stands for. */
    uint8_t *begin = ms_scratch(value.len), *to = begin;
    while (at < end) {
        if (*at != '\\') {
            *to++ = *at++;
            continue;
        }
        uint8_t kind = at[1];
        at += 2;
        const char *found = strchr(escapes, kind);
        if (kind == 'u')
            to = write_character(to, unicode_escape(&at, end));
        else
            *to++ = found ? (uint8_t)characters[found - escapes] : kind;
    }
    *decoded = (ms_bytes){begin, (size_t)(to - begin)};
    return MS_OK;
}
