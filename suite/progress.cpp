#include "suite/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <stdexcept>

namespace longseq {

void Progress::begin_case(int k, int n, std::string_view label) {
  case_ = fmt::format("case {} of {}: {}", k, n, label);
  show(case_);
}

void Progress::repetition(int done, double median, std::optional<double> half_width) {
  const std::string interval =
      half_width ? fmt::format("±{:.1f} %", 100 * *half_width) : "interval unknown yet";
  show(fmt::format("{} | repetition {}, {:.4g} s {}", case_, done, median, interval));
}

void Progress::clear() {
  show("");
}

void Progress::show(std::string_view line) {
  if (!shown_) return;
  fmt::print(stream_, "\r{}\x1b[K", line);  // ESC [ K wipes what a longer line before left
  std::fflush(stream_);
}

bool progress_wanted(int rank, std::string_view mode) {
  if (mode != "auto" && mode != "on" && mode != "off") {
    throw std::invalid_argument(fmt::format("--progress {}: expected auto, on or off", mode));
  }
  return rank == 0 && (mode == "on" || (mode == "auto" && isatty(STDERR_FILENO) == 1));
}

}  // namespace longseq
