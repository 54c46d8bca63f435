// Conversion of C++ exceptions to error codes.
#pragma once

#include <exception>
#include <string>

// The reason of this thread's last failure. The namespace avoids a common global name.
namespace blip_cuda {
inline thread_local std::string last_error;
}  // namespace blip_cuda
using blip_cuda::last_error;

// Returns 0, or 1 if `work` throws.
template <typename Work>
int guarded(Work&& work) {
  try {
    work();
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
  } catch (...) {
    last_error = "unknown C++ exception";
  }
  return 1;
}
