// Device memory, page-locked memory and copies.
//
// Device memory is a range of addresses that the host can neither read nor write: a program that
// uses such an address on the host ends with a signal. What the host copies from a device is 0,
// because no kernel runs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace stand_in {

struct Stream;

// Memory of a device, in bytes. CUDA_STAND_IN_GIB sets it. The default is that of an H200.
size_t device_capacity();
size_t device_used(int device);

cudaError_t allocate(void** address, size_t bytes);
cudaError_t release(void* address);
cudaError_t allocate_page_locked(void** address, size_t bytes);
cudaError_t release_page_locked(void* address);
void register_page_locked(void* address, size_t bytes);
void unregister_page_locked(void* address);

cudaMemoryType memory_type(const void* address);
// Returns the device of a block of device memory, or the current device.
int device_of(const void* address);

// Copies on `stream`. A blocking copy waits for the stream, as one of pageable memory does.
cudaError_t copy(void* to, const void* from, size_t bytes, Stream* stream, bool is_blocking);

// Finishes the copies between host and device that `stream` has reached.
void complete_copies(Stream* stream);

}  // namespace stand_in
