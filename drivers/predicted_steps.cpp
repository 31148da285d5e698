#include "drivers/predicted_steps.h"

#include <fmt/format.h>

#include <stdexcept>
#include <system_error>

namespace longseq {
namespace {

fmt::ostream new_file(const std::filesystem::path& path) {
  try {
    return fmt::output_file(path.c_str(), fmt::file::WRONLY | fmt::file::CREATE | O_EXCL);
  } catch (const std::system_error& error) {
    throw std::invalid_argument(
        fmt::format("--steps '{}' cannot be made: {}; expected a new file in a folder that is there; hint: "
                    "choose another or remove it",
                    path.string(), error.code().message()));
  }
}

}  // namespace

PredictedSteps::PredictedSteps(const std::filesystem::path& path) : file_(new_file(path)) {
  file_.print("case,pass,rank,step,begin,computed,arrived,joined\n");
}

void PredictedSteps::add(const std::string& label, std::string_view pass, const StepTime& time) {
  file_.print("{},{},{},{},{:.9g},{:.9g},{:.9g},{:.9g}\n", label, pass, time.rank, time.step, time.begin,
              time.computed, time.arrived, time.joined);
}

}  // namespace longseq
