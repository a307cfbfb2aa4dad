// Entry of the table lookup: checks, then the device's implementation.
#include "ops/embedding.h"

#include "base/check.h"
#include "ops/check_tensor.h"
#include "ops/dispatch.h"
#include "tamias/device_memory.h"

namespace tamias {
namespace {

constexpr std::string_view kName = "embedding";

// The ids lie in the host's memory, whatever the context's device.
void CheckIds(const Context& context, const ConstTensorView& ids, int64_t entries) {
  CheckTensor(kName, "ids", ids, DType::kI32, ids.shape());
  CheckContiguous(kName, "ids", ids);
  if (!ids.empty() && ids.device() != Device{}) {
    Fail(ErrorCode::kInvalidArgument, "{}: ids: expected memory of {}, found memory of {}", kName,
         Name(Device{}), Name(ids.device()));
  }
  if (context.IsPlanning()) return;
  for (int64_t i = 0; i < ids.NumElements(); ++i) {
    const int32_t id = ids.host_data<int32_t>()[i];
    if (id < 0 || id >= entries) {
      Fail(ErrorCode::kInvalidArgument, "{}: ids: expected 0 to {} at place {}, found {}", kName,
           entries - 1, i, id);
    }
  }
}

}  // namespace

void Embedding(Context& context, ConstTensorView table, ConstTensorView ids, TensorView output) {
  CheckWeight(context, kName, "table", table, {-1, -1});
  CheckUnitStride(kName, "table", table);
  CheckIds(context, ids, table.dim(0));
  Shape shape = ids.shape();
  shape.Append(table.dim(1));
  CheckActivations(context, kName, "output", output, shape);
  CheckContiguous(kName, "output", output);
  Workspace::Scope scope(context.workspace());
  const ConstTensorView on_device = OnDevice(context, ids);
  Dispatch(
      context, [&] { cpu::Embedding(context, table, ids, output); },
      [&](cuda::Stream& stream) { cuda::Embedding(stream, table, on_device, output); });
}

}  // namespace tamias
