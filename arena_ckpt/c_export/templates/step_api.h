
/* One step of training on the ${NAME}_BATCH samples in the inputs and their labels; sets
 * *loss, unless it is 0. */
int ${name}_step(double *loss);
