// What passes between statistics.cpp and library.rs; the fields are those of `Statistics` there.

#pragma once

#include <cstdint>

extern "C" {

struct BlipDeviceMemory {
  int64_t allocated_bytes;
  int64_t allocated_peak_bytes;
  int64_t reserved_bytes;
  int64_t reserved_peak_bytes;
  int64_t retries;
};

int blip_device_memory_devices();
bool blip_device_memory_read(int device, BlipDeviceMemory* memory);
}
