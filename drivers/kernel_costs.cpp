#include "drivers/kernel_costs.h"

#include <algorithm>
#include <span>
#include <vector>

#include "datasets/synthetic.h"
#include "drivers/execution/memory.h"
#include "drivers/execution/row_operations.h"
#include "drivers/position_terms.h"
#include "drivers/sharding/audit.h"
#include "kernels/attention_backward.h"
#include "kernels/parallel_rows.h"
#include "suite/statistics.h"
#include "suite/watchdog.h"

namespace longseq {
namespace {

// Of a probe, of which the median counts, as of a case: short ones are disturbed more, and repeated more.
constexpr std::size_t kRepetitions = 5, kMostRepetitions = 15;
constexpr double kEnough = 0.05;         // s
constexpr std::int64_t kMostHeads = 16;  // tasks enough for the threads of a node, in half a GB

/// Some queries on some keys: all of them, or a causal window.
struct Probe {
  std::int64_t queries;
  std::int64_t keys;
  bool as_large = true;     // tensors as large as the rank's share of the case: rows come from as far away
  std::int64_t window = 0;  // keys before the query; 0: the full pattern

  Pattern pattern() const {
    if (window == 0) return {.kind = PatternKind::full, .seq_len = std::max(queries, keys)};
    return {.kind = PatternKind::local, .causal = true, .seq_len = queries, .window_left = window};
  }
};
// Large; few keys, so that the rows of queries weigh; few queries, for those of keys; a narrow window, for
// what masks cost.
constexpr Probe kLarge{2048, 2048, false}, kFewKeys{2048, 96}, kFewQueries{64, 2048},
    kWindow{2048, 2048, true, 128};

/// Of any rank: all must measure the same.
int most_threads(MPI_Comm comm, const ThreadTeam& team) {
  int threads = team.threads();
  MPI_Allreduce(MPI_IN_PLACE, &threads, 1, MPI_INT, MPI_MAX, comm);
  return threads;
}

/// Query rows of all heads and batch entries that a rank has, about.
std::int64_t share_of(MPI_Comm comm, const Case& c) {
  int ranks = 1;
  MPI_Comm_size(comm, &ranks);
  return c.batch * c.heads * c.seq_len / ranks;
}

template <class T>
class Timing {
 public:
  using A = Accumulator<T>;
  Timing(MPI_Comm comm, ThreadTeam& team, const Case& c)
      : comm_(comm),
        team_(team),
        relative_(c.position == "relative"),
        both_(c.pass == "both"),
        few_heads_(std::min<std::int64_t>(2 * most_threads(comm, team), kMostHeads)),
        shape_{1, std::clamp(share_of(comm, c) / kLarge.queries, few_heads_, kMostHeads), kLarge.queries,
               c.head_dim},
        q_(shape_),
        keys_({2, shape_.heads, shape_.tokens, c.head_dim}),
        o_(shape_),
        state_(shape_),
        maximum_({1, shape_.heads, shape_.tokens, 1}),
        sum_(maximum_.shape()),
        lse_(maximum_.shape()),
        dq_(shape_),
        d_keys_(keys_.shape()) {
    make_position(c);
    Tensor<A> normal(keys_.shape());
    fill_normal(normal.view(), {0, 1, shape_.tokens}, 1, TensorId::k);
    team.run([&] {
      copy_rows<T>(normal.view(), keys_.view());
      copy_rows<T>(first_half(normal.view()), q_.view());
    });
  }

  /// Seconds of one probe, the slowest rank's.
  double seconds(Probe probe, Pass pass) {
    const Pattern pattern = probe.pattern();
    const Run query_positions{0, 1, probe.queries}, key_positions{0, 1, probe.keys};
    const auto part = [&](auto& tensor, std::int64_t tokens) {
      return tensor.view().tokens({0, tokens}).heads({0, heads_of(probe)});
    };
    const auto of_queries = [&](auto& tensor) { return part(tensor, probe.queries); };
    const auto keys = part(keys_, probe.keys);
    const auto d_keys = part(d_keys_, probe.keys);
    const AttentionState<A> state{of_queries(state_), of_queries(maximum_), of_queries(sum_)};
    const QueryBlock<T> block{
        of_queries(q_), query_positions, state, {{first_half(keys), second_half(keys), key_positions}}};
    const GradientQueries<T> gradients{.q = of_queries(q_),
                                       .d_o = of_queries(o_),
                                       .lse = of_queries(lse_),
                                       .delta = of_queries(lse_),
                                       .positions = query_positions,
                                       .dq = of_queries(dq_),
                                       .first = true};
    const GradientKeys<T> key_gradients{first_half(keys),   second_half(keys),   key_positions,
                                        first_half(d_keys), second_half(d_keys), {0},
                                        {0, probe.keys}};
    const auto prepare_backward = [&] {
      finish_attention<T>(attended(pattern, block), of_queries(o_), of_queries(lse_));
    };
    const auto back = [&] {
      attend_backward<T>(pattern, position_.terms(), std::span(&gradients, 1), std::span(&key_gradients, 1),
                         d_position_.views());
    };
    std::vector<double> taken;
    for (double spent = 0;
         taken.size() < kRepetitions || (spent < kEnough && taken.size() < kMostRepetitions);) {
      team_.run([&] {
        begin_attention(state);
        if (pass == Pass::backward || both_) prepare_backward();
        if (pass == Pass::forward && both_) {
          back();
          begin_attention(state);
        }
      });
      barrier_watched(comm_);
      const double start = steady_seconds();
      team_.run([&] { pass == Pass::forward ? void(attended(pattern, block)) : back(); });
      taken.push_back(steady_seconds() - start);
      spent = of_slowest(spent + taken.back());  // so that all ranks go on, or none
    }
    return of_slowest(median(taken));
  }

  double of_slowest(double own) {
    double most = 0;
    maximum_watched(comm_, std::span(&own, 1), std::span(&most, 1), "measure its kernels");
    return most;
  }

  KernelCosts costs(Pass pass) {
    const auto flops = [&](Probe probe) {
      Problem problem;
      problem.head_dim = shape_.head_dim;
      problem.pass = pass;
      problem.relative = relative_;
      return pass_flops(problem,
                        heads_of(probe) * probe.pattern().area({0, 1, probe.queries}, {0, 1, probe.keys}));
    };
    const auto rows = [&](std::int64_t count) {
      return static_cast<double>(count * shape_.heads * shape_.head_dim);
    };
    KernelCosts costs;
    costs.flops_per_second = flops(kLarge) / seconds(kLarge, pass);
    const auto beside = [&](Probe probe) {
      return std::max(0.0, seconds(probe, pass) - flops(probe) / costs.flops_per_second);
    };
    costs.query_row = beside(kFewKeys) / rows(kFewKeys.queries);
    costs.key_row = beside(kFewQueries) / rows(kFewQueries.keys);
    costs.masked_row =
        std::max(0.0, beside(kWindow) / rows(kWindow.queries) - costs.query_row - costs.key_row);
    return costs;
  }

 private:
  std::int64_t heads_of(const Probe& probe) const { return probe.as_large ? shape_.heads : few_heads_; }

  /// Terms of the case's kind, as large as the probes need; relative keys need not be those of any W_R.
  void make_position(const Case& c) {
    if (c.position == "relative") {
      position_.distances = kLarge.pattern().distances();
      position_.r = Tensor<A>({1, shape_.heads, position_.distances.size(), c.head_dim});
      fill_normal(position_.r.view(), {0, 1, position_.distances.size()}, 1, TensorId::k);
      position_.content_bias.resize(static_cast<std::size_t>(shape_.heads * c.head_dim));
      position_.position_bias = position_.content_bias;
      position_.trained = true;
    } else {
      Case own = c;
      own.seq_len = kLarge.keys;
      own.heads = own.kv_heads = shape_.heads;
      draw_position_parameters(own, position_);
      make_position_terms(own, kLarge.pattern(), position_);
    }
    if (c.pass == "forward") return;
    d_position_ = PositionGradients<A>(position_);
    set_to_zero(d_position_.r.view());
  }

  AttentionState<A> attended(const Pattern& pattern, const QueryBlock<T>& block) {
    attend<T>(pattern, position_.terms(), std::span(&block, 1));
    return block.state;
  }

  MPI_Comm comm_;
  ThreadTeam& team_;
  bool relative_;
  bool both_;  // passes take turns: each finds little of its own in the caches
  std::int64_t few_heads_;
  Shape shape_;
  Tensor<T> q_, keys_, o_;
  Tensor<A> state_, maximum_, sum_, lse_, dq_, d_keys_;
  PositionParameters<A> position_;
  PositionGradients<A> d_position_;  // summed over all repetitions, and never read
};

template <class T>
void measure_kernels(MPI_Comm comm, ThreadTeam& team, const Case& c, Machine& machine) {
  Timing<T> timing(comm, team, c);
  machine.forward = timing.costs(Pass::forward);
  if (c.pass != "forward") machine.backward = timing.costs(Pass::backward);
}

/// Messages as tensors are sent, the same on all ranks: those of which more than the latency is told.
Link link_of(const Calibration& calibration) {
  constexpr std::int64_t kLeast = 1 << 15;  // bytes
  const MessageCosts& messages = calibration.messages;
  if (messages.sizes.empty()) return {0, {{1, calibration.triad}}};
  Link link{messages.latency.front(), {}};
  for (std::size_t i = 0; i < messages.sizes.size(); ++i) {
    if (messages.sizes[i] < kLeast) continue;
    const auto bytes = static_cast<double>(messages.sizes[i]);
    const double seconds = bytes / messages.cold_bandwidth[i];
    link.rates.push_back({bytes, bytes / std::max(seconds - link.latency, seconds / 2)});
  }
  return link;
}

}  // namespace

Machine measure_machine(MPI_Comm comm, ThreadTeam& team, const Placement& placement,
                        const Calibration& calibration, const Case& c) {
  Machine machine;
  machine.name = "this machine";
  machine.source = "calibrated in this launch";
  machine.ranks_per_node = placement.ranks_on_node;
  machine.memory_bandwidth = calibration.triad;
  machine.node = machine.network = link_of(calibration);  // of whichever it is that lies between ranks
  if (c.dtype == "f64") {
    measure_kernels<double>(comm, team, c, machine);
  } else if (c.dtype == "bf16") {
    measure_kernels<BFloat16>(comm, team, c, machine);
  } else {
    measure_kernels<float>(comm, team, c, machine);
  }
  MPI_Bcast(&machine.memory_bandwidth, 1, MPI_DOUBLE, 0, comm);
  MPI_Bcast(&machine.ranks_per_node, 1, MPI_INT, 0, comm);
  return machine;
}

}  // namespace longseq
