// What each model family implements behind tamias::Pipeline.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "pipeline/model_folder.h"
#include "tamias/pipeline.h"

namespace tamias {

class PipelineFamily {
 public:
  virtual ~PipelineFamily() = default;

  // As the functions of the same name in tamias::Pipeline; DecodeLatents is its Decode.
  virtual GenerateResult Generate(const GenerateOptions& options,
                                  const ProgressCallback& progress) const = 0;
  virtual GenerateResult DecodeLatents(const SavedLatents& latents, const GenerateOptions& options,
                                       const ProgressCallback& progress) const = 0;
  virtual MemoryPlan PlanMemory(const GenerateOptions& options) const = 0;
  virtual int64_t NumImageTokens(const GenerateOptions& options) const = 0;
  virtual int64_t NumTextTokens(const GenerateOptions& options) const = 0;
  virtual int NumSteps(const GenerateOptions& options) const = 0;
  virtual std::string SparsityYaml(const GenerateOptions& options) const = 0;
  virtual std::vector<std::string> Warnings(const GenerateOptions& options) const = 0;
  virtual std::map<std::string, std::string> PngText(const GenerateOptions& options,
                                                     int image) const = 0;
  virtual std::map<std::string, std::string> LatentsText(const GenerateOptions& options,
                                                         int image) const = 0;
  virtual const ModelInfo& info() const = 0;
  virtual int size_multiple() const = 0;
};

std::unique_ptr<PipelineFamily> LoadFluxPipeline(const ModelFolder& folder);
std::unique_ptr<PipelineFamily> LoadHunyuanVideoPipeline(const ModelFolder& folder);
std::unique_ptr<PipelineFamily> LoadWanPipeline(const ModelFolder& folder);
std::unique_ptr<PipelineFamily> LoadMochiPipeline(const ModelFolder& folder);

}  // namespace tamias
