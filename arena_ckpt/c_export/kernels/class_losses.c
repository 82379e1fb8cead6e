/* Cross entropies with a weight for each class, along any axis: arrays are (outer,
 * classes, inner). The target of a class is weight[c] * (keep * label + even). */

/* Columns of classes that are worked out together: where the classes of the first
 * begin, how many columns there are, and the distance from class to class. */
typedef struct {
    int32_t width;
    int32_t classes;
    int32_t inner;
} ac_columns;

/* Write the greatest logit of each column to most. */
static void ac_greatest(const float *logits, ac_columns of, float *most)
{
    int32_t c, j;
    for (j = 0; j < of.width; j++) {
        most[j] = logits[j];
    }
    for (c = 1; c < of.classes; c++) {
        logits += of.inner;
        for (j = 0; j < of.width; j++) {
            most[j] = logits[j] > most[j] ? logits[j] : most[j];
        }
    }
}

/* Write exp(logits - most) to probabilities, and their sums to sums. */
static void ac_exponentials_of(const float *logits, ac_columns of, const float *most,
    double *sums, float *probabilities)
{
    int32_t c, j;
    ac_clear(sums);
    for (c = 0; c < of.classes; c++) {
        for (j = 0; j < of.width; j++) {
            probabilities[j] = ac_exp(logits[j] - most[j]);
            sums[j] += (double)probabilities[j];
        }
        logits += of.inner;
        probabilities += of.inner;
    }
}

/* Divide probabilities by the sums of their columns. */
static void ac_normalize(float *probabilities, ac_columns of, const double *sums)
{
    int32_t c, j;
    for (c = 0; c < of.classes; c++) {
        for (j = 0; j < of.width; j++) {
            probabilities[j] *= (float)(1.0 / sums[j]);
        }
        probabilities += of.inner;
    }
}

/* Labels, and what makes targets of them. */
typedef struct {
    const float *label;
    int32_t has_numbers;
    float ignored;
    const float *weight;
    float keep;
    float even;
} ac_labels;

/* Write the targets of class c for the columns of `outer` from `start` on. */
static void ac_targets(const ac_labels *given, ac_columns of, int32_t outer,
    int32_t start, int32_t c, float *targets)
{
    float weight = given->weight[c];
    int32_t j;
    if (given->has_numbers) {
        const float *label = given->label + outer * of.inner + start;
        for (j = 0; j < of.width; j++) {
            float number = label[j];
            float share = (number == (float)c ? given->keep : 0.0f) + given->even;
            int32_t counts = number != given->ignored && 0.0f <= number
                && number < (float)of.classes;
            targets[j] = counts ? weight * share : 0.0f;
        }
    } else {
        const float *label = given->label + (outer * of.classes + c) * of.inner + start;
        for (j = 0; j < of.width; j++) {
            targets[j] = weight * (given->keep * label[j] + given->even);
        }
    }
}

/* kernel class_losses.class_probabilities(logits, probabilities, classes, inner,
 *     logits.size)
 * Softmax over the classes; probabilities may be logits. */
void ac_class_probabilities(const float *logits, float *probabilities, int32_t classes,
    int32_t inner, int32_t n)
{
    float most[AC_LANES];
    double sums[AC_LANES];
    int32_t outer, start;
    for (outer = 0; outer < n / (classes * inner); outer++) {
        for (start = 0; start < inner; start += AC_LANES) {
            int32_t first = outer * classes * inner + start;
            ac_columns of;
            of.width = ac_width(inner, start);
            of.classes = classes;
            of.inner = inner;
            ac_greatest(logits + first, of, most);
            ac_exponentials_of(logits + first, of, most, sums, probabilities + first);
            ac_normalize(probabilities + first, of, sums);
        }
    }
}

/* kernel class_losses.weighted_softmax_loss(logits, label, has_numbers, ignored, weight,
 *     keep, even, probabilities, scale, loss, classes, inner, logits.size)
 * Cross entropy of the softmax over the classes; keeps the probabilities.
 *
 * loss[0] += scale[0] * sum(target * (logsumexp - logits)). With has_numbers the label
 * is (outer, inner), a class number each, and those that are ignored do not count.
 * probabilities may be logits. */
void ac_weighted_softmax_loss(const float *logits, const float *label,
    int32_t has_numbers, float ignored, const float *weight, float keep, float even,
    float *probabilities, const double *scale, double *loss, int32_t classes,
    int32_t inner, int32_t n)
{
    ac_labels given;
    float most[AC_LANES], targets[AC_LANES];
    double sums[AC_LANES], terms[AC_LANES], shares[AC_LANES];
    double total = 0.0;
    int32_t outer, start, c, j;
    given.label = label;
    given.has_numbers = has_numbers;
    given.ignored = ignored;
    given.weight = weight;
    given.keep = keep;
    given.even = even;
    for (outer = 0; outer < n / (classes * inner); outer++) {
        for (start = 0; start < inner; start += AC_LANES) {
            int32_t first = outer * classes * inner + start;
            ac_columns of;
            of.width = ac_width(inner, start);
            of.classes = classes;
            of.inner = inner;
            ac_greatest(logits + first, of, most);
            ac_clear(terms);
            ac_clear(shares);
            /* The loss is read off before probabilities may overwrite the logits. */
            for (c = 0; c < classes; c++) {
                ac_targets(&given, of, outer, start, c, targets);
                for (j = 0; j < of.width; j++) {
                    double target = (double)targets[j];
                    double below = (double)most[j] - (double)logits[first + c * inner + j];
                    shares[j] += target;
                    terms[j] += target * below;
                }
            }
            ac_exponentials_of(logits + first, of, most, sums, probabilities + first);
            for (j = 0; j < of.width; j++) {
                if (shares[j] != 0.0) {
                    total += terms[j] + shares[j] * ac_log(sums[j]);
                }
            }
            ac_normalize(probabilities + first, of, sums);
        }
    }
    loss[0] += scale[0] * total;
}

/* kernel class_losses.weighted_softmax_derivative(probabilities, label, has_numbers,
 *     ignored, weight, keep, even, scale, dx, classes, inner, dx.size)
 * dx = scale[0] * (probabilities * sum(targets) - target); dx may be probabilities. */
void ac_weighted_softmax_derivative(const float *probabilities, const float *label,
    int32_t has_numbers, float ignored, const float *weight, float keep, float even,
    const double *scale, float *dx, int32_t classes, int32_t inner, int32_t n)
{
    ac_labels given;
    float factor = (float)scale[0];
    float targets[AC_LANES];
    double shares[AC_LANES];
    int32_t outer, start, c, j;
    given.label = label;
    given.has_numbers = has_numbers;
    given.ignored = ignored;
    given.weight = weight;
    given.keep = keep;
    given.even = even;
    for (outer = 0; outer < n / (classes * inner); outer++) {
        for (start = 0; start < inner; start += AC_LANES) {
            ac_columns of;
            of.width = ac_width(inner, start);
            of.classes = classes;
            of.inner = inner;
            ac_clear(shares);
            for (c = 0; c < classes; c++) {
                ac_targets(&given, of, outer, start, c, targets);
                for (j = 0; j < of.width; j++) {
                    shares[j] += (double)targets[j];
                }
            }
            for (c = 0; c < classes; c++) {
                int32_t at = (outer * classes + c) * inner + start;
                ac_targets(&given, of, outer, start, c, targets);
                for (j = 0; j < of.width; j++) {
                    float share = (float)shares[j];
                    dx[at + j] = factor * (probabilities[at + j] * share - targets[j]);
                }
            }
        }
    }
}

/* kernel class_losses.weighted_sigmoid_loss(logits, label, weight, weight.size,
 *     probabilities, scale, loss, inner, logits.size)
 * Binary cross entropy of sigmoid(logits) with a weight for what is positive.
 *
 * loss[0] += scale[0] * sum((1 - t) * x + (1 + (w - 1) * t) * log(1 + exp(-x))) for
 * logits x, labels t and the weight w of the class; probabilities may be logits. */
void ac_weighted_sigmoid_loss(const float *logits, const float *label,
    const float *weight, int32_t n_weights, float *probabilities, const double *scale,
    double *loss, int32_t inner, int32_t n)
{
    double lanes[AC_LANES];
    int32_t row, start, j;
    ac_clear(lanes);
    for (row = 0; row < n / inner; row++) {
        float above = weight[row % n_weights] - 1.0f;
        for (start = 0; start < inner; start += AC_LANES) {
            int32_t at = row * inner + start;
            int32_t width = ac_width(inner, start);
            for (j = 0; j < width; j++) {
                float x = logits[at + j];
                float t = label[at + j];
                float negative = x > 0.0f ? 0.0f : -x;
                float rest = negative + ac_log1p(ac_exp(-ac_abs(x)));
                float term = (1.0f - t) * x + (1.0f + above * t) * rest;
                lanes[j] += (double)term;
                probabilities[at + j] = 1.0f / (1.0f + ac_exp(-x));
            }
        }
    }
    loss[0] += scale[0] * ac_total(lanes, AC_LANES);
}

/* kernel class_losses.weighted_sigmoid_derivative(probabilities, label, weight,
 *     weight.size, scale, dx, inner, dx.size)
 * dx = scale[0] * (p * (1 - t + w * t) - w * t); dx may be probabilities. */
void ac_weighted_sigmoid_derivative(const float *probabilities, const float *label,
    const float *weight, int32_t n_weights, const double *scale, float *dx,
    int32_t inner, int32_t n)
{
    float factor = (float)scale[0];
    int32_t row, j;
    for (row = 0; row < n / inner; row++) {
        float of_class = weight[row % n_weights];
        int32_t start = row * inner;
        for (j = start; j < start + inner; j++) {
            float p = probabilities[j];
            float t = label[j];
            float weighted = of_class * t;
            dx[j] = factor * (p * (1.0f - t + weighted) - weighted);
        }
    }
}
