// The last stage of a generation: latents to pictures.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "pipeline/generation_plan.h"
#include "pipeline/model_family.h"
#include "tamias/device_resources.h"
#include "tamias/image.h"

namespace tamias {

// latents [1, N, P] f32 of the host, packed in row order -> the frames of a film, or the one of a
// picture. after_piece is called family.NumDecodePieces times. Throws kInvalidFile for pixels that
// are not finite.
std::vector<Image> DecodeFrames(std::shared_ptr<DeviceResources> resources,
                                const ModelFamily& family, const GenerationPlan& plan,
                                ConstTensorView latents, const std::function<void()>& after_piece);

}  // namespace tamias
