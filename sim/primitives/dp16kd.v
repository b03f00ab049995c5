// Behavioural model of the ECP5's block RAM: 18 Kbit, two ports, each 1, 2, 4, 9 or 18 bits wide; or, with
// DATA_WIDTH_A = 36, a write port A of 36 bits and a read port B of 1 to 36 bits (pseudo dual port).
//
// Behaviour and the pins of a 36-bit word's halves after Yosys' description of the cell (techlibs/lattice:
// brams_16kd.txt, brams_map_16kd.v).
// Not modelled: MUX parameters of pins other than the clocks, GSR, ASYNC_RESET_RELEASE.
// A write in the same cycle as the port's synchronous reset is undefined in Yosys' description; here it is lost.
// A read of bits that the other port writes at the same edge is undefined too; here it returns them inverted, so that a
// design that relies on them fails.
module DP16KD #(
    parameter DATA_WIDTH_A = 18,
    parameter DATA_WIDTH_B = 18,
    parameter REGMODE_A = "NOREG",
    parameter REGMODE_B = "NOREG",
    parameter RESETMODE = "SYNC",
    parameter ASYNC_RESET_RELEASE = "SYNC",
    parameter [39:0] CSDECODE_A = "0b000",
    parameter [39:0] CSDECODE_B = "0b000",
    parameter WRITEMODE_A = "NORMAL",
    parameter WRITEMODE_B = "NORMAL",
    parameter CLKAMUX = "CLKA",
    parameter CLKBMUX = "CLKB",
    parameter GSR = "ENABLED",
    parameter [319:0] INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0,
    parameter [319:0] INITVAL_04 = 0, INITVAL_05 = 0, INITVAL_06 = 0, INITVAL_07 = 0,
    parameter [319:0] INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0,
    parameter [319:0] INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0,
    parameter [319:0] INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0,
    parameter [319:0] INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0,
    parameter [319:0] INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0,
    parameter [319:0] INITVAL_1C = 0, INITVAL_1D = 0, INITVAL_1E = 0, INITVAL_1F = 0,
    parameter [319:0] INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0, INITVAL_23 = 0,
    parameter [319:0] INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0,
    parameter [319:0] INITVAL_28 = 0, INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0,
    parameter [319:0] INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0,
    parameter [319:0] INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0,
    parameter [319:0] INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0, INITVAL_37 = 0,
    parameter [319:0] INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0,
    parameter [319:0] INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0
) (
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9,
          DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0,
    input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7,
          ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
    input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9,
           DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0,
    input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9,
          DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
    input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7,
          ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
    input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9,
           DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0
);
    localparam PSEUDO = DATA_WIDTH_A == 36;
    localparam [64*320-1:0] INITVAL =
        {INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38,
         INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30,
         INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
         INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20,
         INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18,
         INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10,
         INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08,
         INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00};

    // 512 words of 36 bits; narrower words are slices of them. Bit 8 of a 9-bit byte exists for widths of 9 and more.
    reg [35:0] memory [0:511];
    integer i, j, k, l;
    initial begin
        // Each INITVAL holds 16 words of 18 bits, 20 bits apart.
        for (i = 0; i < 1024; i = i + 1)
            memory[i / 2][18 * (i % 2) +: 18] = INITVAL[20 * i +: 18];
        if (DATA_WIDTH_B == 36 && !PSEUDO) $fatal(1, "DP16KD: only a pseudo dual port memory reads 36 bits");
        if (DATA_WIDTH_B == 36 && REGMODE_A != REGMODE_B)
            $fatal(1, "DP16KD: both halves of a 36-bit read port need the same REGMODE");
    end

    function [5:0] offset(input [4:0] address, input integer width);
        case (width)
            36: offset = 0;
            18: offset = 18 * address[4];
            9: offset = 18 * address[4] + 9 * address[3];
            4: offset = 18 * address[4] + 9 * address[3] + 4 * address[2];
            2: offset = 18 * address[4] + 9 * address[3] + 2 * address[2:1];
            default: offset = 18 * address[4] + 9 * address[3] + address[2:0];
        endcase
    endfunction

    // A write port writes units of 9 bits, or its whole width if that is less. The lowest address bits are byte enables
    // where they do not address: 4 for 36 bits, 2 for 18.
    localparam UNIT_A = DATA_WIDTH_A < 9 ? DATA_WIDTH_A : 9;
    localparam UNIT_B = DATA_WIDTH_B < 9 ? DATA_WIDTH_B : 9;
    localparam UNITS_A = DATA_WIDTH_A / UNIT_A;
    localparam UNITS_B = DATA_WIDTH_B / UNIT_B;

    wire [13:0] address_a =
        {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7,
         ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
    wire [13:0] address_b =
        {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7,
         ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
    wire [17:0] data_a =
        {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9,
         DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
    wire [17:0] data_b =
        {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9,
         DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0};

    wire clock_a = CLKAMUX == "INV" ? ~CLKA : CLKA;
    wire clock_b = CLKBMUX == "INV" ? ~CLKB : CLKB;
    wire asynchronous_a = RESETMODE == "ASYNC" && RSTA;
    wire asynchronous_b = RESETMODE == "ASYNC" && RSTB;
    wire select_a = CEA && {CSA2, CSA1, CSA0} == {CSDECODE_A[16], CSDECODE_A[8], CSDECODE_A[0]};
    wire select_b = CEB && {CSB2, CSB1, CSB0} == {CSDECODE_B[16], CSDECODE_B[8], CSDECODE_B[0]};

    wire [5:0] offset_a = offset(address_a[4:0], DATA_WIDTH_A);
    wire [5:0] offset_b = offset(address_b[4:0], DATA_WIDTH_B);
    wire [35:0] reach_a = (36'd1 << DATA_WIDTH_A) - 36'd1;
    wire [35:0] reach_b = (36'd1 << DATA_WIDTH_B) - 36'd1;
    reg [35:0] mask_a, mask_b;
    always @* begin
        mask_a = 0;
        mask_b = 0;
        for (j = 0; j < UNITS_A; j = j + 1)
            if (UNITS_A == 1 || address_a[j]) mask_a[offset_a + UNIT_A * j +: UNIT_A] = ~0;
        for (j = 0; j < UNITS_B; j = j + 1)
            if (UNITS_B == 1 || address_b[j]) mask_b[offset_b + UNIT_B * j +: UNIT_B] = ~0;
    end
    wire [35:0] written_a = PSEUDO ? {data_b, data_a} : {18'b0, data_a} << offset_a;
    wire [35:0] written_b = {18'b0, data_b} << offset_b;
    wire write_a = select_a && WEA && !(RSTA && RESETMODE == "SYNC");
    wire write_b = select_b && WEB && !(RSTB && RESETMODE == "SYNC") && !PSEUDO;

    // Right where both ports have one clock; ports of two clocks may be said to collide when they do not.
    wire meet = address_a[13:5] == address_b[13:5] && clock_a == clock_b;
    wire [35:0] clash_a = meet && write_b ? mask_b : 36'b0;
    wire [35:0] clash_b = meet && write_a ? mask_a : 36'b0;

    reg [35:0] latch_a = 0, latch_b = 0, register_a = 0, register_b = 0;

    wire [35:0] old_a = memory[address_a[13:5]] ^ clash_a;
    wire [35:0] old_b = memory[address_b[13:5]] ^ clash_b;
    wire [35:0] stored_a = WEA && WRITEMODE_A == "WRITETHROUGH" ? old_a & ~mask_a | written_a & mask_a : old_a;
    wire [35:0] stored_b = WEB && WRITEMODE_B == "WRITETHROUGH" ? old_b & ~mask_b | written_b & mask_b : old_b;

    always @(posedge clock_a)
        for (k = 0; k < UNITS_A; k = k + 1)
            if (write_a && (UNITS_A == 1 || address_a[k]))
                memory[address_a[13:5]][offset_a + UNIT_A * k +: UNIT_A]
                    <= written_a[offset_a + UNIT_A * k +: UNIT_A];

    always @(posedge clock_a or posedge asynchronous_a)
        if (asynchronous_a || RSTA) latch_a <= 0;
        else if (select_a && !(WEA && WRITEMODE_A == "NORMAL"))
            latch_a <= (stored_a >> offset_a) & reach_a;

    always @(posedge clock_b)
        for (l = 0; l < UNITS_B; l = l + 1)
            if (write_b && (UNITS_B == 1 || address_b[l]))
                memory[address_b[13:5]][offset_b + UNIT_B * l +: UNIT_B]
                    <= written_b[offset_b + UNIT_B * l +: UNIT_B];

    always @(posedge clock_b or posedge asynchronous_b)
        if (asynchronous_b || RSTB) latch_b <= 0;
        else if (select_b && !(WEB && WRITEMODE_B == "NORMAL"))
            latch_b <= (stored_b >> offset_b) & reach_b;

    always @(posedge clock_a or posedge asynchronous_a)
        if (asynchronous_a || RSTA) register_a <= 0;
        else if (OCEA) register_a <= latch_a;

    always @(posedge clock_b or posedge asynchronous_b)
        if (asynchronous_b || RSTB) register_b <= 0;
        else if (OCEB) register_b <= latch_b;

    wire [35:0] output_a = REGMODE_A == "OUTREG" ? register_a : latch_a;
    wire [35:0] output_b = REGMODE_B == "OUTREG" ? register_b : latch_b;
    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9,
            DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0} =
        DATA_WIDTH_B == 36 ? output_b[17:0] : output_a[17:0];
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9,
            DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0} =
        DATA_WIDTH_B == 36 ? output_b[35:18] : output_b[17:0];
endmodule
