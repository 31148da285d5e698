#include "drivers/inputs.h"

#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "datasets/corpus.h"
#include "datasets/synthetic.h"
#include "drivers/execution/row_operations.h"
#include "drivers/streams.h"
#include "kernels/position.h"
#include "kernels/projection.h"
#include "suite/statistics.h"

namespace longseq {
namespace {

constexpr int kProjectionTimings = 5;
constexpr std::int64_t kRowsPerTask = 64;

template <class T>
void fill_synthetic(TensorView<T> view, const Shard& shard, std::uint64_t seed, TensorId id) {
  for_each_run(shard, [&](Run run, std::int64_t first) {
    tbb::parallel_for(std::int64_t{0}, (run.count + kRowsPerTask - 1) / kRowsPerTask, [&](std::int64_t task) {
      const Interval rows{task * kRowsPerTask, std::min((task + 1) * kRowsPerTask, run.count)};
      fill_normal(view.tokens(rows.shifted(first)), run.slice(rows), seed, id);
    });
  });
}

/// The shard's tokens of one batch entry; entry b of a batch is the corpus's b-th stretch of seq_len tokens.
/// Striped shards pick theirs from blocks of the whole stretch.
std::vector<std::int32_t> read_tokens(const TokenReader& corpus, const Shard& shard,
                                      std::int64_t stretch_begin) {
  constexpr std::int64_t kBlock = 1 << 20;
  std::vector<std::int32_t> tokens;
  for (const Run& run : shard) {
    const std::int64_t at_once = std::max<std::int64_t>(1, kBlock / run.stride);
    for (std::int64_t begin = 0; begin < run.count; begin += at_once) {
      const Run part = run.slice({begin, std::min(begin + at_once, run.count)});
      const auto block = corpus.read({stretch_begin + part.start, stretch_begin + part.last() + 1});
      for (std::size_t at = 0; at < block.size(); at += static_cast<std::size_t>(run.stride))
        tokens.push_back(block[at]);
    }
  }
  return tokens;
}

template <class T>
std::vector<T> seeded(std::int64_t count, std::uint64_t seed, Stream stream, double scale) {
  std::vector<T> values(static_cast<std::size_t>(count));
  seeded_normal(values, seed, stream, scale);
  return values;
}

/// One batch entry of a tensor.
template <class T>
TensorView<T> entry(TensorView<T> view, std::int64_t b) {
  view.data += b * view.batch_stride;
  view.shape.batch = 1;
  return view;
}

template <class T>
void project_corpus(const Case& c, const Shard& shard, const std::filesystem::path& data_dir,
                    LayerInputs<T>& inputs) {
  const TokenReader corpus = open_corpus(c.dataset, data_dir);
  const auto seed = static_cast<std::uint64_t>(c.seed);
  const std::int64_t width = c.heads * c.head_dim, kv_width = c.kv_heads * c.head_dim;
  const double scale = 1.0 / std::sqrt(static_cast<double>(width));
  const auto table = seeded<T>(corpus.vocabulary() * width, seed, kEmbedding, 1.0);
  const auto query_weights = seeded<T>(width * width, seed, kQueryWeights, scale);
  const auto key_weights = seeded<T>(width * kv_width, seed, kKeyWeights, scale);
  const auto value_weights = seeded<T>(width * kv_width, seed, kValueWeights, scale);
  inputs.projection_time = 0;
  for (std::int64_t b = 0; b < c.batch; ++b) {
    Tensor<T> x({1, 1, tokens_in(shard), width});
    embed<T>(read_tokens(corpus, shard, b * c.seq_len), table, x.view());
    if (c.position == "none") {
      for_each_run(shard, [&](Run run, std::int64_t first) {
        add_sinusoid(x.view().tokens({first, first + run.count}), run);
      });
    }
    std::vector<double> seconds;
    for (int timing = 0; timing < kProjectionTimings; ++timing) {
      const auto start = std::chrono::steady_clock::now();
      project_heads<T>(x.view(), query_weights, entry(inputs.q.view(), b));
      project_heads<T>(x.view(), key_weights, entry(inputs.k(), b));
      project_heads<T>(x.view(), value_weights, entry(inputs.v(), b));
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    inputs.projection_time += median(seconds);
  }
}

}  // namespace

template <class T>
TensorView<T> LayerInputs<T>::k() {
  TensorView<T> view = keys.view();
  view.shape.batch /= 2;
  return view;
}

template <class T>
TensorView<T> LayerInputs<T>::v() {
  TensorView<T> view = k();
  view.data += view.shape.batch * view.batch_stride;
  return view;
}

void expect_corpus(const Case& c, const std::filesystem::path& data_dir) {
  const TokenReader corpus = open_corpus(c.dataset, data_dir);
  if (corpus.size() >= c.batch * c.seq_len) return;
  throw std::invalid_argument(
      fmt::format("corpus '{}' has {} tokens; expected at least batch * seq-len = {}; hint: a shorter "
                  "--seq-len or another --dataset",
                  corpus.name(), corpus.size(), c.batch * c.seq_len));
}

template <class T>
LayerInputs<T> make_inputs(const Case& c, const Pattern& pattern, const Shard& shard,
                           const std::filesystem::path& data_dir) {
  const std::int64_t rows = tokens_in(shard);
  LayerInputs<T> inputs;
  inputs.q = Tensor<T>({c.batch, c.heads, rows, c.head_dim});
  inputs.keys = Tensor<T>({2 * c.batch, c.kv_heads, rows, c.head_dim});
  if (c.dataset == "synthetic") {
    const auto seed = static_cast<std::uint64_t>(c.seed);
    fill_synthetic(inputs.q.view(), shard, seed, TensorId::q);
    fill_synthetic(inputs.k(), shard, seed, TensorId::k);
    fill_synthetic(inputs.v(), shard, seed, TensorId::v);
  } else {
    project_corpus(c, shard, data_dir, inputs);
  }
  if (c.pass != "forward") {
    inputs.d_o = Tensor<T>(inputs.q.shape());
    fill_synthetic(inputs.d_o.view(), shard, static_cast<std::uint64_t>(c.seed), TensorId::output_gradient);
  }
  draw_position_parameters(c, inputs.position);
  apply_position(c, pattern, shard, inputs);
  return inputs;
}

template <class T>
void apply_position(const Case& c, const Pattern& pattern, const Shard& shard, LayerInputs<T>& inputs) {
  if (c.position == "rotary") {
    for_each_run(shard, [&](Run run, std::int64_t first) {
      const Interval rows{first, first + run.count};
      rotate_by_position(inputs.q.view().tokens(rows), run);
      rotate_by_position(inputs.k().tokens(rows), run);
    });
  }
  make_position_terms(c, pattern, inputs.position);
}

template <class A>
void undo_position(const Case& c, const Shard& shard, TensorView<A> dq, TensorView<A> dk) {
  if (c.position != "rotary") return;
  for_each_run(shard, [&](Run run, std::int64_t first) {
    const Interval rows{first, first + run.count};
    rotate_gradient_by_position(dq.tokens(rows), run);
    rotate_gradient_by_position(dk.tokens(rows), run);
  });
}

template <class T>
LayerInputs<T> in_storage(LayerInputs<Accumulator<T>> inputs) {
  if constexpr (std::is_same_v<T, Accumulator<T>>) {
    return inputs;
  } else {
    // Each tensor's wider one is let go before the next is rounded.
    const auto rounded = [](Tensor<Accumulator<T>>& wide) {
      const Tensor<Accumulator<T>> from = std::move(wide);
      Tensor<T> tensor(from.shape());
      copy_rows<T>(from.view(), tensor.view());
      return tensor;
    };
    LayerInputs<T> own;
    own.q = rounded(inputs.q);
    own.keys = rounded(inputs.keys);
    if (inputs.d_o.data() != nullptr) own.d_o = rounded(inputs.d_o);  // there, if without rows
    own.position = std::move(inputs.position);
    own.projection_time = inputs.projection_time;
    return own;
  }
}

std::filesystem::path default_data_dir() {
  const char* directory = std::getenv("LONGSEQ_DATA");
  return directory != nullptr && *directory != '\0' ? directory : "data";
}

#define LONGSEQ_INSTANTIATE(T)                                                                 \
  template LayerInputs<T> make_inputs<T>(const Case&, const Pattern&, const Shard&,            \
                                         const std::filesystem::path&);                        \
  template void apply_position<T>(const Case&, const Pattern&, const Shard&, LayerInputs<T>&); \
  template void undo_position<T>(const Case&, const Shard&, TensorView<T>, TensorView<T>);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
#undef LONGSEQ_INSTANTIATE
template struct LayerInputs<float>;
template struct LayerInputs<double>;
template struct LayerInputs<BFloat16>;
template LayerInputs<float> in_storage<float>(LayerInputs<float>);
template LayerInputs<double> in_storage<double>(LayerInputs<double>);
template LayerInputs<BFloat16> in_storage<BFloat16>(LayerInputs<float>);

}  // namespace longseq
