// Normal equations with a little of the diagonal added, solved by Cholesky's method.
#include "preview.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace tamias::serve {
namespace {

constexpr int kFieldsPerSide = 2;  // of a token
constexpr int kColors = 3 * kFieldsPerSide * kFieldsPerSide;
// Latents have a variance of about one: this leaves the fit alone where a channel varies, and keeps
// it defined where one is constant. The mean colour is left as it is.
constexpr double kRidge = 1e-2;
constexpr double kRidgeOfMean = 1e-9;
constexpr int64_t kTokensPerChannel = 4;  // from which on the map says more than its noise
constexpr int64_t kMaxTokens = 1 << 20;   // enough for any linear map
constexpr int64_t kMaxChannels = 512;

using Colors = std::array<double, kColors>;

// Mean colours of the fields of the token at that place, in rows.
Colors ColorsOf(const Image& picture, const TokenLayout& layout, int row, int column) {
  Colors colors{};
  const int side = picture.width / layout.columns;  // pixels of a token
  const int field = side / kFieldsPerSide;
  for (int y = 0; y < field * kFieldsPerSide; ++y) {
    for (int x = 0; x < field * kFieldsPerSide; ++x) {
      const auto pixel = static_cast<size_t>(3) *
                         (static_cast<size_t>(row * side + y) * static_cast<size_t>(picture.width) +
                          static_cast<size_t>(column * side + x));
      const size_t first = static_cast<size_t>(3 * (y / field * kFieldsPerSide + x / field));
      for (size_t c = 0; c < 3; ++c) colors[first + c] += picture.rgb[pixel + c];
    }
  }
  for (double& color : colors) color /= field * field;
  return colors;
}

// Lower triangle of a symmetric positive definite matrix [n, n] in place: A = L L^T.
bool Factorise(std::vector<double>& a, size_t n) {
  for (size_t j = 0; j < n; ++j) {
    for (size_t i = j; i < n; ++i) {
      double sum = a[i * n + j];
      for (size_t k = 0; k < j; ++k) sum -= a[i * n + k] * a[j * n + k];
      if (i == j && !(sum > 0)) return false;
      a[i * n + j] = i == j ? std::sqrt(sum) : sum / a[j * n + j];
    }
  }
  return true;
}

// L L^T x = b for each of kColors columns of b [n, kColors], in place.
void Solve(const std::vector<double>& l, std::vector<double>& b, size_t n) {
  for (size_t c = 0; c < kColors; ++c) {
    for (size_t i = 0; i < n; ++i) {
      for (size_t k = 0; k < i; ++k) b[i * kColors + c] -= l[i * n + k] * b[k * kColors + c];
      b[i * kColors + c] /= l[i * n + i];
    }
    for (size_t i = n; i-- > 0;) {
      for (size_t k = i + 1; k < n; ++k) b[i * kColors + c] -= l[k * n + i] * b[k * kColors + c];
      b[i * kColors + c] /= l[i * n + i];
    }
  }
}

}  // namespace

std::optional<TokenLayout> LayoutOf(int64_t tokens, int width, int height, int num_frames) {
  for (const int side : {4, 8, 16, 32, 64}) {
    if (width % side != 0 || height % side != 0) continue;
    const TokenLayout layout{width / side, height / side};
    const int64_t per_frame = int64_t{layout.columns} * layout.rows;
    if (tokens % per_frame != 0) continue;
    const int64_t latent_frames = tokens / per_frame;
    for (const int frames : {1, 4, 6, 8}) {  // that a latent frame stands for
      if ((num_frames - 1) % frames == 0 && latent_frames == (num_frames - 1) / frames + 1) {
        return layout;
      }
    }
  }
  return std::nullopt;
}

bool LatentPreview::IsKnown() const {
  const std::scoped_lock lock(mutex_);
  return !weights_.empty();
}

void LatentPreview::Learn(const Latents& latents, const Image& picture, int num_frames) {
  const auto layout = LayoutOf(latents.tokens, picture.width, picture.height, num_frames);
  if (!layout || latents.channels > kMaxChannels) return;
  const std::scoped_lock lock(mutex_);
  const auto channels = static_cast<size_t>(latents.channels);
  const size_t n = channels + 1;
  if (channels_ == 0) {
    channels_ = latents.channels;
    products_.resize(n * n);
    colors_.resize(n * kColors);
  }
  if (channels_ != latents.channels || tokens_ >= kMaxTokens) return;
  std::vector<double> x(n, 1.0);
  const int64_t tokens = int64_t{layout->columns} * layout->rows;
  for (int64_t token = 0; token < tokens; ++token) {
    const float* values = &latents.values[static_cast<size_t>(token) * channels];
    std::copy_n(values, channels, x.begin());
    const Colors colors = ColorsOf(picture, *layout, static_cast<int>(token / layout->columns),
                                   static_cast<int>(token % layout->columns));
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j <= i; ++j) products_[i * n + j] += x[i] * x[j];
      for (size_t c = 0; c < kColors; ++c) colors_[i * kColors + c] += x[i] * colors[c];
    }
  }
  tokens_ += tokens;
  if (tokens_ < kTokensPerChannel * channels_) return;
  std::vector<double> a = products_, b = colors_;
  for (size_t i = 0; i < n; ++i) {
    a[i * n + i] += (i == channels ? kRidgeOfMean : kRidge) * static_cast<double>(tokens_);
  }
  if (!Factorise(a, n)) return;
  Solve(a, b, n);
  weights_.resize(kColors * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t c = 0; c < kColors; ++c) {
      weights_[c * n + i] = static_cast<float>(b[i * kColors + c]);
    }
  }
}

std::optional<Image> LatentPreview::Show(const Latents& latents, int width, int height,
                                         int num_frames) const {
  std::vector<float> weights;
  {
    const std::scoped_lock lock(mutex_);
    if (latents.channels != channels_) return std::nullopt;
    weights = weights_;
  }
  const auto layout = LayoutOf(latents.tokens, width, height, num_frames);
  if (weights.empty() || !layout) return std::nullopt;
  const auto channels = static_cast<size_t>(latents.channels);
  Image image{layout->columns * kFieldsPerSide, layout->rows * kFieldsPerSide, {}};
  image.rgb.resize(static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3);
  for (int row = 0; row < layout->rows; ++row) {
    for (int column = 0; column < layout->columns; ++column) {
      const auto token = static_cast<size_t>(row * layout->columns + column);
      const float* values = &latents.values[token * channels];
      for (size_t c = 0; c < kColors; ++c) {
        const float* weight = &weights[c * (channels + 1)];
        float color = weight[channels];
        for (size_t k = 0; k < channels; ++k) color += weight[k] * values[k];
        const size_t y = static_cast<size_t>(row * kFieldsPerSide) + c / 3 / kFieldsPerSide;
        const size_t x = static_cast<size_t>(column * kFieldsPerSide) + c / 3 % kFieldsPerSide;
        image.rgb[3 * (y * static_cast<size_t>(image.width) + x) + c % 3] =
            static_cast<uint8_t>(std::lround(std::clamp(color, 0.0F, 255.0F)));
      }
    }
  }
  return image;
}

}  // namespace tamias::serve
