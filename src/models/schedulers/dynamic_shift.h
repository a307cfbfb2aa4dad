// Dynamic shifting: noise levels move towards noise with the number of image tokens (Esser et al.,
// 2403.03206). mu is linear in the tokens, and the odds sigma / (1 - sigma) are multiplied by
// exp(mu), or by mu itself.
#pragma once

#include <cstdint>

namespace tamias {

class JsonObject;

enum class TimeShift { kExponential, kLinear };

struct DynamicShift {
  double base_shift = 0.5;  // mu at base_image_seq_len tokens
  double max_shift = 1.15;  // mu at max_image_seq_len tokens
  int64_t base_image_seq_len = 256;
  int64_t max_image_seq_len = 4096;
  TimeShift type = TimeShift::kExponential;

  static DynamicShift FromJson(const JsonObject& json);
  // What the odds are multiplied by; throws kInvalidArgument for fewer than one token, and for a mu
  // of 0 or less where it is the factor itself.
  double Factor(int64_t image_tokens) const;
};

}  // namespace tamias
