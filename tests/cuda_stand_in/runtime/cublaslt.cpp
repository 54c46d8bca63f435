// libcublasLt.so.13: matrix products with a bias, which are recorded and not computed.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "trace.h"

namespace {

constexpr int kSuccess = 0;
constexpr int kAllocationFailed = 3;
constexpr int kExecutionFailed = 13;
// CUBLASLT_MATMUL_DESC_EPILOGUE and CUBLASLT_EPILOGUE_DEFAULT.
constexpr int kEpilogueAttribute = 7;
constexpr int kNoEpilogue = 1;
// CUDA_R_8F_E4M3.
constexpr int kFp8 = 28;

struct Layout {
  int type;
  uint64_t rows, columns;
};

struct Description {
  int epilogue = kNoEpilogue;
};

// cublasLtMatmulHeuristicResult_t.
struct Heuristic {
  uint64_t algorithm[8];
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
};

}  // namespace

extern "C" {

size_t cublasLtGetVersion() { return 130100; }
int cublasLtCreate(void** handle) {
  static char created;
  *handle = &created;
  return kSuccess;
}
int cublasLtDestroy(void*) { return kSuccess; }
int cublasLtMatmulDescCreate(Description** description, int, int) {
  *description = new Description;
  return kSuccess;
}
int cublasLtMatmulDescDestroy(Description* description) {
  delete description;
  return kSuccess;
}
int cublasLtMatmulDescSetAttribute(Description* description, int attribute, const void* value, size_t) {
  if (attribute == kEpilogueAttribute) {
    std::memcpy(&description->epilogue, value, sizeof description->epilogue);
  }
  return kSuccess;
}
int cublasLtMatmulPreferenceCreate(char** preference) {
  *preference = new char;
  return kSuccess;
}
int cublasLtMatmulPreferenceDestroy(char* preference) {
  delete preference;
  return kSuccess;
}
int cublasLtMatmulPreferenceSetAttribute(void*, int, const void*, size_t) { return kSuccess; }
int cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t columns, int64_t) {
  *layout = new Layout{type, rows, columns};
  return kSuccess;
}
int cublasLtMatrixLayoutDestroy(Layout* layout) {
  delete layout;
  return kSuccess;
}
int cublasLtMatrixLayoutSetAttribute(Layout*, int, const void*, size_t) { return kSuccess; }
int cublasLtMatmulAlgoGetHeuristic(void*, Description*, Layout*, Layout*, Layout*, Layout*, void*, int,
                                   Heuristic* result, int* count) {
  std::memset(result, 0, sizeof *result);
  *count = 1;
  return kSuccess;
}
int cublasLtMatmul(void*, Description* description, const void*, const void*, Layout* a, const void*, Layout*,
                   const void*, const void*, Layout*, void*, Layout* d, const void*, void*, size_t, void* stream) {
  char detail[96];
  const uint64_t inner = a->rows == d->rows ? a->columns : a->rows;
  std::snprintf(detail, sizeof detail, "m %llu n %llu k %llu epilogue %d%s", static_cast<unsigned long long>(d->rows),
                static_cast<unsigned long long>(d->columns), static_cast<unsigned long long>(inner),
                description->epilogue, a->type == kFp8 ? " fp8" : "");
  switch (stand_in_submit("product", "cublasLtMatmul", detail, stream)) {
    case cudaSuccess: return kSuccess;
    case cudaErrorMemoryAllocation: return kAllocationFailed;
    default: return kExecutionFailed;
  }
}
}
