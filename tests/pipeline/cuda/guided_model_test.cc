// GPUs that share a call of the transformer, of which one fails: the others do not wait for it, and
// what is said is what it failed of.
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "tests/support/guided_step.h"
#include "tests/support/several_gpus.h"

namespace tamias {
namespace {

class CudaGuidedModel : public SeveralGpusTest {
 protected:
  CudaGuidedModel() : SeveralGpusTest(2) {}

  // How a step ends in which each rank attends twice, or `fails` before the second time.
  static std::string ErrorOfStep(const std::function<void(const Context&)>& fails) {
    const CallingFamily family([&](Context& context, float, const PromptViews&,
                                   ConstTensorView latents, SparseInvocation& invocation,
                                   TensorView) {
      Workspace::Scope scope(context.workspace());
      const Shape heads = {1, 2, latents.dim(1), 64};
      const TensorView x = context.workspace().Allocate(heads, DType::kBF16);
      const TensorView output =
          context.workspace().Allocate({1, latents.dim(1), 2 * 64}, DType::kBF16);
      Zero(context, x);
      for (int layer = 0; layer < 2; ++layer) {
        if (layer == 1) fails(context);
        invocation.Attention(context, layer, {.query = x, .key = x, .value = x, .scale = 1},
                             output.SplitAxis(2, 2, 64).Permute({0, 2, 1, 3}));
      }
    });
    GenerationPlan plan;
    plan.devices = ParseDevices("cuda:0,cuda:1");
    plan.placement = kPlacement;
    plan.rank_bounds = {0, 2, 4};
    plan.shares.resize(2);
    std::vector<PromptEmbedding> prompts;
    prompts.push_back({Tensor::Zeros({1, 0, 1}, DType::kF32), {}});
    GuidedStep step(family, std::move(plan), std::move(prompts));
    return tamias::ErrorOf([&] { step.Predict(); });
  }
};

TEST_F(CudaGuidedModel, NobodyWaitsForARankThatFailed) {
  EXPECT_EQ(ErrorOfStep([](const Context&) {}), "");
  for (const int failing : {0, 1}) {
    EXPECT_EQ(ErrorOfStep([&](const Context& context) {
                if (context.device().index == failing) Fail(ErrorCode::kDevice, "work: failed");
              }),
              "work: failed");
  }
}

}  // namespace
}  // namespace tamias
