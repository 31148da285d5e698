#include "drivers/run_header.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <boost/uuid/detail/sha1.hpp>
#include <charconv>
#include <stdexcept>

#include "kernels/simd.h"

namespace longseq {

Option simd_option() {
  return {"simd", "TARGET",
          fmt::format("instruction set of the kernels: auto or one of {}", fmt::join(simd_targets(), ", ")),
          "auto"};
}

std::int64_t whole_number(const CommandLine& line, std::string_view option, std::int64_t minimum) {
  const std::string& text = line.at(option);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < minimum) {
    throw std::invalid_argument(
        fmt::format("--{} {}: expected a whole number of at least {}", option, text, minimum));
  }
  return value;
}

std::string configuration_id(const Sweep& sweep, int ranks) {
  const std::string text = fmt::format("{}\nranks={} simd={}", sweep.canonical, ranks, simd_target());
  boost::uuids::detail::sha1 hash;
  hash.process_bytes(text.data(), text.size());
  unsigned int digest[5];
  hash.get_digest(digest);
  return fmt::format("{:08x}{:08x}{:08x}{:08x}{:08x}", digest[0], digest[1], digest[2], digest[3], digest[4]);
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
