// NPY and HDF5.
#include <fmt/format.h>
#include <hdf5.h>

#include "datasets/corpus.h"
#include "datasets/test_files.h"

namespace longseq {
namespace {

namespace fs = std::filesystem;
using Tokens = std::vector<std::int32_t>;

class ArrayFormats : public testing::Test {
 protected:
  TokenReader open(const std::string& file) const { return open_corpus((files.path() / file).string(), ""); }
  std::string open_error(const std::string& file) const {
    return message_of<std::runtime_error>([&] { open(file); });
  }
  std::string read_error(const std::string& file) const {
    return message_of<std::runtime_error>([&] {
      const TokenReader corpus = open(file);
      corpus.read({0, corpus.size()});
    });
  }
  /// An NPY file as numpy.lib.format describes it, with `data` as it stands.
  void write_npy(const std::string& name, int version, const std::string& descr, const std::string& shape,
                 const std::string& data) const {
    std::string header = fmt::format("{{'descr': {}, 'fortran_order': False, 'shape': {}, }}", descr, shape);
    const std::size_t start = version == 1 ? 10 : 12;
    while ((start + header.size() + 1) % 64 != 0) header += ' ';
    header += '\n';
    std::string content = std::string("\x93NUMPY") + static_cast<char>(version) + '\0';
    for (std::size_t i = 8; i < start; ++i) content += static_cast<char>(header.size() >> (8 * (i - 8)));
    files.write(name, content + header + data);
  }
  TemporaryDirectory files;
};

TEST_F(ArrayFormats, NpyTypesByteOrdersAndVersions) {
  const std::string little("\x01\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0", 16);  // 1, 258 in 8 bytes each
  const std::string big("\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x01\x02", 16);
  for (const int version : {1, 2, 3}) {
    for (const std::string kind : {"i", "u"}) {
      for (const std::size_t bytes : {2, 4, 8}) {
        SCOPED_TRACE(fmt::format("version {} {}{}", version, kind, bytes));
        write_npy("l.npy", version, fmt::format("'<{}{}'", kind, bytes), "(2,)",
                  little.substr(0, bytes) + little.substr(8, bytes));
        EXPECT_EQ(open("l.npy").read({0, 2}), (Tokens{1, 258}));
        write_npy("b.npy", version, fmt::format("'>{}{}'", kind, bytes), "(2,)",
                  big.substr(8 - bytes, bytes) + big.substr(16 - bytes, bytes));
        EXPECT_EQ(open("b.npy").read({1, 2}), (Tokens{258}));
        EXPECT_EQ(open("b.npy").vocabulary(), 259);
      }
      write_npy("s.npy", version, fmt::format("'|{}1'", kind), "(3,)", "\x01\x05\x7F");
      EXPECT_EQ(open("s.npy").read({0, 3}), (Tokens{1, 5, 127}));
    }
  }
}

TEST_F(ArrayFormats, NpyValuesThatAreNoTokens) {
  write_npy("a.npy", 1, "'|i1'", "(3,)", "\x01\x02\xFF");
  EXPECT_EQ(open("a.npy").read({0, 2}), (Tokens{1, 2}));
  expect_contains(read_error("a.npy"), "token -1 at position 2 is negative");
  expect_contains(message_of<std::runtime_error>([&] { open("a.npy").vocabulary(); }), "at position 2");
  write_npy("b.npy", 1, "'<u8'", "(1,)", "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF");
  expect_contains(read_error("b.npy"), "at position 0 is not below the vocabulary's size");
  write_npy("c.npy", 1, "'<u4'", "(1,)", "\xFE\xFF\xFF\x7F");  // the largest token
  EXPECT_EQ(open("c.npy").read({0, 1}), (Tokens{2147483646}));
  EXPECT_EQ(open("c.npy").vocabulary(), 2147483647);
}

TEST_F(ArrayFormats, NpyOfAnotherKind) {
  files.write("a.npy", "no numpy file");
  expect_contains(open_error("a.npy"), "is not an NPY file");
  write_npy("b.npy", 1, "'<f4'", "(1,)", "1234");
  expect_contains(open_error("b.npy"), "holds items of type 'f4'");
  write_npy("c.npy", 1, "[('a', '<i4')]", "(1,)", "1234");
  expect_contains(open_error("c.npy"), "without a plain type");
  write_npy("d.npy", 1, "'<i2'", "(1, 2)", "1234");
  expect_contains(open_error("d.npy"), "has the shape (1, 2)");
  write_npy("e.npy", 1, "'<i2'", "()", "12");
  expect_contains(open_error("e.npy"), "has the shape ()");
  write_npy("f.npy", 1, "'<i4'", "(2,)", "1234567");
  expect_contains(open_error("f.npy"), "its header says 2 items, the file has 1");
  write_npy("g.npy", 1, "'<i4'", "(0,)", "");
  expect_contains(open_error("g.npy"), "holds no tokens");
  write_npy("h.npy", 1, "'<i4'", "(1,)", "1234");
  fs::resize_file(files.path() / "h.npy", 40);
  expect_contains(open_error("h.npy"), "is a truncated NPY file");
  write_npy("i.npy", 9, "'<i4'", "(1,)", "1234");
  expect_contains(open_error("i.npy"), "version 9.0");
}

/// Creates `name` with a dataset of the given type and shape, zero where `values` ends.
template <class T>
void write_hdf5(const fs::path& path, const std::string& dataset, hid_t type, hid_t memory_type,
                std::vector<hsize_t> shape, const std::vector<T>& values, int vocabulary = 0) {
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  const hid_t links = H5Pcreate(H5P_LINK_CREATE);
  H5Pset_create_intermediate_group(links, 1);
  const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
  const hid_t data = H5Dcreate2(file, dataset.c_str(), type, space, links, H5P_DEFAULT, H5P_DEFAULT);
  if (!values.empty()) H5Dwrite(data, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  if (vocabulary > 0) {
    const hid_t scalar = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate2(data, "vocabulary", H5T_STD_I32LE, scalar, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, H5T_NATIVE_INT, &vocabulary);
    H5Aclose(attribute);
    H5Sclose(scalar);
  }
  H5Dclose(data);
  H5Sclose(space);
  H5Pclose(links);
  H5Fclose(file);
}

TEST_F(ArrayFormats, Hdf5SlicesOfAnyIntegerType) {
  const std::vector<int> values{3, 1, 4, 1, 5, 9, 2, 6};
  for (const hid_t type :
       {H5T_STD_U8LE, H5T_STD_I8BE, H5T_STD_U16BE, H5T_STD_I32LE, H5T_STD_I64BE, H5T_STD_U64LE}) {
    write_hdf5(files.path() / "a.h5", "/tokens", type, H5T_NATIVE_INT, {8}, values);
    const TokenReader corpus = open("a.h5");
    EXPECT_EQ(corpus.size(), 8);
    EXPECT_EQ(corpus.vocabulary(), 10);
    EXPECT_EQ(corpus.read({0, 8}), values);
    EXPECT_EQ(corpus.read({4, 7}), (Tokens{5, 9, 2}));
  }
}

TEST_F(ArrayFormats, Hdf5LongerThanABlock) {
  std::vector<int> values(2500000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int>(i % 1000003);
  write_hdf5(files.path() / "a.h5", "/tokens", H5T_STD_I32LE, H5T_NATIVE_INT, {values.size()}, values);
  EXPECT_EQ(open("a.h5").read({1, 2499999}), Tokens(values.begin() + 1, values.end() - 1));
}

TEST_F(ArrayFormats, Hdf5NamedDatasetAndDeclaredVocabulary) {
  write_hdf5<int>(files.path() / "a.dat", "/train/ids", H5T_STD_I32LE, H5T_NATIVE_INT, {3}, {1, 2, 7}, 50);
  EXPECT_EQ(open("a.dat:hdf5:/train/ids").read({1, 3}), (Tokens{2, 7}));
  EXPECT_EQ(open("a.dat:hdf5:/train/ids").vocabulary(), 50);
  expect_contains(open_error("a.dat:hdf5"), "has no dataset '/tokens'");
  expect_contains(open_error("a.dat:hdf5:/train"), "has no dataset '/train'");
  write_hdf5<int>(files.path() / "b.h5", "/tokens", H5T_STD_I32LE, H5T_NATIVE_INT, {3}, {1, 2, 7}, 7);
  expect_contains(read_error("b.h5"), "token 7 at position 2 is not below the vocabulary's size, 7");
}

TEST_F(ArrayFormats, Hdf5OfAnotherKind) {
  files.write("a.h5", "this is no HDF5 file");
  expect_contains(open_error("a.h5"), "is not an HDF5 file");
  const fs::path path = files.path() / "b.h5";
  write_hdf5<double>(path, "/tokens", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, {2}, {1.0, 2.0});
  expect_contains(open_error("b.h5"), "does not hold integers");
  write_hdf5<int>(path, "/tokens", H5T_STD_I32LE, H5T_NATIVE_INT, {2, 1}, {1, 2});
  expect_contains(open_error("b.h5"), "has 2 dimensions");
  write_hdf5<int>(path, "/tokens", H5T_STD_I32LE, H5T_NATIVE_INT, {0}, {});
  expect_contains(open_error("b.h5"), "holds no tokens");
  write_hdf5<int>(path, "/tokens", H5T_STD_I32LE, H5T_NATIVE_INT, {3}, {4, 5, -2});
  expect_contains(read_error("b.h5"), "token -2 at position 2 is negative");
  write_hdf5(path, "/tokens", H5T_STD_I32LE, H5T_NATIVE_INT, {1000}, std::vector<int>(1000));
  fs::resize_file(path, 3000);
  expect_contains(open_error("b.h5"), "is a truncated or damaged HDF5 file");
}

}  // namespace
}  // namespace longseq
