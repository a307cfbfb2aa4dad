// A small picture of what denoising is about to make, without the decoder: a linear map from a
// token's latents to the mean colours of the pixels that it stands for. The map is fitted by least
// squares to the results that a model has made; before there are enough of them there is none.
//
//   [r g b of 2 x 2 fields] = W [latents of a token, 1]
#pragma once

#include <cstddef>
#include <mutex>
#include <optional>
#include <vector>

#include "tamias/image.h"
#include "tamias/pipeline.h"

namespace tamias::serve {

// Where tokens of the first latent frame lie in a picture.
struct TokenLayout {
  int columns = 0;
  int rows = 0;
};

// Tokens are square fields of the picture; of films those of the first latent frame come first.
// Nothing when no field of 4 to 64 pixels explains their number.
std::optional<TokenLayout> LayoutOf(int64_t tokens, int width, int height, int num_frames);

// One model's map. Threads may use it at once.
class LatentPreview {
 public:
  // Takes final latents and the picture (or first frame of the film) that was decoded from them
  // into the fit.
  void Learn(const Latents& latents, const Image& picture, int num_frames);
  // Two pixels a token and side. Nothing: there is no map, or the latents do not fit it.
  std::optional<Image> Show(const Latents& latents, int width, int height, int num_frames) const;
  bool IsKnown() const;

 private:
  mutable std::mutex mutex_;
  int64_t channels_ = 0;
  int64_t tokens_ = 0;            // that the sums are over
  std::vector<double> products_;  // x x^T, [channels + 1, channels + 1], x: a token's latents and 1
  std::vector<double> colors_;    // x times the token's colours, [channels + 1, 12]
  std::vector<float> weights_;    // W [12, channels + 1]; empty: no map yet
};

}  // namespace tamias::serve
