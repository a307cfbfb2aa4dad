// The module tamias._tamias: what the package's Python files are written on.
#include "bindings.h"
#include "released.h"

#include "tamias/machine.h"
#include "tamias/pipeline.h"

#include <nanobind/stl/string.h>

NB_MODULE(_tamias, module) {
  module.doc() = "The compiled part of tamias; use the package's own names.";
  tamias::python::BindErrors(module);
  tamias::python::BindEnding(module);
  tamias::python::BindOperations(module);
  tamias::python::BindSparsity(module);
  tamias::python::BindMedia(module);
  tamias::python::BindPipeline(module);
  module.attr("__version__") = tamias::Version();
  module.def("machine_name", &tamias::MachineName,
             "The processor and the CPUs that this process may use.");
}
