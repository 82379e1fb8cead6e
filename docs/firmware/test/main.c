/* Runs the test on a computer. */
#include <stdio.h>

#include "test.h"

void test_say(const char *text)
{
    fputs(text, stdout);
}

int main(void)
{
    return test_run() != 0;
}
