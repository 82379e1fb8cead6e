
static int feed(void *context, int32_t first, int32_t n)
{
    (void)context;
    make_samples(first, n);
$fill_labels
    return 0;
}
