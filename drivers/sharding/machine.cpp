#include "drivers/sharding/machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <cmath>
#include <fstream>
#include <stdexcept>

namespace longseq {
namespace {

namespace po = boost::program_options;

po::options_description keys() {
  po::options_description description;
  description.add_options()("name", po::value<std::string>())("source", po::value<std::string>());
  for (const char* number :
       {"ranks_per_node", "flops_f32", "flops_bf16", "flops_f64", "forward_efficiency", "backward_efficiency",
        "node_latency", "node_bandwidth", "network_latency", "network_bandwidth", "memory_bandwidth"})
    description.add_options()(number, po::value<double>());
  return description;
}

class Values {
 public:
  explicit Values(const std::string& path) : path_(path) {
    std::ifstream file(path);
    if (!file) {
      throw std::runtime_error(fmt::format(
          "--machine {}: cannot be read; expected a file of key = value lines; hint: suite/machines has "
          "examples",
          path));
    }
    try {
      po::store(po::parse_config_file(file, keys()), values_);
    } catch (const po::error& error) {
      throw std::invalid_argument(fmt::format("--machine {}: {}", path, error.what()));
    }
  }

  std::string text(const char* key) const {
    return values_.count(key) > 0 ? values_[key].as<std::string>() : std::string();
  }
  double number(const char* key) const {
    if (values_.count(key) == 0)
      throw std::invalid_argument(fmt::format("--machine {}: {} is missing; expected a number", path_, key));
    const double value = values_[key].as<double>();
    if (std::isfinite(value) && value > 0) return value;
    throw std::invalid_argument(
        fmt::format("--machine {}: {} is {}; expected a positive number", path_, key, value));
  }
  int whole(const char* key) const {
    const double value = number(key);
    if (value == std::floor(value) && value <= 1e6) return static_cast<int>(value);
    throw std::invalid_argument(
        fmt::format("--machine {}: {} is {}; expected a whole number, 1 to 1000000", path_, key, value));
  }
  double number_or(const char* key, double usual) const {
    return values_.count(key) > 0 ? number(key) : usual;
  }

 private:
  std::string path_;
  po::variables_map values_;
};

}  // namespace

double Link::seconds(double bytes) const {
  const auto above =
      std::find_if(rates.begin(), rates.end(), [&](const Rate& rate) { return rate.bytes > bytes; });
  if (above == rates.begin()) return latency + bytes / above->per_second;
  const Rate& below = *(above - 1);
  double rate = below.per_second;
  if (above != rates.end()) {
    const double part = std::log(bytes / below.bytes) / std::log(above->bytes / below.bytes);
    rate += part * (above->per_second - below.per_second);
  }
  return latency + bytes / rate;
}

Machine read_machine(const std::string& path, const std::string& dtype) {
  const Values values(path);
  Machine machine;
  machine.name = values.text("name");
  machine.source = values.text("source");
  machine.ranks_per_node = values.whole("ranks_per_node");
  machine.node = {values.number("node_latency"), {{1, values.number("node_bandwidth")}}};
  machine.network = {values.number("network_latency"), {{1, values.number("network_bandwidth")}}};
  machine.memory_bandwidth = values.number("memory_bandwidth");
  const double f32 = values.number("flops_f32");
  const double peak = dtype == "f64"    ? values.number_or("flops_f64", f32 / 2)
                      : dtype == "bf16" ? values.number_or("flops_bf16", f32)
                                        : f32;
  // A row is read and written a few times: what that costs where the file says nothing of it.
  const double row = 4.0 * (dtype == "f64" ? sizeof(double) : sizeof(float)) / machine.memory_bandwidth;
  const auto costs = [&](const char* efficiency, double own_row, double flops_per_key) {
    constexpr double kMaskedKeys = 16;  // half a lane group at either end
    const double rate = peak * values.number_or(efficiency, kUsualEfficiency);
    return KernelCosts{rate, own_row, own_row, kMaskedKeys * flops_per_key / rate, 0};
  };
  machine.forward = costs("forward_efficiency", row, 4);
  machine.backward = costs("backward_efficiency", 2 * row, 10);
  return machine;
}

}  // namespace longseq
