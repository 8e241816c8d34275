/* What of requests needs no host: addresses, and responses that are there. */
#include "internal.h"

#include <string.h>
#include <strings.h>

/* The deployment's own back-off goes before, if it is longer. */
#define RETRY_AFTER_MS 100

ms_result ms_http_failed(const char *place, const char *how) {
    return ms_retry(RETRY_AFTER_MS, "the request failed: %s: %s", place, how);
}

ms_result ms_read_address(const char *url, ms_address *address) {
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t https = 0; https < 2; https++) {
        size_t scheme_len = strlen(schemes[https]);
        if (strncmp(url, schemes[https], scheme_len) != 0)
            continue;
        const char *authority = url + scheme_len;
        size_t authority_len = strcspn(authority, "/?#");
        if (authority_len == 0)
            break;
        const char *path = authority + authority_len;
        /* What follows `#` is for the one who asks. */
        int path_len = (int)strcspn(path, "#");
        *address = (ms_address){
            .https = https == 1,
            .authority = ms_format("%.*s", (int)authority_len, authority),
            .path = ms_format("%s%.*s", *path == '/' ? "" : "/", path_len, path),
            .place = (const char *)ms_format("%.*s%c", (int)(scheme_len + authority_len), url, 0).data,
        };
        return MS_OK;
    }
    return ms_reject("no request: the address \"%s\"", url);
}

ms_result ms_http_successful(const ms_http_response *response) {
    uint16_t status = response->status;
    if (status >= 200 && status < 300)
        return MS_OK;
    bool passing = status == 408 || status == 425 || status == 429;
    if (status >= 300 && status < 500 && !passing)
        return ms_reject("the response has the status %d", status);
    return ms_retry(RETRY_AFTER_MS, "the response has the status %d", status);
}

bool ms_http_find_header(const ms_http_response *response, const char *name, ms_bytes *value) {
    for (size_t i = 0; i < response->header_count; i++) {
        const ms_header *header = &response->headers[i];
        if (header->name.len == strlen(name) &&
            strncasecmp((const char *)header->name.data, name, header->name.len) == 0) {
            *value = header->value;
            return true;
        }
    }
    return false;
}
