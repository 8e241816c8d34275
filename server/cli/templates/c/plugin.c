/* Tells of readings above a limit, and how many there have been of that sensor.
 *
 * In: one JSON object a record, with `sensor` and `celsius`. Out, on `hot`: for each reading above
 * `limit`, the same and a count. */
#include <millstream.h>
#include <string.h>

#define DEFAULT_LIMIT 30

/* What lasts from record to record. It is gone when the worker is started anew; what must last longer
 * is kept in the state. */
static double limit;
static ms_output hot;

/* Runs once, before the first record: reads the configuration and finds the outputs. A failure keeps
 * the worker from starting. */
ms_result init(const ms_context *context) {
    if (ms_config_number("limit", DEFAULT_LIMIT, &limit) != MS_OK)
        return MS_FAILED;
    ms_info("readings above %g", limit);
    return ms_find_output(context, "hot", &hot);
}

/* Counts one more of a sensor. The state outlives the worker, and counts if the call does.
 *
 * What is written for a record stays when the record is rejected later on: handed back by `plugin dlq
 * retry`, it would be counted twice. So everything that may be rejected is looked at before. */
static ms_result count(ms_bytes sensor, uint64_t *times) {
    ms_bytes before;
    if (ms_state_get(sensor, &before) != MS_OK)
        return MS_FAILED;
    *times = 0;
    if (before.len == sizeof *times)
        memcpy(times, before.data, sizeof *times);
    *times += 1;
    return ms_state_put(sensor, (ms_bytes){(const uint8_t *)times, sizeof *times});
}

/* Runs for each record. It may emit any number of records, to any output. A record that is rejected
 * goes where the deployment sends such records; `ms_retry` has it handled again later. */
ms_result handle(const ms_record *record) {
    /* The two fields as they are written: a string with its quotes, a number as its digits. */
    static const char *const names[] = {"sensor", "celsius"};
    ms_bytes values[2];
    if (ms_json_fields(record->value, 2, names, values) != MS_OK)
        return MS_FAILED;
    ms_bytes sensor = values[0], celsius = values[1];
    if (!sensor.data || !celsius.data)
        return ms_reject("expected the fields sensor and celsius");
    double degrees;
    if (ms_json_number(celsius, &degrees) != MS_OK)
        return MS_FAILED;
    if (degrees <= limit)
        return MS_OK;
    uint64_t times;
    if (count(sensor, &times) != MS_OK)
        return MS_FAILED;
    /* The same key, time and headers, and another value. */
    ms_new_record told = ms_same(record);
    told.value = ms_format("{\"sensor\":%.*s,\"celsius\":%.*s,\"times\":%llu}", MS_ARG(sensor),
                           MS_ARG(celsius), (unsigned long long)times);
    return ms_emit(hot, &told);
}
