// Families of prometheus-cpp; series that can occur are there from the start, at 0.
#include "metrics.h"

#include <prometheus/text_serializer.h>

#include <algorithm>

#include "tamias/machine.h"

namespace tamias::serve {
namespace {

prometheus::Family<prometheus::Counter>& AddCounters(prometheus::Registry& registry,
                                                     const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

prometheus::Gauge& AddGauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

}  // namespace

Metrics::Metrics()
    : requests_(AddCounters(registry_, "tamias_http_requests_total", "Answers by status")),
      steps_(AddCounters(registry_, "tamias_steps_total", "Denoising steps by kind")),
      seconds_(AddCounters(registry_, "tamias_stage_seconds_total", "Seconds of jobs by stage")),
      jobs_(AddCounters(registry_, "tamias_jobs_total",
                        "Jobs by how they ended; interrupted ones are queued again")),
      queue_length_(AddGauge(registry_, "tamias_queue_length", "Jobs that wait")),
      running_(AddGauge(registry_, "tamias_jobs_running", "Jobs under way")),
      model_bytes_(AddGauge(registry_, "tamias_loaded_model_bytes", "Weights of loaded models")),
      resident_bytes_(AddGauge(registry_, "tamias_resident_memory_bytes",
                               "Resident set of the process, mapped weights included")) {
  for (const char* kind : {"full", "sparse", "skip"}) steps_.Add({{"kind", kind}});
  for (const char* stage : {"plan", "encode", "denoise", "decode", "write"}) {
    seconds_.Add({{"stage", stage}});
  }
  for (const char* end : {"completed", "failed", "cancelled", "interrupted"}) {
    jobs_.Add({{"end", end}});
  }
}

void Metrics::CountRequest(int status) {
  requests_.Add({{"status", std::to_string(status)}}).Increment();
}

void Metrics::CountStep(const std::string& kind) { steps_.Add({{"kind", kind}}).Increment(); }

void Metrics::AddSeconds(const std::string& stage, double seconds) {
  seconds_.Add({{"stage", stage}}).Increment(std::max(seconds, 0.0));
}

void Metrics::CountJob(const std::string& end) { jobs_.Add({{"end", end}}).Increment(); }

std::string Metrics::Text(const Now& now) {
  queue_length_.Set(static_cast<double>(now.queue_length));
  running_.Set(static_cast<double>(now.running));
  model_bytes_.Set(static_cast<double>(now.model_bytes));
  resident_bytes_.Set(static_cast<double>(ResidentBytes()));
  return prometheus::TextSerializer().Serialize(registry_.Collect());
}

}  // namespace tamias::serve
