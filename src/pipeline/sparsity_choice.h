// Which sparsity configuration a generation runs with.
#pragma once

#include <string>
#include <vector>

#include "tamias/sparsity/config.h"

namespace tamias {

// choice: "off"; "auto" (then `default_profile`); a profile's name; or a path to a YAML file
// (anything with a slash or ending in .yml or .yaml). overrides: "attn.top_keys=0.1", in order.
// Throws kNotFound, kInvalidFile or kInvalidArgument.
SparsityConfig ChooseSparsity(const std::string& choice, const std::string& default_profile,
                              const std::vector<std::string>& overrides);

}  // namespace tamias
