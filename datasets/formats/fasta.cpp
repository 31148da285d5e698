// FASTA: lines of nucleotide codes below header lines that start with '>' (or ';', in the oldest files). The
// records of a file are joined. Lines may have any length and any line ending, so the index notes, for every
// 64 KiB of the file, how many tokens lie before it: one pass when opened, then a slice costs its own bytes
// and at most 64 KiB.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <stdexcept>

#include "datasets/byte_source.h"
#include "datasets/formats/formats.h"

namespace longseq {
namespace {

constexpr std::int64_t kBlockBytes = 1 << 16;
constexpr std::int8_t kNoToken = -1;

/// Token of each byte. Source of the codes: IUPAC-IUB (1984), with gaps and the X of masked bases as "any".
constexpr std::array<std::int8_t, 256> make_token_table() {
  std::array<std::int8_t, 256> table{};
  table.fill(kNoToken);
  const auto set = [&table](std::string_view codes, std::int8_t token) {
    for (const char code : codes) {
      table[static_cast<unsigned char>(code)] = token;
      if (code >= 'A') table[static_cast<unsigned char>(code - 'A' + 'a')] = token;
    }
  };
  set("A", 0);
  set("C", 1);
  set("G", 2);
  set("TU", 3);
  set("NRYSWKMBDHVX-.", 4);
  return table;
}
constexpr auto kTokens = make_token_table();

/// Where a block starts, and all that is needed to read on from there.
struct Place {
  std::int64_t offset = 0;
  std::int64_t tokens = 0;  // before it
  bool line_start = true;
  bool in_header = false;
};

/// Reads the block at `place`, moves `place` to the next and calls take(token) for every token.
template <class Take>
void read_block(const ByteSource& file, Place& place, Take take) {
  std::array<std::uint8_t, kBlockBytes> buffer;
  const std::span bytes =
      std::span(buffer).first(static_cast<std::size_t>(std::min(kBlockBytes, file.size() - place.offset)));
  file.read(place.offset, bytes);
  for (const std::uint8_t byte : bytes) {
    const std::int64_t offset = place.offset++;
    const bool line_start = place.line_start;
    place.line_start = byte == '\n' || byte == '\r';
    if (place.line_start) {
      place.in_header = false;
    } else if (line_start && (byte == '>' || byte == ';')) {
      place.in_header = true;
    } else if (!place.in_header && byte != ' ' && byte != '\t') {
      const std::int8_t token = kTokens[byte];
      if (token == kNoToken) {
        throw std::runtime_error(fmt::format(
            "'{}': byte 0x{:02X} at offset {} is no nucleotide code (A, C, G, T, U, N and the other IUPAC "
            "codes); is this a FASTA file of DNA or RNA?",
            file.name(), byte, offset));
      }
      take(token);
      ++place.tokens;
    }
  }
}

}  // namespace

TokenSource open_fasta(const std::filesystem::path& path, const std::string& /*detail*/) {
  const ByteSource file(path);
  std::vector<Place> blocks;
  Place end;
  while (end.offset < file.size()) {
    blocks.push_back(end);
    read_block(file, end, [](std::int8_t) {});
  }
  if (end.tokens == 0) {
    throw std::runtime_error(
        fmt::format("'{}': holds no sequence, only headers or blank lines", file.name()));
  }

  const auto read = [file, blocks = std::move(blocks)](Interval positions) {
    // The last block with no more than positions.begin tokens before it holds that token.
    const auto next = std::ranges::upper_bound(blocks, positions.begin, {}, &Place::tokens);
    Place place = *std::prev(next);
    std::vector<std::int32_t> tokens;
    tokens.reserve(static_cast<std::size_t>(positions.size()));
    std::int64_t position = place.tokens;
    while (position < positions.end) {
      read_block(file, place, [&](std::int8_t token) {
        if (positions.contains(position++)) tokens.push_back(token);
      });
    }
    return tokens;
  };
  return {.name = path.string(), .path = path, .size = end.tokens, .vocabulary = 5, .read = read};
}

}  // namespace longseq
