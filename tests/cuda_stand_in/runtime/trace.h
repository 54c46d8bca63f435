// The trace: one line for each event, which the tests read.
//
// The other stand-in libraries call the functions with C linkage, which libcudart.so.13 exports.
#pragma once

#include <cstddef>

extern "C" {

// Records work on `stream`, which a capture collects. Returns 0, or the error code that the work
// must return. `kind` is one of those in README.md.
int stand_in_submit(const char* kind, const char* name, const char* detail, void* stream);

// Records an event that is no work of a stream. Returns 0, or the error code to return.
int stand_in_event(const char* kind, const char* name, const char* detail);

// Records a call of a function that the stand-in does not have. Returns an error code.
int stand_in_unexpected(const char* name);
}

namespace stand_in {

// Where an event happened. -1 stands for no device or no stream.
struct Place {
  int device = -1;
  int stream = -1;
  bool captured = false;
};

// Appends a line to the file CUDA_STAND_IN_TRACE. Without the variable, nothing is recorded.
void record(const char* kind, const char* name, const char* detail, const Place& place = {});

// Records a violation of a rule of CUDA.
void violation(const char* rule, const char* detail = "");

// Counts a call of this kind. Returns 0, or the error code that CUDA_STAND_IN_FAIL selects.
//
// The variable has the form `kind:number:code`: the call of this number fails. Some codes mean that
// the device is lost. After such a code, all later calls of all kinds fail with it.
int injected_failure(const char* kind);

}  // namespace stand_in
