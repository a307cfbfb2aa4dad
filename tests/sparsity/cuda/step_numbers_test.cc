#include "sparsity/step_numbers.h"

#include <algorithm>
#include <vector>

#include "tamias/device_memory.h"
#include "tests/support/any_order.h"
#include "tests/support/device_test.h"

namespace tamias {
namespace {

class CudaStepNumbers : public CudaTest {};

// Several steps, in memory that grows and is used again.
void ExpectNumbers(Context& context) {
  StepNumbers numbers;
  Tensor device = TensorOn(context, {100'000}, DType::kF32);
  for (int step = 0; step < 3; ++step) {
    std::vector<float> found;
    for (int i = 0; i < 5; ++i) {
      Tensor host({100'000}, DType::kF32);
      std::fill_n(host.data<float>(), host.NumElements(), static_cast<float>(10 * step + i));
      CopyToDevice(context, host, device);
      numbers.Read(context, device, [&found](ConstTensorView values) {
        EXPECT_EQ(values.host_data<float>()[0], values.host_data<float>()[99'999]);
        found.push_back(values.host_data<float>()[0]);
      });
      Zero(context, device);  // behind the copy
      numbers.Then([&found] { found.push_back(-1); });
    }
    EXPECT_TRUE(found.empty());
    numbers.Collect();
    std::vector<float> expected;
    for (int i = 0; i < 5; ++i) {
      expected.push_back(static_cast<float>(10 * step + i));
      expected.push_back(-1);
    }
    EXPECT_EQ(found, expected);
  }
}

TEST_F(CudaStepNumbers, AreThoseOfTheirPlaceInTheQueueInOrderWhenTheStepEnds) {
  InAnyOrder(10, [] {
    Context context(kPlacement, 1);
    ExpectNumbers(context);
  });
}

TEST(StepNumbers, AreThereAtOnceOnTheCpu) {
  Context context(1);
  StepNumbers numbers;
  const Tensor value = Tensor::Zeros({1}, DType::kF32);
  int uses = 0;
  numbers.Read(context, value.view(), [&](ConstTensorView view) {
    EXPECT_EQ(view.raw(), value.view().raw());
    ++uses;
  });
  numbers.Then([&] { ++uses; });
  EXPECT_EQ(uses, 2);
  numbers.Collect();
  EXPECT_EQ(uses, 2);
}

}  // namespace
}  // namespace tamias
