// What the oneDNN operations share: the engine, the number of threads, execution with scratch from
// the workspace, and errors of ours in place of oneDNN's.
#pragma once

#include <omp.h>

#include <dnnl.hpp>
#include <string_view>
#include <unordered_map>

#include "base/check.h"
#include "ops/activation.h"
#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias::cpu {

// The CPU engine: immutable and safe to share between threads.
const dnnl::engine& OnednnEngine();

// oneDNN asks OpenMP for the calling thread's number of threads, both when it chooses a kernel and
// when it runs it: this sets it to the context's and puts the old one back.
class OnednnThreads {
 public:
  explicit OnednnThreads(const Context& context) : before_(omp_get_max_threads()) {
    omp_set_num_threads(context.threads());
  }
  ~OnednnThreads() { omp_set_num_threads(before_); }
  OnednnThreads(const OnednnThreads&) = delete;
  OnednnThreads& operator=(const OnednnThreads&) = delete;

 private:
  int before_;
};

// f32 or bf16.
dnnl::memory::data_type OnednnType(DType dtype);

// An f32 or bf16 descriptor with these dimensions and strides.
dnnl::memory::desc FloatDesc(const dnnl::memory::dims& dims, const dnnl::memory::dims& strides,
                             DType dtype = DType::kF32);

// Whether oneDNN multiplies bf16 as such: it may be held to an older instruction set than the
// processor's (DNNL_MAX_CPU_ISA).
bool OnednnMultipliesBFloat16();

// What products are of in a context: bf16 where its activations are and oneDNN multiplies them as
// such, else f32.
DType OnednnProductType(const Context& context);

// Attributes: activation, then addition to what the output holds, scratch passed by the caller.
dnnl::primitive_attr OnednnAttributes(Activation activation, bool accumulate);

// Runs the primitive to its end with its scratchpad taken from the workspace, by the threads of a
// living OnednnThreads. Signal handlers wait until then.
void ExecuteOnednn(Context& context, const dnnl::primitive& primitive,
                   const dnnl::memory::desc& scratchpad,
                   std::unordered_map<int, dnnl::memory> arguments);

// What ExecuteOnednn takes, for a planning context.
void PlanOnednn(Context& context, const dnnl::memory::desc& scratchpad);

// Throws kOutOfMemory unless there is room for what oneDNN compiles: version 2.6 writes the code of
// a primitive through a null pointer where it gets no memory for it. To be called before primitives
// are made.
void CheckRoomForCode();

// Runs `body` after CheckRoomForCode; turns a dnnl::error into kOutOfMemory or kInternal naming the
// operation.
template <typename Body>
auto WithOnednnErrors(std::string_view operation, const Body& body) {
  CheckRoomForCode();
  try {
    return body();
  } catch (const dnnl::error& error) {
    Fail(error.status == dnnl_out_of_memory ? ErrorCode::kOutOfMemory : ErrorCode::kInternal,
         "{}: oneDNN: {}", operation, error.what());
  }
}

}  // namespace tamias::cpu
