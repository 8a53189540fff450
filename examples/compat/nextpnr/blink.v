// A counter whose highest bit is a lamp.
module blink(input clock, output lamp);
  reg [7:0] count = 0;
  always @(posedge clock) count <= count + 1;
  assign lamp = count[7];
endmodule
