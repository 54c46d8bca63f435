// C functions for LibTorch's attention kernels, and for its choice among them.
//
// A function that can fail returns non-zero. blip_last_error then has the reason.

#include <ATen/Context.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <c10/util/env.h>
#include <cuda_runtime_api.h>

#include "guarded.h"

// Returns the major and the minor number of a device.
static std::pair<int, int> compute_capability(int device) {
  int major = 0, minor = 0;
  TORCH_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
                  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess,
              "compute capability of device ", device, " is unknown");
  return {major, minor};
}

extern "C" {

// LibTorch prefers cuDNN on these devices if its choice includes cuDNN.
int blip_attention_prefers_cudnn(int device, int* prefers) {
  return guarded([&] {
    const auto [major, minor] = compute_capability(device);
    const bool is_off = c10::utils::check_env("TORCH_CUDNN_SDPA_DEPRIORITIZED") == true;
    *prefers = !is_off && (major == 9 || major == 10) && minor == 0;
  });
}

// LibTorch has flash attention for these devices.
int blip_attention_has_flash(int device, int* has_flash) {
  return guarded([&] { *has_flash = compute_capability(device).first >= 8; });
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

// Calls flash attention for rows of queries that attend to ranges of `key` and `value`. The caller
// owns the result.
//
// `ranges` are the starts of the rows of queries and the end of the last one, the starts of the
// ranges and one number that is not used, and the numbers of tokens. `sizes` are the most
// queries of a row, and the tokens of a range.
int blip_attention_ranges(const at::Tensor* const tensors[3], const at::Tensor* const ranges[3],
                          const int64_t sizes[2], at::Tensor** context) {
  return guarded([&] {
    const auto& [query, key, value] = std::tie(*tensors[0], *tensors[1], *tensors[2]);
    const auto& [query_starts, token_starts, token_counts] = std::tie(*ranges[0], *ranges[1], *ranges[2]);
    auto result = at::_flash_attention_forward(query, key, value, query_starts, token_starts, sizes[0], sizes[1],
                                               /*dropout_p=*/0.0, /*is_causal=*/false,
                                               /*return_debug_mask=*/false, /*scale=*/std::nullopt,
                                               /*window_size_left=*/std::nullopt,
                                               /*window_size_right=*/std::nullopt, token_counts);
    *context = new at::Tensor(std::get<0>(std::move(result)));
  });
}
}
