// The kernels, run by the host.
#include "warp.h"

#include "../../src/add_norm.cu"

extern "C" bool run(bool keep_sum, unsigned blocks, uint4* states, const uint4* delta, const uint4* weight,
                    const uint4* bias, uint4* normed, long long rows) {
  return warp::launch(blocks, ROWS_PER_BLOCK * WARP, [=] {
    (keep_sum ? pre_norm : post_norm)(states, delta, weight, bias, normed, rows);
  });
}
