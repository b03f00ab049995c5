// Behavioural model of the ECP5's 18 x 18 multiplier with its optional registers; a factor is two's complement where
// its SIGNED input is high. Not modelled: input C and the pre-adder it feeds, GSR, clock division, CAS_MATCH_REG.
module MULT18X18D #(
    parameter REG_INPUTA_CLK = "NONE",
    parameter REG_INPUTA_CE = "CE0",
    parameter REG_INPUTA_RST = "RST0",
    parameter REG_INPUTB_CLK = "NONE",
    parameter REG_INPUTB_CE = "CE0",
    parameter REG_INPUTB_RST = "RST0",
    parameter REG_INPUTC_CLK = "NONE",
    parameter REG_INPUTC_CE = "CE0",
    parameter REG_INPUTC_RST = "RST0",
    parameter REG_PIPELINE_CLK = "NONE",
    parameter REG_PIPELINE_CE = "CE0",
    parameter REG_PIPELINE_RST = "RST0",
    parameter REG_OUTPUT_CLK = "NONE",
    parameter REG_OUTPUT_CE = "CE0",
    parameter REG_OUTPUT_RST = "RST0",
    parameter CLK0_DIV = "ENABLED",
    parameter CLK1_DIV = "ENABLED",
    parameter CLK2_DIV = "ENABLED",
    parameter CLK3_DIV = "ENABLED",
    parameter HIGHSPEED_CLK = "NONE",
    parameter GSR = "ENABLED",
    parameter CAS_MATCH_REG = "FALSE",
    parameter SOURCEB_MODE = "B_SHIFT",
    parameter MULT_BYPASS = "DISABLED",
    parameter RESETMODE = "SYNC"
) (
    input A17, A16, A15, A14, A13, A12, A11, A10, A9,
          A8, A7, A6, A5, A4, A3, A2, A1, A0,
    input B17, B16, B15, B14, B13, B12, B11, B10, B9,
          B8, B7, B6, B5, B4, B3, B2, B1, B0,
    input C17, C16, C15, C14, C13, C12, C11, C10, C9,
          C8, C7, C6, C5, C4, C3, C2, C1, C0,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    input CLK3, CLK2, CLK1, CLK0, CE3, CE2, CE1, CE0, RST3, RST2, RST1, RST0,
    input SRIA17, SRIA16, SRIA15, SRIA14, SRIA13, SRIA12, SRIA11, SRIA10, SRIA9,
          SRIA8, SRIA7, SRIA6, SRIA5, SRIA4, SRIA3, SRIA2, SRIA1, SRIA0,
    input SRIB17, SRIB16, SRIB15, SRIB14, SRIB13, SRIB12, SRIB11, SRIB10, SRIB9,
          SRIB8, SRIB7, SRIB6, SRIB5, SRIB4, SRIB3, SRIB2, SRIB1, SRIB0,
    output SROA17, SROA16, SROA15, SROA14, SROA13, SROA12, SROA11, SROA10, SROA9,
           SROA8, SROA7, SROA6, SROA5, SROA4, SROA3, SROA2, SROA1, SROA0,
    output SROB17, SROB16, SROB15, SROB14, SROB13, SROB12, SROB11, SROB10, SROB9,
           SROB8, SROB7, SROB6, SROB5, SROB4, SROB3, SROB2, SROB1, SROB0,
    output P35, P34, P33, P32, P31, P30, P29, P28, P27,
           P26, P25, P24, P23, P22, P21, P20, P19, P18,
           P17, P16, P15, P14, P13, P12, P11, P10, P9,
           P8, P7, P6, P5, P4, P3, P2, P1, P0,
    output SIGNEDP
);
    wire [17:0] a =
        {A17, A16, A15, A14, A13, A12, A11, A10, A9,
         A8, A7, A6, A5, A4, A3, A2, A1, A0};
    wire [17:0] b =
        {B17, B16, B15, B14, B13, B12, B11, B10, B9,
         B8, B7, B6, B5, B4, B3, B2, B1, B0};
    wire [17:0] shifted_a =
        {SRIA17, SRIA16, SRIA15, SRIA14, SRIA13, SRIA12, SRIA11, SRIA10, SRIA9,
         SRIA8, SRIA7, SRIA6, SRIA5, SRIA4, SRIA3, SRIA2, SRIA1, SRIA0};
    wire [17:0] shifted_b =
        {SRIB17, SRIB16, SRIB15, SRIB14, SRIB13, SRIB12, SRIB11, SRIB10, SRIB9,
         SRIB8, SRIB7, SRIB6, SRIB5, SRIB4, SRIB3, SRIB2, SRIB1, SRIB0};

    initial begin
        if (SOURCEB_MODE != "B_SHIFT") $fatal(1, "MULT18X18D: no model of the pre-adder (SOURCEB_MODE)");
        if (MULT_BYPASS != "DISABLED") $fatal(1, "MULT18X18D: no model of MULT_BYPASS");
    end

    wire [3:0] clocks = {CLK3, CLK2, CLK1, CLK0};
    wire [3:0] enables = {CE3, CE2, CE1, CE0};
    wire [3:0] resets = {RST3, RST2, RST1, RST0};

    // Each register has the number of its signal as the last character of a parameter.
    wire [18:0] held_a, held_b;
    multiplier_register #(.WIDTH(19), .CLK(REG_INPUTA_CLK), .CE(REG_INPUTA_CE), .RST(REG_INPUTA_RST),
                          .RESETMODE(RESETMODE))
        input_a (.clocks(clocks), .enables(enables), .resets(resets),
                 .d({SIGNEDA, SOURCEA ? shifted_a : a}), .q(held_a));
    multiplier_register #(.WIDTH(19), .CLK(REG_INPUTB_CLK), .CE(REG_INPUTB_CE), .RST(REG_INPUTB_RST),
                          .RESETMODE(RESETMODE))
        input_b (.clocks(clocks), .enables(enables), .resets(resets),
                 .d({SIGNEDB, SOURCEB ? shifted_b : b}), .q(held_b));
    assign {SROA17, SROA16, SROA15, SROA14, SROA13, SROA12, SROA11, SROA10, SROA9,
            SROA8, SROA7, SROA6, SROA5, SROA4, SROA3, SROA2, SROA1, SROA0} = held_a[17:0];
    assign {SROB17, SROB16, SROB15, SROB14, SROB13, SROB12, SROB11, SROB10, SROB9,
            SROB8, SROB7, SROB6, SROB5, SROB4, SROB3, SROB2, SROB1, SROB0} = held_b[17:0];

    wire signed [35:0] factor_a = {{18{held_a[18] & held_a[17]}}, held_a[17:0]};
    wire signed [35:0] factor_b = {{18{held_b[18] & held_b[17]}}, held_b[17:0]};
    wire [35:0] product = factor_a * factor_b;
    wire [36:0] staged;
    multiplier_register #(.WIDTH(37), .CLK(REG_PIPELINE_CLK), .CE(REG_PIPELINE_CE), .RST(REG_PIPELINE_RST),
                          .RESETMODE(RESETMODE))
        pipeline (.clocks(clocks), .enables(enables), .resets(resets),
                  .d({held_a[18] | held_b[18], product}), .q(staged));
    multiplier_register #(.WIDTH(37), .CLK(REG_OUTPUT_CLK), .CE(REG_OUTPUT_CE), .RST(REG_OUTPUT_RST),
                          .RESETMODE(RESETMODE))
        result (.clocks(clocks), .enables(enables), .resets(resets), .d(staged),
                .q({SIGNEDP,
            P35, P34, P33, P32, P31, P30, P29, P28, P27,
            P26, P25, P24, P23, P22, P21, P20, P19, P18,
            P17, P16, P15, P14, P13, P12, P11, P10, P9,
            P8, P7, P6, P5, P4, P3, P2, P1, P0}));
endmodule

// A register that may be left out: CLK = "NONE", or the number of the clock, enable and reset that it uses.
module multiplier_register #(
    parameter WIDTH = 1,
    parameter [31:0] CLK = "NONE",
    parameter [31:0] CE = "CE0",
    parameter [31:0] RST = "RST0",
    parameter RESETMODE = "SYNC"
) (
    input [3:0] clocks,
    input [3:0] enables,
    input [3:0] resets,
    input [WIDTH-1:0] d,
    output [WIDTH-1:0] q
);
    generate
        if (CLK == "NONE") begin : direct
            assign q = d;
        end else begin : registered
            reg [WIDTH-1:0] held = 0;
            wire clock = clocks[CLK[1:0]];
            wire enable = enables[CE[1:0]];
            wire reset = resets[RST[1:0]];
            wire asynchronous = RESETMODE == "ASYNC" && reset;
            always @(posedge clock or posedge asynchronous)
                if (asynchronous || reset) held <= 0;
                else if (enable) held <= d;
            assign q = held;
        end
    endgenerate
endmodule
