// Ids [n] -> [max_length]: cut, with the end token last, or padded behind.
#include "io/token_length.h"

#include "base/check.h"

namespace tamias {

void CheckMaxLength(int64_t max_length, int64_t min_length) {
  constexpr int64_t kLongest = int64_t{1} << 20;
  if (max_length < min_length || max_length > kLongest) {
    Fail(ErrorCode::kInvalidArgument, "tokenizer: max_length: expected {} to {}, found {}",
         min_length, kLongest, max_length);
  }
}

std::vector<int32_t> FitLength(std::vector<int32_t> ids, int64_t max_length, int64_t min_length,
                               int32_t end_id, int32_t pad_id) {
  CheckMaxLength(max_length, min_length);
  const auto length = static_cast<size_t>(max_length);
  const bool is_cut = ids.size() > length;
  ids.resize(length, pad_id);
  if (is_cut) ids.back() = end_id;
  return ids;
}

}  // namespace tamias
