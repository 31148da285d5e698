#include "drivers/run_header.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <boost/uuid/name_generator_sha1.hpp>
#include <boost/uuid/uuid_io.hpp>
#include <charconv>
#include <stdexcept>

#include "kernels/simd.h"

namespace longseq {

Option simd_option() {
  return {"simd", "TARGET",
          fmt::format("instruction set of the kernels: auto or one of {}", fmt::join(simd_targets(), ", ")),
          "auto"};
}

std::int64_t whole_number(const CommandLine& line, std::string_view option, std::int64_t minimum,
                          std::int64_t maximum) {
  const std::string& text = line.at(option);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < minimum || value > maximum) {
    throw std::invalid_argument(
        fmt::format("--{} {}: expected a whole number from {} to {}", option, text, minimum, maximum));
  }
  return value;
}

std::string configuration_id(const Sweep& sweep, int ranks, int default_threads) {
  boost::uuids::name_generator_sha1 digest(boost::uuids::ns::oid());
  return boost::uuids::to_string(digest(fmt::format("{}\nranks={} threads={} simd={}", sweep.canonical, ranks,
                                                    default_threads, simd_target())));
}

RunHeader run_header(const Environment& environment, const Sweep& sweep, const CommandLine& line,
                     const Calibration& calibration, const std::string& thread_binding) {
  RunHeader header;
  for (auto& [name, value] : fields(environment))
    header.environment.attributes.push_back({name, std::move(value)});
  header.environment.arrays.push_back(
      {"hostname", {"rank"}, environment.hostnames, "", "host of the rank", false});
  header.environment.arrays.push_back(
      {"binding", {"rank"}, environment.bindings, "", "hardware threads that the rank may use", false});
  header.environment.arrays.push_back({"memory_available",
                                       {"rank"},
                                       environment.memory_available,
                                       "B",
                                       "available on the rank's node at the start",
                                       false});
  header.environment.attributes.push_back({"thread_binding", thread_binding});
  header.config.arrays.push_back(
      {"text",
       {},
       std::vector<std::string>{sweep.source.empty() ? sweep.canonical : sweep.source},
       "",
       "the sweep",
       false});
  header.config.arrays.push_back({"canonical",
                                  {},
                                  std::vector<std::string>{sweep.canonical},
                                  "",
                                  "every case with every option",
                                  false});
  header.config.attributes.push_back({"arguments", line.text});
  header.calibration = calibration_group(calibration);
  return header;
}

}  // namespace longseq
