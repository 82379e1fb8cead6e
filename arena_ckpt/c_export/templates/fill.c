static void fill(float value, float *to, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        to[i] = value;
    }
}
