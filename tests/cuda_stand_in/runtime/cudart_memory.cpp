// libcudart.so.13: memory and copies.

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>

#include "memory.h"
#include "stream.h"

using namespace stand_in;

extern "C" {

cudaError_t cudaMalloc(void** address, size_t bytes) {
  const Lock lock(runtime_lock());
  return allocate(address, bytes);
}
cudaError_t cudaFree(void* address) {
  const Lock lock(runtime_lock());
  return release(address);
}
cudaError_t cudaMallocAsync(void** address, size_t bytes, cudaStream_t) { return cudaMalloc(address, bytes); }
cudaError_t cudaFreeAsync(void* address, cudaStream_t) { return cudaFree(address); }
cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned) {
  const Lock lock(runtime_lock());
  return allocate_page_locked(address, bytes);
}
cudaError_t cudaFreeHost(void* address) {
  const Lock lock(runtime_lock());
  return release_page_locked(address);
}
cudaError_t cudaHostRegister(void* address, size_t bytes, unsigned) {
  const Lock lock(runtime_lock());
  register_page_locked(address, bytes);
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void* address) {
  const Lock lock(runtime_lock());
  unregister_page_locked(address);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const Lock lock(runtime_lock());
  *total_bytes = device_capacity();
  *free_bytes = device_capacity() - device_used(current_device());
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  const Lock lock(runtime_lock());
  std::memset(attributes, 0, sizeof *attributes);
  attributes->type = memory_type(address);
  attributes->device = device_of(address);
  void* pointer = const_cast<void*>(address);
  attributes->devicePointer = attributes->type == cudaMemoryTypeUnregistered ? nullptr : pointer;
  attributes->hostPointer = attributes->type == cudaMemoryTypeHost ? pointer : nullptr;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  const Lock lock(runtime_lock());
  return copy(to, from, bytes, find_stream(stream), false);
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  const Lock lock(runtime_lock());
  if (const auto error = check_capture_allows("cudaMemcpy")) {
    return error;
  }
  Stream* stream = default_stream(current_device());
  if (const auto error = copy(to, from, bytes, stream, true)) {
    return error;
  }
  complete({stream, stream->submitted});
  return wait("cudaMemcpy", stream->place());
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t stream) {
  const Lock lock(runtime_lock());
  return copy(to, from, bytes, find_stream(stream), false);
}
cudaError_t cudaMemcpy2DAsync(void*, size_t, const void*, size_t, size_t width, size_t height, cudaMemcpyKind,
                              cudaStream_t stream) {
  const Lock lock(runtime_lock());
  char detail[64];
  std::snprintf(detail, sizeof detail, "%zu by %zu", width, height);
  return submit(find_stream(stream), "copy", "two dimensions", detail);
}
cudaError_t cudaMemsetAsync(void*, int, size_t bytes, cudaStream_t stream) {
  const Lock lock(runtime_lock());
  char detail[32];
  std::snprintf(detail, sizeof detail, "%zu", bytes);
  return submit(find_stream(stream), "memset", "memset", detail);
}
cudaError_t cudaMemset(void* address, int value, size_t bytes) {
  return cudaMemsetAsync(address, value, bytes, nullptr);
}
cudaError_t cudaMemcpyToSymbol(const void*, const void*, size_t, size_t, cudaMemcpyKind) { return cudaSuccess; }
cudaError_t cudaGetSymbolAddress(void** address, const void*) {
  // Large enough for any variable of LibTorch's kernels.
  static void* const block = [] {
    void* allocated = nullptr;
    cudaMalloc(&allocated, 1 << 20);
    return allocated;
  }();
  *address = block;
  return block == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

// Memory pools of the driver, which LibTorch asks about when several devices share memory.

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  *pool = nullptr;
  return cudaSuccess;
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaErrorNotSupported; }
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaErrorNotSupported; }
cudaError_t cudaMemPoolSetAccess(cudaMemPool_t, const cudaMemAccessDesc*, size_t) { return cudaErrorNotSupported; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaErrorNotSupported; }
}
