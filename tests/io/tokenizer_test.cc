// Exact agreement with transformers over the texts of tools/fixtures/make_tokenizer_fixtures.py,
// and every way in which tokenizer files can be wrong.
#include "io/tokenizer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/support/errors.h"
#include "tests/support/test_files.h"

namespace tamias {
namespace {

using ::testing::ElementsAre;

const std::filesystem::path kData = std::filesystem::path(TAMIAS_TEST_DATA) / "io";
const std::filesystem::path kDemoModel =
    std::filesystem::path(TAMIAS_SOURCE_DIR) / "models" / "demo-flux";

// Compares with NAME_expected.json, made by tools/fixtures/make_tokenizer_fixtures.py.
template <typename Tokenizer>
void ExpectSameIds(const std::filesystem::path& folder, const std::string& name,
                   size_t at_least = 300) {
  const Tokenizer tokenizer = Tokenizer::Load(folder);
  const auto expected = nlohmann::json::parse(ReadBytes(kData / (name + "_expected.json")));
  const int64_t max_length = expected["max_length"];
  EXPECT_EQ(tokenizer.pad_id(), expected["pad_id"]);
  EXPECT_EQ(tokenizer.end_id(), expected["end_id"]);
  ASSERT_GT(expected["rows"].size(), at_least);
  for (const auto& row : expected["rows"]) {
    SCOPED_TRACE(row[0].dump(-1, ' ', /*ensure_ascii=*/true));
    const std::string text = row[0];
    EXPECT_EQ(tokenizer.Tokenize(text).size(), row[1].get<size_t>());
    EXPECT_EQ(tokenizer.Encode(text, max_length), row[2].get<std::vector<int32_t>>());
  }
}

TEST(ClipTokenizer, AgreesWithTransformersOnTokenizerJson) {
  ExpectSameIds<ClipTokenizer>(kData / "clip_json", "clip_json");
}
TEST(ClipTokenizer, AgreesWithTransformersOnVocabAndMerges) {
  ExpectSameIds<ClipTokenizer>(kData / "clip_vocab_merges", "clip_vocab_merges");
}
TEST(ClipTokenizer, AgreesWithTransformersOnAddedTokensOfEveryKind) {
  ExpectSameIds<ClipTokenizer>(kData / "clip_flags", "clip_flags");
}
TEST(ClipTokenizer, AgreesWithTransformersOnTheDemoModel) {
  ExpectSameIds<ClipTokenizer>(kDemoModel / "tokenizer", "demo_clip");
}
TEST(UnigramTokenizer, AgreesWithTransformersOnSentencePieceModel) {
  ExpectSameIds<UnigramTokenizer>(kData / "t5_spiece", "t5_spiece");
}
TEST(UnigramTokenizer, AgreesWithTransformersOnTheLayoutOfFlux) {
  ExpectSameIds<UnigramTokenizer>(kData / "t5_flux", "t5_flux");
}
TEST(UnigramTokenizer, AgreesWithTransformersWithoutACharacterMap) {
  ExpectSameIds<UnigramTokenizer>(kData / "t5_plain", "t5_plain");
}
// make_byte_fallback_fixtures.py
TEST(UnigramTokenizer, SpellsUnknownCharactersInBytesAsTokenizers) {
  ExpectSameIds<UnigramTokenizer>(kData / "t5_bytes", "t5_bytes");
}
TEST(UnigramTokenizer, SpellsUnknownCharactersInBytesAsSentencePiece) {
  ExpectSameIds<UnigramTokenizer>(kData / "t5_bytes_spiece", "t5_bytes_spiece", 150);
}

// A vocabulary without one of a character's bytes cannot spell it: `tokenizers` gives one unknown
// id for the whole row, and without byte fallback likewise.
TEST(UnigramTokenizer, UnknownCharactersStayOneIdWhereABytePieceIsMissing) {
  auto file = nlohmann::json::parse(ReadBytes(kData / "t5_bytes" / "tokenizer.json"));
  const auto tokenize = [&](std::string_view text) {
    return UnigramTokenizer::Parse(file.dump(), "t.json").Tokenize(text);
  };
  const size_t end = 1;
  EXPECT_EQ(tokenize("\U0001F43F\U0001F992").size(), 1 + 8 + end);
  auto& vocabulary = file["model"]["vocab"];
  for (auto& piece : vocabulary) {
    if (piece[0] == "<0x92>") piece[0] = "<no byte>";
  }
  EXPECT_EQ(tokenize("\U0001F43F").size(), 1 + 4 + end);
  EXPECT_THAT(tokenize("\U0001F43F\U0001F992"), ElementsAre(::testing::_, 2, 1));
  file["model"]["byte_fallback"] = false;
  EXPECT_THAT(tokenize("\U0001F43F"), ElementsAre(::testing::_, 2, 1));
  file["model"]["byte_fallback"] = 1;
  ExpectError(ErrorCode::kInvalidFile, "field 'model.byte_fallback': expected true or false",
              [&] { tokenize("a"); });
}

TEST(UnigramTokenizer, AgreesWithTransformersOnTheDemoModel) {
  ExpectSameIds<UnigramTokenizer>(kDemoModel / "tokenizer_2", "demo_t5");
}

// Byte-level tokenizers do not pad; the fixtures hold all ids and those left after a cut.
void ExpectSameByteLevelIds(const std::string& name) {
  const ByteLevelTokenizer tokenizer = ByteLevelTokenizer::Load(kData / name);
  const auto expected = nlohmann::json::parse(ReadBytes(kData / (name + "_expected.json")));
  const int64_t max_length = expected["max_length"];
  ASSERT_GT(expected["rows"].size(), 350u);
  for (const auto& row : expected["rows"]) {
    const std::string text = row[0];
    SCOPED_TRACE(nlohmann::json(text).dump(-1, ' ', /*ensure_ascii=*/true).substr(0, 200));
    EXPECT_EQ(tokenizer.Tokenize(text), row[1].get<std::vector<int32_t>>());
    EXPECT_EQ(tokenizer.Encode(text, max_length), row[2].get<std::vector<int32_t>>());
  }
}

TEST(ByteLevelTokenizer, AgreesWithTransformersOnTheLayoutOfLlama3) {
  ExpectSameByteLevelIds("byte_level_llama");
}
TEST(ByteLevelTokenizer, AgreesWithTransformersOnTheOptionsOfGpt2) {
  ExpectSameByteLevelIds("byte_level_gpt");
}

TEST(ClipTokenizer, RefusesInvalidUtf8AndImpossibleLengths) {
  const ClipTokenizer tokenizer = ClipTokenizer::Load(kData / "clip_json");
  for (const char* text : {"\xff", "abc\xc3", "\xed\xa0\x80", "\xc0\xaf", "\xf4\x90\x80\x80"}) {
    ExpectError(ErrorCode::kInvalidArgument, "is not valid UTF-8",
                [&] { tokenizer.Encode(text, 77); });
  }
  ExpectError(ErrorCode::kInvalidArgument, "text: byte 3 is not valid UTF-8",
              [&] { tokenizer.Tokenize("abc\xc3"); });
  ExpectError(ErrorCode::kInvalidArgument, "max_length: expected 2 to 1048576, found 1",
              [&] { tokenizer.Encode("a", 1); });
  ExpectError(ErrorCode::kInvalidArgument, "max_length: expected 2 to 1048576, found 1048577",
              [&] { tokenizer.Encode("a", 1048577); });
  EXPECT_THAT(tokenizer.Encode("a red circle", 2),
              ElementsAre(tokenizer.start_id(), tokenizer.end_id()));
}

TEST(ClipTokenizer, TakesLongTextsWithoutDelay) {
  const ClipTokenizer tokenizer = ClipTokenizer::Load(kData / "clip_json");
  EXPECT_EQ(tokenizer.Encode(std::string(300000, 'a'), 77).size(), 77u);
  const UnigramTokenizer unigram = UnigramTokenizer::Load(kData / "t5_spiece");
  EXPECT_EQ(unigram.Encode(std::string(300000, 'a'), 512).size(), 512u);
}

TEST(UnigramTokenizer, RefusesInvalidUtf8AndImpossibleLengths) {
  const UnigramTokenizer tokenizer = UnigramTokenizer::Load(kData / "t5_plain");
  ExpectError(ErrorCode::kInvalidArgument, "text: byte 1 is not valid UTF-8",
              [&] { tokenizer.Encode("a\xff", 8); });
  ExpectError(ErrorCode::kInvalidArgument, "max_length: expected 1 to 1048576, found 0",
              [&] { tokenizer.Encode("a", 0); });
  EXPECT_THAT(tokenizer.Encode("a red circle", 1), ElementsAre(tokenizer.end_id()));
}

TEST(ClipTokenizer, NamesWhatIsWrongWithItsFiles) {
  const auto fails = [](std::string_view text, const std::string& json) {
    SCOPED_TRACE(json);
    ExpectError(ErrorCode::kInvalidFile, text, [&] { ClipTokenizer::Parse(json, "t.json"); });
  };
  const auto model = [](std::string_view vocabulary, std::string_view merges) {
    return fmt::format(R"({{"model": {{"type": "BPE", "vocab": {}, "merges": {}}}}})", vocabulary,
                       merges);
  };
  const std::string vocabulary = R"({"<|endoftext|>": 0, "a": 1, "b</w>": 2, "ab</w>": 3})";
  EXPECT_THAT(ClipTokenizer::Parse(model(vocabulary, R"([["a", "b</w>"]])"), "t").Tokenize("AB b"),
              ElementsAre(4, 3, 2, 0));  // <|startoftext|> is new: the next id
  fails("t.json: not JSON", "{");
  fails("t.json: field 'model': missing", "{}");
  fails("t.json: field 'model.type': expected \"BPE\", found \"Unigram\"",
        R"({"model": {"type": "Unigram"}})");
  fails("t.json: field 'model.vocab': expected an object", model("[]", "[]"));
  fails("t.json: field 'model.vocab.a': expected an integer in [0, 1073741824], found -1",
        model(R"({"a": -1})", "[]"));
  fails("t.json: unk_token '<|endoftext|>' is not in the vocabulary", model(R"({"a": 1})", "[]"));
  fails("t.json: field 'model.merges': expected an array", model(vocabulary, "{}"));
  fails("t.json: field 'model.merges[0]': expected two tokens", model(vocabulary, "[1]"));
  fails("t.json: merge 0: expected two tokens", model(vocabulary, R"(["a b c"])"));
  fails("t.json: merge 0: expected two tokens", model(vocabulary, R"(["ab"])"));
  fails("t.json: merge 0: 'a' + 'x': not all in the vocabulary",
        model(vocabulary, R"([["a", "x"]])"));
  fails("t.json: merge 1: 'a' + 'a': not all in the vocabulary",
        model(vocabulary, R"(["a b</w>", "a a"])"));
  fails("field 'added_tokens[0].content': missing", R"({"added_tokens": [{"id": 1}]})");
  fails("field 'added_tokens[0].id': expected an integer in [0,",
        R"({"added_tokens": [{"id": -1, "content": "a"}]})");
}

TEST(ClipTokenizer, NamesWhatIsWrongWithItsFolder) {
  const TemporaryFolder folder;
  const auto fails = [&](ErrorCode code, std::string_view text) {
    ExpectError(code, text, [&] { ClipTokenizer::Load(folder.path()); });
  };
  fails(ErrorCode::kNotFound, "neither tokenizer.json nor vocab.json");
  WriteBytes(folder / "vocab.json", R"({"<|endoftext|>": 0, "a": 1})");
  fails(ErrorCode::kNotFound, "merges.txt: cannot open");
  WriteBytes(folder / "merges.txt", "#version: 0.2\r\na b\r\n");
  fails(ErrorCode::kInvalidFile, "merges.txt: merge 0: 'a' + 'b': not all in the vocabulary");
  WriteBytes(folder / "merges.txt", "#version: 0.2\r\n");
  EXPECT_EQ(ClipTokenizer::Load(folder.path()).vocab_size(), 3);
  WriteBytes(folder / "tokenizer_config.json",
             R"({"added_tokens_decoder": {"x": {"content": "a"}}})");
  fails(ErrorCode::kInvalidFile, "field 'added_tokens_decoder.x': expected a token id as the key");
  WriteBytes(folder / "tokenizer_config.json",
             R"({"added_tokens_decoder": {"1": {"content": 3}}})");
  fails(ErrorCode::kInvalidFile, "field 'added_tokens_decoder.1.content': expected a string");
  WriteBytes(folder / "tokenizer_config.json", R"({"unk_token": "<none>"})");
  fails(ErrorCode::kInvalidFile, "unk_token '<none>' is not in the vocabulary");
  WriteBytes(folder / "tokenizer_config.json", R"({"extra_special_tokens": [3]})");
  fails(ErrorCode::kInvalidFile, "field 'extra_special_tokens[0]': expected a string");
}

TEST(UnigramTokenizer, NamesWhatIsWrongWithItsFiles) {
  const auto fails = [](std::string_view text, const std::string& json) {
    SCOPED_TRACE(json);
    ExpectError(ErrorCode::kInvalidFile, text, [&] { UnigramTokenizer::Parse(json, "t.json"); });
  };
  fails("t.json: field 'model.type': expected \"Unigram\"", R"({"model": {"type": "BPE"}})");
  fails("t.json: field 'model.vocab': expected an array", R"({"model": {"vocab": {}}})");
  fails("t.json: field 'model.vocab': is empty", R"({"model": {"vocab": []}})");
  fails("field 'model.vocab[0]': expected [piece, score]", R"({"model": {"vocab": ["a"]}})");
  fails("field 'model.vocab[0]': expected [piece, score]", R"({"model": {"vocab": [["a", "b"]]}})");
  fails("field 'model.unk_id': expected an integer in [0, 0], found 1",
        R"({"model": {"vocab": [["a", 0]], "unk_id": 1}})");
  fails("field 'model.unk_id': missing", R"({"model": {"vocab": [["a", 0]]}})");
  const auto map = [](std::string_view encoded) {
    return fmt::format(R"({{"model": {{"vocab": [["a", 0]], "unk_id": 0}},
                       "normalizer": {{"type": "Precompiled", "precompiled_charsmap": "{}"}}}})",
                       encoded);
  };
  fails("field 'normalizer.precompiled_charsmap': not base64", map("A"));
  fails("field 'normalizer.precompiled_charsmap': not base64", map("A*=="));
  fails("t.json: precompiled_charsmap: cut off", map("AAAA"));
  fails("t.json: precompiled_charsmap: the trie's size does not fit", map("CAAAAAA="));
  fails("t.json: precompiled_charsmap: the trie's size does not fit", map("AAAAAAAAAAA="));
  fails("t.json: precompiled_charsmap: text: byte 0 is not valid UTF-8", map("BAAAAAAAAAD/"));
  EXPECT_EQ(UnigramTokenizer::Parse(map("BAAAAAAAAAA="), "t").Tokenize("b").front(), 0);
}

TEST(UnigramTokenizer, NamesWhatIsWrongWithItsFolder) {
  const TemporaryFolder folder;
  ExpectError(ErrorCode::kNotFound, "neither tokenizer.json nor spiece.model",
              [&] { UnigramTokenizer::Load(folder.path()); });
  WriteBytes(folder / "spiece.model", "");
  ExpectError(ErrorCode::kInvalidFile, "spiece.model: not a SentencePiece model: no pieces",
              [&] { UnigramTokenizer::Load(folder.path()); });
}

TEST(UnigramTokenizer, SurvivesCutOffAndFlippedSentencePieceModels) {
  const std::string whole = ReadBytes(kData / "t5_plain" / "spiece.model");
  const auto parse = [](const std::string& bytes) {
    try {
      UnigramTokenizer::ParseSentencePiece(bytes, "spiece.model").Encode("a red circle é", 16);
    } catch (const Error& error) {
      EXPECT_TRUE(error.code() == ErrorCode::kInvalidFile ||
                  error.code() == ErrorCode::kUnsupported)
          << error.what();
    }
  };
  for (size_t size = 0; size < whole.size(); size += 7) parse(whole.substr(0, size));
  for (size_t bit = 0; bit < whole.size() * 8; bit += 13) {
    parse(WithFlippedBit(whole, bit));
  }
}

TEST(ByteLevelTokenizer, RefusesInvalidUtf8AndImpossibleLengths) {
  const ByteLevelTokenizer llama = ByteLevelTokenizer::Load(kData / "byte_level_llama");
  ExpectError(ErrorCode::kInvalidArgument, "text: byte 1 is not valid UTF-8",
              [&] { llama.Encode("a\xff", 8); });
  ExpectError(ErrorCode::kInvalidArgument, "max_length: expected 1 to 1048576, found 0",
              [&] { llama.Encode("a", 0); });
  EXPECT_EQ(llama.Encode("a red circle", 1).size(), 1u);
  const ByteLevelTokenizer gpt = ByteLevelTokenizer::Load(kData / "byte_level_gpt");
  ExpectError(ErrorCode::kInvalidArgument, "max_length: expected 3 to 1048576, found 2",
              [&] { gpt.Encode("a", 2); });
  EXPECT_EQ(gpt.Encode("a red circle", 3).size(), 3u);
}

TEST(ByteLevelTokenizer, TakesLongTextsWithoutDelay) {
  const ByteLevelTokenizer tokenizer = ByteLevelTokenizer::Load(kData / "byte_level_llama");
  for (const char* word : {"a", " ", "\n", "7", "!", "a ", "don't \n", "\u00e9\U0001f600"}) {
    std::string text;
    while (text.size() < 300000) text += word;
    EXPECT_EQ(tokenizer.Encode(text, 351).size(), 351u) << word;
  }
}

TEST(ByteLevelTokenizer, NamesWhatIsWrongWithItsFiles) {
  const std::string whole = ReadBytes(kData / "byte_level_llama" / "tokenizer.json");
  const auto fails = [&](std::string_view text, std::string_view path, const std::string& value) {
    SCOPED_TRACE(value);
    auto file = nlohmann::json::parse(whole);
    file[nlohmann::json::json_pointer(std::string(path))] = nlohmann::json::parse(value);
    ExpectError(ErrorCode::kInvalidFile, text,
                [&] { ByteLevelTokenizer::Parse(file.dump(), "t.json"); });
  };
  fails("t.json: field 'model.type': expected \"BPE\", found \"Unigram\"", "/model/type",
        R"("Unigram")");
  fails("t.json: field 'model': expected an object, found an array", "/model", "[]");
  fails("t.json: field 'model.vocab': expected an object", "/model/vocab", "3");
  fails("t.json: field 'model.vocab.a': expected an integer in [0, 1073741824], found 4294967296",
        "/model/vocab/a", "4294967296");
  fails("field 'model.vocab.a': expected an integer", "/model/vocab/a", R"("x")");
  fails("t.json: field 'model.vocab': has no token for the byte 0x00", "/model",
        R"({"vocab": {"a": 0}, "merges": []})");
  fails("t.json: merge 1: 'a' + 'nowhere': not all in the vocabulary", "/model/merges",
        R"([["a", "t"], ["a", "nowhere"]])");
  fails("t.json: field 'model.merges[0]': expected two tokens", "/model/merges", R"([["a"]])");
  fails("t.json: merge 0: expected two tokens", "/model/merges", R"(["a b c"])");
  fails("field 'model.dropout': expected none", "/model/dropout", "0.1");
  fails("field 'model.byte_fallback': expected true or false", "/model/byte_fallback", "1");
  fails("field 'model.end_of_word_suffix': expected none", "/model/end_of_word_suffix",
        R"("</w>")");
  fails("field 'model.continuing_subword_prefix': expected none",
        "/model/continuing_subword_prefix", R"("##")");
  fails("field 'model.ignore_merges': expected true or false", "/model/ignore_merges", "1");
  fails("t.json: field 'normalizer.type': \"NFKC\" is not supported here", "/normalizer",
        R"({"type": "NFKC"})");
  fails("t.json: field 'pre_tokenizer': missing", "/pre_tokenizer", "null");
  fails("t.json: field 'pre_tokenizer.type': \"Metaspace\" is not supported here", "/pre_tokenizer",
        R"({"type": "Metaspace"})");
  fails("field 'pre_tokenizer.pretokenizers[0].type': \"a\\nb\" is not supported here",
        "/pre_tokenizer/pretokenizers/0/type", R"("a\nb")");
  fails("field 'pre_tokenizer.type': expected \"ByteLevel\", alone or as the last one",
        "/pre_tokenizer/pretokenizers", "[]");
  fails("field 'pre_tokenizer.pretokenizers[1].type': expected nothing after \"ByteLevel\"",
        "/pre_tokenizer/pretokenizers", R"([{"type": "ByteLevel"}, {"type": "ByteLevel"}])");
  fails("field 'pre_tokenizer.pretokenizers': expected at most 16", "/pre_tokenizer/pretokenizers",
        nlohmann::json(std::vector<nlohmann::json>(17, nlohmann::json::object())).dump());
  fails("field 'pre_tokenizer.pretokenizers[0].behavior': expected \"Isolated\", found \"Removed\"",
        "/pre_tokenizer/pretokenizers/0/behavior", R"("Removed")");
  fails("field 'pre_tokenizer.pretokenizers[0].pattern.Regex': missing",
        "/pre_tokenizer/pretokenizers/0/pattern", R"({"String": " "})");
  fails("t.json: regular expression: missing closing parenthesis",
        "/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("(a")");
  fails("field 'post_processor.processors[0].type': \"BertProcessing\" is not supported here",
        "/post_processor/processors/0/type", R"("BertProcessing")");
  fails("field 'post_processor.processors[1].single': expected the sequence \"A\" once",
        "/post_processor/processors/1/single", "[]");
  fails("field 'post_processor.processors[1].single': expected the sequence \"A\" once",
        "/post_processor/processors/1/single", R"([{"Sequence": {"id": "B"}}])");
  fails("field 'post_processor.processors[1].special_tokens.x': missing",
        "/post_processor/processors/1/single", R"([{"SpecialToken": {"id": "x"}}])");
  fails("ids[0]': expected an integer in [0, 1073741824], found -1",
        "/post_processor/processors/1/special_tokens/<|begin_of_text|>/ids", "[-1]");
  fails("field 'added_tokens[0].id': expected an integer", "/added_tokens/0/id", R"("a")");
  fails("t.json: field 'truncation_side': expected a side, found \"middle\"", "/truncation_side",
        R"("middle")");
  fails("t.json: field 'padding_side': expected \"right\", found \"left\"", "/padding",
        R"({"direction": "Left"})");
}

// Every byte has a token: there is nothing to fall back from.
TEST(ByteLevelTokenizer, ByteFallbackChangesNothing) {
  auto file = nlohmann::json::parse(ReadBytes(kData / "byte_level_llama" / "tokenizer.json"));
  const std::string text = "a \U0001F43F \u6F22";
  const auto ids = ByteLevelTokenizer::Parse(file.dump(), "t.json").Tokenize(text);
  file["model"]["byte_fallback"] = true;
  EXPECT_EQ(ByteLevelTokenizer::Parse(file.dump(), "t.json").Tokenize(text), ids);
}

TEST(Tokenizers, SayWhatLiesInTheirFilesPlaces) {
  constexpr std::string_view kPointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:1\n";
  const TemporaryFolder folder;
  const auto fails = [&](std::string_view text, const auto& load) {
    ExpectError(ErrorCode::kInvalidFile, text, [&] { load(folder.path()); });
  };
  WriteBytes(folder / "spiece.model", kPointer);
  fails("spiece.model: this is a Git LFS pointer", UnigramTokenizer::Load);
  WriteBytes(folder / "vocab.json", R"({"<|endoftext|>": 0, "<|startoftext|>": 1})");
  WriteBytes(folder / "merges.txt", "<!DOCTYPE html>\n<html></html>");
  fails("merges.txt: this is an HTML page", ClipTokenizer::Load);
  WriteBytes(folder / "vocab.json", kPointer);
  fails("vocab.json: this is a Git LFS pointer", ClipTokenizer::Load);
  WriteBytes(folder / "tokenizer.json", kPointer);
  fails("tokenizer.json: this is a Git LFS pointer", ClipTokenizer::Load);
  fails("tokenizer.json: this is a Git LFS pointer", UnigramTokenizer::Load);
  fails("tokenizer.json: this is a Git LFS pointer", ByteLevelTokenizer::Load);
}

TEST(Tokenizers, NameLinksToNothing) {
  for (const char* name : {"tokenizer.json", "spiece.model"}) {
    const TemporaryFolder folder;
    std::filesystem::create_symlink("../../blobs/0123", folder / name);
    ExpectError(ErrorCode::kNotFound, "cannot open: a link to ../../blobs/0123, which is not there",
                [&] { UnigramTokenizer::Load(folder.path()); });
  }
}

TEST(ByteLevelTokenizer, NamesWhatIsWrongWithItsFolder) {
  const TemporaryFolder folder;
  ExpectError(ErrorCode::kNotFound, "tokenizer.json: cannot open",
              [&] { ByteLevelTokenizer::Load(folder.path()); });
  const std::string whole = ReadBytes(kData / "byte_level_llama" / "tokenizer.json");
  WriteBytes(folder / "tokenizer.json", whole);
  EXPECT_EQ(ByteLevelTokenizer::Load(folder.path()).Tokenize("").size(), 1u);
  WriteBytes(folder / "tokenizer_config.json", R"({"padding_side": "left"})");
  ExpectError(ErrorCode::kInvalidFile,
              "tokenizer_config.json: field 'padding_side': expected \"right\", found \"left\"",
              [&] { ByteLevelTokenizer::Load(folder.path()); });
}

TEST(ByteLevelTokenizer, SurvivesCutOffFiles) {
  const std::string whole = ReadBytes(kData / "byte_level_llama" / "tokenizer.json");
  for (size_t size = 0; size + 2 < whole.size(); size += 41) {
    ExpectError(ErrorCode::kInvalidFile, "t.json: not JSON",
                [&] { ByteLevelTokenizer::Parse(whole.substr(0, size), "t.json"); });
  }
}

}  // namespace
}  // namespace tamias
