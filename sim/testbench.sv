// The simulation top around a design's AXI4-Stream ports, for every design alike.
//
// external = 0: plays recorded frames at full speed and compares every word that comes back, all in HDL.
// external = 1: the ports are passed to the design as they are; a bench in Python drives them.
//
// Macro KARUI_DUT names the design's top module. Files and counts are plusargs, so that one build serves any vectors:
//   +stimulus=FILE +expected=FILE  beats as raw bytes, most significant first (the order in which $fread fills a word)
//   +frames=N                      frames in both files
//   +solo=N                        frames sent alone, each after the one before has left; the rest goes back to back
//   +source=MODE +sink=MODE        0 never pauses, 1 pauses half of the cycles at random, 2 pauses in bursts
//   +seed=N                        of both pause generators, not 0
//   +watchdog=N                    cycles without a transfer after which the run is given up
//   +drain=N                       cycles to watch for surplus words after the last frame
//   +log=FILE                      events, one a line: karui.sim.regression reads them

module karui_testbench #(
    parameter int S_BYTES = 1,
    parameter int S_BEATS = 1,
    parameter int M_BYTES = 1,
    parameter int M_BEATS = 1
) (
    input  logic                   clk,
    input  logic                   rst,
    input  logic                   external,
    input  logic [8 * S_BYTES-1:0] s_axis_tdata,
    input  logic                   s_axis_tvalid,
    output logic                   s_axis_tready,
    input  logic                   s_axis_tlast,
    output logic [8 * M_BYTES-1:0] m_axis_tdata,
    output logic                   m_axis_tvalid,
    input  logic                   m_axis_tready,
    output logic                   m_axis_tlast,
    output logic                   m_axis_tuser,
    output logic                   done
);
    localparam int REST = 64;  // idle cycles before a frame that finds the pipeline empty
    localparam int LOGGED_MISMATCHES = 16;

    string stimulus_path, expected_path, log_path;
    int unsigned frames, solo, source_mode, sink_mode, seed, watchdog, drain;
    int stimulus, expected, log;

    initial begin
        stimulus = 0;
        expected = 0;
        log = 0;
        frames = 0;
        solo = 0;
        source_mode = 0;
        sink_mode = 0;
        seed = 1;
        watchdog = 100000;
        drain = 100;
        if ($value$plusargs("stimulus=%s", stimulus_path)) stimulus = $fopen(stimulus_path, "rb");
        if ($value$plusargs("expected=%s", expected_path)) expected = $fopen(expected_path, "rb");
        if ($value$plusargs("log=%s", log_path)) log = $fopen(log_path, "w");
        void'($value$plusargs("frames=%d", frames));
        void'($value$plusargs("solo=%d", solo));
        void'($value$plusargs("source=%d", source_mode));
        void'($value$plusargs("sink=%d", sink_mode));
        void'($value$plusargs("seed=%d", seed));
        void'($value$plusargs("watchdog=%d", watchdog));
        void'($value$plusargs("drain=%d", drain));
    end

    // Source: offers beat s_beat of frame s_frame; s_next_* is the one to load after it.
    logic s_go, s_valid, s_ready, s_last;
    logic [8 * S_BYTES-1:0] s_data, s_word;
    int unsigned s_frame, s_beat, s_next_frame, s_next_beat, s_rest;

    // Sink: awaits beat m_beat of frame m_frame.
    logic m_go, m_ready, m_fire, m_stalled, m_held_last, m_held_user;
    logic [8 * M_BYTES-1:0] m_word, m_held_data;
    int unsigned m_frame, m_beat;

    int unsigned idle, surplus_watch;
    longint unsigned cycle, words, mismatches;

    pause_generator source_pauses (.clk, .rst, .mode(source_mode), .seed(seed), .go(s_go));
    pause_generator sink_pauses (.clk, .rst, .mode(sink_mode), .seed(seed ^ 32'h5bd1e995), .go(m_go));

    assign m_ready = external ? m_axis_tready : m_go;
    assign s_axis_tready = s_ready;
    assign m_fire = m_axis_tvalid && m_ready;

    `KARUI_DUT dut (
        .clk,
        .rst,
        .s_axis_tdata(external ? s_axis_tdata : s_data),
        .s_axis_tvalid(external ? s_axis_tvalid : s_valid),
        .s_axis_tready(s_ready),
        .s_axis_tlast(external ? s_axis_tlast : s_last),
        .m_axis_tdata,
        .m_axis_tvalid,
        .m_axis_tready(m_ready),
        .m_axis_tlast,
        .m_axis_tuser
    );

    // A frame may start back to back, or once everything sent has come back and the pipeline has rested.
    logic s_may_load;
    assign s_may_load = s_go && s_next_frame != frames
        && (s_next_beat != 0 || s_next_frame > solo || s_rest == REST);

    always @(posedge clk) begin
        if (rst) begin
            s_valid <= 0;
            s_next_frame <= 0;
            s_next_beat <= 0;
            s_rest <= 0;
        end else if (!external) begin
            if (!s_valid || s_ready) begin
                s_valid <= s_may_load;
                if (s_may_load) begin
                    if ($fread(s_word, stimulus) != S_BYTES) $fatal(1, "the stimulus file ends early");
                    s_data <= s_word;
                    s_last <= s_next_beat == S_BEATS - 1;
                    s_frame <= s_next_frame;
                    s_beat <= s_next_beat;
                    s_next_beat <= s_next_beat == S_BEATS - 1 ? 0 : s_next_beat + 1;
                    if (s_next_beat == S_BEATS - 1) s_next_frame <= s_next_frame + 1;
                end
            end
            if (s_may_load || s_valid || m_axis_tvalid || m_frame != s_next_frame) s_rest <= 0;
            else if (s_rest != REST) s_rest <= s_rest + 1;
            if (s_valid && s_ready && s_beat == 0) $fdisplay(log, "start %0d %0d", s_frame, cycle);
        end
    end

    task automatic mismatch(input string check, input logic [8 * M_BYTES-1:0] wanted, input logic [8 * M_BYTES-1:0] got);
        if (mismatches < LOGGED_MISMATCHES)
            $fdisplay(log, "mismatch %s %0d %0d %h %h", check, m_frame, m_beat, wanted, got);
        mismatches = mismatches + 1;
    endtask

    always @(posedge clk) begin
        if (rst) begin
            m_frame <= 0;
            m_beat <= 0;
            m_stalled <= 0;
            words <= 0;
            mismatches = 0;
        end else if (!external && !done) begin
            if (m_stalled && (!m_axis_tvalid || m_axis_tdata != m_held_data || m_axis_tlast != m_held_last
                              || m_axis_tuser != m_held_user))
                mismatch("unstable", m_held_data, m_axis_tdata);
            m_stalled <= m_axis_tvalid && !m_ready;
            m_held_data <= m_axis_tdata;
            m_held_last <= m_axis_tlast;
            m_held_user <= m_axis_tuser;
            if (m_fire && m_frame == frames) mismatch("surplus", 0, m_axis_tdata);
            else if (m_fire) begin
                if ($fread(m_word, expected) != M_BYTES) $fatal(1, "the file of expected words ends early");
                if (m_axis_tdata != m_word) mismatch("word", m_word, m_axis_tdata);
                if (m_axis_tlast != (m_beat == M_BEATS - 1))
                    mismatch("tlast", (8 * M_BYTES)'(m_beat == M_BEATS - 1), (8 * M_BYTES)'(m_axis_tlast));
                if (m_axis_tuser) mismatch("tuser", 0, 1);
                words <= words + 1;
                m_beat <= m_beat == M_BEATS - 1 ? 0 : m_beat + 1;
                if (m_beat == M_BEATS - 1) begin
                    m_frame <= m_frame + 1;
                    $fdisplay(log, "end %0d %0d", m_frame, cycle);
                end
            end
        end
    end

    // Surplus words must not feed the watchdog, or a design that never falls silent would never end.
    logic progress, all_sent, all_received;
    assign progress = (s_valid && s_ready) || (m_fire && m_frame != frames);
    assign all_sent = s_next_frame == frames && !s_valid;
    assign all_received = m_frame == frames;

    always @(posedge clk) begin
        if (rst) begin
            cycle <= 0;
            idle <= 0;
            surplus_watch <= 0;
            done <= 0;
        end else if (!external && !done) begin
            cycle <= cycle + 1;
            idle <= progress ? 0 : idle + 1;
            if (all_sent && all_received) surplus_watch <= surplus_watch + 1;
            if (surplus_watch == drain || idle == watchdog) begin
                if (idle == watchdog && !(all_sent && all_received))
                    $fdisplay(log, "stall %0d %0d %0d %0d %0d %0d %0d", all_sent, s_valid,
                              s_valid ? s_frame : s_next_frame, s_valid ? s_beat : s_next_beat,
                              all_received, m_frame, m_beat);
                $fdisplay(log, "done %0d %0d %0d", cycle, words, mismatches);
                $fclose(log);
                done <= 1;
            end
        end
    end
endmodule

// Says in which cycles a stream may move. Its output is a register: it never depends on the stream.
module pause_generator (
    input  logic        clk,
    input  logic        rst,
    input  int unsigned mode,
    input  int unsigned seed,
    output logic        go
);
    // Xorshift generator of period 2^32 - 1 (Marsaglia, "Xorshift RNGs", 2003).
    function automatic logic [31:0] xorshift(input logic [31:0] state);
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        return state;
    endfunction

    logic [31:0] state;
    logic [4:0] left;

    always @(posedge clk) begin
        if (rst) begin
            state <= seed == 0 ? 1 : seed;  // zero is the state that xorshift never leaves
            left <= 0;
            go <= mode == 0;
        end else begin
            state <= xorshift(state);
            case (mode)
                0: go <= 1;
                1: go <= state[16];
                default: begin
                    left <= left == 0 ? state[20:16] : left - 1;
                    if (left == 0) go <= !go;
                end
            endcase
        end
    end
endmodule
