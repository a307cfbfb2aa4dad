// The parts of the module tamias._tamias; each defines its classes and functions in `module`.
#pragma once

#include <nanobind/nanobind.h>

namespace tamias::python {

// tamias.Error and its subclasses, and their translation from tamias::Error.
void BindErrors(nanobind::module_& module);
// Context and the operations of tamias/ops/.
void BindOperations(nanobind::module_& module);
// SparsityConfig, SparseSession, DeltaAttention, DeltaMlp.
void BindSparsity(nanobind::module_& module);
// Pictures and films as files, and how alike they are.
void BindMedia(nanobind::module_& module);
// Pipeline, Generation, tune.
void BindPipeline(nanobind::module_& module);

}  // namespace tamias::python
