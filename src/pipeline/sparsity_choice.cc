// "off" is dense, "auto" the model's profile, what has a slash or ends in .yml a file, anything
// else the name of a shipped profile; then --set's assignments in order.
#include "pipeline/sparsity_choice.h"

#include "base/check.h"

namespace tamias {
namespace {

bool IsPath(const std::string& choice) {
  return choice.find('/') != std::string::npos || choice.ends_with(".yml") ||
         choice.ends_with(".yaml");
}

}  // namespace

SparsityConfig ChooseSparsity(const std::string& choice, const std::string& default_profile,
                              const std::vector<std::string>& overrides) {
  if (choice == "off") {
    if (!overrides.empty()) {
      Fail(ErrorCode::kInvalidArgument, "set: '{}' has no effect with sparsity 'off'",
           overrides.front());
    }
    return SparsityConfig::Dense();
  }
  SparsityConfig config =
      LoadSparsityConfig(IsPath(choice) ? std::filesystem::path(choice)
                                        : FindProfile(choice == "auto" ? default_profile : choice));
  for (const std::string& assignment : overrides) Apply(config, assignment);
  return config;
}

}  // namespace tamias
