// libcublas.so.13: matrix products, which are recorded and not computed.
//
// The wheels of the CPU build have no headers of cuBLAS. The declarations here have the parameters
// of its reference manual.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "trace.h"

namespace {

constexpr int kSuccess = 0;
constexpr int kAllocationFailed = 3;
constexpr int kExecutionFailed = 13;

struct Handle {
  void* stream = nullptr;
};

int product(const char* name, void* stream, int64_t m, int64_t n, int64_t k) {
  char detail[96];
  std::snprintf(detail, sizeof detail, "m %lld n %lld k %lld", static_cast<long long>(m),
                static_cast<long long>(n), static_cast<long long>(k));
  switch (stand_in_submit("product", name, detail, stream)) {
    case cudaSuccess: return kSuccess;
    case cudaErrorMemoryAllocation: return kAllocationFailed;
    default: return kExecutionFailed;
  }
}

}  // namespace

extern "C" {



int cublasCreate_v2(Handle** handle) {
  *handle = new Handle;
  return kSuccess;
}
int cublasDestroy_v2(Handle* handle) {
  delete handle;
  return kSuccess;
}
int cublasSetStream_v2(Handle* handle, void* stream) {
  handle->stream = stream;
  return kSuccess;
}
int cublasGetStream_v2(Handle* handle, void** stream) {
  *stream = handle->stream;
  return kSuccess;
}
int cublasSetWorkspace_v2(Handle*, void*, size_t) { return kSuccess; }
int cublasGetMathMode(Handle*, int* mode) {
  *mode = 0;
  return kSuccess;
}
int cublasSetMathMode(Handle*, int) { return kSuccess; }
int cublasGetPointerMode_v2(Handle*, int* mode) {
  *mode = 0;
  return kSuccess;
}
int cublasSetPointerMode_v2(Handle*, int) { return kSuccess; }
int cublasGemmEx(Handle* handle, int, int, int m, int n, int k, ...) {
  return product("cublasGemmEx", handle->stream, m, n, k);
}
int cublasSgemm_v2(Handle* handle, int, int, int m, int n, int k, ...) {
  return product("cublasSgemm", handle->stream, m, n, k);
}
int cublasGemmStridedBatchedEx(Handle* handle, int, int, int m, int n, int k, ...) {
  return product("cublasGemmStridedBatchedEx", handle->stream, m, n, k);
}
int cublasSgemmStridedBatched(Handle* handle, int, int, int m, int n, int k, ...) {
  return product("cublasSgemmStridedBatched", handle->stream, m, n, k);
}
}
