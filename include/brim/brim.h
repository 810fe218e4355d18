// Brim's public API. A script includes this and nothing else.
#ifndef BRIM_BRIM_H
#define BRIM_BRIM_H

#include <brim/data.h>
#include <brim/device.h>
#include <brim/dtype.h>
#include <brim/error.h>
#include <brim/graph.h>
#include <brim/nn.h>
#include <brim/report.h>
#include <brim/train.h>

#endif
