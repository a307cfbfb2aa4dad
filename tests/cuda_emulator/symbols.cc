// Reads the file that this code was loaded from: see the header. Names are those of the Itanium C++
// ABI: a variable v that is local to the function _Z<encoding> is called _ZZ<encoding>E<v>.
#include "tests/cuda_emulator/symbols.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <elf.h>
#include <link.h>

#include "base/check.h"

namespace tamias::cuda_emulator {
namespace {

struct Symbols {
  std::multimap<uintptr_t, std::string> functions;  // by address; equal code may be merged
  std::map<std::string, size_t> variables;          // thread-local ones, their sizes
};

// The program, or the library in a program, that has this code: its file, and where it lies beyond
// the addresses in it.
struct Loaded {
  std::string file;
  uintptr_t address = 0;
};

bool Has(const dl_phdr_info& object, uintptr_t address) {
  for (int i = 0; i < object.dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = object.dlpi_phdr[i];
    const uintptr_t begin = object.dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_LOAD && begin <= address && address < begin + segment.p_memsz) {
      return true;
    }
  }
  return false;
}

Loaded FindLoaded() {
  Loaded loaded;
  dl_iterate_phdr(
      [](dl_phdr_info* object, size_t, void* to) {
        if (!Has(*object, reinterpret_cast<uintptr_t>(&SharedVariableBytes))) return 0;
        const std::string name = object->dlpi_name;
        *static_cast<Loaded*>(to) = {name.empty() ? "/proc/self/exe" : name, object->dlpi_addr};
        return 1;
      },
      &loaded);
  return loaded;
}

template <typename T>
T Read(const std::vector<char>& file, size_t offset) {
  T value;
  if (offset + sizeof(T) > file.size()) Fail(ErrorCode::kInternal, "a program's file ends early");
  std::memcpy(&value, file.data() + offset, sizeof(T));
  return value;
}

Symbols ReadSymbols() {
  const Loaded loaded = FindLoaded();
  std::ifstream stream(loaded.file, std::ios::binary);
  const std::vector<char> file((std::istreambuf_iterator<char>(stream)), {});
  const auto header = Read<ElfW(Ehdr)>(file, 0);
  const auto section = [&](size_t i) {
    return Read<ElfW(Shdr)>(file, header.e_shoff + i * header.e_shentsize);
  };
  Symbols symbols;
  for (size_t i = 0; i < header.e_shnum; ++i) {
    const auto table = section(i);
    if (table.sh_type != SHT_SYMTAB) continue;
    const size_t names = section(table.sh_link).sh_offset;
    for (size_t at = 0; at < table.sh_size; at += table.sh_entsize) {
      const auto symbol = Read<ElfW(Sym)>(file, table.sh_offset + at);
      const std::string name = file.data() + names + symbol.st_name;
      const unsigned type = symbol.st_info & 0xF;
      if (type == STT_FUNC) symbols.functions.emplace(loaded.address + symbol.st_value, name);
      if (type == STT_TLS) symbols.variables[name] = symbol.st_size;
    }
  }
  return symbols;
}

size_t VariableBytes(const Symbols& symbols, const std::string& function) {
  if (!function.starts_with("_Z")) return 0;
  const std::string prefix = "_ZZ" + function.substr(2) + "E";
  size_t bytes = 0;
  for (auto at = symbols.variables.lower_bound(prefix); at != symbols.variables.end(); ++at) {
    if (!at->first.starts_with(prefix)) break;
    bytes += at->second;
  }
  return bytes;
}

}  // namespace

size_t SharedVariableBytes(const void* kernel) {
  static const Symbols symbols = ReadSymbols();
  const auto [first, last] = symbols.functions.equal_range(reinterpret_cast<uintptr_t>(kernel));
  if (first == last) {
    Fail(ErrorCode::kInternal, "the kernel at {} has no symbol: is the program stripped?", kernel);
  }
  size_t bytes = 0;
  for (auto at = first; at != last; ++at) {
    bytes = std::max(bytes, VariableBytes(symbols, at->second));
  }
  return bytes;
}

}  // namespace tamias::cuda_emulator
