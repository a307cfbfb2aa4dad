// What the text encoders of all families need around their tokenizers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pipeline/model_folder.h"
#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// Throws kInvalidFile when a tokenizer has more entries than its encoder has embeddings: it belongs
// to another checkpoint.
void CheckVocabulary(const ModelFolder& folder, const std::string& tokenizer, int32_t tokens,
                     const std::string& encoder, int64_t embeddings);

// [1, L] i32.
Tensor TokenTensor(const std::vector<int32_t>& ids);

// The tokens of a prompt: what the tokenizer makes of it or, when planning, as many as there can be
// at most.
template <typename Tokenize>  // std::vector<int32_t> tokenize()
std::vector<int32_t> TokensOf(const Context& context, int64_t most, const Tokenize& tokenize) {
  if (context.IsPlanning()) return std::vector<int32_t>(static_cast<size_t>(most), 0);
  return tokenize();
}

}  // namespace tamias
