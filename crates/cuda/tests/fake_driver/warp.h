// The part of a GPU that the kernels use: 32 threads of the host run one warp after another.
//
// A launch fails where a GPU leaves the result undefined:
//   - lanes are in different shuffles
//   - the mask of a shuffle names a lane that does not reach it
//   - a lane reaches a shuffle whose mask does not name it
#pragma once

#include <array>
#include <atomic>
#include <barrier>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(threads)

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

struct Index {
  unsigned x;
};
static thread_local Index threadIdx, blockIdx;

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
inline float rsqrtf(float number) { return 1.0f / std::sqrt(number); }

namespace warp {

constexpr unsigned LANES = 32;

// The operation of a lane at a barrier.
struct Operation {
  enum Kind { EXIT, SHUFFLE } kind;
  unsigned mask;
  int distance;
  float value;
};

static std::barrier<> barrier(LANES);
static std::array<Operation, LANES> lanes;

inline unsigned lane() { return threadIdx.x % LANES; }

// The exception for behaviour that a GPU leaves undefined.
struct Undefined {};

// Waits for all lanes. If their operations differ, every lane sees a different one and throws.
inline void arrive(Operation operation) {
  lanes[lane()] = operation;
  barrier.arrive_and_wait();
  bool same = operation.kind == Operation::EXIT || operation.mask == 0xffffffffu;
  for (const Operation& other : lanes) {
    same = same && other.kind == operation.kind && other.mask == operation.mask &&
           other.distance == operation.distance;
  }
  if (!same) throw Undefined();
}

// Waits until all lanes have read the operations of the others.
inline void depart() { barrier.arrive_and_wait(); }

// Runs `kernel` in `blocks` of `threads`. Returns false if a GPU leaves the result undefined.
template <typename Kernel>
bool launch(unsigned blocks, unsigned threads, Kernel kernel) {
  std::atomic<bool> defined = true;
  std::vector<std::thread> pool;
  for (unsigned lane = 0; lane < LANES; ++lane) {
    pool.emplace_back([&, lane] {
      try {
        for (unsigned first = 0; first < blocks * threads; first += LANES) {
          blockIdx.x = first / threads;
          threadIdx.x = first % threads + lane;
          kernel();
          arrive({Operation::EXIT, 0, 0, 0.0f});
          depart();
        }
      } catch (const Undefined&) {
        defined = false;
      }
    });
  }
  for (std::thread& thread : pool) thread.join();
  return defined;
}

}  // namespace warp

inline float __shfl_xor_sync(unsigned mask, float value, int distance) {
  warp::arrive({warp::Operation::SHUFFLE, mask, distance, value});
  const unsigned other = warp::lane() ^ static_cast<unsigned>(distance);
  // If the other lane is outside the warp, a lane reads its value back.
  const float read = other < warp::LANES ? warp::lanes[other].value : value;
  warp::depart();
  return read;
}
