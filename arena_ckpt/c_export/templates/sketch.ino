// Works on samples that are made up: put your own where make_samples is.
#include <$name.h>

static float out[${NAME}_PASS_SAMPLES * ${NAME}_OUTPUT_ELEMENTS];

static void fill(float *x, int32_t n, int32_t start)
{
    for (int32_t i = 0; i < n; i++) {
        x[i] = (float)((i + start) % 2);
    }
}

// Puts samples first to first + n - 1 where the model reads them.
static void make_samples(int32_t first, int32_t n)
{
$make_samples
}
$sketch_train
void setup()
{
    Serial.begin(115200);
    ${name}_init();
}

void loop()
{
    int status = ${NAME}_OK;
$sketch_run
    if (status == ${NAME}_OK) {
        make_samples(0, ${NAME}_PASS_SAMPLES);
        status = ${name}_predict(out);
    }
    if (status == ${NAME}_OK) {
        Serial.print("the first output is ");
        Serial.println(out[0], 6);
    } else {
        Serial.print("status ");
        Serial.println(status);
    }
    delay(1000);
}
