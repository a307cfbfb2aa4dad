#include "base/pinned_upload.h"

#include <algorithm>
#include <vector>

#include "tamias/device_memory.h"
#include "tests/support/any_order.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/device_test.h"

namespace tamias {
namespace {

class CudaPinnedUpload : public CudaTest {};

TEST_F(CudaPinnedUpload, CopiesTensorsOfAnySizeAndFillsNoPieceThatIsOnItsWay) {
  InAnyOrder(20, [] {
    Context context(kPlacement, 2);
    Random random(1);
    PinnedUpload upload(context, 1000);
    std::vector<Tensor> expected, found;
    for (const int64_t count : {1, 250, 0, 251, 3000, 7}) {  // below, at and beyond a piece
      expected.push_back(random.Normal({count}));
      Tensor passing = Tensor::CopyOf(expected.back().view());
      found.push_back(TensorOn(context, {count}, DType::kF32));
      upload.Copy(passing, found.back());
      std::fill_n(passing.data<float>(), count, 0.0f);  // it may change once it was copied
    }
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(LargestError(CopyToHost(context, found[i].view()).view(), expected[i].view()), 0);
    }
  });
}

}  // namespace
}  // namespace tamias
