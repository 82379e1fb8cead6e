
int ${name}_step(double *loss)
{
    return ${name}_step_from(0, 0, loss);
}
