// Sigmas of Mochi 1: see the header.
#include "models/schedulers/linear_quadratic_schedule.h"

#include "base/check.h"

namespace tamias {

std::vector<double> LinearQuadraticSigmas(int num_steps, double threshold_noise) {
  if (num_steps < 2) {
    Fail(ErrorCode::kInvalidArgument,
         "steps: the linear-quadratic schedule needs at least 2, found {}", num_steps);
  }
  const double linear_steps = num_steps / 2;  // NOLINT: the integer half
  const double quadratic_steps = num_steps - linear_steps;
  // The parabola meets the line in value and slope at i = L and reaches 1 at i = n.
  const double slope = threshold_noise / linear_steps;
  const double curvature =
      (1 - threshold_noise - slope * quadratic_steps) / (quadratic_steps * quadratic_steps);
  std::vector<double> sigmas;
  for (int i = 0; i < num_steps; ++i) {
    const double beyond = i < linear_steps ? 0 : i - linear_steps;
    sigmas.push_back(1 - (slope * i + curvature * beyond * beyond));
  }
  return sigmas;
}

}  // namespace tamias
