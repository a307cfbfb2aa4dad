// The noise levels of Mochi 1 (diffusers' linear_quadratic_schedule): 1 - sigma rises in a straight
// line to n t over the first half of the n steps, where the layout is decided and small steps pay,
// and from there along a parabola with the same slope to 1.
#pragma once

#include <vector>

namespace tamias {

// n sigmas from 1 down, before shifting; the 0 after the last step is the scheduler's. L = n / 2
// steps are linear, i t / L; threshold_noise: t, the noise taken away over them. Throws
// kInvalidArgument when num_steps < 2, as there is no linear half then.
std::vector<double> LinearQuadraticSigmas(int num_steps, double threshold_noise = 0.025);

}  // namespace tamias
