#include "drivers/position_terms.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "datasets/synthetic.h"
#include "drivers/streams.h"
#include "kernels/position.h"

namespace longseq {
namespace {

constexpr std::int64_t kLearnedReach = 128;

std::int64_t even(std::int64_t number) {
  return number + number % 2;
}

std::size_t count(std::int64_t number) {
  return static_cast<std::size_t>(number);
}

}  // namespace

template <class A>
PositionTerms<A> PositionParameters<A>::terms() const {
  PositionTerms<A> terms;
  if (!table.empty()) terms.bias = {table.data(), reach};
  if (r.data() != nullptr)
    terms.relative = {r.view(), distances.begin, content_bias.data(), position_bias.data()};
  return terms;
}

template <class A>
PositionGradients<A>::PositionGradients(const PositionParameters<A>& parameters) {
  if (!parameters.trained) return;
  table.resize(parameters.table.size());
  content_bias.resize(parameters.content_bias.size());
  position_bias.resize(parameters.position_bias.size());
  if (parameters.r.data() != nullptr) r = Tensor<A>(parameters.r.shape());
}

template <class A>
TermGradients<A> PositionGradients<A>::views() {
  TermGradients<A> views;
  if (!table.empty()) views.bias = table.data();
  if (r.data() != nullptr) {
    views.r = r.view();
    views.content_bias = content_bias.data();
    views.position_bias = position_bias.data();
  }
  return views;
}

template <class A>
bool PositionGradients<A>::finite() const {
  const auto all = [](const A* first, std::int64_t size) {
    return std::all_of(first, first + size, [](A value) { return std::isfinite(value); });
  };
  const auto every = [&](const std::vector<A>& values) {
    return all(values.data(), static_cast<std::int64_t>(values.size()));
  };
  return every(table) && every(content_bias) && every(position_bias) && all(r.data(), r.shape().elements());
}

template <class A>
void draw_position_parameters(const Case& c, PositionParameters<A>& parameters) {
  const auto draw = [&](std::vector<A>& values, std::int64_t size, Stream stream, double scale) {
    values.resize(count(size));
    seeded_normal(values, static_cast<std::uint64_t>(c.seed), stream, scale);
  };
  if (c.position == "learned") {
    parameters.reach = std::min(kLearnedReach, c.seq_len - 1);
    draw(parameters.table, c.heads * (2 * parameters.reach + 1), kBiasTable, 1.0);
  } else if (c.position == "elan") {
    draw(parameters.digit_weights, c.heads * distance_digits(c.seq_len), kDigitWeights, 1.0);
  } else if (c.position == "relative") {
    const std::int64_t of_heads = c.heads * c.head_dim, width = even(of_heads);
    draw(parameters.relative_weights, width * of_heads, kRelativeWeights,
         1.0 / std::sqrt(static_cast<double>(width)));
    draw(parameters.content_bias, of_heads, kContentBias, 1.0);
    draw(parameters.position_bias, of_heads, kPositionBias, 1.0);
  }
}

template <class A>
void make_position_terms(const Case& c, const Pattern& pattern, PositionParameters<A>& parameters) {
  parameters.trained = c.position == "learned" || c.position == "elan" || c.position == "relative";
  if (c.position == "alibi") {
    parameters.reach = c.seq_len - 1;
    parameters.table = alibi_table<A>(c.heads, parameters.reach);
  } else if (c.position == "elan") {
    parameters.reach = c.seq_len - 1;
    parameters.table = elan_table<A>(parameters.digit_weights, c.heads, parameters.reach);
  } else if (c.position == "relative") {
    parameters.distances = pattern.distances();
    parameters.r = relative_keys<A>(parameters.relative_weights, c.heads, c.head_dim, parameters.distances);
  }
}

std::int64_t distance_digits(std::int64_t seq_len) {
  return std::max<std::int64_t>(std::bit_width(static_cast<std::uint64_t>(seq_len - 1)), 1);
}

std::int64_t position_bytes(const Case& c, const Pattern& pattern, std::int64_t accumulator_bytes,
                            int threads) {
  const bool gradients = c.pass != "forward";
  const std::int64_t group = c.heads / c.kv_heads;
  if (c.position == "relative") {
    const std::int64_t distances = pattern.distances().size(), of_heads = c.heads * c.head_dim;
    const std::int64_t width = even(of_heads);
    const std::int64_t sinusoids = std::min(distances, kRelativeKeysAtOnce) * width;
    const std::int64_t numbers = (distances + width) * of_heads;  // r and W_R
    const std::int64_t share = accumulator_bytes == 8
                                   ? attention_r_gradient_bytes<double>(group, distances, c.head_dim)
                                   : attention_r_gradient_bytes<float>(group, distances, c.head_dim);
    return ((gradients ? 2 : 1) * numbers + sinusoids) * accumulator_bytes +
           (gradients ? threads * share : 0);
  }
  std::int64_t of_head = 0;
  if (c.position == "alibi" || c.position == "elan") of_head = 2 * c.seq_len;
  std::int64_t heads = c.heads;
  if (c.position == "elan" && gradients) heads += c.heads + threads * group;  // each thread's share
  return heads * of_head * accumulator_bytes;
}

#define LONGSEQ_INSTANTIATE(A)                                                    \
  template struct PositionParameters<A>;                                          \
  template class PositionGradients<A>;                                            \
  template void draw_position_parameters<A>(const Case&, PositionParameters<A>&); \
  template void make_position_terms<A>(const Case&, const Pattern&, PositionParameters<A>&);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq
