/* Memory that is freed when a record is done, and bytes in it. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is to be freed. */
static void **kept;
static size_t kept_count, kept_room;

void *ms_must_allocate(void *memory, size_t len) {
    void *grown = realloc(memory, len ? len : 1);
    if (!grown)
        abort();
    return grown;
}

void ms_keep(void *memory) {
    if (kept_count == kept_room) {
        kept_room = kept_room ? kept_room * 2 : 16;
        kept = ms_must_allocate(kept, kept_room * sizeof *kept);
    }
    kept[kept_count++] = memory;
}

void *ms_scratch(size_t len) {
    void *memory = ms_must_allocate(NULL, len);
    ms_keep(memory);
    return memory;
}

void ms_release_all(void) {
    while (kept_count > 0)
        free(kept[--kept_count]);
}

ms_bytes ms_text(const char *text) {
    return (ms_bytes){(const uint8_t *)text, strlen(text)};
}

ms_bytes ms_format(const char *format, ...) {
    char short_text[512];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(short_text, sizeof short_text, format, arguments);
    va_end(arguments);
    if (len < 0)
        abort();
    char *text = ms_scratch((size_t)len + 1);
    if ((size_t)len < sizeof short_text) {
        memcpy(text, short_text, (size_t)len);
    } else {
        va_start(arguments, format);
        vsnprintf(text, (size_t)len + 1, format, arguments);
        va_end(arguments);
    }
    return (ms_bytes){(uint8_t *)text, (size_t)len};
}

bool ms_equal(ms_bytes a, ms_bytes b) {
    if (!a.data || !b.data)
        return a.data == b.data;
    return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/* The length of the character at `at`; 0 if it is no UTF-8 (RFC 3629). */
static size_t character_len(const uint8_t *at, size_t there) {
    uint8_t first = at[0];
    if (first < 0x80)
        return 1;
    size_t len = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || len > there)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    /* Overlong forms, surrogates, and what is above U+10FFFF. */
    bool refused = (first == 0xe0 && at[1] < 0xa0) || (first == 0xed && at[1] > 0x9f) ||
                   (first == 0xf0 && at[1] < 0x90) || (first == 0xf4 && at[1] > 0x8f);
    return refused ? 0 : len;
}

void ms_make_utf8(uint8_t *text, size_t len) {
    for (size_t at = 0; at < len;) {
        size_t character = character_len(text + at, len - at);
        if (character == 0)
            text[at] = '?';
        at += character ? character : 1;
    }
}
