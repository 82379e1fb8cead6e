#include <stdint.h>

extern void _start(void);
extern uint32_t stack_top[];

void reset(void)
{
    *(volatile uint32_t *)0xe000ed88u |= 0xfu << 20; /* the floating-point unit is on */
    __asm__ volatile("dsb\n isb");
    _start(); /* of newlib: clears memory and calls main */
}

__attribute__((section(".vectors"), used)) static void *const vectors[] = {
    stack_top, (void *)reset,
};
