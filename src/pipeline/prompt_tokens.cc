// Token ids as a tensor [1, L] of i32; a tokenizer with more tokens than its encoder has embeddings
// is refused, naming both.
#include "pipeline/prompt_tokens.h"

#include <algorithm>

#include "base/check.h"

namespace tamias {

void CheckVocabulary(const ModelFolder& folder, const std::string& tokenizer, int32_t tokens,
                     const std::string& encoder, int64_t embeddings) {
  if (tokens > embeddings) {
    Fail(ErrorCode::kInvalidFile, "{}: {} has {} tokens but {} only {} embeddings",
         folder.path().string(), tokenizer, tokens, encoder, embeddings);
  }
}

Tensor TokenTensor(const std::vector<int32_t>& ids) {
  Tensor tokens({1, static_cast<int64_t>(ids.size())}, DType::kI32);
  std::ranges::copy(ids, tokens.host_data<int32_t>());
  return tokens;
}

}  // namespace tamias
