// Bytes of a device's spaces, by name of the space.
#include <string.h>
#include "backends/backend.h"

brim_status device_write_range(const backend *api, backend_device *device, const byte_range *range,
                               const void *data, brim_error *err) {
    if (range->space == SPACE_DEVICE)
        return api->write(device, range->offset, data, range->bytes, err);
    if (range->space == SPACE_FILE)
        return api->write_file(device, range->offset, data, range->bytes, err);
    if (api->finish(device, err)) return err->status;
    memcpy((char *)api->host_memory(device) + range->offset, data, (size_t)range->bytes);
    return BRIM_OK;
}

brim_status device_read_range(const backend *api, backend_device *device, const byte_range *range,
                              void *data, brim_error *err) {
    if (range->space == SPACE_DEVICE)
        return api->read(device, range->offset, data, range->bytes, err);
    if (range->space == SPACE_FILE)
        return api->read_file(device, range->offset, data, range->bytes, err);
    if (api->finish(device, err)) return err->status;
    memcpy(data, (const char *)api->host_memory(device) + range->offset, (size_t)range->bytes);
    return BRIM_OK;
}
