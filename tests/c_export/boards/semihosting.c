/* Calls to the emulator: Arm's semihosting, which RISC-V has taken over. */
#include "board.h"

enum { OPEN = 1, CLOSE = 2, SAY = 4, WRITE = 5, READ = 6, SEEK = 10, EXIT = 0x20 };

static uint32_t call(uint32_t operation, const void *given)
{
#if defined(__arm__)
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = given;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
#else
    register uint32_t a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = given;
    /* These three, uncompressed and in one page, are a call. */
    __asm__ volatile(
        ".balign 16\n"
        ".option push\n"
        ".option norvc\n"
        "slli x0, x0, 0x1f\n"
        "ebreak\n"
        "srai x0, x0, 7\n"
        ".option pop\n"
        : "+r"(a0) : "r"(a1) : "memory");
    return a0;
#endif
}

void board_say(const char *text)
{
    call(SAY, text);
}

void board_say_number(const char *name, uint32_t number)
{
    char digits[11];
    char *start = digits + sizeof digits - 1;
    *start = 0;
    do {
        *--start = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    board_say(name);
    board_say(" ");
    board_say(start);
    board_say("\n");
}

void board_exit(int code)
{
    uint32_t given[2] = {0x20026, 0}; /* the application has ended */
    given[1] = (uint32_t)code;
    for (;;) {
        call(EXIT, given);
    }
}

int board_open(const char *name, int is_for_writing)
{
    uint32_t given[3], n = 0;
    while (name[n] != 0) {
        n++;
    }
    given[0] = (uint32_t)(uintptr_t)name;
    given[1] = is_for_writing ? 3 : 1; /* "r+b", "rb" */
    given[2] = n;
    return (int)call(OPEN, given);
}

static int transfer(uint32_t operation, int file, uint32_t position, uintptr_t bytes,
    uint32_t n)
{
    uint32_t given[3];
    given[0] = (uint32_t)file;
    given[1] = position;
    if (call(SEEK, given) != 0) {
        return 1;
    }
    given[1] = (uint32_t)bytes;
    given[2] = n;
    return call(operation, given) != 0;
}

int board_write(int file, uint32_t position, const void *bytes, uint32_t n)
{
    return transfer(WRITE, file, position, (uintptr_t)bytes, n);
}

int board_read(int file, uint32_t position, void *bytes, uint32_t n)
{
    return transfer(READ, file, position, (uintptr_t)bytes, n);
}

int board_close(int file)
{
    uint32_t given = (uint32_t)file;
    return call(CLOSE, &given) != 0;
}
