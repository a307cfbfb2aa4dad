// The choice of weight files: see the header.
#include "io/weight_files.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>

#include "base/check.h"
#include "io/json.h"
#include "io/model_file.h"
#include "io/one_line.h"
#include "io/system_error.h"

namespace tamias {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDiffusersBase = "diffusion_pytorch_model";
constexpr std::string_view kTransformersBase = "model";
constexpr std::string_view kExtension = ".safetensors";
constexpr std::string_view kIndex = ".index";
constexpr std::string_view kJson = ".json";

// One way to read a folder's weights.
struct Candidate {
  std::string base;
  std::string variant;
  std::string file;
  bool is_index = false;
};

bool TakeSuffix(std::string_view& text, std::string_view suffix) {
  if (!text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
}

// What stands behind a ".", or "" for nothing; empty for shards and other files.
std::optional<std::string> VariantName(std::string_view part) {
  if (part.empty()) return "";
  if (part.size() < 2 || part[0] != '.' || part.find("-of-") != part.npos) return std::nullopt;
  return std::string(part.substr(1));
}

// FILE[.variant].safetensors
std::optional<Candidate> SingleFile(const std::string& file, std::string_view base) {
  std::string_view middle = file;
  if (!TakeSuffix(middle, kExtension)) return std::nullopt;
  middle.remove_prefix(base.size());
  const std::optional<std::string> variant = VariantName(middle);
  if (!variant) return std::nullopt;
  return Candidate{std::string(base), *variant, file};
}

// FILE.safetensors.index[.variant].json or FILE.safetensors[.variant].index.json
std::optional<Candidate> IndexFile(const std::string& file, std::string_view base) {
  std::string_view middle = file;
  if (!TakeSuffix(middle, kJson)) return std::nullopt;
  middle.remove_prefix(base.size());
  if (!middle.starts_with(kExtension)) return std::nullopt;
  middle.remove_prefix(kExtension.size());
  std::optional<std::string> variant;
  if (TakeSuffix(middle, kIndex)) {
    variant = VariantName(middle);
  } else if (middle.starts_with(kIndex)) {
    variant = VariantName(middle.substr(kIndex.size()));
  }
  if (!variant) return std::nullopt;
  return Candidate{std::string(base), *variant, file, /*is_index=*/true};
}

std::vector<std::string> FileNames(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& item : fs::directory_iterator(folder, error)) {
    names.push_back(item.path().filename().string());
  }
  if (error) FailSystem(folder, "open", error.value(), /*reading=*/true);
  std::ranges::sort(names);
  return names;
}

std::vector<Candidate> FindCandidates(const std::vector<std::string>& names) {
  std::vector<Candidate> candidates;
  for (const std::string& name : names) {
    for (const std::string_view base : {kDiffusersBase, kTransformersBase}) {
      if (!name.starts_with(base)) continue;
      for (auto& found : {SingleFile(name, base), IndexFile(name, base)}) {
        if (found) candidates.push_back(*found);
      }
    }
  }
  return candidates;
}

// Indices of files with other names, which both libraries leave alone: taken where nothing else is.
std::vector<Candidate> FindOtherIndices(const fs::path& folder,
                                        const std::vector<std::string>& names) {
  std::vector<Candidate> found;
  for (const std::string& name : names) {
    if (name.ends_with(".safetensors.index.json")) found.push_back({"", "", name, true});
  }
  if (found.size() > 1) {
    Fail(ErrorCode::kInvalidFile, "{}: two index files, {} and {}", folder.string(), found[0].file,
         found[1].file);
  }
  return found;
}

// A shard is a plain file name: nothing may lead out of the folder.
bool IsPlainFileName(const std::string& name) {
  return fs::path(name).filename() == name && name.ends_with(kExtension) &&
         name.find('\0') == name.npos;
}

// The shards that an index names, sorted.
std::vector<fs::path> ReadIndex(const fs::path& path) {
  const JsonObject index = JsonObject::Load(path);
  const JsonObject weight_map = index.Object("weight_map");
  std::set<std::string> shards;
  for (const std::string& tensor : weight_map.Keys()) {
    const std::string shard = weight_map.String(tensor);
    if (!IsPlainFileName(shard)) {
      weight_map.FailField(tensor, "expected the name of a .safetensors file in the same folder");
    }
    shards.insert(shard);
  }
  if (shards.empty()) index.FailField("weight_map", "names no file");
  std::vector<fs::path> paths;
  for (const std::string& shard : shards) paths.push_back(path.parent_path() / shard);
  return paths;
}

// Links to nothing do not count.
bool IsFile(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

std::string Quoted(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) {
    text += fmt::format("{}'{}'", text.empty() ? "" : ", ", OneLine(name));
  }
  return text;
}

std::vector<std::string> VariantsOf(const std::vector<Candidate>& candidates) {
  std::set<std::string> variants;
  for (const Candidate& candidate : candidates) variants.insert(candidate.variant);
  return {variants.begin(), variants.end()};
}

std::string ChooseVariant(const fs::path& folder, const std::vector<std::string>& variants,
                          const std::string& wanted) {
  const auto has = [&](std::string_view name) {
    return std::ranges::find(variants, name) != variants.end();
  };
  if (has(wanted)) return wanted;
  if (has("")) return "";
  if (!wanted.empty()) {
    Fail(ErrorCode::kNotFound, "{}: no weights of the variant '{}' and no plain ones; found: {}",
         folder.string(), OneLine(wanted), Quoted(variants));
  }
  if (variants.size() > 1) {
    Fail(ErrorCode::kNotFound,
         "{}: only variants of the weights, {}: choose one with --variant (C++: "
         "LoadOptions::variant)",
         folder.string(), Quoted(variants));
  }
  return variants.front();
}

// Says what is there in the place of weights.
[[noreturn]] void FailNoWeights(const fs::path& folder, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    for (const std::string_view pickle : {".bin", ".ckpt", ".pt", ".pth"}) {
      if (!name.ends_with(pickle)) continue;
      Fail(ErrorCode::kNotFound,
           "{}: no weights in safetensors; {} is a PyTorch checkpoint (pickle), which is not read: "
           "save the model as safetensors",
           folder.string(), OneLine(name));
    }
    if (name.ends_with(".gguf")) {
      Fail(ErrorCode::kUnsupported,
           "{}: no weights in safetensors; {} holds quantised weights, which are not read",
           folder.string(), OneLine(name));
    }
    if (name.ends_with(kExtension) && name.find("-of-") != name.npos) {
      Fail(ErrorCode::kNotFound,
           "{}: no weights: {} is one of several files, and their index "
           "(*.safetensors.index.json) is missing",
           folder.string(), OneLine(name));
    }
  }
  Fail(ErrorCode::kNotFound,
       "{}: no weights (diffusion_pytorch_model.safetensors, model.safetensors or "
       "*.safetensors.index.json)",
       folder.string());
}

// The files of a candidate, if the libraries would take it: shards of which not one is there leave
// the word to a single file.
std::vector<fs::path> FilesOf(const fs::path& folder, const Candidate& candidate) {
  const fs::path path = folder / candidate.file;
  if (!IsFile(path)) return {};
  if (!candidate.is_index) return {path};
  std::vector<fs::path> shards = ReadIndex(path);
  return std::ranges::any_of(shards, IsFile) ? shards : std::vector<fs::path>();
}

}  // namespace

std::vector<std::string> WeightVariants(const fs::path& folder) {
  return VariantsOf(FindCandidates(FileNames(folder)));
}

WeightFiles FindWeightFiles(const fs::path& folder, const WeightRequest& request) {
  const std::vector<std::string> names = FileNames(folder);
  std::vector<Candidate> candidates = FindCandidates(names);
  if (candidates.empty()) candidates = FindOtherIndices(folder, names);
  if (candidates.empty()) FailNoWeights(folder, names);
  const std::string variant = ChooseVariant(folder, VariantsOf(candidates), request.variant);
  std::erase_if(candidates, [&](const Candidate& item) { return item.variant != variant; });

  const bool is_diffusers = request.library == WeightLibrary::kDiffusers;
  const std::string_view own_base = is_diffusers ? kDiffusersBase : kTransformersBase;
  const auto order = [&](const Candidate& item) {
    return std::pair(item.base != own_base, item.is_index != is_diffusers);
  };
  std::ranges::stable_sort(candidates, {}, order);
  for (const Candidate& candidate : candidates) {
    std::vector<fs::path> files = FilesOf(folder, candidate);
    if (!files.empty()) return {std::move(files), variant};
  }
  // What is missing shows when it is opened.
  const Candidate& first = candidates.front();
  const fs::path path = folder / first.file;
  return {first.is_index && IsFile(path) ? ReadIndex(path) : std::vector{path}, variant};
}

}  // namespace tamias
