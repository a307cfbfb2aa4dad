// Work in a queue of the caller's: it is the context's while the scope lives, the context's own is
// there again after it, and what was enqueued in either is done once the context is waited for.
#include "tamias/context.h"
#include "tamias/device_memory.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/device_test.h"

namespace tamias {
namespace {

// The default queue of every CUDA program, by the handle that stands for it.
CUstream_st* DefaultQueue() { return reinterpret_cast<CUstream_st*>(uintptr_t{1}); }

class CudaStreamScope : public CudaTest {};

TEST_F(CudaStreamScope, LendsTheCallersQueue) {
  Context context(kPlacement, 1);
  cuda::Stream* const own = &context.stream();
  {
    const StreamScope scope(context, DefaultQueue());
    EXPECT_EQ(context.stream().handle(), DefaultQueue());
    EXPECT_EQ(context.stream().device(), kPlacement.device);
  }
  EXPECT_EQ(&context.stream(), own);
}

TEST_F(CudaStreamScope, KeepsTheOrderOfWork) {
  Context context(kPlacement, 1);
  const Tensor values = RandomTensor({64}, 1), zeros = Tensor::Zeros({64}, DType::kF32);
  Tensor device = ToDevice(context.stream(), values.view());
  {
    const StreamScope scope(context, DefaultQueue());
    EXPECT_TRUE(SameBytes(CopyToHost(context, device), values));
    Zero(context, device);
  }
  EXPECT_TRUE(SameBytes(CopyToHost(context, device), zeros));
}

TEST_F(CudaStreamScope, NeedsAGpu) {
  Context host(1);
  ExpectError(ErrorCode::kInternal, "", [&] { StreamScope(host, nullptr); });
}

}  // namespace
}  // namespace tamias
