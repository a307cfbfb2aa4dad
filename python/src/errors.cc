// Errors of the library as exceptions of Python: one class for each code, which is also the
// built-in class that people catch for such a fault.
#include <nanobind/stl/string.h>

#include <array>
#include <string>
#include <utility>

#include "bindings.h"
#include "tamias/error.h"

namespace tamias::python {
namespace {

namespace nb = nanobind;

struct ErrorClass {
  ErrorCode code;
  const char* name;
  PyObject* builtin;  // null: none beside tamias.Error
  const char* doc;
};

// The classes by code, alive as long as the interpreter.
using ClassesByCode = std::array<PyObject*, 10>;

PyObject* MakeClass(nb::module_& module, const char* name, const nb::tuple& bases,
                    const char* doc) {
  const std::string full_name = nb::cast<std::string>(module.attr("__name__")) + "." + name;
  PyObject* made = PyErr_NewExceptionWithDoc(full_name.c_str(), doc, bases.ptr(), nullptr);
  if (made == nullptr) throw nb::python_error();
  module.attr(name) = nb::handle(made);
  return made;
}

void Translate(const std::exception_ptr& exception, void* payload) {
  try {
    std::rethrow_exception(exception);
  } catch (const Error& error) {
    const auto& classes = *static_cast<const ClassesByCode*>(payload);
    PyErr_SetString(classes[static_cast<size_t>(error.code())], error.what());
  }
}

}  // namespace

void BindErrors(nb::module_& module) {
  const nb::handle base = MakeClass(
      module, "Error", nb::make_tuple(nb::handle(PyExc_RuntimeError)),
      "What Tamias raises. The message is one line that names the file, field or argument "
      "at fault, what was expected and what was found.");
  const std::array<ErrorClass, 9> all = {{
      {ErrorCode::kInvalidArgument, "InvalidArgumentError", PyExc_ValueError,
       "A value that the caller passed: option, shape, type."},
      {ErrorCode::kInvalidFile, "InvalidFileError", PyExc_ValueError,
       "A file whose content cannot be right: cut off, corrupt, of the wrong shape."},
      {ErrorCode::kNotFound, "NotFoundError", PyExc_FileNotFoundError,
       "A file, tensor or profile that does not exist."},
      {ErrorCode::kIo, "IoError", PyExc_OSError, "The operating system refused."},
      {ErrorCode::kOutOfMemory, "OutOfMemoryError", PyExc_MemoryError,
       "The plan, or an allocation, does not fit."},
      {ErrorCode::kCancelled, "CancelledError", nullptr, "The progress callback asked to stop."},
      {ErrorCode::kUnsupported, "UnsupportedError", PyExc_NotImplementedError,
       "Valid input that this build or device cannot serve."},
      {ErrorCode::kInternal, "InternalError", nullptr, "A defect in Tamias."},
      {ErrorCode::kDevice, "DeviceError", nullptr,
       "There is no GPU, or it or its driver reported an error."},
  }};
  static ClassesByCode classes = {};
  for (const ErrorClass& one : all) {
    const nb::tuple bases = one.builtin == nullptr ? nb::make_tuple(base)
                                                   : nb::make_tuple(base, nb::handle(one.builtin));
    classes[static_cast<size_t>(one.code)] = MakeClass(module, one.name, bases, one.doc);
  }
  nb::register_exception_translator(&Translate, &classes);
}

}  // namespace tamias::python
