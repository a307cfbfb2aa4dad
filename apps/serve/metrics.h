// What the server counts, in Prometheus' text format. Threads may count at once.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <cstddef>
#include <string>

namespace tamias::serve {

class Metrics {
 public:
  Metrics();

  void CountRequest(int status);
  void CountStep(const std::string& kind);  // full, sparse, skip
  void AddSeconds(const std::string& stage,
                  double seconds);        // plan, encode, denoise, decode, write
  void CountJob(const std::string& end);  // completed, failed, cancelled, interrupted

  // As things are at this moment.
  struct Now {
    size_t queue_length = 0;
    size_t running = 0;
    size_t model_bytes = 0;  // of the weights of loaded models
  };
  // Everything, and the resident memory of the process.
  std::string Text(const Now& now);

 private:
  prometheus::Registry registry_;
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Counter>& steps_;
  prometheus::Family<prometheus::Counter>& seconds_;
  prometheus::Family<prometheus::Counter>& jobs_;
  prometheus::Gauge& queue_length_;
  prometheus::Gauge& running_;
  prometheus::Gauge& model_bytes_;
  prometheus::Gauge& resident_bytes_;
};

}  // namespace tamias::serve
