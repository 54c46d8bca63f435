// As much of a GPU as the kernels use, by 32 threads of the host that go through one warp after another.
//
// What a GPU would leave undefined is an error here: lanes that meet in different shuffles, lanes that a shuffle's mask names
// and that never come to it, lanes that come without being named.
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
inline thread_local Index threadIdx, blockIdx;

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

// What a lane is at when all lanes meet.
struct Meeting {
  enum Place { LEFT, SHUFFLE } place;
  unsigned mask;
  int distance;
  float value;
};

inline std::barrier<> meeting(LANES);
inline std::array<Meeting, LANES> lanes;

inline unsigned lane() { return threadIdx.x % LANES; }

// What a GPU leaves undefined has happened.
struct Undefined {};

// Waits for all lanes. If they are not all at the same, each of them sees one that is elsewhere, so that all give up together.
inline void meet(Meeting own) {
  lanes[lane()] = own;
  meeting.arrive_and_wait();
  bool same = own.place == Meeting::LEFT || own.mask == 0xffffffffu;
  for (const Meeting& other : lanes) {
    same = same && other.place == own.place && other.mask == own.mask && other.distance == own.distance;
  }
  if (!same) throw Undefined();
}

// Waits until all lanes have seen what the others were at.
inline void part() { meeting.arrive_and_wait(); }

// Runs `kernel` in `blocks` of `threads`; false if it did what a GPU leaves undefined.
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
          meet({Meeting::LEFT, 0, 0, 0.0f});
          part();
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
  warp::meet({warp::Meeting::SHUFFLE, mask, distance, value});
  const unsigned other = warp::lane() ^ static_cast<unsigned>(distance);
  // Beyond the warp a lane reads itself.
  const float read = other < warp::LANES ? warp::lanes[other].value : value;
  warp::part();
  return read;
}
