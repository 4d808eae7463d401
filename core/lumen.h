/* lumen.h: the core's public interface, all that core/bind and the world outside may include. */
#ifndef LUMEN_H
#define LUMEN_H

#include "base/base.h"
#include "base/dtype.h"
#include "base/rng.h"
#include "cpu/cpu.h"
#include "cuda/cuda.h"
#include "cuda/gemm.h"
#include "graph/op.h"
#include "graph/profile.h"
#include "graph/tape.h"
#include "io/file.h"
#include "io/imagefile.h"
#include "io/json.h"
#include "io/pth.h"
#include "io/tensorfile.h"
#include "tensor/device.h"
#include "tensor/tensor.h"

#endif
