// longseq attend: sharded attention of the tensors in a file, so that anyone can hold longseq against another
// framework.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <type_traits>
#include <utility>

#include "drivers/attention_weights.h"
#include "drivers/commands.h"
#include "drivers/execution/row_operations.h"
#include "drivers/inputs.h"
#include "drivers/layer.h"
#include "drivers/position_parameters.h"
#include "drivers/problem.h"
#include "drivers/prospect.h"
#include "drivers/run_header.h"
#include "drivers/strategies.h"
#include "drivers/tensor_file.h"
#include "kernels/simd.h"
#include "kernels/threads/thread_team.h"
#include "results/agreement.h"
#include "suite/placement.h"
#include "suite/sweep.h"
#include "suite/watchdog.h"

namespace longseq {
namespace {

const Command& command() {
  static const Command kCommand{
      .name = "attend",
      .summary =
          "Reads /q (B, H, S, D), /k and /v (B, Hkv, S, D), f32 or f64, and writes "
          "/o and /lse (B, H, S). Sizes and type "
          "come from the file. --pass backward or both also reads /do, shaped as "
          "/q, and writes /dq, /dk and /dv. --dtype bf16 rounds what it reads, and "
          "writes f32. --position learned reads /bias (H, 2R+1), negative "
          "distances first, and writes /dbias; elan reads /elan (H, N), a weight "
          "for each binary digit of the distance, and writes /delan; relative "
          "reads Transformer-XL's W_R, u and v as /relative_weights (W, H, D), "
          "/content_bias and /position_bias (H, D), and writes the gradient of each "
          "with a d before its name. --pattern document reads /document_starts.",
      .options = {{"input", "FILE", "HDF5 with /q, /k, /v, and /do for gradients"},
                  {"output", "FILE", "HDF5 to be made: /o, /lse, gradients"},
                  {"weights", "", "also write /weights (B, H, S, S), S <= 4096"},
                  simd_option()}};
  return kCommand;
}

/// Takes a size from the file; an option that says otherwise is refused.
void take(Case& c, std::int64_t Case::*member, std::string_view name, std::int64_t found,
          const CommandLine& line, const std::string& dataset) {
  if (line.settings.find(name) != line.settings.end() && c.*member != found) {
    throw std::invalid_argument(
        fmt::format("--{} {} differs from the input: {} says {}; hint: leave the option out", dashed(name),
                    c.*member, dataset, found));
  }
  c.*member = found;
}

/// The case that the options and the file make together.
Case case_of(const CommandLine& line, const TensorInput& input) {
  Case c = single_case(line, built_choices());
  c.dataset = "synthetic";  // not a corpus: the file's
  const std::vector<std::int64_t> q = input.extents("/q", 4), k = input.extents("/k", 4),
                                  v = input.extents("/v", 4);
  if (k != v)
    throw std::invalid_argument(fmt::format("/k has the shape ({}) and /v ({}); expected the same",
                                            fmt::join(k, ", "), fmt::join(v, ", ")));
  if (k[0] != q[0] || k[2] != q[2] || k[3] != q[3]) {
    throw std::invalid_argument(
        fmt::format("/q has the shape ({}) and /k ({}); expected (B, H, S, D) and (B, Hkv, S, D)",
                    fmt::join(q, ", "), fmt::join(k, ", ")));
  }
  if (c.pass != "forward") {
    if (const std::vector<std::int64_t> d_o = input.extents("/do", 4); d_o != q) {
      throw std::invalid_argument(fmt::format("/do has the shape ({}) and /q ({}); expected the same",
                                              fmt::join(d_o, ", "), fmt::join(q, ", ")));
    }
  }
  take(c, &Case::batch, "batch", q[0], line, "/q");
  take(c, &Case::heads, "heads", q[1], line, "/q");
  take(c, &Case::seq_len, "seq_len", q[2], line, "/q");
  take(c, &Case::head_dim, "head_dim", q[3], line, "/q");
  take(c, &Case::kv_heads, "kv_heads", k[1], line, "/k");
  if (line.settings.find("dtype") == line.settings.end()) c.dtype = input.is_double("/q") ? "f64" : "f32";
  resolve(c);
  check_case(c);
  return c;
}

/// The documents that the file says, or none for other patterns.
std::vector<std::int64_t> starts_of(const Case& c, const TensorInput& input) {
  if (c.pattern != "document") return {};
  input.extents("/document_starts", 1, true);
  return input.read_all<std::int64_t>("/document_starts");
}

/// The first element (of the whole tensor, in its order) that is not finite, as a flat index; else the
/// largest number.
template <class T>
std::int64_t first_not_finite(TensorView<const T> view, const Shard& shard, std::int64_t seq_len) {
  const Shape& shape = view.shape;
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      std::int64_t row = 0;
      for (const Run& run : shard) {
        for (std::int64_t t = 0; t < run.count; ++t, ++row) {
          for (std::int64_t d = 0; d < shape.head_dim; ++d) {
            if (!std::isfinite(static_cast<double>(view.row(b, h, row)[d])))
              return ((b * shape.heads + h) * seq_len + run.at(t)) * shape.head_dim + d;
          }
        }
      }
    }
  }
  return std::numeric_limits<std::int64_t>::max();
}

template <class T>
void expect_finite(MPI_Comm comm, const std::string& name, TensorView<const T> view, const Shard& shard,
                   std::int64_t seq_len) {
  std::int64_t first = first_not_finite(view, shard, seq_len);
  MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT64_T, MPI_MIN, comm);
  if (first == std::numeric_limits<std::int64_t>::max()) return;
  const std::int64_t d = first % view.shape.head_dim, row = first / view.shape.head_dim;
  throw std::invalid_argument(fmt::format("{}[{}, {}, {}, {}] is NaN or infinite; expected finite numbers",
                                          name, row / seq_len / view.shape.heads,
                                          row / seq_len % view.shape.heads, row % seq_len, d));
}

/// Scores beyond the type's range show in lse.
template <class T>
void expect_no_overflow(MPI_Comm comm, const Case& c, TensorView<const T> lse, const Shard& shard) {
  std::int64_t first = first_not_finite(lse, shard, c.seq_len);
  MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT64_T, MPI_MIN, comm);
  if (first == std::numeric_limits<std::int64_t>::max()) return;
  throw std::runtime_error(fmt::format(
      "the scores of query [{}, {}, {}] are beyond the range of {}; hint: scale q or k, or use --dtype f64",
      first / c.seq_len / c.heads, first / c.seq_len % c.heads, first % c.seq_len, c.dtype));
}

/// T: float or double.
template <class T>
LayerInputs<T> read_inputs(MPI_Comm comm, const Case& c, const Pattern& pattern, const Shard& shard,
                           const TensorInput& input) {
  const std::int64_t rows = tokens_in(shard);
  LayerInputs<T> inputs;
  inputs.q = Tensor<T>({c.batch, c.heads, rows, c.head_dim});
  inputs.keys = Tensor<T>({2 * c.batch, c.kv_heads, rows, c.head_dim});
  on_all_ranks(comm, [&] {
    input.read<T>("/q", shard, inputs.q.view());
    input.read<T>("/k", shard, inputs.k());
    input.read<T>("/v", shard, inputs.v());
    if (c.pass != "forward") {
      inputs.d_o = Tensor<T>(inputs.q.shape());
      input.read<T>("/do", shard, inputs.d_o.view());
    }
    read_position_parameters(c, input, inputs.position);
  });
  expect_finite<T>(comm, "/q", inputs.q.view(), shard, c.seq_len);
  expect_finite<T>(comm, "/k", inputs.k(), shard, c.seq_len);
  expect_finite<T>(comm, "/v", inputs.v(), shard, c.seq_len);
  if (c.pass != "forward") expect_finite<T>(comm, "/do", inputs.d_o.view(), shard, c.seq_len);
  apply_position(c, pattern, shard, inputs);
  return inputs;
}

/// Everything that attend writes, in the type that it is computed in.
template <class T>
void write_results(MPI_Comm comm, const Case& c, const Shard& shard, Layer<T>& layer,
                   TensorView<const Accumulator<T>> weights, TensorOutput& output) {
  using A = Accumulator<T>;
  const std::vector<std::int64_t> of_queries{c.batch, c.heads, c.seq_len, c.head_dim};
  const std::vector<std::int64_t> of_keys{c.batch, c.kv_heads, c.seq_len, c.head_dim};
  if constexpr (std::is_same_v<T, A>) {
    output.write<A>("/o", of_queries, shard, layer.o.view());
  } else {
    Tensor<A> o(layer.o.shape());
    copy_rows<A>(layer.o.view(), o.view());
    output.write<A>("/o", of_queries, shard, o.view());
  }
  output.write<A>("/lse", {c.batch, c.heads, c.seq_len}, shard, layer.lse.view());
  if (layer.runs(Pass::backward)) {
    const TensorView<A> dq = layer.dq.view(), dk = first_half(layer.d_keys.view());
    undo_position(c, shard, dq, dk);
    output.write<A>("/dq", of_queries, shard, dq);
    output.write<A>("/dk", of_keys, shard, dk);
    output.write<A>("/dv", of_keys, shard, second_half(layer.d_keys.view()));
    write_position_gradients(comm, c, layer.inputs.position, layer.d_position, output);
  }
  if (weights.data != nullptr)
    output.write<A>("/weights", {c.batch, c.heads, c.seq_len, c.seq_len}, shard, weights);
}

template <class T>
void attend_file(MPI_Comm comm, const Case& c, const Problem& problem, const TensorInput& input,
                 const CommandLine& line) {
  using A = Accumulator<T>;
  const LongWork uneven;  // passes, and files
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  const Placement placement = find_placement(comm);
  const int threads = threads_for(c.threads, placement);
  const Shard shard = problem.layout.shard(rank);
  std::vector<PlannedPass> passes = plan_passes(c, problem, rank);
  const bool with_weights = line.has("weights");
  const std::int64_t weight_bytes =  // and all keys in f64
      with_weights ? c.batch * c.heads * tokens_in(shard) * c.seq_len * problem.accumulator_bytes +
                         c.batch * c.kv_heads * c.seq_len * c.head_dim * 8
                   : 0;
  expect_memory(comm, rank_bytes(c, passes, threads) + weight_bytes +
                          parameter_bytes(c, input, problem.accumulator_bytes));

  const std::int64_t rows = c.batch * c.heads * c.seq_len;
  const std::int64_t gradients = c.pass == "forward" ? 0 : c.head_dim + 2 * c.head_dim * c.kv_heads / c.heads;
  TensorOutput output(
      comm, line.at("output"),
      rows * (c.head_dim + 1 + gradients + (with_weights ? c.seq_len : 0)) * problem.accumulator_bytes);
  ThreadTeam team(threads, placement);
  LayerInputs<T> inputs =
      team.run([&] { return in_storage<T>(read_inputs<A>(comm, c, problem.pattern, shard, input)); });
  std::unique_ptr<Layer<T>> layer;
  Tensor<A> weights;
  on_all_ranks(comm, [&] {
    layer = std::make_unique<Layer<T>>(comm, std::move(inputs), passes);
    if (with_weights) weights = Tensor<A>({c.batch, c.heads, tokens_in(shard), c.seq_len});
  });
  for (const PlannedPass& pass : passes) {
    team.run([&] { layer->run(pass.problem.pass, c.overlap); });
    if (pass.problem.pass == Pass::forward) expect_no_overflow<A>(comm, c, layer->lse.view(), shard);
  }
  if (with_weights) {
    attention_weights<T>(comm, problem, layer->inputs.position.terms(), layer->inputs.q.view(),
                         layer->inputs.k(), weights.view());
  }
  output.open();
  team.run([&] { write_results<T>(comm, c, shard, *layer, std::as_const(weights).view(), output); });
  output.finish();
}

/// The case by the strategy that is predicted to be the fastest here: measures this machine first.
Case with_best_strategy(const Case& c, const Problem& problem) {
  Launch launch = start_launch();
  const std::int64_t cache = read_environment(launch.comm).l3_bytes / launch.placement.ranks_on_node;
  {
    ThreadTeam team(threads_for(c.threads, launch.placement), launch.placement);
    launch.calibration = calibrate(launch.comm, team, cache);
  }
  return foresee(launch, c, problem).chosen;
}

}  // namespace

int run_attend(Arguments arguments) {
  int rank = 0, ranks = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  const CommandLine line = parse_command_line(command(), arguments);
  if (line.help) {
    if (rank == 0) fmt::print("{}{}", help_text(command(), built_choices()), names_explained());
    return 0;
  }
  force_simd_target(line.at("simd"));
  line.at("output");
  const TensorInput input(line.at("input"));
  Case c = case_of(line, input);
  constexpr std::int64_t kMostForWeights = 4096;
  if (line.has("weights") && c.seq_len > kMostForWeights) {
    throw std::invalid_argument(
        fmt::format("--weights with S = {}; expected S <= {}: the weights take S^2 numbers a head", c.seq_len,
                    kMostForWeights));
  }
  if (c.strategy == kAll) {
    throw std::invalid_argument(
        "--strategy all with attend; expected one strategy; hint: their answers are the same, ring always "
        "runs");
  }
  const Problem problem = make_problem(c, ranks, starts_of(c, input));
  if (c.strategy == kAuto) c = with_best_strategy(c, problem);
  if (c.dtype == "f64") {
    attend_file<double>(MPI_COMM_WORLD, c, problem, input, line);
  } else if (c.dtype == "bf16") {
    attend_file<BFloat16>(MPI_COMM_WORLD, c, problem, input, line);
  } else {
    attend_file<float>(MPI_COMM_WORLD, c, problem, input, line);
  }
  if (rank == 0) fmt::print("{} on {} ranks: wrote {}\n", label(c), ranks, line.at("output"));
  return 0;
}

}  // namespace longseq
