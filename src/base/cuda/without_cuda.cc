// What a build without CUDA answers (cmake/TamiasCuda.cmake).
#include "base/check.h"
#include "base/cuda/device.h"

namespace tamias::cuda {

int DeviceCount() noexcept { return 0; }

DeviceProperties PropertiesOf(int device) {
  Fail(ErrorCode::kUnsupported, "GPU {}: this build of Tamias has no CUDA", device);
}

}  // namespace tamias::cuda
