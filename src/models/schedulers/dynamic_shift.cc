// Dynamic shifting: see the header.
#include "models/schedulers/dynamic_shift.h"

#include <cmath>
#include <string>

#include "base/check.h"
#include "io/json.h"

namespace tamias {

DynamicShift DynamicShift::FromJson(const JsonObject& json) {
  DynamicShift shift;
  shift.base_shift = json.FloatOr("base_shift", shift.base_shift, {-100, 100});
  shift.max_shift = json.FloatOr("max_shift", shift.max_shift, {-100, 100});
  shift.base_image_seq_len =
      json.IntOr("base_image_seq_len", shift.base_image_seq_len, {1, int64_t{1} << 40});
  shift.max_image_seq_len =
      json.IntOr("max_image_seq_len", shift.max_image_seq_len, {1, int64_t{1} << 40});
  if (shift.max_image_seq_len == shift.base_image_seq_len) {
    json.FailField("max_image_seq_len", "expected a value other than base_image_seq_len");
  }
  const std::string type = json.StringOr("time_shift_type", "exponential");
  if (type == "linear") {
    shift.type = TimeShift::kLinear;
  } else if (type != "exponential") {
    json.FailField("time_shift_type",
                   "expected \"exponential\" or \"linear\", found \"" + type + "\"");
  }
  return shift;
}

double DynamicShift::Factor(int64_t image_tokens) const {
  if (image_tokens < 1) {
    Fail(ErrorCode::kInvalidArgument, "scheduler: expected at least one token, found {}",
         image_tokens);
  }
  const double slope =
      (max_shift - base_shift) / static_cast<double>(max_image_seq_len - base_image_seq_len);
  const double offset = base_shift - slope * static_cast<double>(base_image_seq_len);
  const double mu = static_cast<double>(image_tokens) * slope + offset;
  if (type == TimeShift::kExponential) return std::exp(mu);
  if (mu <= 0) {
    Fail(ErrorCode::kInvalidArgument,
         "scheduler: linear shift: expected mu > 0, found {} at {} tokens", mu, image_tokens);
  }
  return mu;
}

}  // namespace tamias
