// One measurement's every parameter. ONE table of fields drives what parses, prints, stores, compares and
// explains a case: a new parameter is one member of Case and one row of case_fields().
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/pattern.h"
#include "results/record.h"

namespace longseq {

/// Members hold the defaults that --help prints. What is chosen by name is held by name, since the sets of
/// patterns, strategies, layouts and datasets are each owned by a table elsewhere.
struct Case {
  std::string pattern = "full";
  bool causal = false;
  std::int64_t window_left = 256;
  std::int64_t window_right = 256;
  std::int64_t global_tokens = 64;
  std::int64_t segment_length = 512;
  std::int64_t memory_length = 512;
  std::int64_t document_length = 1024;
  std::int64_t seq_len = 4096;
  std::int64_t batch = 1;
  std::int64_t heads = 8;
  std::int64_t kv_heads = 0;  // 0: as many as heads; resolve() fills it in
  std::int64_t head_dim = 64;
  std::string dtype = "f32";
  std::string pass = "forward";
  std::string position = "none";
  std::string dataset = "synthetic";
  std::int64_t seed = 1;
  std::string strategy = "ring";
  std::int64_t ulysses_degree = 0;  // 0: chosen by the planner
  std::string layout = "contiguous";
  bool overlap = true;
  std::int64_t threads = 0;       // per rank; 0: the cores available divided by the ranks on the node
  std::int64_t repetitions = 10;  // at least
  double confidence = 0.95;
  double max_time = 20;  // seconds per case, at most

  friend bool operator==(const Case&, const Case&) = default;
};

/// What the floors above have built. A strategy that the design knows but that is not listed here is refused
/// as not built yet.
struct Choices {
  std::vector<std::string> strategies;
  std::vector<std::string> layouts;
};

struct Field {
  using Member = std::variant<std::string Case::*, bool Case::*, std::int64_t Case::*, double Case::*>;
  std::string_view name;   // as in files and attributes: window_left
  std::string_view group;  // heading in --help
  Member member;
  std::string_view help;
  double minimum = 0;  // of numbers, inclusive
  double maximum = 0;
  std::vector<std::string> choices = {};  // of names: what is built; empty where Choices or nobody says
  std::vector<std::string> planned = {};  // of names: in the design, not built in this release
  std::string_view needs_strategy = "";   // the number is refused unless this strategy is built
  bool is_flag = false;                   // on the command line --name and --no-name, without a value
};

/// Every parameter, in the order in which cases are printed and sweeps vary (the last fastest).
std::span<const Field> case_fields();

/// The field of that name, "window_left" or "window-left"; nullptr if there is none.
const Field* find_field(std::string_view name);

/// "window_left" -> "window-left", as on the command line.
std::string dashed(std::string_view field_name);

/// The names this field may take, given what the caller has built; empty for numbers and for the dataset,
/// which may also be a path.
std::vector<std::string> choices_of(const Field& field, const Choices& choices);

/// Sets the field from its text. Sizes may end in k, M or G (times 1024, 1024^2, 1024^3, either case); a
/// switch is on/off, true/false or yes/no. Throws std::invalid_argument: `where` (what the user wrote, for
/// example "--seq-len 0"), then what was expected and a hint.
void set_field(Case& c, const Field& field, std::string_view text, const Choices& choices,
               std::string_view where);

/// The value as set_field reads it back.
std::string field_text(const Case& c, const Field& field);

/// Every parameter by its name, in table order.
std::vector<std::pair<std::string, Scalar>> fields(const Case& c);

/// Fills in kv_heads, and sets what the case does not read (the window of a full pattern, the right half of
/// a causal window) to 0, so that equal measurements are equal cases.
void resolve(Case& c);

/// Throws std::invalid_argument, naming the values and what was expected, where parameters do not fit each
/// other. Whether a strategy can run the case is its planner's to say.
void check_case(const Case& c);

/// The pattern of the case; `document_starts` (ascending, the first is 0) is read for documents only.
Pattern make_pattern(const Case& c, std::vector<std::int64_t> document_starts = {});

/// Short and human: "local w512+0 causal ring/contiguous S=16384 H=8 D=64 f32".
std::string label(const Case& c);

/// One line, every parameter as name=value: what identifies the case in a configuration's text.
std::string canonical_text(const Case& c);

}  // namespace longseq
