
/* -- state --------------------------------------------------------------------------- */

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "a saved state is little-endian, and this processor is not"
#endif

#define HEADER_BYTES $header_bytes

/* What stands before the iteration: magic, version, bytes of the state, plan. */
static const uint8_t header[HEADER_BYTES - 8] = {
$header
};

/* What lasts from one iteration to the next, in the order of a saved state. */
static const struct { uint32_t memory, offset, bytes; } lasting[] = {
$lasting
};

#define N_LASTING ((int32_t)(sizeof lasting / sizeof lasting[0]))

static uint8_t *bytes_of(int32_t tensor)
{
    uint8_t *starts[$n_rams];
$starts
    return starts[lasting[tensor].memory] + lasting[tensor].offset;
}

/* CRC-32 of more bytes, after that of those before; 0 of none. */
static uint32_t crc_of(uint32_t crc, const uint8_t *bytes, uint32_t n)
{
    static const uint32_t table[16] = {
        0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u,
        0x4db26158u, 0x5005713cu, 0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu,
        0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu
    };
    crc = ~crc;
    while (n > 0) {
        crc ^= *bytes++;
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
        n--;
    }
    return ~crc;
}

static void put_number(uint8_t *bytes, uint32_t number)
{
    bytes[0] = (uint8_t)number;
    bytes[1] = (uint8_t)(number >> 8);
    bytes[2] = (uint8_t)(number >> 16);
    bytes[3] = (uint8_t)(number >> 24);
}

static uint32_t number_at(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16
        | (uint32_t)bytes[3] << 24;
}

/* A storage, and the slot of it that is meant; -1 where there are no slots. */
typedef struct {
    ${name}_write write;
    ${name}_read read;
    const ${name}_slots *slots;
    void *context;
    int slot;
} Place;

static int put(const Place *place, uint32_t position, const uint8_t *bytes, uint32_t n)
{
    int failed = place->slots != 0
        ? place->slots->write(place->slots->context, place->slot, position, bytes, n)
        : place->write(place->context, position, bytes, n);
    return failed ? ${NAME}_IO : ${NAME}_OK;
}

static int get(const Place *place, uint32_t position, uint8_t *bytes, uint32_t n)
{
    int failed = place->slots != 0
        ? place->slots->read(place->slots->context, place->slot, position, bytes, n)
        : place->read(place->context, position, bytes, n);
    return failed ? ${NAME}_IO : ${NAME}_OK;
}

/* Writes what stands before the tensors; returns its CRC. */
static uint32_t fill_header(uint8_t *bytes, uint32_t iteration)
{
    int32_t i;
    for (i = 0; i < HEADER_BYTES - 8; i++) {
        bytes[i] = header[i];
    }
    put_number(bytes + HEADER_BYTES - 8, iteration);
    put_number(bytes + HEADER_BYTES - 4, 0);
    return crc_of(0, bytes, HEADER_BYTES);
}

static int save(const Place *place)
{
    uint8_t bytes[HEADER_BYTES];
    uint32_t position = HEADER_BYTES;
    uint32_t crc = fill_header(bytes, ${name}_iteration());
    int status = put(place, 0, bytes, HEADER_BYTES);
    int32_t i;
    for (i = 0; i < N_LASTING && status == ${NAME}_OK; i++) {
        crc = crc_of(crc, bytes_of(i), lasting[i].bytes);
        status = put(place, position, bytes_of(i), lasting[i].bytes);
        position += lasting[i].bytes;
    }
    /* The last bytes make it valid. */
    put_number(bytes, crc);
    return status == ${NAME}_OK ? put(place, position, bytes, 4) : status;
}

static int are_same(const uint8_t *a, const uint8_t *b, int32_t n)
{
    while (n > 0 && *a == *b) {
        a++;
        b++;
        n--;
    }
    return n == 0;
}

/* Reads a state without using it; says whether it is whole and of this plan. */
static int check(const Place *place, uint32_t *iteration, uint32_t *crc)
{
    uint8_t bytes[HEADER_BYTES];
    uint32_t position, n;
    int status, is_of_plan = 0;
    *crc = 0;
    for (position = 0; position < ${NAME}_STATE_BYTES - 4; position += n) {
        n = ${NAME}_STATE_BYTES - 4 - position;
        if (n > HEADER_BYTES) {
            n = HEADER_BYTES;
        }
        status = get(place, position, bytes, n);
        if (status != ${NAME}_OK) {
            return status;
        }
        *crc = crc_of(*crc, bytes, n);
        if (position == 0) {
            if (!are_same(bytes, header, 12)) {
                return ${NAME}_STATE_CORRUPT;
            }
            if (!are_same(bytes + 12, header + 12, 4)) {
                return ${NAME}_OTHER_PLAN; /* it has another length */
            }
            is_of_plan = are_same(bytes + 16, header + 16, HEADER_BYTES - 24);
            *iteration = number_at(bytes + HEADER_BYTES - 8);
        }
    }
    status = get(place, position, bytes, 4);
    if (status != ${NAME}_OK) {
        return status;
    }
    if (number_at(bytes) != *crc) {
        return ${NAME}_STATE_CORRUPT;
    }
    return is_of_plan ? ${NAME}_OK : ${NAME}_OTHER_PLAN;
}

static int restore(const Place *place)
{
    uint8_t bytes[HEADER_BYTES];
    uint32_t iteration = 0, checked, crc, position = HEADER_BYTES;
    int32_t i;
    int status = check(place, &iteration, &checked);
    if (status != ${NAME}_OK) {
        return status;
    }
    crc = fill_header(bytes, iteration);
    CONTROL[ITERATION] = (double)iteration;
    for (i = 0; i < N_LASTING && status == ${NAME}_OK; i++) {
        status = get(place, position, bytes_of(i), lasting[i].bytes);
        crc = crc_of(crc, bytes_of(i), lasting[i].bytes);
        position += lasting[i].bytes;
    }
    if (status == ${NAME}_OK && crc != checked) {
        status = ${NAME}_STATE_CORRUPT; /* it was read otherwise than a moment ago */
    }
    return status;
}

int ${name}_save(${name}_write write, void *context)
{
    Place place = {0, 0, 0, 0, -1};
    place.write = write;
    place.context = context;
    return save(&place);
}

int ${name}_restore(${name}_read read, void *context)
{
    Place place = {0, 0, 0, 0, -1};
    place.read = read;
    place.context = context;
    return restore(&place);
}

/* Finds the newest whole state: its slot, or -1; `worst` says why there is none. */
static int newest_slot(const ${name}_slots *slots, int *worst)
{
    Place place = {0, 0, 0, 0, 0};
    uint32_t newest = 0, iteration = 0, crc;
    int found = -1;
    *worst = ${NAME}_STATE_CORRUPT;
    place.slots = slots;
    for (place.slot = 0; place.slot < 2; place.slot++) {
        int status = check(&place, &iteration, &crc);
        if (status == ${NAME}_OK) {
            if (found < 0 || iteration > newest) {
                found = place.slot;
                newest = iteration;
            }
        } else if (status != ${NAME}_STATE_CORRUPT) {
            *worst = status;
        }
    }
    return found;
}

int ${name}_save_slot(const ${name}_slots *slots)
{
    Place place = {0, 0, 0, 0, 0};
    int worst;
    place.slots = slots;
    place.slot = newest_slot(slots, &worst) == 0 ? 1 : 0;
    return save(&place);
}

int ${name}_restore_slot(const ${name}_slots *slots)
{
    Place place = {0, 0, 0, 0, 0};
    int worst;
    place.slots = slots;
    place.slot = newest_slot(slots, &worst);
    return place.slot < 0 ? worst : restore(&place);
}
