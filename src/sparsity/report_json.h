// A report as JSON, for files and scripts.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "tamias/sparsity/report.h"

namespace tamias {

// {attention_sparsity, mlp_sparsity, full_steps, sparse_steps, skipped_steps, state_bytes,
// stage_seconds: {attention, attention_selection, mlp, mlp_selection, step_cache}, steps: [{step,
// kind, seconds, exchanged_bytes, attention_sparsity, mlp_sparsity, attention_drift, mlp_drift,
// layers: [{layer, invocation, attention_sparsity, ..., seconds}]}]}. A drift is null where not
// measured; that of a step is the mean over its layers.
nlohmann::json ToJson(const SparsityReport& report);

}  // namespace tamias
