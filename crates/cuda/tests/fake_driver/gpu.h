// The part of a GPU that the kernels use: the threads of a block are contexts of one host thread,
// and blocks run one after another.
//
// A launch fails where a GPU leaves the result undefined:
//   - threads of a warp are in different shuffles
//   - the mask of a shuffle names a thread that does not reach it
//   - a thread reaches a shuffle whose mask does not name it
//   - a thread ends while another one waits for the block, or a warp does different things
// Threads run in ascending order in even blocks and in descending order in odd ones. Where a
// barrier is missing, results depend on this order.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)

struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

struct Index {
  unsigned x;
};
static Index threadIdx, blockIdx;

template <typename To, typename From>
To bits_of(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

inline float __uint_as_float(unsigned bits) { return bits_of<float>(bits); }
inline unsigned __float_as_uint(float number) { return bits_of<unsigned>(number); }
inline float half_to_float(unsigned short bits) { return bits_of<_Float16>(bits); }
inline unsigned short float_to_half(float number) { return bits_of<unsigned short>(static_cast<_Float16>(number)); }

// Returns a number in float8_e4m3: a sign, four bits of the exponent with a bias of 7, three bits.
inline unsigned char float_to_fp8(float number) {
  const unsigned char sign = std::signbit(number) ? 0x80 : 0;
  if (std::isnan(number)) return 0x7f;
  const float size = std::min(std::fabs(number), 448.0f);
  const int exponent = std::max(size == 0 ? -6 : std::ilogb(size), -6);
  // Ties go to the even number. A sum of eight steps and more carries into the exponent.
  const long steps = std::lrint(std::ldexp(size, 3 - exponent));
  return sign | static_cast<unsigned char>((exponent + 6) * 8 + steps);
}
inline unsigned short floats_to_fp8(float low, float high) {
  return float_to_fp8(low) | float_to_fp8(high) << 8;
}

inline float rsqrtf(float number) { return 1.0f / std::sqrt(number); }

namespace gpu {

constexpr unsigned WARP_THREADS = 32;
constexpr std::size_t STACK_BYTES = 65536;

// What a thread waits for.
struct Operation {
  enum Kind { EXIT, SHUFFLE, SYNCHRONIZE } kind;
  unsigned mask;
  int distance;
  float value;
};

struct Thread {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  Operation operation;
};

static std::vector<Thread> block;
static ucontext_t scheduler;
static std::function<void()> kernel;

// Runs thread `index` until it waits or ends.
inline void resume(unsigned index) {
  threadIdx.x = index;
  swapcontext(&scheduler, &block[index].context);
}

// Returns to the scheduler until the operation is complete.
inline void wait(Operation operation) {
  Thread& thread = block[threadIdx.x];
  thread.operation = operation;
  swapcontext(&thread.context, &scheduler);
}

inline void run_thread() {
  kernel();
  wait({Operation::EXIT, 0, 0, 0.0f});
}

inline bool is_same(const Operation& one, const Operation& other) {
  return one.kind == other.kind && one.mask == other.mask && one.distance == other.distance;
}

// Runs the kernel in the threads of a block. Returns false if a GPU leaves the result undefined.
inline bool run_block() {
  const unsigned threads = block.size();
  for (unsigned index = 0; index < threads; ++index) {
    Thread& thread = block[index];
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&thread.context, run_thread, 0);
    resume(index);
  }
  for (;;) {
    bool have_shuffled = false;
    for (unsigned first = 0; first < threads; first += WARP_THREADS) {
      const Operation& operation = block[first].operation;
      if (operation.kind != Operation::SHUFFLE) continue;
      have_shuffled = true;
      const auto differs = [&](const Thread& thread) { return !is_same(thread.operation, operation); };
      const auto warp = block.begin() + first;
      if (operation.mask != 0xffffffffu || std::any_of(warp, warp + WARP_THREADS, differs)) return false;
      float values[WARP_THREADS];
      for (unsigned lane = 0; lane < WARP_THREADS; ++lane) {
        // If the other lane is outside the warp, a lane reads its value back.
        const unsigned other = lane ^ static_cast<unsigned>(operation.distance);
        values[lane] = warp[other < WARP_THREADS ? other : lane].operation.value;
      }
      for (unsigned lane = 0; lane < WARP_THREADS; ++lane) warp[lane].operation.value = values[lane];
      for (unsigned lane = 0; lane < WARP_THREADS; ++lane) resume(first + lane);
    }
    if (have_shuffled) continue;
    const Operation& operation = block.front().operation;
    const auto differs = [&](const Thread& thread) { return !is_same(thread.operation, operation); };
    if (std::any_of(block.begin(), block.end(), differs)) return false;
    if (operation.kind == Operation::EXIT) return true;
    for (unsigned count = 0; count < threads; ++count) {
      resume(blockIdx.x % 2 == 0 ? count : threads - 1 - count);
    }
  }
}

// Runs `function` in `blocks` of `threads`. Returns false if a GPU leaves the result undefined.
inline bool launch(unsigned blocks, unsigned threads, std::function<void()> function) {
  if (threads == 0 || threads % WARP_THREADS != 0 || threads > 1024) return false;
  kernel = std::move(function);
  block = std::vector<Thread>(threads);
  for (Thread& thread : block) thread.stack.reset(new char[STACK_BYTES]);
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
    if (!run_block()) return false;
  }
  return true;
}

}  // namespace gpu

inline float __shfl_xor_sync(unsigned mask, float value, int distance) {
  gpu::wait({gpu::Operation::SHUFFLE, mask, distance, value});
  return gpu::block[threadIdx.x].operation.value;
}

inline void __syncthreads() { gpu::wait({gpu::Operation::SYNCHRONIZE, 0, 0, 0.0f}); }
