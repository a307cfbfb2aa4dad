// Settings that have no effect in a generation.
#pragma once

#include <string>
#include <vector>

#include "pipeline/model_family.h"
#include "tamias/pipeline.h"
#include "tamias/sparsity/config.h"

namespace tamias {

// One sentence each, as Pipeline::Warnings.
std::vector<std::string> WarningsOf(const ModelFamily& family, const GenerateOptions& options,
                                    const GenerationSettings& settings,
                                    const SparsityConfig& sparsity, int num_steps,
                                    int second_expert_step);

}  // namespace tamias
