// What files say of the generation that made them.
#pragma once

#include <map>
#include <string>

#include "pipeline/model_family.h"
#include "tamias/pipeline.h"

namespace tamias {

// As Pipeline::PngText and Pipeline::LatentsText.
std::map<std::string, std::string> TextOfImage(const ModelFamily& family,
                                               const GenerateOptions& options,
                                               const GenerationSettings& settings, int image);
std::map<std::string, std::string> TextOfLatents(const ModelFamily& family,
                                                 const GenerateOptions& options,
                                                 const GenerationSettings& settings, int image);

// The settings of a generation as JSON: what TextOfImage has under "tamias".
std::string SettingsJson(const ModelFamily& family, const GenerateOptions& options,
                         const GenerationSettings& settings, int image);

}  // namespace tamias
