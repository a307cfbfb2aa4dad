// Which scheduler a checkpoint runs: as in diffusers, the class that model_index.json names, with
// the fields of scheduler/scheduler_config.json; the `_class_name` there says who wrote it.
#pragma once

#include <memory>
#include <string>

#include "models/schedulers/scheduler_conventions.h"

namespace tamias {

class SchedulerFactory {
 public:
  // index: model_index.json; config: scheduler_config.json. Throws kUnsupported with the class, the
  // file and the classes served for one that this family's pipeline cannot run, and kInvalidFile or
  // kUnsupported with the field at fault for what is wrong in either.
  static SchedulerFactory Read(const JsonObject& index, const JsonObject& config,
                               SchedulerConventions conventions);

  // One object per generation: it may remember earlier steps. noise is called by its steps only,
  // and only where it draws some.
  std::unique_ptr<FlowScheduler> Make(int num_steps, int64_t image_tokens,
                                      NoiseSource noise = {}) const;

  const std::string& class_name() const { return class_name_; }
  // Empty unless the config was written by another class.
  const std::string& other_class() const { return other_class_; }
  const SchedulerConventions& conventions() const { return conventions_; }

 private:
  SchedulerFactory() = default;

  std::string class_name_;
  std::string other_class_;
  SchedulerConventions conventions_;
  SchedulerMaker make_;
};

}  // namespace tamias
