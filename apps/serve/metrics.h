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

  // Everything, with these as they are now and the resident memory of the process.
  std::string Text(size_t queue_length, size_t running);

 private:
  prometheus::Registry registry_;
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Counter>& steps_;
  prometheus::Family<prometheus::Counter>& seconds_;
  prometheus::Family<prometheus::Counter>& jobs_;
  prometheus::Gauge& queue_length_;
  prometheus::Gauge& running_;
  prometheus::Gauge& resident_bytes_;
};

}  // namespace tamias::serve
