
static int feed(void *, int32_t first, int32_t n)
{
    make_samples(first, n);
$fill_labels
    return 0;
}
