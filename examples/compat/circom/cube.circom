pragma circom 2.0.0;

// y = x^3: two multiplications, so two constraints that are not linear.
template Cube() {
    signal input x;
    signal output y;
    signal square;
    square <== x * x;
    y <== square * x;
}

component main = Cube();
