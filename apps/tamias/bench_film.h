// The film models whose attention `tamias bench` measures at full size.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "tamias/sparsity/geometry.h"

namespace tamias::cli {

struct FilmModel {
  const char* name;     // of the command
  const char* title;    // "HunyuanVideo at 1280x720, 129 frames"
  const char* profile;  // the published settings
  TokenGrid grid;       // the published film
  int frame_multiple;   // frames of the film to one of the grid, after the first
  int64_t text_tokens;  // in the joint attention
  int64_t num_layers;
  int64_t num_heads;
  int64_t head_dim;
  int64_t calls;  // of the model per step: 2 with classifier-free guidance
  // The linear layers that each token of a layer passes through: input and output features.
  std::vector<std::pair<int64_t, int64_t>> linears;
};

std::span<const FilmModel> FilmModels();

}  // namespace tamias::cli
