// Truncation and padding of a finished token sequence, as transformers does them for
// padding="max_length", truncation=True.
#pragma once

#include <cstdint>
#include <vector>

namespace tamias {

// Throws kInvalidArgument unless min_length <= max_length <= 2^20.
void CheckMaxLength(int64_t max_length, int64_t min_length);

// Cuts `ids`, which end in end_id, to max_length with end_id kept last, or pads them with pad_id.
// Throws as CheckMaxLength does.
std::vector<int32_t> FitLength(std::vector<int32_t> ids, int64_t max_length, int64_t min_length,
                               int32_t end_id, int32_t pad_id);

}  // namespace tamias
