/* From reset to board_main, and what compilers expect of a C library. */
#include "board.h"

/* By the linker script: memory to set to 0, and to copy. */
extern uint32_t board_zero_begin[], board_zero_end[], board_large_begin[],
    board_large_end[], board_data_begin[], board_data_end[];
extern const uint32_t board_data_source[];

void *memcpy(void *to, const void *from, unsigned int n);
void *memset(void *to, int byte, unsigned int n);
void board_start(void);

void *memcpy(void *to, const void *from, unsigned int n)
{
    uint8_t *target = to;
    const uint8_t *source = from;
    while (n > 0) {
        *target++ = *source++;
        n--;
    }
    return to;
}

void *memset(void *to, int byte, unsigned int n)
{
    uint8_t *target = to;
    while (n > 0) {
        *target++ = (uint8_t)byte;
        n--;
    }
    return to;
}

static void clear(uint32_t *from, const uint32_t *to)
{
    while (from < to) {
        *from++ = 0;
    }
}

__attribute__((noreturn)) void board_start(void)
{
#if defined(__arm__)
    /* Full access to the floating-point unit (CPACR). */
    *(volatile uint32_t *)0xe000ed88u |= 0xfu << 20;
    __asm__ volatile("dsb\n isb");
#else
    __asm__ volatile("csrs mstatus, %0" : : "r"(1u << 13));
    __asm__ volatile("csrw fcsr, zero");
#endif
    clear(board_zero_begin, board_zero_end);
    clear(board_large_begin, board_large_end);
    memcpy(board_data_begin, board_data_source,
        (uint32_t)((uintptr_t)board_data_end - (uintptr_t)board_data_begin));
    board_exit(board_main());
    for (;;) {
    }
}

#if defined(__arm__)
static void fault(void)
{
    board_say("the processor has met a fault\n");
    board_exit(3);
}

/* Where the stack begins, what runs after a reset, and at faults. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors = {board_stack_begin, {board_start, fault, fault, fault, fault, fault}};
#else
__attribute__((used)) static void fault(void)
{
    board_say("the processor has met a fault\n");
    board_exit(3);
}

__asm__(
    ".section .vectors, \"ax\"\n"
    ".globl board_reset\n"
    "board_reset:\n"
    ".option push\n"
    ".option norelax\n"
    "la gp, __global_pointer$\n"
    ".option pop\n"
    "la sp, board_stack_begin\n"
    "la t0, board_trap\n"
    "csrw mtvec, t0\n"
    "j board_start\n"
    ".balign 4\n"
    "board_trap: j fault\n"
    ".previous\n");
#endif

#define PATTERN 0xa5a5a5a5u

__attribute__((noinline)) void board_paint_stack(void)
{
    uint32_t here;
    uint32_t *place = board_stack_end;
    /* What is below this function's frame is unused. */
    uint32_t *stop = (uint32_t *)((uintptr_t)&here - 64);
    while (place < stop) {
        *(volatile uint32_t *)place = PATTERN;
        place++;
    }
}

uint32_t board_stack_bytes(void)
{
    const uint32_t *place = board_stack_end;
    while (place < board_stack_begin && *place == PATTERN) {
        place++;
    }
    return (uint32_t)((uintptr_t)board_stack_begin - (uintptr_t)place);
}

#if defined(BOARD_TIMER)
/* A timer of the board counts down at 25 MHz, one for every 40 instructions. */
uint32_t board_instructions(void)
{
    volatile uint32_t *timer = (volatile uint32_t *)BOARD_TIMER;
    if ((timer[0] & 1) == 0) {
        timer[2] = 0xffffffffu; /* RELOAD */
        timer[1] = 0xffffffffu; /* VALUE */
        timer[0] = 1;           /* CTRL: on */
    }
    return (0xffffffffu - timer[1]) * 40;
}
#elif defined(__riscv)
uint32_t board_instructions(void)
{
    uint32_t n;
    __asm__ volatile("csrr %0, minstret" : "=r"(n));
    return n;
}
#else
uint32_t board_instructions(void)
{
    return 0;
}
#endif
