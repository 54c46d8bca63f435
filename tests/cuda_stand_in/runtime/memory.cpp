#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "stream.h"

namespace stand_in {

namespace {

constexpr size_t kPage = 4096;
constexpr size_t kGiB = size_t{1} << 30;
constexpr size_t kDefaultGiB = 141;
// What the host finds in the target of a copy that it has not waited for.
constexpr int kPoison = 0xEE;

struct DeviceBlock {
  size_t bytes;
  int device;
};

// An asynchronous copy between page-locked memory and a device.
struct PendingCopy {
  Position position;
  // The page-locked memory.
  char* host;
  size_t bytes;
  bool is_to_host;
  // Of the source, to detect later changes.
  uint64_t checksum = 0;
};

struct Memory {
  std::map<const char*, DeviceBlock> device_blocks;
  std::map<const char*, size_t> page_locked_blocks;
  std::vector<PendingCopy> pending;
  std::array<size_t, 16> used{};
};

Memory& memory() {
  static auto* all = new Memory;
  return *all;
}

template <typename Blocks, typename Bytes>
auto find_block(const Blocks& blocks, const void* address, Bytes bytes_of) {
  auto found = blocks.upper_bound(static_cast<const char*>(address));
  if (found == blocks.begin()) {
    return blocks.end();
  }
  --found;
  const bool is_inside = static_cast<const char*>(address) < found->first + bytes_of(found->second);
  return is_inside ? found : blocks.end();
}

auto find_device_block(const void* address) {
  return find_block(memory().device_blocks, address, [](const DeviceBlock& block) { return block.bytes; });
}

bool is_device(const void* address) { return find_device_block(address) != memory().device_blocks.end(); }

bool is_page_locked(const void* address) {
  const auto& blocks = memory().page_locked_blocks;
  return find_block(blocks, address, [](size_t bytes) { return bytes; }) != blocks.end();
}

const char* kind_of(const void* address) {
  return is_device(address) ? "device" : is_page_locked(address) ? "page-locked" : "pageable";
}

// FNV-1a of up to 4,096 bytes, spread over the block.
uint64_t checksum(const char* data, size_t bytes) {
  uint64_t sum = 0xcbf29ce484222325;
  const size_t step = std::max<size_t>(bytes / 4096, 1);
  for (size_t at = 0; at < bytes; at += step) {
    sum = (sum ^ static_cast<unsigned char>(data[at])) * 0x100000001b3;
  }
  return sum;
}

size_t whole_pages(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

}  // namespace

size_t device_capacity() {
  static const size_t bytes = [] {
    const char* text = std::getenv("CUDA_STAND_IN_GIB");
    return (text == nullptr ? kDefaultGiB : std::strtoull(text, nullptr, 10)) * kGiB;
  }();
  return bytes;
}

size_t device_used(int device) { return memory().used[device]; }

cudaError_t allocate(void** address, size_t bytes) {
  *address = nullptr;
  if (const auto error = check_capture_allows("cudaMalloc")) {
    return error;
  }
  if (const int code = injected_failure("allocate")) {
    return fail(static_cast<cudaError_t>(code));
  }
  const int device = current_device();
  if (memory().used[device] + bytes > device_capacity()) {
    return fail(cudaErrorMemoryAllocation);
  }
  void* block = ::mmap(nullptr, whole_pages(bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) {
    return fail(cudaErrorMemoryAllocation);
  }
  memory().device_blocks[static_cast<char*>(block)] = {bytes, device};
  memory().used[device] += bytes;
  record("allocate", "cudaMalloc", std::to_string(bytes).c_str(), {device});
  *address = block;
  return cudaSuccess;
}

cudaError_t release(void* address) {
  if (address == nullptr) {
    return cudaSuccess;
  }
  if (const auto error = check_capture_allows("cudaFree")) {
    return error;
  }
  const auto found = memory().device_blocks.find(static_cast<char*>(address));
  if (found == memory().device_blocks.end()) {
    violation("release of memory that is not allocated");
    return fail(cudaErrorInvalidValue);
  }
  const auto [bytes, device] = found->second;
  // CUDA waits for the device here.
  complete_all(device);
  record("release", "cudaFree", std::to_string(bytes).c_str(), {device});
  memory().used[device] -= bytes;
  memory().device_blocks.erase(found);
  ::munmap(address, whole_pages(bytes));
  return cudaSuccess;
}

cudaError_t allocate_page_locked(void** address, size_t bytes) {
  *address = nullptr;
  if (const auto error = check_capture_allows("cudaHostAlloc")) {
    return error;
  }
  if (const int code = injected_failure("page_lock")) {
    return fail(static_cast<cudaError_t>(code));
  }
  void* block = ::mmap(nullptr, whole_pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) {
    return fail(cudaErrorMemoryAllocation);
  }
  register_page_locked(block, bytes);
  record("page_lock", "cudaHostAlloc", std::to_string(bytes).c_str());
  *address = block;
  return cudaSuccess;
}

cudaError_t release_page_locked(void* address) {
  if (const auto error = check_capture_allows("cudaFreeHost")) {
    return error;
  }
  const auto found = memory().page_locked_blocks.find(static_cast<char*>(address));
  if (found == memory().page_locked_blocks.end()) {
    violation("release of page-locked memory that is not allocated");
    return fail(cudaErrorInvalidValue);
  }
  const size_t bytes = found->second;
  unregister_page_locked(address);
  ::munmap(address, whole_pages(bytes));
  return cudaSuccess;
}

void register_page_locked(void* address, size_t bytes) {
  memory().page_locked_blocks[static_cast<char*>(address)] = bytes;
}

void unregister_page_locked(void* address) {
  auto& blocks = memory().page_locked_blocks;
  const auto found = blocks.find(static_cast<char*>(address));
  if (found == blocks.end()) {
    return;
  }
  const char* end = found->first + found->second;
  for (const PendingCopy& copy : memory().pending) {
    if (copy.host >= found->first && copy.host < end) {
      violation("release of page-locked memory before its copy is done");
    }
  }
  blocks.erase(found);
}

cudaMemoryType memory_type(const void* address) {
  if (is_device(address)) {
    return cudaMemoryTypeDevice;
  }
  return is_page_locked(address) ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
}

int device_of(const void* address) {
  const auto found = find_device_block(address);
  return found == memory().device_blocks.end() ? current_device() : found->second.device;
}

cudaError_t copy(void* to, const void* from, size_t bytes, Stream* stream, bool is_blocking) {
  if (bytes == 0) {
    return cudaSuccess;
  }
  const bool is_from_device = is_device(from), is_to_device = is_device(to);
  char detail[96];
  std::snprintf(detail, sizeof detail, "%zu %s to %s", bytes, kind_of(from), kind_of(to));
  if (const auto error = submit(stream, "copy", is_blocking ? "blocking" : "asynchronous", detail)) {
    return error;
  }
  if (is_from_device && is_to_device) {
    return cudaSuccess;
  }
  if (stream->capture != nullptr) {
    violation("copy between host and device in a capture", detail);
    return cudaSuccess;
  }
  if (!is_from_device && !is_to_device) {
    std::memcpy(to, from, bytes);
    return cudaSuccess;
  }
  const Position position{stream, stream->submitted};
  auto* host = static_cast<char*>(is_to_device ? const_cast<void*>(from) : to);
  if (is_page_locked(host) && !is_blocking) {
    PendingCopy pending{position, host, bytes, is_from_device};
    if (is_from_device) {
      std::memset(host, kPoison, bytes);
    } else {
      pending.checksum = checksum(host, bytes);
    }
    memory().pending.push_back(pending);
    return cudaSuccess;
  }
  // CUDA reads pageable memory before it returns. It writes pageable memory after it has waited.
  if (is_from_device) {
    complete(position);
    std::memset(host, 0, bytes);
  }
  return cudaSuccess;
}

void complete_copies(Stream* stream) {
  auto& pending = memory().pending;
  const auto is_done = [&](const PendingCopy& copy) {
    if (copy.position.stream != stream || !copy.position.is_reached()) {
      return false;
    }
    if (copy.is_to_host) {
      std::memset(copy.host, 0, copy.bytes);
    } else if (checksum(copy.host, copy.bytes) != copy.checksum) {
      violation("change of page-locked memory before its copy is done");
    }
    return true;
  };
  pending.erase(std::remove_if(pending.begin(), pending.end(), is_done), pending.end());
}

}  // namespace stand_in
