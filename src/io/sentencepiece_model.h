// What a spiece.model holds: pieces with scores, the unknown piece, whether unknown characters
// become the pieces of their bytes, the character map. The file is a protocol buffer
// (sentencepiece_model.proto); only these fields are read. Segmentation itself is
// UnigramTokenizer's, since that of the sentencepiece library differs from transformers' in white
// space and unknown characters.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tamias {

struct SentencePieceModel {
  enum class PieceType { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };
  struct Piece {
    std::string text;
    float score = 0;
    PieceType type = PieceType::kNormal;
  };

  std::vector<Piece> pieces;
  int64_t unknown_id = 0;
  bool byte_fallback = false;
  std::string character_map;  // empty: none

  // Throws kInvalidFile, "source: problem".
  static SentencePieceModel Parse(std::string_view bytes, const std::string& source);
};

}  // namespace tamias
