/* Products that are subnormal, by a kernel that loops over many numbers. */
#include "board.h"
#include "ac_kernels.h"

#define N 67

static float a[N], product[N];

int board_main(void)
{
    int n_wrong = 0;
    int32_t i;
    for (i = 0; i < N; i++) {
        a[i] = 1e-20f;
    }
    ac_multiply(a, a, product, N);
    for (i = 0; i < N; i++) {
        n_wrong += ac_bits(product[i]) != UINT32_C(0x000116c2);
    }
    ac_matmul(a, a, product, 1, N, 1);
    for (i = 0; i < N; i++) {
        n_wrong += ac_bits(product[i]) != UINT32_C(0x000116c2);
    }
    board_say_number("wrong products", (uint32_t)n_wrong);
    return n_wrong != 0;
}
