// The demo model's pictures with the transformer on a GPU against those of the CPU.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tamias/pipeline.h"
#include "tests/support/device_test.h"
#include "tests/support/linked_model.h"

namespace tamias {
namespace {

class CudaFluxPipeline : public CudaTest {
 protected:
  static GenerateOptions Options(const char* sparsity) {
    GenerateOptions options = SmallPicture(/*steps=*/3);
    options.true_cfg_scale = 1;
    options.sparsity = sparsity;
    return options;
  }

  static double PsnrToTheCpu(GenerateOptions options, GenerateResult& on_gpu) {
    const Pipeline pipeline(TAMIAS_SOURCE_DIR "/models/demo-flux");
    const GenerateResult on_cpu = pipeline.Generate(options);
    options.device = "cuda";
    on_gpu = pipeline.Generate(options);
    return Psnr(on_gpu.images.at(0), on_cpu.images.at(0));
  }
};

TEST_F(CudaFluxPipeline, DensePicturesAreTheCpus) {
  GenerateResult result;
  const double psnr = PsnrToTheCpu(Options("off"), result);
  RecordProperty("psnr", std::to_string(psnr));
  EXPECT_GT(psnr, 40);
  const auto report = nlohmann::json::parse(result.report_json);
  EXPECT_EQ(report.at("device"), "cuda:0");
  EXPECT_GT(report.at("planned_device_memory_bytes"), 0);
}

TEST_F(CudaFluxPipeline, AcceleratedPicturesAreTheCpus) {
  GenerateOptions options = Options("demo");
  options.overrides = {"attn.full_step_schedule={0, 1}", "attn.mbm=32", "mlp.mbm=128",
                       "step_caching.is_enabled=false"};
  GenerateResult result;
  const double psnr = PsnrToTheCpu(options, result);
  RecordProperty("psnr", std::to_string(psnr));
  EXPECT_GT(psnr, 35);
  EXPECT_GT(result.attention_sparsity, 0.1);
}

TEST_F(CudaFluxPipeline, ThePlanSpeaksOfTheGpu) {
  const Pipeline pipeline(TAMIAS_SOURCE_DIR "/models/demo-flux");
  GenerateOptions options = Options("demo");
  EXPECT_EQ(pipeline.PlanMemory(options).device_bytes, 0u);
  options.device = "cuda:0";
  const MemoryPlan plan = pipeline.PlanMemory(options);
  size_t sum = 0;
  ASSERT_EQ(plan.devices.size(), 1u);
  EXPECT_EQ(plan.devices[0].device, "cuda:0");
  for (const MemoryEntry& entry : plan.devices[0].entries) sum += entry.bytes;
  EXPECT_EQ(plan.device_bytes, sum);
  EXPECT_GT(plan.device_bytes, 0u);
}

}  // namespace
}  // namespace tamias
