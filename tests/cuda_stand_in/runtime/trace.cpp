#include "trace.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

namespace stand_in {

namespace {

int trace_file() {
  static const int file = [] {
    const char* path = std::getenv("CUDA_STAND_IN_TRACE");
    return path == nullptr ? -1 : ::open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  }();
  return file;
}

// The call that CUDA_STAND_IN_FAIL selects.
struct SelectedFailure {
  std::string kind;
  long number = 0;
  int code = 0;

  SelectedFailure() {
    const char* text = std::getenv("CUDA_STAND_IN_FAIL");
    char name[32];
    if (text != nullptr && std::sscanf(text, "%31[^:]:%ld:%d", name, &number, &code) == 3) {
      kind = name;
    }
  }
};

// Codes of cudaError_t after which a process cannot use the device again.
bool loses_device(int code) {
  return code == 214 || code == 700 || code == 710 || (code >= 714 && code <= 719);
}

}  // namespace

void record(const char* kind, const char* name, const char* detail, const Place& place) {
  if (trace_file() < 0) {
    return;
  }
  char line[1024];
  const int written =
      std::snprintf(line, sizeof line, "%s\t%s\t%s\t%d\t%d\t%d\t%ld\n", kind, name, detail, place.device,
                    place.stream, place.captured ? 1 : 0, ::syscall(SYS_gettid));
  const int length = std::min<int>(written, sizeof line - 1);
  // A name can be cut. The line must end nevertheless.
  line[length - 1] = '\n';
  // One call for each line, so that the lines of a test that appends to the file stay in order.
  if (::write(trace_file(), line, static_cast<size_t>(length)) != length) {
    std::abort();
  }
}

void violation(const char* rule, const char* detail) { record("violation", rule, detail); }

int injected_failure(const char* kind) {
  static const SelectedFailure selected;
  static std::mutex mutex;
  static std::map<std::string, long> calls;
  static int lost = 0;
  if (selected.kind.empty()) {
    return 0;
  }
  const std::lock_guard lock(mutex);
  if (lost != 0) {
    return lost;
  }
  if (++calls[kind] != selected.number || selected.kind != kind) {
    return 0;
  }
  if (loses_device(selected.code)) {
    lost = selected.code;
  }
  return selected.code;
}

}  // namespace stand_in

extern "C" {

int stand_in_event(const char* kind, const char* name, const char* detail) {
  if (const int code = stand_in::injected_failure(kind)) {
    return code;
  }
  stand_in::record(kind, name, detail);
  return 0;
}

int stand_in_unexpected(const char* name) {
  stand_in::record("unexpected", name, "");
  // cudaErrorNotSupported. Other libraries have other codes, but none of them uses 0 for failures.
  return 801;
}
}
