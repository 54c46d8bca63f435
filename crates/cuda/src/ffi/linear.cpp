// A linear layer whose product also computes GELU.
//
// tch binds the operator, but passes its flag in the place of the factor `beta`, so that the result
// has ReLU in the place of GELU.

#include <ATen/ops/_addmm_activation.h>

#include "guarded.h"

// Computes GELU(input weight^T + bias) for `input` [rows, in]. The caller owns the result.
extern "C" int blip_linear_gelu(const at::Tensor* input, const at::Tensor* weight, const at::Tensor* bias,
                                at::Tensor** result) {
  return guarded([&] {
    *result = new at::Tensor(
        at::_addmm_activation(*bias, *input, weight->t(), /*beta=*/1, /*alpha=*/1, /*use_gelu=*/true));
  });
}
