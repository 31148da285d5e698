#include "drivers/position_parameters.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/position.h"

namespace longseq {
namespace {

/// A dataset (heads, columns) whose numbers are finite.
template <class T>
std::vector<T> read_table(const TensorInput& input, const std::string& name,
                          const std::vector<std::int64_t>& extents) {
  std::vector<T> values = input.read_all<T>(name);
  const auto bad = std::find_if(values.begin(), values.end(), [](T value) { return !std::isfinite(value); });
  if (bad == values.end()) return values;
  const std::int64_t index = bad - values.begin();
  throw std::invalid_argument(fmt::format("{}[{}, {}] is NaN or infinite; expected finite numbers", name,
                                          index / extents[1], index % extents[1]));
}

}  // namespace

template <class T>
void read_position_parameters(const Case& c, const TensorInput& input, LayerInputs<T>& inputs) {
  if (c.position == "learned") {
    const std::vector<std::int64_t> extents = input.extents("/bias", 2);
    constexpr std::int64_t kMostNumbers = std::numeric_limits<std::int32_t>::max();  // indices of f32 tables
    if (extents[0] != c.heads || extents[1] % 2 == 0 || extents[1] > kMostNumbers / c.heads) {
      throw std::invalid_argument(
          fmt::format("/bias has the shape ({}); expected (H, 2R+1) with H = {}, fewer than 2^31 numbers",
                      fmt::join(extents, ", "), c.heads));
    }
    inputs.table = read_table<T>(input, "/bias", extents);
    inputs.reach = extents[1] / 2;
  } else if (c.position == "elan") {
    const std::vector<std::int64_t> extents = input.extents("/elan", 2);
    constexpr std::int64_t kMostDigits = 63;
    if (extents[0] != c.heads || extents[1] < distance_digits(c.seq_len) || extents[1] > kMostDigits) {
      throw std::invalid_argument(
          fmt::format("/elan has the shape ({}); expected (H, N) with H = {} and N from {}, the binary "
                      "digits of S - 1, to {}",
                      fmt::join(extents, ", "), c.heads, distance_digits(c.seq_len), kMostDigits));
    }
    inputs.digit_weights = read_table<T>(input, "/elan", extents);
  }
}

template <class T>
void write_position_gradients(MPI_Comm comm, const Case& c, Layer<T>& layer, TensorOutput& output) {
  using A = Accumulator<T>;
  if (layer.d_table.empty()) return;
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  const MPI_Datatype type = std::is_same_v<A, double> ? MPI_DOUBLE : MPI_FLOAT;
  const std::int64_t row = layer.inputs.bias().row_size();
  for (std::int64_t h = 0; h < c.heads; ++h) {  // row by row: MPI counts with 32 bits
    A* const own = layer.d_table.data() + h * row;
    MPI_Reduce(rank == 0 ? MPI_IN_PLACE : own, own, static_cast<int>(row), type, MPI_SUM, 0, comm);
  }
  if (c.position == "learned") {
    output.write_from_rank_0<A>("/dbias", {c.heads, row}, layer.d_table);
  } else {
    const auto digits = static_cast<std::int64_t>(layer.inputs.digit_weights.size()) / c.heads;
    output.write_from_rank_0<A>("/delan", {c.heads, digits},
                                elan_gradient<A>(layer.d_table, c.heads, layer.inputs.reach, digits));
  }
}

template void read_position_parameters<float>(const Case&, const TensorInput&, LayerInputs<float>&);
template void read_position_parameters<double>(const Case&, const TensorInput&, LayerInputs<double>&);
template void write_position_gradients<float>(MPI_Comm, const Case&, Layer<float>&, TensorOutput&);
template void write_position_gradients<double>(MPI_Comm, const Case&, Layer<double>&, TensorOutput&);
template void write_position_gradients<BFloat16>(MPI_Comm, const Case&, Layer<BFloat16>&, TensorOutput&);

}  // namespace longseq
