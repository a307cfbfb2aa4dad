// What the text encoders of all families need around their tokenizers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/tensor.h"
#include "pipeline/model_folder.h"

namespace tamias {

// Throws kInvalidFile when a tokenizer has more entries than its encoder has embeddings: it belongs
// to another checkpoint.
void CheckVocabulary(const ModelFolder& folder, const std::string& tokenizer, int32_t tokens,
                     const std::string& encoder, int64_t embeddings);

// [1, L] i32.
Tensor TokenTensor(const std::vector<int32_t>& ids);

}  // namespace tamias
