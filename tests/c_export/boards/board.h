/* What the programs for emulated boards use: texts and files of the machine that runs the
 * emulator, by semihosting, and measurements. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

/* Shows a text, and ends the emulator: code 0 says that all is well. */
void board_say(const char *text);
void board_say_number(const char *name, uint32_t number);
void board_exit(int code);

/* Files of the host; the functions return 0, or something else after a failure. */
int board_open(const char *name, int is_for_writing);
int board_write(int file, uint32_t position, const void *bytes, uint32_t n);
int board_read(int file, uint32_t position, void *bytes, uint32_t n);
int board_close(int file);

/* Fills the unused part of the stack with a pattern; returns how many bytes were in use at
 * most since then, counted from where the stack begins. */
void board_paint_stack(void);
uint32_t board_stack_bytes(void);

/* Instructions so far, where the emulator runs with -icount shift=0. */
uint32_t board_instructions(void);

/* By the linker script: where the stack is, with its first word at its end. */
extern uint32_t board_stack_end[], board_stack_begin[];

/* The program. */
int board_main(void);

#endif
