// Choice of the scheduler: see the header. A new class is a file that reads and makes it, and a row
// of kClasses.
#include "models/schedulers/scheduler_factory.h"

#include <utility>
#include <vector>

#include "base/check.h"
#include "io/json.h"
#include "models/schedulers/dpm_solver_multistep.h"
#include "models/schedulers/flow_match_euler.h"
#include "models/schedulers/flow_match_heun.h"
#include "models/schedulers/flow_match_lcm.h"
#include "models/schedulers/unipc_multistep.h"

namespace tamias {
namespace {

struct SchedulerClass {
  const char* name;      // diffusers'
  bool takes_sigmas;     // can be given noise levels: its set_timesteps has `sigmas`
  bool has_flow_sigmas;  // its levels are those of use_flow_sigmas
  bool inverts;          // serves a model that knows 1 - sigma
  SchedulerReader read;
};

constexpr SchedulerClass kClasses[] = {
    {"FlowMatchEulerDiscreteScheduler", true, false, true, ReadFlowMatchEuler},
    {"FlowMatchHeunDiscreteScheduler", false, false, false, ReadFlowMatchHeun},
    {"FlowMatchLCMScheduler", true, false, false, ReadFlowMatchLcm},
    {"UniPCMultistepScheduler", true, true, false, ReadUniPcMultistep},
    {"DPMSolverMultistepScheduler", false, true, false, ReadDpmSolverMultistep},
};

// Where a pipeline states noise levels, diffusers refuses a class that cannot be given them.
bool IsServed(const SchedulerClass& candidate, const SchedulerConventions& conventions) {
  const bool is_given_sigmas =
      conventions.sigmas && !(conventions.leaves_flow_sigmas && candidate.has_flow_sigmas);
  return (candidate.takes_sigmas || !is_given_sigmas) &&
         (candidate.inverts || !conventions.is_inverted);
}

// The class of ["diffusers", class], the entry of a component in model_index.json.
std::string ClassInIndex(const JsonObject& index) {
  const std::vector<std::string> entry = index.StringArray("scheduler");
  if (entry.size() != 2 || entry.front() != "diffusers") {
    index.FailField("scheduler", fmt::format("expected [\"diffusers\", CLASS], found [\"{}\"]",
                                             fmt::join(entry, "\", \"")));
  }
  return entry.back();
}

const SchedulerClass& FindClass(const std::string& name, const JsonObject& index,
                                const SchedulerConventions& conventions) {
  std::vector<std::string> served;
  for (const SchedulerClass& candidate : kClasses) {
    if (!IsServed(candidate, conventions)) continue;
    if (candidate.name == name) return candidate;
    served.emplace_back(candidate.name);
  }
  Fail(ErrorCode::kUnsupported, "{}: field 'scheduler': {} is not served in {}; served: {}",
       index.source(), name, index.String("_class_name"), fmt::join(served, ", "));
}

}  // namespace

SchedulerFactory SchedulerFactory::Read(const JsonObject& index, const JsonObject& config,
                                        SchedulerConventions conventions) {
  SchedulerFactory factory;
  factory.class_name_ = ClassInIndex(index);
  const SchedulerClass& found = FindClass(factory.class_name_, index, conventions);
  const std::string written_by = config.StringOr("_class_name", factory.class_name_);
  if (written_by != factory.class_name_) factory.other_class_ = written_by;
  // diffusers looks at the field whatever the class.
  if (conventions.leaves_flow_sigmas && config.BoolOr("use_flow_sigmas", false)) {
    conventions.sigmas = nullptr;
  }
  factory.make_ = found.read(config, conventions);
  factory.conventions_ = std::move(conventions);
  return factory;
}

std::unique_ptr<FlowScheduler> SchedulerFactory::Make(int num_steps, int64_t image_tokens,
                                                      NoiseSource noise) const {
  CheckNumSteps(num_steps);
  ScheduleRequest request;
  request.num_steps = num_steps;
  if (conventions_.sigmas) request.sigmas = conventions_.sigmas(num_steps);
  if (conventions_.shifts_by_tokens) request.image_tokens = image_tokens;
  request.noise = std::move(noise);
  return make_(request);
}

}  // namespace tamias
