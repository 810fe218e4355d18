// What nodes cost, from shapes alone: bytes that are read and written once, operations, and seconds
// on a device of which only numbers are known.
#ifndef BRIM_GRAPH_COST_H
#define BRIM_GRAPH_COST_H

#include <brim/device.h>
#include "graph/graph.h"

double value_bytes(const brim_graph *g, value_id v);
// What a node reads of an input: of a gather's table, the rows that are asked for; of the compute
// copy that an update writes, nothing.
double input_bytes(const brim_graph *g, const graph_node *node, int input);
// All that a node reads and writes; 0 for what is nothing but strides.
double node_bytes(const brim_graph *g, const graph_node *node);
// Of matrix products, the loss behind a projection, and attention (the causal half); else 0.
double node_flops(const brim_graph *g, const graph_node *node);

// The longer of moving and computing, and a launch.
double node_seconds(const brim_graph *g, const graph_node *node, const brim_rates *rates);

#endif
