// What the top-k of the CPU and of a GPU are tested with.
#pragma once

#include <cmath>

#include "tests/support/random_tensors.h"

namespace tamias {

// Scores with ties, infinities, NaN and zeros of both signs, in proportions that vary.
inline Tensor TopKScores(Random& random, int64_t rows, int64_t n) {
  Tensor scores = random.Normal({rows, n});
  const int64_t kind = random.Integer(0, 3);
  for (int64_t i = 0; i < rows * n; ++i) {
    float& score = scores.data<float>()[i];
    if (kind == 1) score = std::round(score);
    if (kind == 2) score = std::exp(5 * score);
    if (kind == 3) {
      const float special[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f};
      if (random.Coin()) score = special[random.Integer(0, 4)];
    }
  }
  return scores;
}

}  // namespace tamias
