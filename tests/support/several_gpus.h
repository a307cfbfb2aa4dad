// Generations on several GPUs, which the emulator has and a machine may not: held to those of one,
// and on each to the memory that was planned for it.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tamias/devices.h"
#include "tamias/pipeline.h"
#include "tests/support/device_test.h"
#include "tests/support/linked_model.h"
#ifdef TAMIAS_CUDA_EMULATION
#include "tests/cuda_emulator/device.h"
#include "tests/cuda_emulator/streams.h"
#endif

namespace tamias {

class SeveralGpusTest : public OnGpu<LinkedModelTest> {
 protected:
  // gpus: that the emulator has.
  explicit SeveralGpusTest(int gpus) : OnGpu("several-gpus"), gpus_(gpus) {}

  void SetUp() override {
    OnGpu::SetUp();
#ifdef TAMIAS_CUDA_EMULATION
    cuda_emulator::SetDevices(std::vector<std::string>(static_cast<size_t>(gpus_), "emulator"));
#else
    if (cuda::DeviceCount() < gpus_) {
      GTEST_SKIP() << "this machine has fewer than the " << gpus_
                   << " GPUs that work together here; the emulator, which has them, runs this in "
                      "every run of the tests";
    }
#endif
  }
#ifdef TAMIAS_CUDA_EMULATION
  void TearDown() override { cuda_emulator::SetDevices({"emulator"}); }
#endif

  static GenerateOptions Film(const char* profile) {
    GenerateOptions options = SparsePictureOnGpu(/*steps=*/4, /*skipped_steps=*/"[]");
    options.negative_prompt = "a grey background";
    options.width = options.height = 32;
    options.num_frames = 17;
    options.max_sequence_length = 40;
    options.decode = false;
    options.sparsity = profile;
    options.overrides = {"attn.random_keys=0.1"};
    options.overrides.insert(options.overrides.end(), kSparseFilm.begin(), kSparseFilm.end());
    return options;
  }

  // Within each device's plan, where memory can be counted.
  static GenerateResult Generate(const Pipeline& pipeline, GenerateOptions options,
                                 size_t limit = 0) {
    options.max_gpu_memory_bytes = limit;
#ifdef TAMIAS_CUDA_EMULATION
    std::vector<size_t> before;
    for (int i = 0; i < cuda::DeviceCount(); ++i) {
      before.push_back(cuda_emulator::AllocatedBytes(i));
    }
    cuda_emulator::ResetPeak();
    GenerateResult result;
    {
      const cuda_emulator::ShuffledStreams shuffled(7);
      result = pipeline.Generate(options);
    }
    for (const DeviceMemory& planned : result.planned_devices) {
      const int i = ParseDevice(planned.device).index;
      const size_t taken = cuda_emulator::PeakBytes(i) - before[static_cast<size_t>(i)];
      EXPECT_LE(taken, planned.bytes + 1024) << planned.device;  // empty tensors take a byte
      // Plans count on the longest prompts, and on a decoder.
      EXPECT_GE(2 * taken, planned.bytes) << planned.device;
    }
    return result;
#else
    return pipeline.Generate(options);
#endif
  }

  static nlohmann::json Steps(const GenerateResult& result) {
    return nlohmann::json::parse(result.report_json).at("steps");
  }

 private:
  int gpus_;
};

}  // namespace tamias
