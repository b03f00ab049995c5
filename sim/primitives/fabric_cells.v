// Yosys' models of the fabric's cells (common_sim.vh, ccu2c_sim.vh) follow; they need none of the files they include.
`define NO_INCLUDES
