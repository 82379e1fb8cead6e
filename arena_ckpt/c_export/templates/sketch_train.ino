
static int feed(void *, int32_t first, int32_t n)
{
    make_samples(first, n);
    fill(${name}_label(), n * ${NAME}_LABEL_ELEMENTS, 0);
    return 0;
}
