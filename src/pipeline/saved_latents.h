// Latents in a file: what it says of them, and whether a pipeline can decode them.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "pipeline/packed_latents.h"
#include "tamias/pipeline.h"

namespace tamias {

// Throws kInvalidFile unless there are latents and all of them have this shape and are finite.
// size_text: what has this shape, "512x512 pixels".
void CheckSavedLatents(const SavedLatents& saved, const LatentShape& shape,
                       const std::string& size_text);

// What a PNG or MP4 of one of the latents should carry: the text of the generation that made them,
// as Pipeline::PngText gave it there; only the program's name where they have none.
std::map<std::string, std::string> SavedPngText(const SavedLatents& saved, int image);

}  // namespace tamias
