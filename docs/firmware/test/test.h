/* The test, and what it needs of the program that runs it. */
#ifndef TEST_H
#define TEST_H

/* Runs the test; returns how much was wrong. */
int test_run(void);

/* Shows a text: main.c, or what stands in its place on a board, defines it. */
void test_say(const char *text);

#endif
