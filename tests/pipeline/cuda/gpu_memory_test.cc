// Generations in less of a GPU's memory than they would take: the same picture to the bit, and no
// more memory than was planned, whatever order of copies and kernels the queues allow.
#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/check.h"
#include "pipeline/memory_check.h"
#include "pipeline/model_devices.h"
#include "tamias/generation.h"
#include "tamias/pipeline.h"
#include "tests/support/device_test.h"
#include "tests/support/quantised_model.h"
#include "tests/support/resident_bytes.h"
#ifdef TAMIAS_CUDA_EMULATION
#include "tests/cuda_emulator/device.h"
#include "tests/cuda_emulator/streams.h"
#endif

namespace tamias {
namespace {

using ::testing::HasSubstr;

class CudaGpuMemory : public OnGpu<LinkedModelTest> {
 protected:
  CudaGpuMemory() : OnGpu("gpu-memory") {}

  static GenerateOptions Picture() {
    return SparsePictureOnGpu(/*steps=*/4, /*skipped_steps=*/"[3]");
  }
  // For tests that make many: two full steps and a sparse one, of one invocation.
  static GenerateOptions QuickPicture() {
    GenerateOptions options = SparsePictureOnGpu(/*steps=*/3, /*skipped_steps=*/"[]");
    options.true_cfg_scale = 1;
    return options;
  }

  // With a limit; checks the memory taken where it can be counted.
  static GenerateResult Generate(const Pipeline& pipeline, GenerateOptions options, size_t limit) {
    options.max_gpu_memory_bytes = limit;
#ifdef TAMIAS_CUDA_EMULATION
    const size_t before = cuda_emulator::AllocatedBytes();
    cuda_emulator::ResetPeak();
    GenerateResult result;
    {
      const cuda_emulator::ShuffledStreams shuffled(7);
      result = pipeline.Generate(options);
    }
    const size_t taken = cuda_emulator::PeakBytes() - before;
    const size_t planned = result.planned_device_memory_bytes;
    EXPECT_LE(taken, planned + 1024);  // empty tensors take a byte
    if (before == 0) {                 // else models that stay are there already
      EXPECT_GE(static_cast<double>(taken), 0.9 * static_cast<double>(planned));
    }
    return result;
#else
    return pipeline.Generate(options);
#endif
  }

  static size_t Least(const Pipeline& pipeline, GenerateOptions options) {
    options.max_gpu_memory_bytes = 1;
    return pipeline.PlanMemory(options).device_bytes;
  }
};

// By the type of the transformer's weights.
class CudaGpuMemoryOfWeights : public CudaGpuMemory,
                               public ::testing::WithParamInterface<const char*> {
 protected:
  static GenerateOptions Picture() {
    GenerateOptions options = CudaGpuMemory::Picture();
    options.weight_dtype = GetParam();
    return options;
  }
};

INSTANTIATE_TEST_SUITE_P(WeightTypes, CudaGpuMemoryOfWeights,
                         ::testing::Values("auto", "fp8_e4m3"));

TEST_P(CudaGpuMemoryOfWeights, PicturesAreTheSameInTheLeastMemory) {
  const GenerateOptions options = Picture();
  const Image expected = Generate(Pipeline(kDemoModel), options, 0).images.at(0);
  const Pipeline pipeline(kDemoModel);
  const size_t all = pipeline.PlanMemory(options).device_bytes, least = Least(pipeline, options);
  EXPECT_LT(static_cast<double>(least), 0.8 * static_cast<double>(all));
  const MemoryPlan plan = [&] {
    GenerateOptions limited = options;
    limited.max_gpu_memory_bytes = least;
    return pipeline.PlanMemory(limited);
  }();
  EXPECT_EQ(plan.device_bytes, least);
  EXPECT_THAT(plan.device_measures,
              ::testing::ElementsAre(HasSubstr("in their stage alone"), HasSubstr("the state"),
                                     HasSubstr("sparse MLPs"), HasSubstr("of the transformer's")));
  EXPECT_EQ(Generate(pipeline, options, least).images.at(0).rgb, expected.rgb);
#ifdef TAMIAS_CUDA_EMULATION
  EXPECT_EQ(cuda_emulator::AllocatedBytes(), 0u);
#endif
  // With all of the memory again, what was let go is loaded again.
  EXPECT_EQ(Generate(pipeline, options, 0).images.at(0).rgb, expected.rgb);
}

// The next generation of the same plan finds them, another lets them go.
TEST_F(CudaGpuMemory, PinnedCopiesOfBlocksAreKept) {
  const Pipeline pipeline(kDemoModel);
  GenerateOptions options = QuickPicture();
  options.decode = false;
  const size_t least = Least(pipeline, options);
  const auto pinned = [&](size_t limit) {
    options.max_gpu_memory_bytes = limit;
    for (const MemoryEntry& entry : pipeline.PlanMemory(options).entries) {
      if (entry.name == "weights that come to the GPU in turn (pinned)") return entry.bytes;
    }
    return size_t{0};
  };
  const size_t planned = pinned(least), more = least + (pinned(least) + (size_t{4} << 20)) / 4;
  ASSERT_GT(planned, size_t{4} << 20);
  EXPECT_EQ(pipeline.pinned_bytes(), 0u);
  const GenerateResult first = Generate(pipeline, options, least);
  EXPECT_EQ(pipeline.pinned_bytes(), planned);
#ifdef TAMIAS_CUDA_EMULATION
  const size_t given_out = cuda_emulator::PinnedBytesGivenOut();
#endif
  const GenerateResult second = Generate(pipeline, options, least);
  EXPECT_EQ(second.latents.at(0).values, first.latents.at(0).values);
  EXPECT_EQ(pipeline.pinned_bytes(), planned);
#ifdef TAMIAS_CUDA_EMULATION
  EXPECT_EQ(cuda_emulator::PinnedBytesGivenOut(), given_out - planned);
#endif
  EXPECT_GT(pinned(more), 0u);
  EXPECT_LT(pinned(more), planned);
  EXPECT_EQ(Generate(pipeline, options, more).latents.at(0).values, first.latents.at(0).values);
  EXPECT_EQ(pipeline.pinned_bytes(), pinned(more));
  EXPECT_EQ(pinned(0), 0u);
  Generate(pipeline, options, 0);
  EXPECT_EQ(pipeline.pinned_bytes(), 0u);
}

// The limit is for decoding, which counts no transformer.
TEST_F(CudaGpuMemory, PinnedCopiesStayWhileLatentsAreDecoded) {
  const Pipeline pipeline(kDemoModel);
  GenerateOptions options = QuickPicture();
  options.decode = false;
  options.steps = 1;
  const SavedLatents saved{.latents = Generate(pipeline, options, Least(pipeline, options)).latents,
                           .text = {},
                           .path = {}};
  const size_t pinned = pipeline.pinned_bytes();
  EXPECT_GT(pinned, 0u);
  options.decode = true;
  options.max_gpu_memory_bytes = 0;
  EXPECT_EQ(pipeline.Decode(saved, options).images.size(), 1u);
  EXPECT_EQ(pipeline.pinned_bytes(), pinned);
}

TEST_F(CudaGpuMemory, OneThatFailedHoldsNothing) {
  const Pipeline pipeline(kDemoModel);
  GenerateOptions options = QuickPicture();
  options.max_gpu_memory_bytes = Least(pipeline, options);
  options.on_prediction = [](const StepPrediction&) { Fail(ErrorCode::kInternal, "stop"); };
  Generation failed = pipeline.Start(options);
  EXPECT_EQ(tamias::ErrorOf([&] { failed.Step(); }, ErrorCode::kInternal), "stop");
#ifdef TAMIAS_CUDA_EMULATION
  EXPECT_EQ(cuda_emulator::AllocatedBytes(), 0u);
#endif
  options.on_prediction = {};
  const Generation next = pipeline.Start(options);
  EXPECT_THAT(tamias::ErrorOf([&] { failed.Step(); }, ErrorCode::kInvalidArgument),
              HasSubstr("an earlier call has failed"));
  EXPECT_THAT(tamias::ErrorOf([&] { failed.latents(); }, ErrorCode::kInvalidArgument),
              HasSubstr("an earlier call has failed"));
}

// The second picture of the first finds its transformer as the first picture did.
TEST_F(CudaGpuMemory, OneUnderWayKeepsItsFormOfAModel) {
  const Pipeline pipeline(kDemoModel);
  GenerateOptions options = QuickPicture();
  options.decode = false;
  options.steps = 1;
  options.num_images = 2;
  options.max_gpu_memory_bytes = Least(pipeline, options);
  Generation first = pipeline.Start(options);
  while (first.Step()) {
  }
  first.Decode();
  GenerateOptions whole = options;
  whole.max_gpu_memory_bytes = 0;
  EXPECT_THAT(tamias::ErrorOf([&] { pipeline.Start(whole); }, ErrorCode::kOutOfMemory),
              HasSubstr("it must end first"));
  while (first.Step()) {
  }
  first.Decode();
  const Generation after = pipeline.Start(whole);
}

// The encoders are the same.
TEST_F(CudaGpuMemory, WeightsInAnotherTypeThatAreInUseCountAsTaken) {
  const std::unique_ptr<ModelFamily> family = LoadModelFamily(ModelFolder(kDemoModel));
  DryRuns dry_runs;
  GenerateOptions options = QuickPicture();
  options.max_gpu_memory_bytes = size_t{1} << 30;
  const auto plan_in = [&](const char* weight_dtype) {
    options.weight_dtype = weight_dtype;
    return PlanGeneration(*family, options, dry_runs, [](Device) {
      return CardMemory{size_t{1} << 30, size_t{1} << 30};
    });
  };
  const GenerationPlan wide = plan_in("auto");
  GenerationPlan narrow = plan_in("fp8_e4m3"), same = wide;
  RunningGenerations running;
  const RunningGenerations::Entry first = running.Enter(wide, options);
  const auto expect_needs = [&](GenerationPlan& plan, size_t bytes) {
    size_t& free = plan.memory.devices.at(0).free_bytes;
    free = bytes;
    EXPECT_EQ(tamias::ErrorOf([&] { running.Enter(plan, options); }), "");
    free = bytes - 1;
    EXPECT_THAT(tamias::ErrorOf([&] { running.Enter(plan, options); }, ErrorCode::kOutOfMemory),
                HasSubstr("beside the generations under way"));
  };
  size_t transformer = 0;
  for (const PlannedCopy& copy : wide.copies) {
    if (copy.component->RunsIn(ModelStage::kDenoise)) transformer += copy.device_bytes();
  }
  EXPECT_GT(transformer, 0u);
  expect_needs(same, wide.memory.device_bytes + wide.new_device_bytes.at(0));
  expect_needs(narrow, narrow.memory.device_bytes + wide.new_device_bytes.at(0) + transformer);
}

TEST_F(CudaGpuMemory, MeasuresAreTakenInTheirOrder) {
  const Pipeline pipeline(kDemoModel);
  GenerateOptions options = Picture();
  size_t measures = 0, limit = pipeline.PlanMemory(options).device_bytes;
  const size_t least = Least(pipeline, options);
  for (; limit >= least; limit -= limit / 64) {
    options.max_gpu_memory_bytes = limit;
    const MemoryPlan plan = pipeline.PlanMemory(options);
    EXPECT_LE(plan.device_bytes, limit);
    EXPECT_GE(plan.device_measures.size(), measures);
    measures = plan.device_measures.size();
  }
  EXPECT_GE(measures, 3u);
}

// From the limit that all of it fits down to the one that none does, in few places.
TEST_F(CudaGpuMemory, StateGoesToTheHostInPart) {
  GenerateOptions options = QuickPicture();
  options.decode = false;
  const GenerateResult expected = Generate(Pipeline(kDemoModel), options, 0);
  const Pipeline pipeline(kDemoModel);
  const size_t all = pipeline.PlanMemory(options).device_bytes;
  std::set<std::string> measures;
  for (size_t limit = all; measures.size() < 2 && limit > all / 3; limit -= all / 128) {
    options.max_gpu_memory_bytes = limit;
    const std::vector<std::string> taken = pipeline.PlanMemory(options).device_measures;
    if (taken.size() != 2 || !measures.insert(taken[1]).second) continue;
    EXPECT_THAT(taken[1], ::testing::MatchesRegex("the state of [1-7] of 8 layers .*"));
    EXPECT_EQ(Generate(pipeline, options, limit).latents.at(0).values,
              expected.latents.at(0).values);
  }
  EXPECT_EQ(measures.size(), 2u);
}

TEST_F(CudaGpuMemory, WhatCannotFitIsRefusedWithWhatWould) {
  const Pipeline pipeline(kDemoModel);
  GenerateOptions options = Picture();
  const size_t least = Least(pipeline, options);
  options.max_gpu_memory_bytes = least - 1;
  const auto message = [&] {
    return tamias::ErrorOf([&] { pipeline.Generate(options); }, ErrorCode::kOutOfMemory);
  };
  EXPECT_THAT(message(), HasSubstr("of GPU memory at the least (less with weight_dtype fp8_e4m3), "
                                   "but max_gpu_memory is"));
  options.weight_dtype = "fp8_e4m3";
  EXPECT_LT(Least(pipeline, options), least);
  options.max_gpu_memory_bytes = Least(pipeline, options) - 1;
  EXPECT_THAT(message(), HasSubstr("of GPU memory at the least, but max_gpu_memory is"));
}

// A film of the tiny Wan of this name, or of its kind.
GenerateOptions Film(const char* profile) {
  GenerateOptions options = SparsePictureOnGpu(/*steps=*/8, /*skipped_steps=*/"[]");
  options.width = options.height = 32;
  options.num_frames = 17;
  options.max_sequence_length = 40;
  options.decode = false;
  options.sparsity = profile;
  options.overrides = kSparseFilm;
  return options;
}

// Steps 0 to 2 of 8 are the first transformer's.
TEST_F(CudaGpuMemory, OfTwoTransformersOneIsThereAtATime) {
  LinkWan("tiny-wan");
  LinkAll({"model_index.json", "transformer", "transformer_2"}, kTinyPipelines / "tiny-wan-2.2");
  const GenerateOptions options = Film("wan-2.2");
  const GenerateResult expected = Generate(Pipeline(folder_), options, 0);
  const Pipeline pipeline(folder_);
  const size_t all = expected.planned_device_memory_bytes;
  const GenerateResult limited = Generate(pipeline, options, all - 1);
  EXPECT_THAT(limited.device_measures, ::testing::ElementsAre(HasSubstr("each transformer")));
  const DeviceMemory& memory = limited.planned_devices.at(0);
  const auto bytes = [&](const char* name) {
    for (const MemoryEntry& entry : memory.entries) {
      if (entry.name == name) return entry.bytes;
    }
    return size_t{0};
  };
  const size_t second = bytes("denoising, second transformer: weights of transformer_2");
  EXPECT_GT(second, 0u);
  EXPECT_EQ(bytes("denoising: weights of transformer"), second);
  EXPECT_LE(memory.bytes, all - second);
  EXPECT_EQ(limited.latents.at(0).values, expected.latents.at(0).values);
  EXPECT_EQ(Generate(pipeline, options, Least(pipeline, options)).latents.at(0).values,
            expected.latents.at(0).values);
}

// A generation on a GPU gives back no files that one on the CPU reads.
TEST_F(CudaGpuMemory, FilesGoWithTheirLastUserOnAnyDevice) {
  const std::unique_ptr<ModelFamily> family = LoadModelFamily(ModelFolder(kDemoModel));
  DryRuns dry_runs;
  GenerateOptions options = QuickPicture();
  options.max_gpu_memory_bytes = size_t{1} << 30;
  const GenerationPlan on_gpu = PlanGeneration(*family, options, dry_runs);
  options.device = "cpu";
  options.dtype = "f32";
  const GenerationPlan on_cpu = PlanGeneration(*family, options, dry_runs);
  ModelDevices devices;
  std::optional<ModelDevices::Lease> reads = devices.Use(on_cpu, ModelStage::kDenoise);
  { const ModelDevices::Lease uploads = devices.Use(on_gpu, ModelStage::kDenoise); }
  const fs::path files = kDemoModel / "transformer";
  EXPECT_GT(ResidentBytes(files), size_t{20} << 20);
  reads.reset();
  EXPECT_EQ(ResidentBytes(files), 0u);
}

#ifdef TAMIAS_CUDA_EMULATION
// The card as others leave it.
class CudaGpuMemoryOfOthers : public CudaGpuMemory {
 protected:
  static void Leave(size_t bytes) {
    cuda_emulator::SetMemoryOfOthers(cuda_emulator::kMemoryBytes - bytes);
  }
  void TearDown() override { cuda_emulator::SetMemoryOfOthers(0); }
};

TEST_F(CudaGpuMemoryOfOthers, WhatTheyHoldIsNotPlannedWithAndChangesNoPicture) {
  const GenerateOptions options = QuickPicture();
  const Image expected = Generate(Pipeline(kDemoModel), options, 0).images.at(0);
  const Pipeline pipeline(kDemoModel);
  const size_t free = 2 * (Least(pipeline, options) + (size_t{1} << 20));
  Leave(free);
  const GenerateResult limited = Generate(Pipeline(kDemoModel), options, 0);
  const DeviceMemory& memory = limited.planned_devices.at(0);
  EXPECT_EQ(memory.card_bytes, cuda_emulator::kMemoryBytes);
  EXPECT_EQ(memory.free_bytes, free);
  EXPECT_LE(memory.bytes, free / 2);
  EXPECT_GE(limited.device_measures.size(), 3u);
  EXPECT_EQ(limited.images.at(0).rgb, expected.rgb);
}

TEST_F(CudaGpuMemoryOfOthers, AreNotGenerationsOfTheSamePipeline) {
  const Pipeline pipeline(kDemoModel);
  GenerateOptions options = QuickPicture();
  Generate(pipeline, options, 0);  // its weights stay
  const DeviceMemory memory = pipeline.PlanMemory(options).devices.at(0);
  EXPECT_EQ(memory.free_bytes, cuda_emulator::kMemoryBytes);
  // A generation under way keeps the limit for those that begin beside it.
  {
    const Generation generation = pipeline.Start(options);
    Leave(size_t{100} << 20);
    EXPECT_EQ(pipeline.PlanMemory(options).devices.at(0).free_bytes, cuda_emulator::kMemoryBytes);
  }
  EXPECT_LT(pipeline.PlanMemory(options).devices.at(0).free_bytes, size_t{300} << 20);
}

// There is room for one.
TEST_F(CudaGpuMemoryOfOthers, LeaveEnoughForTheNextOnceOneIsDone) {
  const Pipeline pipeline(kDemoModel);
  GenerateOptions options = QuickPicture();
  options.decode = false;
  options.steps = 1;
  const size_t least = Least(pipeline, options);
  Leave(least + least / 2);
  options.max_gpu_memory_bytes = least;
  Generation done = pipeline.Start(options);
  while (done.Step()) {
  }
  EXPECT_THAT(tamias::ErrorOf([&] { pipeline.Start(options); }, ErrorCode::kOutOfMemory),
              HasSubstr("beside the generations under way"));
  done.Decode();
  EXPECT_EQ(tamias::ErrorOf([&] { pipeline.Start(options); }), "");
  EXPECT_EQ(done.result().latents.size(), 1u);
}

// A card that has room for a plan and not for what generations before have left there.
class CudaGpuMemoryOfEarlier : public CudaGpuMemoryOfOthers {
 protected:
  static GenerateOptions OneStep() {
    GenerateOptions options = QuickPicture();
    options.steps = 1;
    options.decode = false;
    return options;
  }
  // Leaves the card twice what the plan takes, of which half is for libraries.
  static void LeaveRoomFor(const GenerateOptions& options) {
    Leave(2 * Pipeline(kDemoModel).PlanMemory(options).device_bytes + 4096);
  }
  // Generates with nothing new in the card's memory but what the plan counts.
  static void ExpectWithin(const Pipeline& pipeline, const GenerateOptions& options) {
    const size_t before = cuda_emulator::AllocatedBytes();
    cuda_emulator::ResetPeak();
    const GenerateResult result = pipeline.Generate(options);
    EXPECT_TRUE(result.device_measures.empty());
    EXPECT_LE(cuda_emulator::PeakBytes(),
              std::max(before, result.planned_device_memory_bytes + 1024));
  }
};

TEST_F(CudaGpuMemoryOfEarlier, WeightsInAnotherTypeGo) {
  const Pipeline pipeline(kDemoModel);
  GenerateOptions options = OneStep();
  LeaveRoomFor(options);
  for (const char* weight_dtype : {"fp8_e4m3", "auto"}) {
    options.weight_dtype = weight_dtype;
    ExpectWithin(pipeline, options);
  }
}

TEST_F(CudaGpuMemoryOfEarlier, PreparedWeightsGoWhereNobodyReadsThem) {
  const Pipeline pipeline(kDemoModel);
  const GenerateOptions sparse = OneStep();
  GenerateOptions dense = sparse;
  dense.sparsity = "off";
  dense.overrides.clear();
  pipeline.Generate(sparse);
  const size_t loaded = cuda_emulator::AllocatedBytes();
  { const Generation beside = pipeline.Start(dense); }
  EXPECT_EQ(cuda_emulator::AllocatedBytes(), loaded) << "there is room for them";
  dense.width = dense.height = 512;
  LeaveRoomFor(dense);
  { const Generation alone = pipeline.Start(dense); }
  EXPECT_LT(cuda_emulator::AllocatedBytes(), loaded);
  EXPECT_GT(cuda_emulator::AllocatedBytes(), loaded / 2) << "the weights themselves stay";
  pipeline.Generate(sparse);
  EXPECT_EQ(cuda_emulator::AllocatedBytes(), loaded);
}

TEST_F(CudaGpuMemoryOfEarlier, ModelsOfOtherStagesGoWhereLatentsAreDecoded) {
  const Pipeline pipeline(kDemoModel);
  GenerateOptions options = OneStep();
  const SavedLatents saved{.latents = pipeline.Generate(options).latents, .text = {}, .path = {}};
  options.decode = true;
  const size_t loaded = cuda_emulator::AllocatedBytes();
  // With room for both they stay.
  const size_t decoder = pipeline.Decode(saved, options).planned_device_memory_bytes;
  EXPECT_GT(cuda_emulator::AllocatedBytes(), loaded);
  Leave(2 * decoder + 4096);
  pipeline.Decode(saved, options);
  EXPECT_LT(cuda_emulator::AllocatedBytes(), decoder);
}

TEST_F(CudaGpuMemoryOfOthers, AreNamedWhereTheyLeaveTooLittle) {
  Leave(Least(Pipeline(kDemoModel), Picture()) - 1);
  EXPECT_THAT(
      tamias::ErrorOf([&] { Pipeline(kDemoModel).Generate(Picture()); }, ErrorCode::kOutOfMemory),
      ::testing::MatchesRegex(".* at the least .less with weight_dtype fp8_e4m3., but cuda:0 has "
                              "1.00 GiB, of which .* are free .*"));
}

// The least, not what the plan takes with all of a card.
TEST_F(CudaGpuMemoryOfOthers, AreNamedWhereTheyLeaveNothing) {
  const Pipeline pipeline(kDemoModel);
  const size_t least = Least(pipeline, Picture());
  Leave(0);
  EXPECT_EQ(pipeline.PlanMemory(Picture()).device_bytes, least);
  EXPECT_THAT(tamias::ErrorOf([&] { pipeline.Start(Picture()); }, ErrorCode::kOutOfMemory),
              HasSubstr("of which 0"));
}
#endif

TEST_F(CudaGpuMemory, WeightsOf8BitsTakeHalf) {
  const Pipeline pipeline(kDemoModel);
  const auto weights = [&](const char* weight_dtype) {
    GenerateOptions options = Picture();
    options.weight_dtype = weight_dtype;
    const MemoryPlan plan = pipeline.PlanMemory(options);
    for (const MemoryEntry& entry : plan.devices.at(0).entries) {
      if (entry.name == "weights of transformer") return static_cast<double>(entry.bytes);
    }
    return 0.0;
  };
  EXPECT_GT(weights("fp8_e4m3"), 0.5 * weights("auto"));
  EXPECT_LT(weights("fp8_e4m3"), 0.55 * weights("auto"));
}

// The widened weights are those numbers.
TEST_F(CudaGpuMemory, PicturesOfWeightsOf8BitsAreThoseOfRoundedWeights) {
  LinkDemoWithoutTransformer();
  WriteQuantised(kDemoModel / "transformer", folder_ / "transformer");
  for (const char* sparsity : {"off", "demo"}) {
    SCOPED_TRACE(sparsity);
    GenerateOptions options = Picture();
    options.true_cfg_scale = 1;
    options.sparsity = sparsity;
    options.steps = options.sparsity == "off" ? 1 : 3;
    if (options.sparsity == "off") options.overrides.clear();
    const GenerateResult expected = Pipeline(folder_).Generate(options);
    const GenerateResult plain = Pipeline(kDemoModel).Generate(options);
    options.weight_dtype = "fp8_e4m3";
    const GenerateResult found = Pipeline(kDemoModel).Generate(options);
#ifdef TAMIAS_CUDA_EMULATION
    EXPECT_EQ(found.images.at(0).rgb, expected.images.at(0).rgb);
#else  // cuBLASLt may take another algorithm for columns of a wider matrix
    EXPECT_GT(Psnr(found.images.at(0), expected.images.at(0)), 40);
#endif
    const double psnr = Psnr(found.images.at(0), plain.images.at(0));
    RecordProperty(std::string("psnr_to_16_bits_") + sparsity, std::to_string(psnr));
    EXPECT_GT(psnr, 20);
    EXPECT_LT(psnr, 60);
  }
}

TEST_P(CudaGpuMemoryOfWeights, FilmsOfAPictureAreTheSameInTheLeastMemory) {
  const fs::path tiny = fs::path(TAMIAS_TEST_DATA) / "pipeline/tiny-wan-image";
  LinkAll({"model_index.json", "transformer", "text_encoder", "vae", "scheduler", "image_encoder",
           "image_processor"},
          tiny);
  Link("tokenizer", kDemoModel / "tokenizer_2");
  GenerateOptions options = Picture();
  options.image = ReadImage(tiny / "picture.png");
  options.width = options.height = 32;
  options.num_frames = 5;
  options.max_sequence_length = 40;
  options.sparsity = "wan-2.1";
  options.overrides = {"attn.full_step_schedule={0, 1}", "attn.first_n_dense_layers=0",
                       "step_caching.is_enabled=false"};
  const Pipeline pipeline(folder_);
  const GenerateResult limited = Generate(pipeline, options, Least(pipeline, options));
  const GenerateResult expected = Generate(Pipeline(folder_), options, 0);
  ASSERT_EQ(limited.videos.at(0).frames.size(), 5u);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(limited.videos[0].frames[i].rgb, expected.videos.at(0).frames.at(i).rgb) << i;
  }
}

}  // namespace
}  // namespace tamias
