#include "drivers/position_parameters.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/position.h"
#include "results/agreement.h"

namespace longseq {
namespace {

using Extents = std::vector<std::int64_t>;

[[noreturn]] void refuse_shape(const std::string& name, const Extents& extents, const std::string& expected) {
  throw std::invalid_argument(
      fmt::format("{} has the shape ({}); expected {}", name, fmt::join(extents, ", "), expected));
}

/// A dataset of these extents whose numbers are finite.
template <class T>
std::vector<T> read_finite(const TensorInput& input, const std::string& name, const Extents& extents) {
  std::vector<T> values = input.read_all<T>(name);
  const auto bad = std::find_if(values.begin(), values.end(), [](T value) { return !std::isfinite(value); });
  if (bad == values.end()) return values;
  Extents at(extents.size());
  std::int64_t index = bad - values.begin();
  for (std::size_t dimension = extents.size(); dimension-- > 0; index /= extents[dimension])
    at[dimension] = index % extents[dimension];
  throw std::invalid_argument(
      fmt::format("{}[{}] is NaN or infinite; expected finite numbers", name, fmt::join(at, ", ")));
}

template <class T>
void read_learned(const Case& c, const TensorInput& input, PositionParameters<T>& parameters) {
  const Extents extents = input.extents("/bias", 2);
  constexpr std::int64_t kMostNumbers = std::numeric_limits<std::int32_t>::max();  // indices of f32 tables
  if (extents[0] != c.heads || extents[1] % 2 == 0 || extents[1] > kMostNumbers / c.heads) {
    refuse_shape("/bias", extents, fmt::format("(H, 2R+1) with H = {}, fewer than 2^31 numbers", c.heads));
  }
  parameters.table = read_finite<T>(input, "/bias", extents);
  parameters.reach = extents[1] / 2;
}

template <class T>
void read_elan(const Case& c, const TensorInput& input, PositionParameters<T>& parameters) {
  const Extents extents = input.extents("/elan", 2);
  constexpr std::int64_t kMostDigits = 63;
  if (extents[0] != c.heads || extents[1] < distance_digits(c.seq_len) || extents[1] > kMostDigits) {
    refuse_shape("/elan", extents,
                 fmt::format("(H, N) with H = {} and N from {}, the binary digits of S - 1, to {}", c.heads,
                             distance_digits(c.seq_len), kMostDigits));
  }
  parameters.digit_weights = read_finite<T>(input, "/elan", extents);
}

template <class T>
void read_relative(const Case& c, const TensorInput& input, PositionParameters<T>& parameters) {
  const Extents extents = input.extents("/relative_weights", 3);
  constexpr std::int64_t kWidest = 262'144;
  if (extents[0] < 2 || extents[0] > kWidest || extents[0] % 2 != 0 || extents[1] != c.heads ||
      extents[2] != c.head_dim) {
    refuse_shape(
        "/relative_weights", extents,
        fmt::format("(W, H, D) with an even W from 2 to {}, H = {}, D = {}", kWidest, c.heads, c.head_dim));
  }
  parameters.relative_weights = read_finite<T>(input, "/relative_weights", extents);
  const Extents of_heads{c.heads, c.head_dim};
  for (const auto& [name, biases] : {std::pair("/content_bias", &parameters.content_bias),
                                     std::pair("/position_bias", &parameters.position_bias)}) {
    if (const Extents found = input.extents(name, 2); found != of_heads)
      refuse_shape(name, found, fmt::format("(H, D) with H = {}, D = {}", c.heads, c.head_dim));
    *biases = read_finite<T>(input, name, of_heads);
  }
}

/// Sums over the ranks, on rank 0, in parts: MPI may hold another of each.
template <class A>
void sum_to_rank_0(MPI_Comm comm, std::span<A> values) {
  constexpr std::size_t kAtOnce = std::size_t{1} << 20;
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  const MPI_Datatype type = std::is_same_v<A, double> ? MPI_DOUBLE : MPI_FLOAT;
  for (; !values.empty(); values = values.subspan(std::min(kAtOnce, values.size()))) {
    MPI_Reduce(rank == 0 ? MPI_IN_PLACE : values.data(), values.data(),
               static_cast<int>(std::min(kAtOnce, values.size())), type, MPI_SUM, 0, comm);
  }
}

}  // namespace

template <class T>
void read_position_parameters(const Case& c, const TensorInput& input, PositionParameters<T>& parameters) {
  if (c.position == "learned") read_learned(c, input, parameters);
  if (c.position == "elan") read_elan(c, input, parameters);
  if (c.position == "relative") read_relative(c, input, parameters);
}

std::int64_t parameter_bytes(const Case& c, const TensorInput& input, std::int64_t accumulator_bytes) {
  const std::int64_t copies = c.pass == "forward" ? 1 : 2;
  std::int64_t numbers = 0;
  if (c.position == "learned") {
    const Extents extents = input.extents("/bias", 2);
    numbers = copies * extents[0] * extents[1];
  } else if (c.position == "relative") {  // W_R, and the sinusoids that it takes
    const Extents extents = input.extents("/relative_weights", 3);
    numbers = extents[0] * (copies * extents[1] * extents[2] + kRelativeKeysAtOnce);
  }
  return numbers * accumulator_bytes;
}

template <class A>
void write_position_gradients(MPI_Comm comm, const Case& c, const PositionParameters<A>& parameters,
                              PositionGradients<A>& gradients, TensorOutput& output) {
  const std::span<A> r(gradients.r.data(), static_cast<std::size_t>(gradients.r.shape().elements()));
  for (const std::span<A>& own : {std::span<A>(gradients.table), r, std::span<A>(gradients.content_bias),
                                  std::span<A>(gradients.position_bias)})
    sum_to_rank_0(comm, own);
  const auto write = [&](const std::string& name, const Extents& extents, const std::vector<A>& values) {
    output.write_from_rank_0<A>(name, extents, values);
  };
  const auto columns = [&](const std::vector<A>& values) {
    return static_cast<std::int64_t>(values.size()) / c.heads;
  };
  if (c.position == "learned") {
    write("/dbias", {c.heads, columns(gradients.table)}, gradients.table);
  } else if (c.position == "elan") {
    const std::int64_t digits = columns(parameters.digit_weights);
    write("/delan", {c.heads, digits}, elan_gradient<A>(gradients.table, c.heads, parameters.reach, digits));
  } else if (c.position == "relative") {
    const std::int64_t width = columns(parameters.relative_weights) / c.head_dim;
    std::vector<A> d_weights;
    on_rank_0(comm, [&] {  // has the sum
      d_weights = relative_keys_gradient<A>(std::as_const(gradients.r).view(), width, parameters.distances);
    });
    write("/drelative_weights", {width, c.heads, c.head_dim}, d_weights);
    write("/dcontent_bias", {c.heads, c.head_dim}, gradients.content_bias);
    write("/dposition_bias", {c.heads, c.head_dim}, gradients.position_bias);
  }
}

#define LONGSEQ_INSTANTIATE(A)                                                                        \
  template void read_position_parameters<A>(const Case&, const TensorInput&, PositionParameters<A>&); \
  template void write_position_gradients<A>(MPI_Comm, const Case&, const PositionParameters<A>&,      \
                                            PositionGradients<A>&, TensorOutput&);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq
