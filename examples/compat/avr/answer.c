int answer(void) {
    int sum = 0;
    for (int i = 1; i <= 100; i++) sum += i;
    return sum;
}
