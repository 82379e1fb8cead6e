/* Runs the test of a project; says how much of the stack it took. */
#include "board.h"
#include "test.h"

void test_say(const char *text)
{
    board_say(text);
}

int board_main(void)
{
    int n_wrong;
    board_paint_stack();
    n_wrong = test_run();
    board_say_number("stack", board_stack_bytes());
    return n_wrong != 0;
}
