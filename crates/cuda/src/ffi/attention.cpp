// C functions for the choice of LibTorch's attention kernels.
//
// A function that can fail returns non-zero. blip_last_error then has the reason.

#include <ATen/Context.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <c10/util/env.h>
#include <cuda_runtime_api.h>

#include "guarded.h"

extern "C" {

// LibTorch prefers cuDNN on these devices if its choice includes cuDNN.
int blip_attention_prefers_cudnn(int device, int* prefers) {
  return guarded([&] {
    int major = 0, minor = 0;
    TORCH_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
                    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess,
                "compute capability of device ", device, " is unknown");
    const bool is_off = c10::utils::check_env("TORCH_CUDNN_SDPA_DEPRIORITIZED") == true;
    *prefers = !is_off && (major == 9 || major == 10) && minor == 0;
  });
}

// Removes cuDNN from the kernels that LibTorch chooses from, in the whole process.
int blip_attention_exclude_cudnn() {
  return guarded([] { at::globalContext().setSDPUseCuDNN(false); });
}

// Calls cuDNN without a choice. The caller owns the result.
int blip_attention_cudnn(const at::Tensor* query, const at::Tensor* key, const at::Tensor* value,
                         at::Tensor** context) {
  return guarded([&] {
    auto result = at::_scaled_dot_product_cudnn_attention(*query, *key, *value, std::nullopt,
                                                          /*compute_log_sumexp=*/false);
    *context = new at::Tensor(std::get<0>(std::move(result)));
  });
}
}
