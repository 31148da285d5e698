// What plan --steps writes: when every rank is predicted to be done with each of its steps.
#pragma once

#include <fmt/os.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "drivers/sharding/predict.h"

namespace longseq {

/// A CSV file of a row for each step: case, pass, rank, step, and the seconds from the pass's begin at which
/// the step began, had its tiles computed, its messages, and all joined.
class PredictedSteps {
 public:
  /// Throws std::invalid_argument if there is such a file, or none can be made.
  explicit PredictedSteps(const std::filesystem::path& path);

  void add(const std::string& label, std::string_view pass, const StepTime& time);

 private:
  fmt::ostream file_;
};

}  // namespace longseq
