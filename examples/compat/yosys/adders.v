// The same sum twice, as an operator and as a chain of full adders, and whether they ever differ.
module adders(input [7:0] a, input [7:0] b, output differ);
    wire [8:0] carry;
    wire [7:0] sum;
    assign carry[0] = 1'b0;
    genvar i;
    generate
        for (i = 0; i < 8; i = i + 1) begin : full
            assign sum[i] = a[i] ^ b[i] ^ carry[i];
            assign carry[i + 1] = (a[i] & b[i]) | (carry[i] & (a[i] ^ b[i]));
        end
    endgenerate
    wire [8:0] right = a + b;
    assign differ = right != {carry[8], sum};
endmodule

// Eight bits of state.
module counter(input clock, output reg [7:0] count);
    always @(posedge clock) count <= count + 8'd1;
endmodule
