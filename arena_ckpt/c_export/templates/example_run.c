    while (status == ${NAME}_OK && ${name}_iteration() < 10) {
        status = ${name}_train(1, feed, 0);
        printf("step %lu: loss %g\n", (unsigned long)${name}_iteration(), ${name}_loss());
    }
