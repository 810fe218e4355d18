// Bytes of a device's spaces, by name of the space; and the device's name in errors.
#include <string.h>
#include "backends/backend.h"

brim_status device_named(const backend *api, const backend_device *device, brim_error *err) {
    if (err->status == BRIM_DEVICE) brim_error_prefix(err, "%s", api->traits(device)->name);
    return err->status;
}

brim_status device_write_range(const backend *api, backend_device *device, const byte_range *range,
                               const void *data, brim_error *err) {
    if (failed(err)) return err->status;
    if (range->space == SPACE_DEVICE)
        api->write(device, range->offset, data, range->bytes, err);
    else if (range->space == SPACE_FILE)
        api->write_file(device, range->offset, data, range->bytes, err);
    else if (api->finish(device, err) == BRIM_OK)
        memcpy((char *)api->host_memory(device) + range->offset, data, (size_t)range->bytes);
    return device_named(api, device, err);
}

brim_status device_read_range(const backend *api, backend_device *device, const byte_range *range,
                              void *data, brim_error *err) {
    if (failed(err)) return err->status;
    if (range->space == SPACE_DEVICE)
        api->read(device, range->offset, data, range->bytes, err);
    else if (range->space == SPACE_FILE)
        api->read_file(device, range->offset, data, range->bytes, err);
    else if (api->finish(device, err) == BRIM_OK)
        memcpy(data, (const char *)api->host_memory(device) + range->offset, (size_t)range->bytes);
    return device_named(api, device, err);
}
